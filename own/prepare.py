"""Labels and lists of photographs of your own, and a look at all their files.

    python -m own.prepare --own_root MINE --saliency_root MINE/saliency --out exps/mine/data

MINE holds set.json, which names the classes, JPEGImages, and the images' labels: labels.json, their classes' names by
image, or cls_labels.npy. Masks, for scores, and lists may be there (docs/your_data.md). It reads every file, prints
each fault it finds, and writes only if there is none: cls_labels.npy, train_aug.txt, to learn from, and test.txt, to
segment; where there are masks train.txt, those of train_aug with a mask, and val.txt.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from data.descriptions import find_data_set, require_background
from data.images import image_problems
from data.labels import labels_of, load_labels
from data.prepared import make_folder, mask_problems, report_checked, write_prepared
from data.saliency import check_saliency
from tool.checks import run_checks
from tool.cli import (
    FOLDER,
    NOTHING,
    UserError,
    brief,
    did_you_mean,
    path_value,
    raise_problems,
    require_file,
    require_folder,
    run_script,
    script_parser,
    what_is_at,
)
from tool.dataset import DataSet
from tool.lists import Source, entry_id, expect_files, find_images, id_problem, read_ids
from tool.places import visible

FLAG = "--own_root"
DESCRIPTION, IMAGES, MASKS = "set.json", "JPEGImages", "SegmentationClass"
NAMES, VECTORS = "labels.json", "cls_labels.npy"
FORM = '{"<id>": ["<class>", ...], ...}'
EXAMPLES = """\
  # labels and lists, after a look at every file
  python -m own.prepare --own_root MINE --out exps/mine/data
  # with the saliency maps that eps and hsc learn from
  python -m own.prepare --own_root MINE --saliency_root MINE/saliency --out exps/mine/data
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "Labels and lists of photographs of your own, and a look at all their files.",
        examples=EXAMPLES,
        prog="python -m own.prepare",
    )
    data = parser.add_argument_group("data")
    data.add_argument(FLAG, type=path_value, required=True, help=f"the folder with {DESCRIPTION} and {IMAGES} in it")
    data.add_argument("--saliency_root", type=path_value, help="folder of saliency maps, <id>.png, to look at (none)")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=path_value, required=True, help="folder to write labels and lists to")
    return parser.parse_args()


def described_in(root: Path) -> DataSet:
    """The data set of set.json. Raises `UserError` for one that recipes cannot run on."""
    data_set = find_data_set(str(root / DESCRIPTION), FLAG)
    require_background(data_set, FLAG)
    for key, found, expected in (("images", data_set.images, IMAGES), ("masks", data_set.masks, MASKS)):
        if tuple(found) != (expected,):
            raise UserError(f'{FLAG} {root / DESCRIPTION}: "{key}": expected {expected}, found {brief(list(found))}')
    require_folder(root / IMAGES, FLAG, "the images")
    return data_set


def read_labels(root: Path, data_set: DataSet) -> dict[str, np.ndarray]:
    """The labels of all images that have one, zeros too: float32 (K), by id."""
    path = root / NAMES
    if NOTHING not in (what_is_at(path), what_is_at(root / VECTORS)):
        print(f"note: {root} has {NAMES} and {VECTORS}: the latter is not read")
    if what_is_at(path) == NOTHING:
        if what_is_at(root / VECTORS) == NOTHING:
            raise UserError(
                f"{FLAG} {root}: expected labels, {NAMES}, {FORM}, or {VECTORS}, {data_set.num_classes} zeros and ones"
                " an image; found neither"
            )
        labels = load_labels(root / VECTORS, data_set, flag=FLAG)
        problems = [f"{each!r}: the id {problem}" for each in labels if (problem := _problem_of(each))]
        raise_problems(f"{FLAG} {root / VECTORS}: keys that are no ids; rename them", problems)
        return labels
    require_file(path, FLAG, FORM)
    try:
        found = json.loads(path.read_bytes(), object_pairs_hook=Pairs)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{FLAG} {path}: cannot be read as JSON ({error})") from error
    strange = [value for _, value in found if not _is_names(value)] if isinstance(found, Pairs) else [found]
    if strange:
        raise UserError(f"{FLAG} {path}: expected the classes of each image, {FORM}, found {brief(strange[0])}")
    return _vectors(found, data_set, f"{FLAG} {path}")


