"""Stage 2, AffinityNet: train the net that says whether near pixels belong together.

    python refine/affinity/train.py --data_root VOC2012/JPEGImages --weights NET.params \\
        --la_crf_dir exps/aff_crf/4.00 --ha_crf_dir exps/aff_crf/24.00

It learns from what prepare.py makes of any method's CAM dicts: from the pairs that two backgrounds are sure of.
Released recipe (the defaults): 8 epochs of batch 8 at crop 448, from ImageNet's weights.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python train.py` finds the packages from any folder
from data.cams import folder_of_dicts
from data.descriptions import add_data_set_flag, find_data_set, require_background
from data.images import check_images, hash_of_sizes
from network import BACKBONE_HELP, NO_FILES, PRETRAINED, backbone_name
from refine.affinity.inputs import check_alphas, check_backgrounds
from tool.cli import (
    UserError,
    add_switch,
    check_bounds,
    path_text,
    positive,
    require_folder,
    run_script,
    script_parser,
)
from tool.flags import MAX_PIXELS
from tool.folder import made_with
from tool.lists import Source, find_images, read_ids
from tool.training_flags import (
    RUN_BOUNDS,
    RUN_FREE_TO_CHANGE,
    add_device_flags,
    add_run_flags,
    add_sane_flag,
    check_batch,
    check_run,
    check_run_loaders,
    flag_defaults,
    hash_of_ids,
    hold_run,
    recorded_flags,
    steps_of_epochs,
)

SANE = ("border_pairs", "padding")
FREE_TO_CHANGE = {*RUN_FREE_TO_CHANGE, "la_crf_dir", "ha_crf_dir"}
BOUNDS = {
    **RUN_BOUNDS,
    "momentum": (0, 1),
    **dict.fromkeys(("lr", "wt_dec"), (0, 1e30)),
}
MIN_CROP = 40  # pixels: 5 cells, the fewest that have pairs
EXAMPLES = """\
  # the released recipe
  python refine/affinity/train.py --data_root VOC2012/JPEGImages \\
      --weights network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params \\
      --la_crf_dir exps/aff_crf/4.00 --ha_crf_dir exps/aff_crf/24.00
  # go on after a stop: the same command with --resume
  python refine/affinity/train.py --data_root VOC2012/JPEGImages \\
      --weights network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params \\
      --la_crf_dir exps/aff_crf/4.00 --ha_crf_dir exps/aff_crf/24.00 --resume
  # four GPUs
  torchrun --nproc_per_node 4 refine/affinity/train.py --data_root VOC2012/JPEGImages \\
      --weights network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params \\
      --la_crf_dir exps/aff_crf/4.00 --ha_crf_dir exps/aff_crf/24.00
