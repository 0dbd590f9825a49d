"""Superpixels: train the network that says of each pixel to which of nine cells around it it belongs.

    python superpixel/train.py --data_root VOC2012/JPEGImages --val_list voc12/train.txt \\
        --gt_dir VOC2012/SegmentationClassAug

It learns from images alone. Released recipe (the defaults): 50 epochs of batch 16 at crop 512, from random weights.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python train.py` finds the packages from any folder
from data.descriptions import add_data_set_flag, find_data_set
from data.images import check_images
from data.label_maps import check_label_maps
from network.cells import CELL
from tool.cli import (
    UserError,
    check_bounds,
    path_text,
    positive,
    require_folder,
    run_script,
    script_parser,
)
from tool.flags import MAX_PIXELS
from tool.lists import Source, find_images, find_masks, read_ids
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

SANE = ("order", "resize", "padding")
FREE_TO_CHANGE = {*RUN_FREE_TO_CHANGE, "val_list", "gt_dir"}
BOUNDS = {
    **RUN_BOUNDS,
    "lr": (0, 1e30),
    **dict.fromkeys(("crop_size", "min_image_size", "max_image_size"), (CELL, MAX_PIXELS)),
}
EXAMPLES = """\
  # the released recipe, scored on masks after each epoch
  python superpixel/train.py --data_root VOC2012/JPEGImages --val_list voc12/train.txt \\
      --gt_dir VOC2012/SegmentationClassAug
  # go on after a stop: the same command with --resume
  python superpixel/train.py --data_root VOC2012/JPEGImages --val_list voc12/train.txt \\
      --gt_dir VOC2012/SegmentationClassAug --resume
  # four GPUs, from the weights of other superpixels, without masks
  torchrun --nproc_per_node 4 superpixel/train.py --data_root VOC2012/JPEGImages \\
      --weights SpixelNet_bsd_ckpt.tar
"""


def make_parser() -> argparse.ArgumentParser:
    parser = script_parser("Superpixels: train the superpixel network on images.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")
    data.add_argument(
        "--train_list", type=path_text, default="voc12/train_aug.txt", help="ids to train on (%(default)s)"
    )
    data.add_argument(
        "--val_list", type=path_text, default="voc12/train.txt", help="ids to score after each epoch (%(default)s)"
    )
    data.add_argument("--gt_dir", type=path_text, help="folder of their masks, <id>.png (default: nothing is scored)")
    add_data_set_flag(data)
    data.add_argument("--num_workers", type=int, default=8, help="loader processes (%(default)s)")

    add_device_flags(add_run_flags(parser, session="scn"), amp=("off", "bf16"))

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--weights", type=path_text, default="none", help="a superpixel network's to start from, or %(default)s"
    )
    recipe.add_argument(
        "--batch_size", type=positive, default=16, help="images in a step, over all processes (%(default)s)"
    )
    recipe.add_argument("--max_epoches", type=positive, default=50, help="epochs to train (%(default)s)")
    recipe.add_argument("--lr", type=float, default=5e-5, help="Adam's rate, which stays (%(default)s)")
    recipe.add_argument("--crop_size", type=positive, default=512, help="pixels, a multiple of 16 (%(default)s)")
    recipe.add_argument(
        "--min_image_size", type=positive, default=320, help="longer side before the crop, at least (%(default)s)"
    )
    recipe.add_argument("--max_image_size", type=positive, default=640, help="and at most (%(default)s)")
    add_sane_flag(recipe, SANE)
    return parser


def parse_arguments() -> argparse.Namespace:
    return make_parser().parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    find_data_set(args.data_set)
    check_bounds(args, BOUNDS)
    if args.crop_size % CELL or args.crop_size < 2 * CELL:  # one cell has no spread for the norms
        raise UserError(f"--crop_size {args.crop_size}: expected a multiple of {CELL} from {2 * CELL}")
    if args.min_image_size > args.max_image_size:
        raise UserError(
            f"--min_image_size {args.min_image_size}: expected at most --max_image_size, {args.max_image_size}"
        )
    check_run(args)


def read_data(args: argparse.Namespace) -> tuple[dict[str, Path], dict[str, Path], dict[str, Path]]:
    """The images to train on, those to score and their masks, by id, after a look at all that training will read."""
    data_set = find_data_set(args.data_set)
    require_folder(args.data_root, "--data_root", "JPEGImages, <id>.jpg")
    ids = read_ids(args.train_list, "--train_list")
    images = find_images(
        ids, args.data_root, data_set, flag="--data_root", source=Source("--train_list", args.train_list)
    )
    check_images(images, args.data_root)
    check_batch(args, len(ids), args.train_list)
    if args.gt_dir is None:
        return images, {}, {}
    truth, source = require_folder(args.gt_dir, "--gt_dir", "<id>.png"), Source("--val_list", args.val_list)
    val_ids = read_ids(args.val_list, "--val_list")
    val_images = find_images(val_ids, args.data_root, data_set, flag="--data_root", source=source)
    masks = find_masks(val_ids, truth, data_set, flag="--gt_dir", source=source)
    check_label_maps(val_images, masks, data_set, label_root=truth, label_key="--gt_dir")
    return images, val_images, masks


def settings_of(args: argparse.Namespace, ids: list[str]) -> dict:
    """What decides what a run's weights become. Images are taken to be what their ids say."""
    settings = recorded_flags(args, FREE_TO_CHANGE)
    settings["the ids of --train_list (sha256)"] = hash_of_ids(ids)
    return settings


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    what = "weights of a superpixel network to start from, or none"
    first = hold_run(args, {"weights": what}, words=["none"])
    images, val_images, masks = read_data(args)
    settings = settings_of(args, list(images)) | first
    check_run_loaders(
        args,
        image_bytes=(4 * 3 + 3) * args.crop_size**2,
        num_batches=steps_of_epochs(args, len(images)),
    )
    # Not at the top: it imports torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from superpixel.training import HeldOut, train_run

    defaults = flag_defaults(make_parser(), args) | first
    train_run(args, images, HeldOut(val_images, masks), settings=settings, defaults=defaults)


if __name__ == "__main__":
    run_script(main)
