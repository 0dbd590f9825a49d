"""Superpixels of images by a trained network, as maps and pictures, and their score on masks.

    python superpixel/infer.py --weights exps/scn/scn.pth --img_root VOC2012/JPEGImages \\
        --gt_dir VOC2012/SegmentationClass

Runs again from where it stopped: an image is done when its map is there, whole and of its size.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python infer.py` finds the packages from any folder
from data.descriptions import add_data_set_flag, find_data_set
from data.images import check_images
from data.label_maps import check_label_maps
from tool.artifact import write_json
from tool.cli import UserError, path_text, path_value, require_folder, require_writable, run_script, script_parser
from tool.file_hash import sha256_of
from tool.flags import add_process_flags
from tool.folder import Claim, claim_folders
from tool.lists import Source, find_images, find_masks, read_ids
from tool.torchrun import is_first, own_share
from tool.weights_file import require_weights

EXAMPLES = """\
  # maps and pictures of borders
  python superpixel/infer.py --weights exps/scn/scn.pth --img_root VOC2012/JPEGImages \\
      --png exps/superpixel_png
  # scored on masks
  python superpixel/infer.py --weights exps/scn/scn.pth --img_root VOC2012/JPEGImages \\
      --gt_dir VOC2012/SegmentationClass --json exps/superpixels.json
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Superpixels of images, and how well they keep to masks.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--infer_list", type=path_text, default="voc12/train.txt", help="ids to infer (%(default)s)")
    data.add_argument(
        "--img_root", "--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)"
    )
    data.add_argument("--gt_dir", type=path_text, help="folder of masks, <id>.png (default: nothing is scored)")
    add_data_set_flag(data)

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=path_value, default="exps/superpixels", help="folder of the maps, <id>.npy (%(default)s)"
    )
    output.add_argument("--png", type=path_value, metavar="FOLDER", help="write pictures of their borders there")
    output.add_argument("--json", type=path_value, metavar="FILE", help="write the scores there too")

    run = parser.add_argument_group("run")
    run.add_argument("--weights", type=path_text, required=True, help="the superpixel network's, of train.py or MSA")
    add_process_flags(run, amp=("off", "bf16"))
    return parser.parse_args()


def read_data(args: argparse.Namespace) -> tuple[dict[str, Path], dict[str, Path]]:
    """This process's share of the images and, where all are scored, the masks, by id, after a look at all files that
    will be read."""
    data_set, source = find_data_set(args.data_set), Source("--infer_list", args.infer_list)
    image_root = require_folder(args.img_root, "--img_root", "JPEGImages, <id>.jpg")
    ids = read_ids(args.infer_list, "--infer_list")
    images = find_images(ids, image_root, data_set, flag="--img_root", source=source)
    own = {image_id: images[image_id] for image_id in own_share(ids)}
    check_images(own, image_root)
    if args.gt_dir is None:
        return own, {}
    truth = require_folder(args.gt_dir, "--gt_dir", "<id>.png")
    masks = find_masks(ids, truth, data_set, flag="--gt_dir", source=source)
    check_label_maps(own, masks, data_set, label_root=truth, label_key="--gt_dir")
    return own, masks


def open_output(args: argparse.Namespace) -> None:
    """Create the folders and keep others out; refuse one with superpixels of another net."""
    settings = {"amp": args.amp, "weights_sha256": sha256_of(args.weights)}
    folders = {"--out": args.out, "--png": args.png}
    claim_folders([Claim(folder, flag, settings) for flag, folder in folders.items() if folder is not None])


def report(args: argparse.Namespace, masks: dict[str, Path]) -> None:
    """Score the maps on the masks and say so."""
    from superpixel.maps import score
    from superpixel.measures import figures

    counts, numbers = score(args.out, masks, find_data_set(args.data_set))
    found = {"images": len(masks), "superpixels an image": round(sum(numbers.values()) / len(numbers), 1)}
    print(f"{'images':<36}{found['images']:>7}\n{'superpixels an image':<36}{found['superpixels an image']:>7}")
    for name, value in figures(counts).items():
        found[name] = round(100 * value, 2)
        print(f"{name:<36}{found[name]:>7.2f} %")
    if args.json is not None:
        write_json(args.json, found)


def main() -> None:
    args = parse_arguments()
    if args.json is not None and args.gt_dir is None:
        raise UserError("--json: expected --gt_dir, the masks to score on")
    if args.png is not None and args.png.resolve() == args.out.resolve():
        raise UserError(f"--png {args.png}: expected another folder than --out")
    require_weights(args.weights, "--weights")
    own, masks = read_data(args)
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from network.scn import SCN, load_scn
    from superpixel.inference import infer_missing
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        loaded = load_scn(SCN(), args.weights)
        if is_first():
            print(loaded)
            open_output(args)
            if args.json is not None:  # whose folder that may have made
                require_writable(args.json, "--json")
    infer_missing(own, args, processes)
    if is_first() and masks:
        report(args, masks)
    print("\n".join(f"  {folder}" for folder in (args.out, args.png) if folder is not None))


if __name__ == "__main__":
    run_script(main)
