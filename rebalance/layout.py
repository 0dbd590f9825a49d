"""Lay a data set out as DHR's released commands take it, by links, and check such a layout.

    python rebalance/layout.py --data VOC2012 --source VOC2012 --root ..

makes ../VOC2012/VOC2012.json, the labels, and ../VOC2012/<domain>/{image,mask,xml}: links to the files of --source, but
for the annotations of data sets other than VOC's, which are written from cls_labels.npy of their `prepare`.

    python rebalance/layout.py --data VOC2012 --root .. --check --wss MARS --uss CAUSE

looks at all of it, at the masks of ../WSS/VOC2012/MARS/<domain> and at the features beside the images.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python layout.py` finds the packages from any folder
import numpy as np

from data import DATASETS
from data.descriptions import find_data_set
from data.images import check_images
from data.label_maps import check_label_maps
from data.labels import labels_of, load_labels
from rebalance.inputs import images_of, read_tags
from tool.artifact import atomic_file
from tool.cli import (
    FOLDER,
    NOTHING,
    UserError,
    add_switch,
    path_text,
    path_value,
    raise_problems,
    require_folder,
    run_script,
    script_parser,
    what_is_at,
)
from tool.dataset import DataSet
from tool.lists import Source, find_images, find_masks, folder_of, read_ids
from tool.lock import hold_folder

IMAGE, MASK, XML = "image", "mask", "xml"


class Layout(NamedTuple):
    """A data set under its released name: ours, and by domain its list and the folder of its masks, None for no masks
    at all, "" for the data set's own."""

    data_set: str
    domains: Mapping[str, tuple[str, str | None]]


_OWN = {"train": ("train.txt", ""), "validation": ("val.txt", "")}
LAYOUTS = {
    "VOC2012": Layout(
        "voc12",
        {
            "train_aug": ("train_aug.txt", "SegmentationClassAug"),
            "validation": ("val.txt", "SegmentationClass"),
            "test": ("test.txt", None),
        },
    ),
    "COCO2014": Layout("coco14", _OWN),
    "PascalContext": Layout("context", _OWN),
    "ADE2016": Layout("ade", _OWN),
    "COCO-Stuff": Layout("stuff", _OWN),
}
ANNOTATIONS = {"voc12": "Annotations"}  # that a data set has of its own, in the form that is wanted
EXAMPLES = """\
  # VOC from its devkit, by links
  python rebalance/layout.py --data VOC2012 --source VOC2012 --root ..
  # is all there that training takes?
  python rebalance/layout.py --data VOC2012 --root .. --check --wss MARS --uss CAUSE
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Lay a data set out for DHR, by links, or check such a layout.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--data", choices=LAYOUTS, default="VOC2012", help="its released name (%(default)s)")
    data.add_argument("--root", type=path_value, default=Path(".."), help="<data> lies in it (%(default)s)")
    data.add_argument("--source", type=path_value, help="the data set's own folder, to lay out (VOC2012)")
    data.add_argument(
        "--lists", type=path_value, metavar="DIR", help="lists, and labels for annotations (the data set's, as voc12)"
    )
    check = parser.add_argument_group("check")
    add_switch(check, "--check", default=False, help="look at what is there, and make nothing (False)")
    check.add_argument("--wss", type=path_text, metavar="NAME", help="whose masks to look at (none)")
    check.add_argument("--uss", type=path_text, metavar="NAME", help="whose features to look at (none)")
    return parser.parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that do not go together."""
    if args.check and (args.source or args.lists):
        raise UserError("--check: makes nothing; leave --source and --lists out")
    if not args.check and args.source is None:
        raise UserError("--source: expected the data set's own folder; or --check, to look at a layout")
    if not args.check and (args.wss or args.uss):
        raise UserError("--wss, --uss: are for --check; add it")


