"""Masks, labels and lists from COCO 2014's annotations, and a look at all images.

    python -m coco14.prepare --coco14_root COCO --saliency_root COCO/saliency --out coco14

writes COCO/SegmentationClass/{train2014,val2014}/<id>.png, where they are not there yet, and cls_labels.npy, train.txt,
val.txt and train_1000.txt, the first thousand of train. Everything that is wrong with annotations or images is named
before anything is written. Run again after a stop, it goes on where it stopped.

An image's labels are the classes of all its annotations, crowds too. Images without any have labels of zeros and stand
in no list: training would refuse them. How masks come of overlapping instances and of crowds: `coco14.masks`.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from coco14.annotations import Annotated, read_instances
from coco14.classes import CLASSES, COCO14, NUM_CLASSES, SPLITS
from coco14.masks import make_mask
from data.images import image_problems, image_size
from data.prepared import make_folder, write_prepared
from data.saliency import check_saliency
from tool.artifact import reported_unwritable
from tool.checks import run_checks
from tool.cli import (
    FILE,
    FOLDER,
    NOTHING,
    UserError,
    cores,
    pace,
    path_value,
    positive,
    raise_problems,
    require_folder,
    run_script,
    script_parser,
    what_is_at,
)
from tool.lists import Source, expect_files, mask_folders
from tool.lock import hold_folder
from tool.pipeline import Pool, run_pools
from tool.places import hint, is_file, is_folder

FLAG = "--coco14_root"
FEW = 1000  # of train.txt, to score seeds on
EXAMPLES = """\
  # masks, labels and lists, after a look at every image
  python -m coco14.prepare --coco14_root COCO --saliency_root COCO/saliency
  # by four processes
  python -m coco14.prepare --coco14_root COCO --num_workers 4
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "Masks, labels and lists from COCO 2014's annotations, and a look at all images.",
        examples=EXAMPLES,
        prog="python -m coco14.prepare",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        FLAG, type=path_value, required=True, help="the folder with train2014, val2014 and annotations in it"
    )
    data.add_argument("--saliency_root", type=path_value, help="folder of saliency maps, <id>.png, to look at (none)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=path_value, default=Path("coco14"), help="folder to write labels and lists to (%(default)s)"
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--num_workers", type=positive, default=cores(), help="processes that draw masks (the cores, %(default)s)"
    )
    return parser.parse_args()


