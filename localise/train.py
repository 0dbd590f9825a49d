"""Object localisation from image labels: train a transformer and a CNN side by side on CUB-200-2011.

    python localise/train.py --cub_root CUB_200_2011 --transformer_weights deit_small_patch16_224-cd65a155.pth \\
        --weights resnet50-19c8e357.pth

Released recipe (the defaults): 60 epochs of batch 64 at crop 224. Each epoch ends with a test, in the log.
"""

import argparse
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python train.py` finds the packages from any folder
from data.cub import Cub, check_boxed_images, read_cub
from localise.arguments import DATA_HASH, SIDE, add_net_flags, add_test_flags, check_test_flags, hash_of_data
from network import NO_FILES, PRETRAINED, RESNETS
from tool.cli import UserError, add_switch, check_bounds, path_text, positive, run_script, script_parser
from tool.flags import MAX_PIXELS
from tool.limits import check_loaders
from tool.torchrun import loader_processes, own_share
from tool.training_flags import (
    RUN_BOUNDS,
    RUN_FREE_TO_CHANGE,
    add_run_flags,
    check_run,
    flag_defaults,
    hold_run,
    recorded_flags,
)

FREE_TO_CHANGE = {*RUN_FREE_TO_CHANGE, "cub_root", "test_batch_size"}
BOUNDS = {
    **RUN_BOUNDS,
    **dict.fromkeys(("lr", "wt_dec", "cnn_lr", "cnn_wt_dec", "lr_factor"), (0, 1e30)),
    "drop_path": (0, 0.99),
}
EXAMPLES = """\
  # the released recipe
  python localise/train.py --cub_root CUB_200_2011 \\
      --transformer_weights deit_small_patch16_224-cd65a155.pth --weights resnet50-19c8e357.pth
  # go on after a stop: the same command with --resume
  python localise/train.py --cub_root CUB_200_2011 \\
      --transformer_weights deit_small_patch16_224-cd65a155.pth --weights resnet50-19c8e357.pth \\
      --resume
  # four GPUs
  torchrun --nproc_per_node 4 localise/train.py --cub_root CUB_200_2011 \\
      --transformer_weights deit_small_patch16_224-cd65a155.pth --weights resnet50-19c8e357.pth
"""


def make_parser() -> argparse.ArgumentParser:
    parser = script_parser("Train a transformer and a CNN to localise objects from image labels.", examples=EXAMPLES)
    add_test_flags(parser, batch_flag="--test_batch_size")

    add_run_flags(parser, session="crt_cub", save_every=200)

    nets = add_net_flags(parser)
    nets.add_argument(
        "--transformer_weights",
        type=path_text,
        required=True,
        help=f"ImageNet's or a trained one's file, {PRETRAINED} (downloaded), or none",
    )
    nets.add_argument(
        "--backbone", choices=RESNETS, default="resnet50", metavar="NAME", help=f"{', '.join(RESNETS)} (%(default)s)"
    )
    nets.add_argument(
        "--weights", type=path_text, required=True, help=f"the CNN's: ImageNet's file, {PRETRAINED}, or none"
    )
    add_switch(nets, "--from_scratch", default=False, help="train the CNN's batch norms and first blocks too (False)")

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--batch_size", type=positive, default=64, help="images in a step, over all processes (%(default)s)"
    )
    recipe.add_argument("--max_epoches", type=positive, default=60, help="epochs to train (%(default)s)")
    recipe.add_argument("--lr", type=float, default=5e-5, help="AdamW's rate, of the transformer (%(default)s)")
    recipe.add_argument("--wt_dec", type=float, default=0.05, help="AdamW's weight decay (%(default)s)")
    recipe.add_argument(
        "--lr_epochs", type=positive, nargs="*", default=[30, 60], metavar="EPOCH",
        help="AdamW's rate falls from these epochs on, counted from 1 (30 60)",
    )  # fmt: skip
    recipe.add_argument("--lr_factor", type=float, default=0.1, help="by which it falls (%(default)s)")
    recipe.add_argument(
        "--cnn_lr", type=float, default=5e-3, help="SGD's rate, of the CNN; its classifier: x 10 (%(default)s)"
    )
    recipe.add_argument("--cnn_wt_dec", type=float, default=1e-4, help="SGD's weight decay (%(default)s)")
    recipe.add_argument(
        "--drop_path", type=float, default=0.1, help="of the last block; linear from 0 at the first (%(default)s)"
    )
    recipe.add_argument(
        "--resize_size", type=positive, default=256, help="pixels of the square that is cropped (%(default)s)"
    )
    return parser


def parse_arguments() -> argparse.Namespace:
    return make_parser().parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    check_bounds(args, BOUNDS)
    check_test_flags(args)
    if not SIDE <= args.resize_size <= MAX_PIXELS:
        raise UserError(f"--resize_size {args.resize_size}: expected {SIDE}, the crop's side, to {MAX_PIXELS} pixels")
    check_run(args)


def settings_of(args: argparse.Namespace, cub: Cub) -> dict:
    """What decides what a run's weights become; the data set's by what its files say, wherever it lies."""
    return {**recorded_flags(args, FREE_TO_CHANGE), DATA_HASH: hash_of_data(cub)}


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    what = f"weights to start from, {PRETRAINED} or none"
    first = hold_run(args, dict.fromkeys(("transformer_weights", "weights"), what), words=NO_FILES)
    cub = read_cub(args.cub_root)
    for images in (cub.train, cub.test):
        check_boxed_images(images, args.cub_root)
    if args.batch_size > len(cub.train):
        raise UserError(f"--batch_size {args.batch_size}: there are {len(cub.train)} images to train on")
    # While an epoch is tested the loader of the training is there, too.
    images_at_once = len(own_share(range(args.batch_size))) + args.test_batch_size
    check_loaders(
        workers=loader_processes(args.num_workers),
        batch_bytes=4 * 3 * SIDE**2 * images_at_once,
        num_batches=math.ceil(len(cub.train) / args.batch_size) * args.max_epoches,
        flag="--num_workers",
    )
    # Not at the top: it imports torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from localise.training import train_run

    defaults = flag_defaults(make_parser(), args) | first
    train_run(args, cub, settings=settings_of(args, cub) | first, defaults=defaults)


if __name__ == "__main__":
    run_script(main)
