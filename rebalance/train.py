"""DHR: train DeepLabv3+ on masks of any method, rebalanced in every step.

    python rebalance/train.py --data_root VOC2012/JPEGImages --train_list voc12/train_aug.txt \\
        --labels voc12/cls_labels.npy --wss_masks exps/masks --uss_features exps/features \\
        --weights resnet101-63fe2227.pth

It reads label maps of the list's images, 255 where unsure, and unsupervised features, which rebalance/features.py
makes. Released recipe (the defaults, and --seed 1): 100 epochs of batch 16 at crop 512, from ImageNet's weights.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python train.py` finds the packages from any folder
from data.descriptions import add_data_set_flag, find_data_set
from data.images import hash_of_sizes
from data.label_maps import check_label_maps
from data.labels import labels_of, load_labels
from network import BACKBONE_HELP, NO_FILES, PRETRAINED, backbone_name
from rebalance.inputs import find_listed, read_tags
from rebalance.recipe import PARTS, SEED_CRFS, TRANSPORT_RULES
from tool.cli import (
    UserError,
    add_switch,
    check_bounds,
    first_few,
    path_text,
    positive,
    require_folder,
    run_script,
    script_parser,
)
from tool.dataset import DataSet
from tool.flags import MAX_PIXELS, add_crf_backend
from tool.folder import made_with
from tool.lists import LABEL_MAP_ENDINGS, Source, expect_files
from tool.torchrun import is_first, own_share
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

SANE = ("crf_image",)
FREE_TO_CHANGE = {*RUN_FREE_TO_CHANGE, "wss_masks", "uss_features", "labels", "xml_dir", "crf_workers"}
FEATURES_MADE_WITH = "the settings.json of --uss_features"
BOUNDS = {
    **RUN_BOUNDS,
    **dict.fromkeys(("momentum", "ema"), (0, 1)),
    **dict.fromkeys(("lr", "wt_dec"), (0, 1e30)),
    **dict.fromkeys(("b_factor", "c_factor", "s_factor"), (0, 100)),
    "h_factor": (0, 0.5),
    "tau": (-1, 1),
}
MIN_CROP = 32  # pixels: a CAM of one cell
EXAMPLES = """\
  # the released recipe, on the label maps in exps/masks
  python rebalance/train.py --data_root VOC2012/JPEGImages --train_list voc12/train_aug.txt \\
      --labels voc12/cls_labels.npy --wss_masks exps/masks --uss_features exps/features \\
      --weights resnet101-63fe2227.pth
  # go on after a stop: the same command with --resume
  python rebalance/train.py --data_root VOC2012/JPEGImages --train_list voc12/train_aug.txt \\
      --labels voc12/cls_labels.npy --wss_masks exps/masks --uss_features exps/features \\
      --weights resnet101-63fe2227.pth --resume
  # four GPUs, in half precision
  torchrun --nproc_per_node 4 rebalance/train.py --data_root VOC2012/JPEGImages \\
      --train_list voc12/train_aug.txt --labels voc12/cls_labels.npy --wss_masks exps/masks \\
      --uss_features exps/features --weights resnet101-63fe2227.pth --amp bf16