class Pairs(list):
    """An object of JSON, (key, value): a dict would keep the last one of a key that is there twice."""


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _vectors(found: Iterable[tuple[str, Sequence[str]]], data_set: DataSet, source: str) -> dict[str, np.ndarray]:
    """Labels of classes' names, in any form of Unicode, by id or name of an image file."""
    classes = [normalize("NFC", name) for name in data_set.label_names[1:]]
    labels, problems = {}, []
    for entry, names in found:
        identifier = entry_id(entry)
        if problem := _problem_of(identifier):
            problems.append(f"{entry!r}: the id {problem}")
        if identifier in labels:
            problems.append(f"{identifier}: has labels twice")
        labels[identifier] = np.zeros(len(classes), np.float32)
        for name in (normalize("NFC", each) for each in names):
            if name in classes:
                labels[identifier][classes.index(name)] = 1
            else:
                problems.append(f"{identifier}: {name!r} is no class of {DESCRIPTION}{did_you_mean(name, classes)}")
    raise_problems(f"{source}: expected classes of {', '.join(classes)}", problems)
    return labels


def ids_of_images(root: Path, data_set: DataSet) -> list[str]:
    """The ids of all images, sorted; a note on files of other endings. Raises `UserError` for names that are no ids."""
    files = visible(root / IMAGES)
    images = [path for path in files if path.suffix in data_set.suffixes]
    if not images:
        expected = f"{FLAG} {root / IMAGES}: expected images, {', '.join(data_set.suffixes)}, found none"
        if not files:
            raise UserError(expected)
        ending = f'name their ending in {DESCRIPTION}, "suffixes": ["{files[0].suffix}"]'
        raise UserError(f"{expected}, as {files[0].name!r}; {ending}, or convert them")
    problems = [f"{path.name!r}: the id {problem}" for path in images if (problem := _problem_of(path.stem))]
    raise_problems(f"{FLAG} {root / IMAGES}: file names that are no ids; rename them", problems)
    names = {path.stem: path.name for path in images}
    twice = [f"{path.name}, {names[path.stem]}" for path in images if names[path.stem] != path.name]
    raise_problems(f"{FLAG} {root / IMAGES}: photographs of one id, of which one would be read; rename one", twice)
    if others := [path.name for path in files if path.suffix not in data_set.suffixes]:
        print(f"note: {len(others)} of {IMAGES} are no {', '.join(data_set.suffixes)}, as {others[0]!r}: left out")
    return list(names)


def _problem_of(identifier: str) -> str | None:
    """Why an id cannot stand in a list, whose lines are read without white space at their ends, and without the ending
    of an image; None if it can."""
    if identifier != identifier.strip():
        return "begins or ends with a space"
    if (found := entry_id(identifier)) != identifier:
        return f"is read as {found!r} in a list"
    return id_problem(identifier)


def find_lists(root: Path, labels: Mapping[str, np.ndarray], images: list[str]) -> dict[str, list[str]]:
    """The ids of each list. Raises `UserError` for lists that cannot be read, and where nothing is left to learn from.

    val: of MASKS. train_aug: train.txt, or all images with a class that are not in val. train: those of them that have
    masks. test: test.txt, or all `images`.
    """

    def listed(name: str) -> list[str] | None:
        path = root / f"{name}.txt"
        return None if what_is_at(path) == NOTHING else read_ids(path, FLAG)

    masks = {path.stem for path in visible(root / MASKS, ".png")}
    val = listed("val") or []
    held_out = {*val}
    unmasked = [f"{identifier}: no {MASKS}/{identifier}.png" for identifier in val if identifier not in masks]
    raise_problems(f"{FLAG} {root / 'val.txt'}: expected images with masks, to score on", unmasked)
    given = listed("train") or []
    learnt = given or [identifier for identifier, label in labels.items() if label.any()]
    if bare := [] if given else [identifier for identifier, label in labels.items() if not label.any()]:
        print(f"note: {len(bare)} with no class, as {bare[0]}: nothing learns from these")
    if both := [identifier for identifier in given if identifier in held_out]:
        print(f"note: {len(both)} of train.txt are in val.txt, too, as {both[0]}: nothing learns from these")
    learnt = [identifier for identifier in learnt if identifier not in held_out]
    if not learnt:
        raise UserError(f"{FLAG} {root}: nothing to learn from: no image outside val.txt has a class; nothing written")
    lists = {"train_aug": learnt, "test": listed("test") or images}
    scored = {"train": [identifier for identifier in learnt if identifier in masks], "val": val}
    if masks - held_out and not scored["train"]:
        expected = "expected masks of images to learn from, or of those that val.txt lists"
        raise UserError(f"{FLAG} {root / MASKS}: {expected}, found others, as {min(masks - held_out)}.png")
    return lists | {name: ids for name, ids in scored.items() if ids}


def find_problems(
    root: Path, data_set: DataSet, lists: Mapping[str, list[str]], every: Sequence[str], saliency: Path | None
) -> list[str]:
    """One line for each image, mask and saliency map of `lists`, which have `every` id, that a stage could not use."""
    source = Source(FLAG, root)
    images = find_images(every, root, data_set, flag=FLAG, source=source, fixed=True)
    salient = {*lists["train_aug"]} if saliency else {}
    if saliency:
        expect_files(lists["train_aug"], saliency, ".png", flag="--saliency_root", source=source)
    masked = {*lists.get("train", ()), *lists.get("val", ())}

    def check(identifier: str) -> list[str]:
        found = image_problems(
            images[identifier], saliency / f"{identifier}.png" if identifier in salient else None, decode=True
        )
        masks = [root / MASKS / f"{identifier}.png"] if identifier in masked else []
        return found + mask_problems(masks, images[identifier], data_set)

    return run_checks(check, every, "images and masks")


