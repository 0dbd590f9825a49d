"""Stage 1: train a CAM classifier from image labels.

    python train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency --session hsc

Released recipe (the defaults): ResNet-38 from the ImageNet `.params`, 20,000 steps of batch 12 at crop 448.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

from data.descriptions import find_data_set
from data.images import check_training_files, hash_of_sizes
from data.label_maps import check_label_maps
from data.labels import load_labels
from data.saliency import check_saliency
from method import METHODS
from method.arguments import check_arguments, make_parser, parse_arguments
from network import NO_FILES, PRETRAINED
from tool.cli import UserError, require_folder, run_script
from tool.dataset import DataSet
from tool.file_hash import sha256_of
from tool.lists import Source, expect_files, find_images, find_masks, read_ids
from tool.torchrun import is_first
from tool.training_flags import (
    RUN_FREE_TO_CHANGE,
    check_batch,
    check_run_loaders,
    flag_defaults,
    hash_of_ids,
    hold_run,
    recorded_flags,
)
from tool.weights_file import require_weights

FREE_TO_CHANGE = {
    *RUN_FREE_TO_CHANGE,
    "compile",
    "picture_every",
    "eval",
    "eval_every",
    "val_list",
    "gt_dir",
    "labels",
    "saliency_root",
}


def read_data(args: argparse.Namespace, data_set: DataSet) -> tuple[dict[str, Path], dict]:
    """The training images, by id, and the labels, after every file that training will read has been looked at."""
    require_folder(args.data_root, "--data_root", "JPEGImages, <id>.jpg")
    if "saliency" in METHODS[args.method].reads:
        if args.saliency_root is None:
            raise UserError(f"--saliency_root: --method {args.method} needs a folder of saliency maps, <id>.png")
        require_folder(args.saliency_root, "--saliency_root", "saliency maps, <id>.png")
    else:
        args.saliency_root = None
    ids = read_ids(args.train_list, "--train_list")
    source = Source("--train_list", args.train_list)
    images = find_images(ids, args.data_root, data_set, flag="--data_root", source=source)
    if args.saliency_root is not None:
        expect_files(ids, args.saliency_root, ".png", flag="--saliency_root", source=source)
    labels = load_labels(args.labels, data_set)
    check_training_files(images, saliency_root=args.saliency_root, labels=labels, data_set=data_set)
    if args.saliency_root is not None:
        first_channel = METHODS[args.method].saliency_crop(args).first_channel
        for note in check_saliency(args.saliency_root, ids, first_channel=first_channel):
            if is_first():
                print(f"note: {note}", file=sys.stderr)
    check_batch(args, len(ids), args.train_list)
    return images, labels


def read_validation(args: argparse.Namespace, labels: dict, data_set: DataSet) -> dict[str, Path]:
    """The images of `--val_list`, by id, after they and their labels have been looked at."""
    ids = read_ids(args.val_list, "--val_list")
    source = Source("--val_list", args.val_list)
    images = find_images(ids, args.data_root, data_set, flag="--data_root", source=source)
    check_training_files(images, saliency_root=None, labels=labels, data_set=data_set)
    return images


def read_masks(args: argparse.Namespace, images: dict[str, Path], data_set: DataSet) -> dict[str, Path]:
    """The masks of the images of --val_list, by id, where the method has --gt_dir and it is there, after a look at
    them."""
    if not METHODS[args.method].scores_masks or args.gt_dir is None:
        return {}
    root, source = require_folder(args.gt_dir, "--gt_dir", "<id>.png"), Source("--val_list", args.val_list)
    masks = find_masks(list(images), root, data_set, flag="--gt_dir", source=source)
    check_label_maps(images, masks, data_set, label_root=root, label_key="--gt_dir")
    return masks


def image_bytes(args: argparse.Namespace) -> int:
    """The size of a float32 crop, with its saliency where that is used."""
    channels = 3 if args.saliency_root is None else 4
    return 4 * channels * args.crop_size**2


def hash_of_file(path: str | None) -> str | None:
    return None if path is None else sha256_of(path)


def selection_of(args: argparse.Namespace, held_out: Mapping[str, Path]) -> dict:
    """What decides which weights --select miou keeps: another list's scores do not compare with those so far."""
    if getattr(args, "select", None) != "miou":
        return {}
    return {"the ids of --val_list (sha256)": hash_of_ids(list(held_out)), "--eval_every": args.eval_every}


def settings_of(args: argparse.Namespace, ids: list[str], labels: dict) -> dict:
    """What decides what a run's weights become; ids, labels and saliency maps by themselves, wherever they lie.

    Images are taken to be what their ids say: one that was damaged may be mended.
    """
    content = hashlib.sha256()
    for image_id in ids:
        content.update(f"{image_id}\n{labels[image_id].tolist()}\n".encode())
    helpers = METHODS[args.method].helper_flags
    return {
        **recorded_flags(args, {*FREE_TO_CHANGE, *helpers}),
        **{f"the weights of --{flag} (sha256)": hash_of_file(getattr(args, flag)) for flag in helpers},
        "the ids of --train_list and their labels (sha256)": content.hexdigest(),
        "the maps of --saliency_root (sha256 of their sizes)": hash_of_sizes(ids, args.saliency_root),
    }


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    what = f"the .params, .pth, .ckpt or .safetensors to start from, {PRETRAINED} or none"
    first = hold_run(args, dict.fromkeys(METHODS[args.method].weight_flags, what), words=NO_FILES)
    for flag in METHODS[args.method].helper_flags:
        if getattr(args, flag) is not None:
            require_weights(getattr(args, flag), f"--{flag}")
    data_set = find_data_set(args.data_set)
    images, labels = read_data(args, data_set)
    held_out = read_validation(args, labels, data_set) if args.eval or args.eval_every else {}
    masks = read_masks(args, held_out, data_set) if held_out else {}
    selection = selection_of(args, held_out)
    settings = settings_of(args, list(images), labels) | selection | first
    check_run_loaders(args, image_bytes=image_bytes(args), num_batches=METHODS[args.method].steps(args, len(images))[0])
    # Not at the top: it imports torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from method.training import train_run

    defaults = flag_defaults(make_parser(METHODS[args.method]), args)
    train_run(args, images, labels, held_out, masks, settings=settings, defaults=defaults | selection | first)


if __name__ == "__main__":
    run_script(main)