"""


def make_parser() -> argparse.ArgumentParser:
    parser = script_parser("DHR: train DeepLabv3+ on masks rebalanced in every step.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")
    data.add_argument("--train_list", type=path_text, metavar="FILE", help="ids (all images of --data_root)")
    tags = data.add_mutually_exclusive_group(required=True)
    tags.add_argument("--labels", type=path_text, help="image labels, id -> numbers (voc12/cls_labels.npy)")
    tags.add_argument("--xml_dir", type=path_text, help="or annotations, <id>.xml, whose objects are the labels")
    data.add_argument("--wss_masks", type=path_text, required=True, help="label maps of an earlier method, <id>.png")
    data.add_argument("--uss_features", type=path_text, help="unsupervised features, <id>.pt")
    add_data_set_flag(data)
    data.add_argument("--num_workers", type=int, default=8, help="loader processes (%(default)s)")

    add_device_flags(add_run_flags(parser, session="dhr"))

    net = parser.add_argument_group("net")
    net.add_argument("--backbone", type=backbone_name, default="resnet101", metavar="NAME", help=BACKBONE_HELP)
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    net.add_argument(
        "--weights", type=path_text, required=True,
        help=f"the backbone's: ImageNet's, a classifier's, {PRETRAINED} (downloaded), or none",
    )  # fmt: skip
    add_recipe(parser)
    add_labels(parser)
    return parser


def parse_arguments() -> argparse.Namespace:
    return make_parser().parse_args()


def add_recipe(parser: argparse.ArgumentParser) -> None:
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--batch_size", type=positive, default=16, help="images in a step, over all processes (%(default)s)"
    )
    recipe.add_argument("--max_epoches", type=positive, default=100, help="epochs to train (%(default)s)")
    recipe.add_argument("--lr", type=float, default=1e-3, help="rate of the backbone; heads: x 10 (%(default)s)")
    recipe.add_argument("--wt_dec", type=float, default=4e-5, help="weight decay (%(default)s)")
    recipe.add_argument("--momentum", type=float, default=0.9, help="(%(default)s)")
    add_switch(recipe, "--nesterov", default=False, help="Nesterov's momentum (False)")
    recipe.add_argument("--ema", type=float, default=0.999, help="what of the average a step leaves (%(default)s)")
    recipe.add_argument("--crop_size", type=positive, default=512, help="pixels (%(default)s)")
    recipe.add_argument("--min_image", type=positive, default=320, help="least of the longer side (%(default)s)")
    recipe.add_argument("--max_image", type=positive, default=640, help="most of the longer side (%(default)s)")
    for letter, what in (("b", "brightness"), ("c", "contrast"), ("s", "saturation"), ("h", "hue")):
        factor = 0.1 if letter == "h" else 0.3
        recipe.add_argument(
            f"--{letter}_factor", type=float, default=factor, help=f"how far {what} moves (%(default)s)"
        )


def add_labels(parser: argparse.ArgumentParser) -> None:
    labels = parser.add_argument_group("labels of a step")
    labels.add_argument("--tau", type=float, default=0.8, help="labels of a larger cosine are alike (%(default)s)")
    labels.add_argument(
        "--ot_rule", choices=TRANSPORT_RULES, default="released", help="when rounds of transport end (%(default)s)"
    )
    labels.add_argument(
        "--seed_crf", choices=SEED_CRFS, default="background",
        help="in the CRF of seeds: what classes leave, too; released: these alone (%(default)s)",
    )  # fmt: skip
    labels.add_argument(
        "--without", nargs="+", choices=PARTS, default=[], metavar="PART",
        help=f"leave out, to see what it brings: {', '.join(PARTS)}; without labels the masks are them, as they are",
    )  # fmt: skip
    add_crf_backend(labels)
    labels.add_argument("--crf_workers", type=positive, help="CRF processes on a CPU (its cores)")
    add_sane_flag(labels, SANE)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    check_bounds(args, BOUNDS)
    check_run(args)
    for flag in ("crop_size", "min_image", "max_image"):
        if not MIN_CROP <= getattr(args, flag) <= MAX_PIXELS:
            raise UserError(f"--{flag} {getattr(args, flag)}: expected {MIN_CROP} to {MAX_PIXELS} pixels")
    if args.min_image > args.max_image:
        raise UserError(f"--min_image {args.min_image}: expected at most --max_image, {args.max_image}")
    if args.nesterov and not args.momentum:
        raise UserError("--nesterov: expected a --momentum above 0, found 0")
    args.without = sorted({*args.without})
    if args.without == ["labels"]:
        args.uss_features = None  # nothing reads them
    elif "labels" in args.without:
        raise UserError(f"--without {' '.join(args.without)}: without labels there is nothing else to leave out")
    elif args.uss_features is None:
        raise UserError("--uss_features: expected a folder of features, which rebalance/features.py makes")


def read_labels(args: argparse.Namespace, ids: list[str], data_set: DataSet) -> dict[str, np.ndarray]:
    """The tags of `ids`, float32 (K,) of zeros and ones, from --labels or --xml_dir. Raises `UserError`."""
    if args.labels is not None:
        labels = load_labels(args.labels, data_set)
        return labels_of(ids, labels, data_set, source=f"--labels {args.labels}", may_be_empty=True)
    return read_tags(ids, args.xml_dir, data_set)


def read_data(args: argparse.Namespace) -> tuple[dict[str, Path], dict[str, np.ndarray]]:
    """The training images and their tags, by id, those without any left out."""
    data_set = find_data_set(args.data_set)
    images = find_listed(args, data_set, root_flag="--data_root", list_flag="--train_list")
    masks = require_folder(args.wss_masks, "--wss_masks", "label maps, <id>.png, as inference.py writes them")
    source = Source(*(("--train_list", args.train_list) if args.train_list else ("--data_root", args.data_root)))
    expect_files(list(images), masks, ".png", flag="--wss_masks", source=source, endings=LABEL_MAP_ENDINGS)
    if args.uss_features is not None:
        features = require_folder(args.uss_features, "--uss_features", "features, <id>.pt, of rebalance/features.py")
        expect_files(list(images), features, ".pt", flag="--uss_features", source=source, endings=())
    tags = read_labels(args, list(images), data_set)
    tagged = {image_id: path for image_id, path in images.items() if tags[image_id].any()}
    left_out = [image_id for image_id in images if image_id not in tagged]
    if left_out and is_first():
        print(f"left out, as they have no label: {len(left_out)} of {len(images)} images ({first_few(left_out)})")
    check_batch(args, len(tagged), args.train_list or args.data_root)
    if len(own_share(range(args.batch_size))) < 2:  # of which the norm behind the image's mean sees one value each
        raise UserError(f"--batch_size {args.batch_size}: expected at least 2 images for each process")
    return tagged, {image_id: tags[image_id] for image_id in tagged}


def check_masks(args: argparse.Namespace, images: Mapping[str, Path], tags: Mapping[str, np.ndarray]) -> None:
    """Look at the masks of the training images, whose `tags` they should have. Raises as `check_label_maps`, and where
    none has any."""
    masks = Path(args.wss_masks)
    strangers = check_label_maps(
        images,
        {image_id: masks / f"{image_id}.png" for image_id in images},
        find_data_set(args.data_set),
        label_root=masks,
        label_key="--wss_masks",
        classes=tags,
    )
    if len(strangers) == len(images):
        given = f"--labels {args.labels}" if args.labels is not None else f"--xml_dir {args.xml_dir}"
        raise UserError(
            f"--wss_masks {masks}: expected label maps of these images, found none that has a class which its image has"
            f" in {given}; name maps and labels of one data set"
        )
    if strangers and is_first():
        print(f"note: label maps without any class of their image: {len(strangers)} ({first_few(strangers)})")


def check_masks_and_features(
    args: argparse.Namespace, images: Mapping[str, Path], tags: Mapping[str, np.ndarray]
) -> int:
    """Look at what earlier stages made of the training images; the most that one's features take in memory, bytes.

    Raises `UserError` with what is wrong with the masks and with the features, both.
    """
    problems, feature_bytes = [], 0
    try:
        check_masks(args, images, tags)
    except UserError as error:
        problems.append(str(error))
    if args.uss_features is not None:
        # Not at the top: it imports torch, which takes seconds; a mistake in a flag has been named by now.
        from rebalance.feature_files import check_features

        try:
            feature_bytes = check_features(images, Path(args.uss_features), flag="--uss_features")
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return feature_bytes


def settings_of(args: argparse.Namespace, tags: Mapping[str, np.ndarray]) -> dict:
    """What decides what a run's weights become; ids, tags, masks and features by themselves, wherever they lie.

    Images are taken to be what their ids say: one that was damaged may be mended.
    """
    settings = recorded_flags(args, FREE_TO_CHANGE)
    settings["the ids of --train_list (sha256)"] = hash_of_ids(list(tags))
    numbers = [vector.nonzero()[0].tolist() for vector in tags.values()]
    settings["the labels of its images (sha256)"] = hashlib.sha256(json.dumps(numbers).encode()).hexdigest()
    for flag, ending in (("wss_masks", ".png"), ("uss_features", ".pt")):
        folder = getattr(args, flag)
        settings[f"the files of --{flag} (sha256 of their sizes)"] = hash_of_sizes(list(tags), folder, ending)
    # Features of another net may have as many channels and cells, and so files of the same sizes.
    features = args.uss_features
    settings[FEATURES_MADE_WITH] = None if features is None else made_with(Path(features))
    return settings


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    what = f"weights to start from: .pth or .params, {PRETRAINED} or none"
    first = hold_run(args, {"weights": what}, words=NO_FILES)
    images, tags = read_data(args)
    feature_bytes = check_masks_and_features(args, images, tags)
    # Not at the top: it imports torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from rebalance.training import train_run

    check_run_loaders(
        args,
        image_bytes=(12 + 3 + 1) * args.crop_size**2 + feature_bytes,  # the image, its picture, its mask
        num_batches=steps_of_epochs(args, len(images)),
    )
    settings = settings_of(args, tags) | first
    # Runs that are older than the last of these go on with the features and the start that there are.
    defaults = {**flag_defaults(make_parser(), args), FEATURES_MADE_WITH: settings[FEATURES_MADE_WITH], **first}
    train_run(args, images, tags, settings=settings, defaults=defaults)


if __name__ == "__main__":
    run_script(main)