"""


def make_parser() -> argparse.ArgumentParser:
    parser = script_parser("Stage 2: train AffinityNet on CRF posteriors of CAMs.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")
    data.add_argument(
        "--train_list", type=path_text, default="voc12/train_aug.txt", help="ids to train on (%(default)s)"
    )
    data.add_argument(
        "--la_crf_dir", type=path_text, required=True, help="posteriors of the low alpha (prepare.py's <out_crf>/4.00)"
    )
    data.add_argument(
        "--ha_crf_dir", type=path_text, required=True, help="posteriors of the high alpha (its <out_crf>/24.00)"
    )
    add_data_set_flag(data)
    data.add_argument("--num_workers", type=int, default=8, help="loader processes (%(default)s)")

    add_device_flags(add_run_flags(parser, session="resnet38_aff"))

    net = parser.add_argument_group("net")
    net.add_argument("--backbone", type=backbone_name, default="resnet38d", metavar="NAME", help=BACKBONE_HELP)
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    net.add_argument(
        "--weights",
        type=path_text,
        required=True,
        help=f"ImageNet's (.params, .pth), a classifier's, {PRETRAINED} (downloaded), or none",
    )
    add_switch(net, "--from_scratch", default=False, help="train batch norm and first blocks too (False)")

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--batch_size", type=positive, default=8, help="images in a step, over all processes (%(default)s)"
    )
    recipe.add_argument("--max_epoches", type=positive, default=8, help="epochs to train (%(default)s)")
    recipe.add_argument(
        "--lr", type=float, default=0.01, help="rate of the backbone's weights; heads: x 10 (%(default)s)"
    )
    recipe.add_argument("--wt_dec", type=float, default=5e-4, help="weight decay (%(default)s)")
    recipe.add_argument("--momentum", type=float, default=5e-4, help="as released; usual is 0.9 (%(default)s)")
    recipe.add_argument("--crop_size", type=positive, default=448, help="pixels, a multiple of 8 (%(default)s)")
    recipe.add_argument("--clip_grad", type=float, metavar="NORM", help="largest norm of a step's gradient (no limit)")
    add_sane_flag(recipe, SANE)
    return parser


def parse_arguments() -> argparse.Namespace:
    return make_parser().parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    require_background(find_data_set(args.data_set))
    check_bounds(args, BOUNDS)
    if args.crop_size % 8 or not MIN_CROP <= args.crop_size <= MAX_PIXELS:
        raise UserError(f"--crop_size {args.crop_size}: expected a multiple of 8 from {MIN_CROP} to {MAX_PIXELS}")
    check_run(args)
    if Path(args.la_crf_dir).resolve() == Path(args.ha_crf_dir).resolve():
        raise UserError(f"--la_crf_dir, --ha_crf_dir: expected two folders, found {args.la_crf_dir} twice")


def read_data(args: argparse.Namespace) -> dict[str, Path]:
    """The training images, by id, after the files that training will read have been looked at."""
    data_set = find_data_set(args.data_set)
    require_folder(args.data_root, "--data_root", "JPEGImages, <id>.jpg")
    ids = read_ids(args.train_list, "--train_list")
    source = Source("--train_list", args.train_list)
    images = find_images(ids, args.data_root, data_set, flag="--data_root", source=source)
    low, high = (
        folder_of_dicts(getattr(args, flag), ids, flag=f"--{flag}", what="CRF posteriors", source=source)
        for flag in ("la_crf_dir", "ha_crf_dir")
    )
    check_alphas(low, high)
    check_images(images, args.data_root)
    check_backgrounds(images, low, high, data_set)
    check_batch(args, len(ids), args.train_list)
    return images


def settings_of(args: argparse.Namespace, ids: list[str]) -> dict:
    """What decides what a run's weights become; ids and posteriors by themselves, wherever they lie.

    Images are taken to be what their ids say: one that was damaged may be mended.
    """
    settings = recorded_flags(args, FREE_TO_CHANGE)
    settings["the ids of --train_list (sha256)"] = hash_of_ids(ids)
    for flag in ("la_crf_dir", "ha_crf_dir"):
        folder = Path(getattr(args, flag))
        settings[f"the files of --{flag} (sha256 of their sizes)"] = hash_of_sizes(ids, folder, ".npy")
        settings[f"the settings.json of --{flag}"] = made_with(folder)
    return settings


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    what = f"weights to start from: .params, .pth or .ckpt, {PRETRAINED} or none"
    first = hold_run(args, {"weights": what}, words=NO_FILES)
    images = read_data(args)
    settings = settings_of(args, list(images)) | first
    cells = (args.crop_size // 8) ** 2
    check_run_loaders(
        args,
        image_bytes=4 * 3 * args.crop_size**2 + 8 * cells,
        num_batches=steps_of_epochs(args, len(images)),
    )
    # Not at the top: it imports torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from refine.affinity.training import train_run

    train_run(args, images, settings=settings, defaults=flag_defaults(make_parser(), args) | first)


if __name__ == "__main__":
    run_script(main)
