"""Stage 2, IRN: train the net that finds the edges between an image's objects.

    python refine/irn/train.py --data_root VOC2012/JPEGImages --weights resnet50-19c8e357.pth \\
        --ir_label_out_dir exps/ir_label

It learns from what labels.py makes of any method's CAM dicts. With --displacement it also learns where each object's
centre lies, which instances need; the edges are the same without.
Released recipe (the defaults): 3 epochs of batch 32 at crop 512, from ImageNet's weights.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python train.py` finds the packages from any folder
from data.descriptions import add_data_set_flag, find_data_set, require_background
from data.images import check_images, hash_of_sizes
from data.label_maps import check_label_maps
from network import BACKBONE_HELP, NO_FILES, PRETRAINED, backbone_name
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
    check_batch,
    check_run,
    check_run_loaders,
    flag_defaults,
    hash_of_ids,
    hold_run,
    recorded_flags,
    steps_of_epochs,
)

FREE_TO_CHANGE = {*RUN_FREE_TO_CHANGE, "infer_list", "ir_label_out_dir"}
BOUNDS = {
    **RUN_BOUNDS,
    "momentum": (0, 1),
    **dict.fromkeys(("lr", "wt_dec"), (0, 1e30)),
}
MIN_CROP = 5 * 4  # pixels: 5 cells, the fewest that have pairs
EXAMPLES = """\
  # the released recipe
  python refine/irn/train.py --data_root VOC2012/JPEGImages --weights resnet50-19c8e357.pth \\
      --ir_label_out_dir exps/ir_label
  # go on after a stop: the same command with --resume
  python refine/irn/train.py --data_root VOC2012/JPEGImages --weights resnet50-19c8e357.pth \\
      --ir_label_out_dir exps/ir_label --resume
  # with displacements, for instances, whose mean is that of --infer_list
  python refine/irn/train.py --data_root VOC2012/JPEGImages --weights resnet50-19c8e357.pth \\
      --ir_label_out_dir exps/ir_label --displacement --infer_list voc12/train.txt
"""


def make_parser() -> argparse.ArgumentParser:
    parser = script_parser("Stage 2: train IRN on sure labels.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")
    data.add_argument(
        "--train_list", type=path_text, default="voc12/train_aug.txt", help="ids to train on (%(default)s)"
    )
    data.add_argument("--ir_label_out_dir", type=path_text, required=True, help="label maps that labels.py wrote")
    data.add_argument(
        "--infer_list",
        type=path_text,
        default="voc12/train.txt",
        help="ids of --displacement's mean shift (%(default)s)",
    )
    add_data_set_flag(data)
    data.add_argument("--num_workers", type=int, default=8, help="loader processes (%(default)s)")

    add_device_flags(add_run_flags(parser, session="res50_irn", save_every=200))

    net = parser.add_argument_group("net")
    net.add_argument(
        "--backbone", type=backbone_name, default="resnet50", metavar="NAME", help=f"frozen: {BACKBONE_HELP}"
    )
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    net.add_argument(
        "--weights",
        type=path_text,
        required=True,
        help=f"the backbone's: ImageNet's (.pth), a classifier's, {PRETRAINED} (downloaded), or none",
    )
    add_switch(net, "--displacement", default=False, help="learn displacements too, which instances need (False)")

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--batch_size", type=positive, default=32, help="images in a step, over all processes (%(default)s)"
    )
    recipe.add_argument("--max_epoches", type=positive, default=3, help="epochs to train (%(default)s)")
    recipe.add_argument("--lr", type=float, default=0.1, help="rate of the edges; displacements: x 10 (%(default)s)")
    recipe.add_argument("--wt_dec", type=float, default=1e-4, help="weight decay (%(default)s)")
    recipe.add_argument(
        "--momentum", type=float, default=1e-4, help="as released; usual is 0.9, with a smaller --lr (%(default)s)"
    )
    recipe.add_argument("--crop_size", type=positive, default=512, help="pixels, a multiple of 4 (%(default)s)")
    recipe.add_argument("--clip_grad", type=float, metavar="NORM", help="largest norm of a step's gradient (no limit)")
    return parser


def parse_arguments() -> argparse.Namespace:
    return make_parser().parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    require_background(find_data_set(args.data_set))
    check_bounds(args, BOUNDS)
    if args.crop_size % 4 or not MIN_CROP <= args.crop_size <= MAX_PIXELS:
        raise UserError(f"--crop_size {args.crop_size}: expected a multiple of 4 from {MIN_CROP} to {MAX_PIXELS}")
    check_run(args)


def find_listed(args: argparse.Namespace, flag: str) -> dict[str, Path]:
    """The images of a list, by id, at least a batch of them."""
    path = getattr(args, flag)
    ids = read_ids(path, f"--{flag}")
    check_batch(args, len(ids), path)
    source = Source(f"--{flag}", path)
    return find_images(ids, args.data_root, find_data_set(args.data_set), flag="--data_root", source=source)


def read_data(args: argparse.Namespace) -> tuple[dict[str, Path], dict[str, Path]]:
    """The images to train on and those of the mean shift, by id, after a look at all the files that will be read."""
    require_folder(args.data_root, "--data_root", "JPEGImages, <id>.jpg")
    labels = require_folder(args.ir_label_out_dir, "--ir_label_out_dir", "label maps of labels.py, <id>.png")
    images = find_listed(args, "train_list")
    shift_images = find_listed(args, "infer_list") if args.displacement else {}
    check_images(shift_images, args.data_root)
    check_label_maps(
        images,
        {identifier: labels / f"{identifier}.png" for identifier in images},
        find_data_set(args.data_set),
        label_root=labels,
        label_key="--ir_label_out_dir",
        advice="make them with refine/irn/labels.py",
    )
    return images, shift_images


def settings_of(args: argparse.Namespace, ids: list[str], shift_ids: list[str]) -> dict:
    """What decides what a run's weights become; ids and label maps by themselves, wherever they lie.

    Images are taken to be what their ids say: one that was damaged may be mended.
    """
    settings = recorded_flags(args, FREE_TO_CHANGE)
    for flag, listed in (("train_list", ids), ("infer_list", shift_ids)):
        settings[f"the ids of --{flag} (sha256)"] = hash_of_ids(listed)
    folder = Path(args.ir_label_out_dir)
    settings["the files of --ir_label_out_dir (sha256 of their sizes)"] = hash_of_sizes(ids, folder)
    settings["the settings.json of --ir_label_out_dir"] = made_with(folder)
    return settings


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    what = f"weights to start from: .pth or .ckpt, {PRETRAINED} or none"
    first = hold_run(args, {"weights": what}, words=NO_FILES)
    images, shift_images = read_data(args)
    settings = settings_of(args, list(images), list(shift_images)) | first
    cells = (args.crop_size // 4) ** 2
    check_run_loaders(
        args,
        image_bytes=4 * 3 * args.crop_size**2 + 8 * cells,
        num_batches=steps_of_epochs(args, len(images)),
    )
    # Not at the top: it imports torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from refine.irn.training import train_run

    defaults = flag_defaults(make_parser(), args) | first
    train_run(args, images, shift_images, settings=settings, defaults=defaults)


if __name__ == "__main__":
    run_script(main)
