"""Label maps, image labels and lists from masks of other numbers: what the `prepare` of several data sets is."""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.images import check_images, image_size
from data.prepared import make_folder, write_prepared
from tool.artifact import load_label_map, read_png, reported_unwritable, save_label_map
from tool.cli import (
    FOLDER,
    UserError,
    cores,
    pace,
    path_value,
    positive,
    raise_problems,
    require_folder,
    script_parser,
    what_is_at,
)
from tool.dataset import DataSet
from tool.lists import Source, expect_files, id_problem
from tool.lock import hold_folder
from tool.pipeline import Pool, run_pools
from tool.places import visible

INVALID = -1  # in a table: no mask has this number


class Split(NamedTuple):
    """Images of a data set, and what their label maps are made of.

    name: of its list. ids: sorted. images, masks: the folders of <id>.jpg and of the official masks, which end in
    `suffix`. out: the folder of the label maps.
    """

    name: str
    ids: Sequence[str]
    images: Path
    masks: Path
    suffix: str
    out: Path


def parse_root(module: str, data_set: DataSet, *, root: str, examples: str) -> argparse.Namespace:
    """The command line of a `prepare`: the data set's own folder, which `root` describes, and where labels go."""
    parser = script_parser(
        f"Label maps, image labels and lists from {data_set.title}'s masks.",
        examples=examples,
        prog=f"python -m {module}",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        f"--{data_set.name}_root", dest="root", type=path_value, required=True, help=f"folder with {root}"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=path_value, default=Path(data_set.name), help="folder of labels and lists (%(default)s)"
    )
    run = parser.add_argument_group("run")
    run.add_argument("--num_workers", type=positive, default=cores(), help="processes (the cores, %(default)s)")
    return parser.parse_args()


def require_parts(root: Path, parts: Sequence[str], data_set: DataSet) -> Path:
    """`root`, which --<data set>_root names, after a look for all `parts`, folders in it. Raises `UserError`."""
    flag = f"--{data_set.name}_root"
    require_folder(root, flag, data_set.title)
    problems = [
        f"{root / part}: expected {FOLDER}, found {found}"
        for part in parts
        if (found := what_is_at(root / part)) != FOLDER
    ]
    raise_problems(f"{flag} {root}: expected {data_set.title}; nothing written", problems)
    return root


def png_numbers(path: Path) -> np.ndarray:
    """The numbers in a grey or palette PNG, (H, W). Raises `UserError`."""
    image = read_png(path)
    if image.mode not in ("L", "P", "I", "I;16"):
        raise UserError(f"{path}: expected a PNG of numbers, found mode {image.mode}")
    return np.array(image)


def make_label_map(
    image_id: str, split: Split, read: Callable[[Path], np.ndarray], table: np.ndarray, data_set: DataSet
) -> list[int]:
    """Write an image's label map, unless one of its size is there, whole; the labels in it, without 255.

    read: from a mask's file to its numbers, (H, W). table: the label of each number, or `INVALID`.
    """
    target, source = split.out / f"{image_id}.png", split.masks / f"{image_id}{split.suffix}"
    shape = image_size(split.images / f"{image_id}.jpg")[::-1]
    try:
        labels = load_label_map(target, data_set, shape=shape)
    except UserError:
        numbers = read(source)
        if numbers.shape != shape:
            expected, found = (" x ".join(map(str, size)) for size in (shape, numbers.shape))
            raise UserError(
                f"{source}: expected its image's size, {expected} (height x width), found {found}"
            ) from None
        present = np.unique(numbers)
        wrong = [int(n) for n in present if not 0 <= n < len(table) or table[n] == INVALID]
        if wrong:
            raise UserError(
                f"{source}: expected numbers of {data_set.title}, found {', '.join(map(str, wrong[:10]))}"
            ) from None
        labels = table[numbers].astype(np.uint8)
        save_label_map(target, labels, data_set)
    return [int(label) for label in np.unique(labels) if label < data_set.num_labels]


def prepare(
    splits: Sequence[Split],
    args: argparse.Namespace,
    *,
    read: Callable[[Path], np.ndarray],
    table: np.ndarray,
    data_set: DataSet,
) -> None:
    """Make what is missing of all label maps, then labels and lists; `read`, `table` as `make_label_map` has them.

    Images are looked at first. Raises `UserError` with all that are missing or damaged, and all masks that are.
    """
    flag = f"--{data_set.name}_root"
    ids = [image_id for split in splits for image_id in split.ids]
    twice = sorted({image_id for image_id, count in Counter(ids).items() if count > 1})
    raise_problems(f"{flag} {args.root}: images of two lists; nothing written", twice)
    for split in splits:
        source = Source(flag, split.masks)
        for folder, suffix in ((split.images, ".jpg"), (split.masks, split.suffix)):
            expect_files(list(split.ids), folder, suffix, flag=flag, source=source, fixed=True)
        check_images({image_id: split.images / f"{image_id}.jpg" for image_id in split.ids}, split.images)
    make_folder(args.out)
    found: dict[str, list[int]] = {}
    pool = Pool("mask", make_label_map, args.num_workers)
    for split in splits:
        with reported_unwritable(split.out):
            split.out.mkdir(parents=True, exist_ok=True)
    for folder in {split.out for split in splits}:
        hold_folder(folder, flag)
    for split in splits:
        alone = split._replace(ids=())  # as each image's job is sent to a process
        pool.waiting.extend((image_id, alone, read, table, data_set) for image_id in split.ids)
    started, count = time.perf_counter(), len(pool.waiting)
    problems = run_pools(pool, follow_up=found.__setitem__)
    raise_problems("label maps that were not written; the others are there", problems)
    print(f"label maps of {count} images are there {pace(started, count)}")
    labels = {image_id: vector_of(found[image_id], data_set) for split in splits for image_id in split.ids}
    lists = {split.name: [image_id for image_id in split.ids if labels[image_id].any()] for split in splits}
    write_prepared(args.out, labels, lists)


def vector_of(labels: Sequence[int], data_set: DataSet) -> np.ndarray:
    """The classes of an image with these `labels`, float32 (K,) of zeros and ones."""
    vector = np.zeros(data_set.num_classes, np.float32)
    vector[[data_set.class_of(label) for label in labels if label >= data_set.label_of(0)]] = 1
    return vector


def ids_in(folder: Path, suffix: str) -> list[str]:
    """The ids of a folder's files, sorted. Raises `UserError` where there are none, and for names that are no ids."""
    found = sorted(path.name.removesuffix(suffix) for path in visible(folder, suffix))
    if not found:
        raise UserError(f"{folder}: expected masks, <id>{suffix}, found none; nothing written")
    problems = [f"{identifier!r}: the id {problem}" for identifier in found if (problem := id_problem(identifier))]
    raise_problems(f"{folder}: file names that are no ids; rename them", problems)
    return found


def table_of(numbers: Mapping[int, int], *, void: Sequence[int], size: int) -> np.ndarray:
    """The label of each number below `size`, int16: of `numbers`, 255 of `void`, else `INVALID`."""
    table = np.full(size, INVALID, np.int16)
    table[list(void)] = 255
    for number, label in numbers.items():
        table[number] = label
    return table
