"""Predict label maps with a trained DeepLabv3+ of DHR: several scales, their mirrors, and a CRF.

    python rebalance/masks.py --weights exps/dhr/last.pth --img_root VOC2012/JPEGImages \\
        --infer_list voc12/val.txt --out_dir exps/dhr/masks

Runs again from where it stopped: an image is done when its label map is there, whole, and of its size.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python masks.py` finds the packages from any folder
from data.descriptions import add_data_set_flag, find_data_set
from network import BACKBONE_HELP, backbone_name
from rebalance.inputs import add_image_flags, find_listed, hash_of, own_checked, read_tags
from rebalance.recipe import SCALES
from tool.cli import UserError, check_bounds, path_text, path_value, run_script, script_parser
from tool.flags import add_crf_backend, add_crf_workers, add_process_flags, check_scales
from tool.folder import Claim, claim_folders
from tool.torchrun import is_first
from tool.training_flags import add_sane_flag
from tool.weights_file import require_weights

EXAMPLES = """\
  # label maps of VOC's validation images
  python rebalance/masks.py --weights exps/dhr/last.pth --img_root VOC2012/JPEGImages \\
      --infer_list voc12/val.txt --out_dir exps/dhr/masks
  # of the images of a folder that have a class, to train another net on
  python rebalance/masks.py --weights exps/dhr/last.pth --out_dir exps/dhr/train_aug \\
      --img_root VOC2012/train_aug/image --xml_dir VOC2012/train_aug/xml
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Label maps by a trained DeepLabv3+, several scales and a CRF.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    add_image_flags(data)
    data.add_argument("--xml_dir", type=path_text, help="annotations: images without an object are skipped (none is)")
    data.add_argument("--out_dir", type=path_value, required=True, help="label maps, <id>.png, go there")
    add_data_set_flag(data)

    net = parser.add_argument_group("network")
    net.add_argument("--weights", type=path_text, required=True, help=".pth that rebalance/train.py wrote")
    net.add_argument("--backbone", type=backbone_name, default="resnet101", metavar="NAME", help=BACKBONE_HELP)
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")

    masks = parser.add_argument_group("masks")
    masks.add_argument(
        "--scales", type=float, nargs="+", default=[*SCALES], metavar="SCALE",
        help="factors on the image's sides, on the grid of whose first all are averaged (1 0.5 1.5 2)",
    )  # fmt: skip
    masks.add_argument(
        "--threshold", type=float, default=0.05, help="a label's largest score must be above it (%(default)s)"
    )
    add_sane_flag(masks, ("crf_image",))
    add_crf_backend(masks)
    run = parser.add_argument_group("run")
    add_process_flags(run)
    add_crf_workers(run)
    return parser.parse_args()


def open_output(args: argparse.Namespace) -> None:
    """Create the folder of label maps and keep others out; refuse one with those of another net or threshold."""
    settings = {name: getattr(args, name) for name in ("backbone", "width", "threshold", "amp", "scales", "sane")}
    settings["weights_sha256"] = hash_of(args.weights)
    # Not in the folder itself, which other code trains on, or a server takes, as it is.
    folder = args.out_dir.resolve()  # as the name of . and .. is not theirs
    record = folder.with_name(f"{folder.name}_settings.json")
    claim_folders([Claim(args.out_dir, "--out_dir", settings, record, {"sane": []})])


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for numbers out of their bounds."""
    check_bounds(args, {"threshold": (0, 1)})
    check_scales(args.scales)


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    data_set = find_data_set(args.data_set)
    require_weights(args.weights, "--weights")
    images = find_listed(args, data_set)
    if args.out_dir.resolve() in {path.parent.resolve() for path in images.values()}:
        raise UserError(f"--out_dir {args.out_dir}: expected another folder than the images'")
    untagged = 0
    if args.xml_dir is not None:
        tags = read_tags(list(images), args.xml_dir, data_set)
        untagged = sum(not classes.any() for classes in tags.values())
        images = {image_id: path for image_id, path in images.items() if tags[image_id].any()}
    own = own_checked(images, args.img_root)
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from rebalance.masking import load_net, predict_missing
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        net, report = load_net(args)
        if is_first():
            print(report)
            if untagged:
                print(f"{untagged} images without an object in --xml_dir are skipped")
            open_output(args)
    predict_missing(own, args, processes, normalisation=net.normalisation)
    print(f"  {args.out_dir}")


if __name__ == "__main__":
    run_script(main)