def link(path: Path, target: Path) -> None:
    """Make `path` a link to `target`, unless it is. Raises `UserError` where something else is there."""
    target = target.resolve()
    if path.is_symlink() and path.readlink() == target:
        return
    try:
        path.symlink_to(target)
    except OSError as error:
        found = "something else is there; remove it" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f"{path}: cannot be made a link to {target} ({found})") from error


def write(path: Path, content: str) -> None:
    """Write a small file, unless it is there so."""
    if not path.is_file() or path.read_bytes() != content.encode():
        with atomic_file(path) as file:
            file.write(content.encode())


def described(data_set: DataSet) -> str:
    """The labels as DHR's JSON has them."""
    return json.dumps({"ignore": 255, "names": list(data_set.label_names)}) + "\n"


def annotation_of(vector: np.ndarray, data_set: DataSet) -> str:
    """An annotation with the names of an image's classes alone."""
    names = [name for name, is_there in zip(data_set.classes, vector, strict=True) if is_there]
    return f"<annotation>{''.join(f'<object><name>{escape(name)}</name></object>' for name in names)}</annotation>\n"


def lay_out(args: argparse.Namespace) -> None:
    """Make the folders and links of `args.data`; what is there so is left alone. Raises `UserError`."""
    layout = LAYOUTS[args.data]
    data_set, source, root = DATASETS[layout.data_set], args.source, args.root / args.data
    require_folder(source, "--source", f"{data_set.title}, with {data_set.images[0]} in it")
    lists = args.lists or Path(data_set.name)
    annotations = ANNOTATIONS.get(data_set.name)
    labels = None if annotations else load_labels(lists / "cls_labels.npy", data_set, flag="--lists")
    plans = {}
    for domain, (name, masks) in layout.domains.items():
        if masks is None and what_is_at(lists / name) == NOTHING:  # voc12.prepare writes none without VOC's test images
            print(f"{root / domain}: left out; its list {lists / name} is not there")
        else:
            plans[domain] = planned(args, lists, domain, data_set)
    vectors = {}
    if labels is not None:
        for images, _ in plans.values():
            vectors |= labels_of(list(images), labels, data_set, source=f"--lists {lists}", may_be_empty=True)
    try:
        for domain, (_, masks) in plans.items():
            for part in (IMAGE, *([] if masks is None else [MASK, XML])):
                (root / domain / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--root {root}: cannot be created ({error.strerror})") from error
    hold_folder(root, "--root")
    write(root / f"{args.data}.json", described(data_set))
    for domain, (images, masks) in plans.items():
        for image_id, path in images.items():
            link(root / domain / IMAGE / path.name, path)
            if masks is None:
                continue
            link(root / domain / MASK / f"{image_id}.png", masks[image_id])
            xml = root / domain / XML / f"{image_id}.xml"
            if annotations:
                link(xml, source / annotations / f"{image_id}.xml")
            else:
                write(xml, annotation_of(vectors[image_id], data_set))
        print(f"{root / domain}: {len(images)} images")


def planned(
    args: argparse.Namespace, lists: Path, domain: str, data_set: DataSet
) -> tuple[dict[str, Path], dict[str, Path] | None]:
    """The images and true masks of a domain, by id, after a look whether they are there. Raises `UserError`."""
    name, folder = LAYOUTS[args.data].domains[domain]
    ids, source = read_ids(lists / name, "--lists"), Source("--lists", lists / name)
    images = find_images(ids, folder_of(args.source, data_set.images), data_set, flag="--source", source=source)
    check_images(images, args.source)
    if folder is None:
        return images, None
    place = args.source / folder if folder else folder_of(args.source, data_set.masks)
    masks = find_masks(ids, place, data_set, flag="--source", source=source)
    files = list(masks.values())
    if data_set.name in ANNOTATIONS:
        files += [args.source / ANNOTATIONS[data_set.name] / f"{image_id}.xml" for image_id in ids]
    missing = [str(path) for path in files if not path.is_file()]
    raise_problems(f"--source {args.source}: files of {source} that are missing; nothing made", missing)
    return images, masks


def check(args: argparse.Namespace) -> None:
    """Look at all domains of a layout. Raises `UserError` with all folders that are missing, then with what is wrong
    with the first part that has faults."""
    root = require_folder(args.root / args.data, "--root", f"the layout of {args.data}, which --source makes")
    data_set = find_data_set(str(root / f"{args.data}.json"), "--root")
    raise_problems(f"{root}: folders that the layout lacks", missing_parts(args, root))
    for domain, (_, masks) in LAYOUTS[args.data].domains.items():
        is_first = domain == next(iter(LAYOUTS[args.data].domains))
        folder = root / domain
        if not is_first and what_is_at(folder) != FOLDER:
            print(f"{folder}: is not there")
            continue
        counts = check_domain(folder, data_set, with_masks=masks is not None)
        if is_first and args.wss is not None:
            counts += check_wss(args, folder, data_set)
        if is_first and args.uss is not None:
            counts += check_uss(args, folder, data_set)
        print(f"{folder}: {', '.join(counts)}")


def missing_parts(args: argparse.Namespace, root: Path) -> list[str]:
    """A line, with what makes it, for each folder that is not there, of the first domain and of the others that are."""
    maker, domains = "rebalance/layout.py --source DIR", LAYOUTS[args.data].domains
    first, *others = domains
    parts = []
    for domain in (first, *(name for name in others if what_is_at(root / name) == FOLDER)):
        parts.append(("--root", root / domain / IMAGE, "images", maker))
        if domains[domain][1] is not None:
            parts.append(("--root", root / domain / MASK, "true masks", maker))
            parts.append(("--root", root / domain / XML, "annotations", maker))
    if args.wss is not None:
        made_by = "an earlier method, as inference.py or refine/*/infer.py,"
        parts.append(("--wss", wss_folder(args, first), "label maps", made_by))
    if args.uss is not None:
        parts.append(("--uss", root / first / args.uss, "features", "rebalance/features.py"))
    return [
        f"{flag} {folder}: expected {FOLDER} ({what}), found {found}; {made_by} makes it"
        for flag, folder, what, made_by in parts
        if (found := what_is_at(folder)) != FOLDER
    ]


def wss_folder(args: argparse.Namespace, domain: str) -> Path:
    """Where a domain's masks of the earlier method are."""
    return args.root / "WSS" / args.data / args.wss / domain


def check_domain(folder: Path, data_set: DataSet, *, with_masks: bool) -> list[str]:
    """Look at a domain's images, true masks and annotations; how many there are, in words."""
    images = images_of(folder / IMAGE, data_set, "--root")
    check_images(images, folder / IMAGE)
    counts = [f"{len(images)} images"]
    if with_masks:
        paths = {image_id: folder / MASK / f"{image_id}.png" for image_id in images}
        check_label_maps(images, paths, data_set, label_root=folder / MASK, label_key="--root")
        tags = read_tags(list(images), folder / XML, data_set, flag="--root")
        counts += ["their masks", f"{sum(bool(classes.any()) for classes in tags.values())} of them with tags"]
    return counts


def check_wss(args: argparse.Namespace, folder: Path, data_set: DataSet) -> list[str]:
    """Look at the masks that an earlier method made of the images of the domain in `folder`."""
    masks = wss_folder(args, folder.name)
    images = images_of(folder / IMAGE, data_set, "--root")
    paths = {image_id: masks / f"{image_id}.png" for image_id in images}
    check_label_maps(images, paths, data_set, label_root=masks, label_key="--wss")
    return [f"masks of {args.wss}"]


def check_uss(args: argparse.Namespace, folder: Path, data_set: DataSet) -> list[str]:
    """Look at the features."""
    from rebalance.feature_files import check_features  # it imports torch, which takes seconds

    check_features(images_of(folder / IMAGE, data_set, "--root"), folder / args.uss, flag="--uss")
    return [f"features of {args.uss}"]


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    if args.check:
        check(args)
    else:
        lay_out(args)


if __name__ == "__main__":
    run_script(main)
