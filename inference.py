"""Stage 1: multi-scale CAMs, seeds and CRF seeds from a trained classifier.

    python inference.py --weights exps/hsc/hsc.pth --infer_list voc12/train.txt --img_root VOC2012/JPEGImages

Runs again from where it stopped: an image is done when every file asked of it is there, whole, and of its labels and
size. Each folder's settings.json says what its files were made with.
"""

import argparse
import filecmp
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.descriptions import find_data_set, require_background
from data.images import check_images
from data.labels import labels_of, load_labels
from method import METHODS
from method.arguments import network_meant
from method.inference_flags import parse_arguments
from method.output_folders import cam_settings, flags_of, open_outputs, plan_outputs
from method.outputs import Outputs
from method.seed_flags import check_seed_flags, crf_recipes, threshold_of
from network import EPS_SEAM
from tool.cli import UserError, brief, check_bounds, printable, require_folder, run_script
from tool.flags import check_scales
from tool.folder import arguments_of_run
from tool.lists import Source, find_images, read_ids
from tool.seed_recipe import SeedRecipe
from tool.torchrun import is_first, own_share
from tool.weights_file import require_weights

MAX_WALK = 1000  # steps


def seed_recipe(args: argparse.Namespace) -> SeedRecipe:
    return replace(METHODS[args.method].seeds, scales=tuple(args.scales), threshold=args.thr)


def compare_with_run(args: argparse.Namespace) -> None:
    """Say how the net differs, on purpose or not, from that of the run in whose folder --weights lie.

    Raises `UserError` for another backbone, whose weights would not fit.
    """
    run = arguments_of_run(args.weights)
    for name in ("backbone", "width"):
        ours = getattr(args, name)
        if (theirs := run.get(name, ours)) != ours:
            raise UserError(
                f"--{name} {ours}: the net of {args.weights} was trained with --{name} {brief(theirs)}, as args.json"
                " beside it says; take that"
            )
    for name in ("method", *METHODS[args.method].net_flags):
        ours = getattr(args, name)
        theirs = run.get(name, ours)
        if not alike(theirs, ours) and is_first():
            note = f"note: --{name} {ours}, where the net was trained with --{name} {brief(theirs)}"
            print(printable(note), file=sys.stderr)


def alike(theirs: Any, ours: Any) -> bool:
    """Whether two values of a flag mean the same; two files do that have the same content."""
    if theirs != ours and isinstance(theirs, str) and isinstance(ours, str):
        with suppress(OSError, ValueError):
            return filecmp.cmp(theirs, ours, shallow=False)
    return theirs == ours


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong; put the network's registry name in place."""
    args.background_last = args.network == EPS_SEAM
    args.network = network_meant(args.network, METHODS[args.method])
    if args.network != METHODS[args.method].network:
        raise UserError(
            f"--network {args.network}: --method {args.method} trains {METHODS[args.method].network}; leave one of them"
            " out"
        )
    METHODS[args.method].check_inference(args)
    require_background(find_data_set(args.data_set))
    check_scales(args.scales)
    check_bounds(args, {"refine_list": (0, MAX_WALK)})
    if args.refine_list and args.scn is None:
        raise UserError(f"--refine_list {args.refine_list}: maps walk between superpixels; give their network, --scn")
    check_seed_flags(args)
    compare_with_run(args)


def read_data(args: argparse.Namespace) -> tuple[dict[str, Path], dict[str, list[int]]]:
    """This process's images and their classes, by id, after a look at every file."""
    image_root = require_folder(args.img_root, "--img_root", "JPEGImages, <id>.jpg")
    ids = own_share(read_ids(args.infer_list, "--infer_list"))
    data_set, source = find_data_set(args.data_set), Source("--infer_list", args.infer_list)
    images = find_images(ids, image_root, data_set, flag="--img_root", source=source)
    labels = load_labels(args.labels, data_set)
    labels = labels_of(ids, labels, data_set, source=f"--labels {args.labels}", may_be_empty=True)
    classes = {image_id: np.flatnonzero(label).tolist() for image_id, label in labels.items()}
    check_images(images, image_root)
    return images, classes


def infer(args: argparse.Namespace, images: dict[str, Path], classes: dict[str, list[int]], outputs: Outputs) -> None:
    """Load the net, open the folders of `outputs` and make the files in them that are not there."""
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from method.inference import infer_missing, load_learner
    from network.scn import SCN, load_scn
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        _, report = load_learner(args)
        superpixels = None if args.scn is None else load_scn(SCN(), args.scn, "--scn")
        if is_first():
            print(report if superpixels is None else f"{report}\n{superpixels}")
            cam = cam_settings(args, report.background)
            open_outputs(outputs, cam, flags=flags_of(args, outputs))
    infer_missing(images, classes, args=args, recipe=seed_recipe(args), outputs=outputs, processes=processes)


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    args.thr = threshold_of(args.thr)
    outputs = plan_outputs(args, crf_recipes(args))
    require_weights(args.weights, "--weights")
    if args.scn is not None:
        require_weights(args.scn, "--scn", "weights of a superpixel network")
    images, classes = read_data(args)
    infer(args, images, classes, outputs)
    for folder in outputs.folders:
        print(f"  {folder}")


if __name__ == "__main__":
    run_script(main)