def turned_images(root: Path, data_set: DataSet, ids: Sequence[str]) -> list[str]:
    """The ids of images whose camera says that they are to be turned before they are shown, which nothing here does."""
    images = find_images(ids, root, data_set, flag=FLAG, source=Source(FLAG, root), fixed=True)

    def check(identifier: str) -> list[str]:
        with Image.open(images[identifier]) as image:
            try:
                turn = image.getexif().get(Base.Orientation, 1)
            except Exception:  # of EXIF that is damaged, which Pillow has many errors for and nobody here reads
                return []
            return [identifier] if turn != 1 else []

    return run_checks(check, ids, "how images are turned")


def check_earlier(out: Path, root: Path, learnt: Mapping[str, np.ndarray], data_set: DataSet) -> None:
    """Raise `UserError` where a training beside `out` began with a list there that is not of `learnt`, images by id
    with their labels: what was trained on it is of no use. Labels that are damaged are written again: a training knows
    its own, and refuses others. A note on images that changed."""
    labels, ids = out / "cls_labels.npy", out / "train_aug.txt"
    if NOTHING in (what_is_at(labels), what_is_at(ids)) or not any(out.parent.glob("*/last.ckpt")):
        return
    before = read_ids(ids, "--out")
    try:
        known = load_labels(labels, data_set, flag="--out")
    except UserError:
        known = learnt
    if before != [*learnt] or any(not np.array_equal(known.get(each), label) for each, label in learnt.items()):
        raise UserError(
            f"--out {out}: is of other images to learn from, or other labels ({len(before)} images then, {len(learnt)}"
            " now); take another --out, also of run.py, or remove what is there"
        )
    images = find_images(before, root, data_set, flag=FLAG, source=Source("--out", ids), fixed=True)
    then = ids.stat().st_mtime_ns
    if changed := [path.name for path in images.values() if path.exists() and path.stat().st_mtime_ns > then]:
        print(
            f"note: {len(changed)} of {IMAGES} changed since {ids} was written, as {changed[0]}: what was made of old"
            " ones stays; another --out, also of run.py, makes all of it anew"
        )


def main() -> None:
    args = parse_arguments()
    root = require_folder(args.own_root, FLAG, f"photographs of your own, with {DESCRIPTION} and {IMAGES} in it")
    out = args.out.resolve()
    if out == root.resolve() or any(out.is_relative_to(root.resolve() / name) for name in (IMAGES, MASKS)):
        raise UserError(f"--out {args.out}: expected a folder outside {root}'s own")
    saliency = args.saliency_root
    if saliency is not None:
        require_folder(saliency, "--saliency_root", "maps, <id>.png")
    elif what_is_at(root / "saliency") == FOLDER:
        print(f"note: {root / 'saliency'} is not looked at; --saliency_root does")
    data_set = described_in(root)
    labels = read_labels(root, data_set)
    lists = find_lists(root, labels, ids_of_images(root, data_set))
    for name, ids in lists.items():
        print(f"found {name}: {len(ids)} images")
    if not {"train", "val"} & lists.keys():
        print(f"note: no masks in {root / MASKS}: nothing will be scored")
    learnt = labels_of(lists["train_aug"], labels, data_set, source=f"{FLAG} {root}: labels")
    check_earlier(args.out, root, learnt, data_set)
    make_folder(args.out)
    started = time.perf_counter()
    every = list(dict.fromkeys(identifier for ids in lists.values() for identifier in ids))
    problems = find_problems(root, data_set, lists, every, saliency)
    if saliency is not None and not problems:
        for note in check_saliency(saliency, lists["train_aug"]):
            print(f"note: {note}")
    report_checked(len(every), started, problems, f"{FLAG} {root}")
    per_class = np.sum(list(learnt.values()), axis=0, dtype=int)
    if turned := turned_images(root, data_set, every):
        print(
            f"note: {len(turned)} of {IMAGES} are to be turned as their camera says (EXIF), as {turned[0]}: taken as"
            " they lie, and so have masks and saliency maps to lie; `mogrify -auto-orient` turns the pixels"
        )
    counted = [*zip(data_set.label_names[1:], per_class, strict=True)]
    if absent := [name for name, count in counted if not count]:
        print(f"note: no image to learn from has {', '.join(absent)}")
    print("images to learn from with " + ", ".join(f"{name} {count}" for name, count in counted))
    write_prepared(args.out, labels, lists)


if __name__ == "__main__":
    run_script(main)