def annotation_file(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def check_layout(root: Path) -> None:
    """Raise `UserError` with every part of COCO that is not where it should be."""
    folders = {root / split: FOLDER for split in SPLITS}
    files = {annotation_file(root, split): FILE for split in SPLITS}
    problems = [
        f"{path}: expected {kind}, found {found}"
        + (hint(path, is_folder if kind == FOLDER else is_file) if found == NOTHING else "")
        for path, kind in {**folders, **files}.items()
        if (found := what_is_at(path)) != kind
    ]
    raise_problems(f"{FLAG} {root}: expected COCO 2014; nothing written", problems)


def read_splits(root: Path) -> dict[str, dict[str, Annotated]]:
    """The images of each split, by id. Raises `UserError` with everything that is wrong with their annotations."""
    splits, problems = {}, []
    for split in SPLITS:
        started = time.perf_counter()
        splits[split], found = read_instances(annotation_file(root, split))
        problems += found
        print(f"read {annotation_file(root, split).name} {pace(started, len(splits[split]))}")
    train, val = (splits[split] for split in SPLITS)
    problems += [f"{identifier}: is an image of both files" for identifier in sorted(train.keys() & val.keys())]
    raise_problems(f"{FLAG} {root}: annotations that cannot be used; nothing written", problems)
    return splits


def check_images(root: Path, splits: Mapping[str, Mapping[str, Annotated]], saliency_root: Path | None) -> None:
    """Look at the header and the end of every image, and of the saliency maps of those to train on.

    Raises `UserError` with all that are missing, damaged, or of another size than the annotations say.
    """
    problems = []
    for split, images in splits.items():
        source = Source(FLAG, annotation_file(root, split))
        expect_files(list(images), root / split, ".jpg", flag=FLAG, source=source, fixed=True)
        salient = saliency_root if split == SPLITS[0] else None
        if salient is not None:
            expect_files(list(images), salient, ".png", flag="--saliency_root", source=source)

        def check(identifier: str, split: str = split, salient: Path | None = salient) -> list[str]:
            path = root / split / f"{identifier}.jpg"
            found = image_problems(path, None if salient is None else salient / f"{identifier}.png")
            noted = splits[split][identifier].shape[::-1]
            if not found and (size := image_size(path)) != noted:
                found.append(f"{path}: expected {noted[0]} x {noted[1]} as annotated, found {size[0]} x {size[1]}")
            return found

        problems += run_checks(check, list(images), f"images of {split}")
    raise_problems(f"{FLAG} {root}: images that cannot be used; nothing written", problems)
    if saliency_root is not None:
        for note in check_saliency(saliency_root, list(splits[SPLITS[0]])):
            print(f"note: {note}")


def make_masks(root: Path, splits: Mapping[str, Mapping[str, Annotated]], num_workers: int) -> None:
    """The mask of every image, by processes; those that are there, whole, are left alone."""
    places = mask_folders(root, COCO14, fixed=True)
    pool = Pool("mask", make_mask, num_workers)
    there = 0
    for split, images in splits.items():
        first, *others = (place for place in places if place.name == split)
        with reported_unwritable(first):
            first.mkdir(parents=True, exist_ok=True)
        hold_folder(first, FLAG)
        for identifier, image in images.items():
            name = f"{identifier}.png"
            path = next((place / name for place in (first, *others) if what_is_at(place / name) == FILE), first / name)
            there += path.exists()
            pool.waiting.append((identifier, path, image))
    started, count = time.perf_counter(), len(pool.waiting)
    raise_problems("masks that were not written; the others are there", run_pools(pool))
    print(f"wrote {count - there} masks and looked at {there} that were there {pace(started, count)}")


def labels_of(images: Mapping[str, Annotated]) -> dict[str, np.ndarray]:
    """The classes of each image, float32 (K,) of zeros and ones, by id."""
    labels = {}
    for identifier, image in images.items():
        labels[identifier] = np.zeros(NUM_CLASSES, np.float32)
        labels[identifier][[instance.class_index for instance in image.instances]] = 1
    return labels


def main() -> None:
    args = parse_arguments()
    root = require_folder(args.coco14_root, FLAG, "COCO 2014, with train2014, val2014 and annotations in it")
    if args.saliency_root is not None:
        require_folder(args.saliency_root, "--saliency_root", "maps, <id>.png")
    check_layout(root)
    splits = read_splits(root)
    labels = {split: labels_of(images) for split, images in splits.items()}
    lists = {split: [identifier for identifier, label in labels[split].items() if label.any()] for split in SPLITS}
    for split, ids in lists.items():
        print(f"found {split}: {len(splits[split])} images, {len(ids)} of them with objects")
        if not ids:
            raise UserError(f"{FLAG} {annotation_file(root, split)}: expected objects, found none; nothing written")
    check_images(root, splits, args.saliency_root)
    make_folder(args.out)
    make_masks(root, splits, args.num_workers)
    train, val = (lists[split] for split in SPLITS)
    labels = {identifier: label for of_split in labels.values() for identifier, label in of_split.items()}
    per_class = np.sum(list(labels.values()), axis=0, dtype=int)
    shown = [f"{name} {count}" for name, count in zip(CLASSES, per_class, strict=True) if count]
    print(f"images with {', '.join(shown)}; {NUM_CLASSES - len(shown)} classes have none")
    write_prepared(args.out, labels, {"train": train, "val": val, "train_1000": train[:FEW]})


if __name__ == "__main__":
    run_script(main)
