"""Images of one class each with the boxes of their objects, in the layout of CUB-200-2011 (paper/method.md, Object
localisation)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cub.classes import BOX_FILE, CLASS_FILE, IMAGE_FILE, IMAGES, LABEL_FILE, SPLIT_FILE, cub
from data.images import image_size, load_rgb
from tool.checks import run_checks
from tool.cli import UserError, brief, raise_problems, require_file, require_folder
from tool.dataset import DataSet

FLAG = "--cub_root"  # which leads to the data set's folder
# Pixels that a box may reach beyond its image: edges are counted from 0 or from 1, and rounded.
BEYOND = 2
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxedImages:
    """Images, one class each, and where their objects are.

    ids: their numbers in images.txt, as texts. paths: of the files. labels: int64 (N), classes from 0. boxes: of each
    image at least one (x, y, width, height), in pixels of the image.
    """

    ids: list[str]
    paths: list[str]
    labels: np.ndarray
    boxes: list[list[Box]]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, indices: Sequence[int]) -> "BoxedImages":
        return BoxedImages(
            [self.ids[i] for i in indices],
            [self.paths[i] for i in indices],
            self.labels[list(indices)],
            [self.boxes[i] for i in indices],
        )


@dataclass(frozen=True)
class Cub:
    """A data set in CUB's layout, whatever its number of classes."""

    data_set: DataSet
    train: BoxedImages
    test: BoxedImages


def scaled_box(box: Box, size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """A box (x, y, width, height) of an image of `size` (W, H) as (left, top, right, bottom) in the image resized to
    side x side, both ends in: numbers truncated before and after, cut at 0 and side - 1."""
    x, y, width, height = map(int, box)
    corners = [(x, size[0]), (y, size[1]), (x + width, size[0]), (y + height, size[1])]
    left, top, right, bottom = (edge / length * side for edge, length in corners)
    return int(max(left, 0)), int(max(top, 0)), int(min(right, side - 1)), int(min(bottom, side - 1))


class _Table:
    """One of the text files: the words behind the number that begins each of its lines, line by line.

    many: whether a number may begin several lines. Problems are kept, for one message on all of them.
    """

    def __init__(self, root: Path, name: str, what: str, *, words: int | None, many: bool = False) -> None:
        self.path = require_file(root / name, FLAG, what)
        self.problems: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        for number, line in enumerate(_read(self.path).splitlines(), start=1):
            if not line.strip():
                continue
            key, *found = line.split(maxsplit=1) if words is None else line.split()
            if not key.isdecimal() or (words or 1) != len(found):
                self.problems.append(f"{name}, line {number}: expected a number and {what}, found {brief(line)!r}")
            elif key in self.rows and not many:
                self.problems.append(f"{name}, line {number}: {key} stands there before")
            else:
                self.rows.setdefault(key, []).append([word.strip() for word in found])
        self.name = name

    def check_ids(self, others: "_Table") -> None:
        """Note each number that only one of the two files has."""
        self.problems += [f"{self.name}: no line of image {key}" for key in others.rows if key not in self.rows]
        self.problems += [f"{self.name}: image {key} is not in {others.name}" for key in self.rows.keys() - others.rows]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode().removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"{FLAG} {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{FLAG} {path}: expected text in UTF-8, found other bytes (at {error.start})") from error


def read_cub(root: str | Path) -> Cub:
    """The data set in the folder `root`, --cub_root, as its text files say; images are not looked at.

    Raises `UserError` for a file that is missing, and with every line that is not as it should be.
    """
    root = require_folder(root, FLAG, "CUB-200-2011, with images and images.txt in it")
    images = _Table(root, IMAGE_FILE, "a file below images/", words=None)
    classes = _Table(root, CLASS_FILE, "the name of a class", words=None)
    labels = _Table(root, LABEL_FILE, "a class from 1", words=1)
    split = _Table(root, SPLIT_FILE, "1 (train) or 0 (test)", words=1)
    boxes = _Table(root, BOX_FILE, "a box: x y width height", words=4, many=True)
    names = {key: rows[0][0] for key, rows in classes.rows.items()}
    if list(names) != [str(number) for number in range(1, len(names) + 1)]:
        classes.problems.append(f"{CLASS_FILE}: expected classes 1, 2, ... in their order")
    for table in (labels, split, boxes):
        table.check_ids(images)
    images.problems += [f"{IMAGE_FILE}: image {key}: {why}" for key, rows in images.rows.items() if (why := _bad(rows))]
    labels.problems += _others(labels, "class", names, f"1 to {len(names)}")
    split.problems += _others(split, "split", ("0", "1"), "1 (train) or 0 (test)")
    for key, rows in boxes.rows.items():
        boxes.problems += [f"{BOX_FILE}: image {key}: {why}" for row in rows if (why := _box_problem(row))]
    problems = [problem for table in (images, classes, labels, split, boxes) for problem in table.problems]
    raise_problems(f"{FLAG} {root}: expected the files of CUB-200-2011, found", problems)

    def part(which: str) -> BoxedImages:
        ids = [key for key in images.rows if split.rows[key][0][0] == which]
        if not ids:
            raise UserError(f"{FLAG} {root / SPLIT_FILE}: no image has {which}; expected 1 (train) and 0 (test)")
        return BoxedImages(
            ids,
            [str(root / IMAGES / images.rows[key][0][0]) for key in ids],
            np.array([int(labels.rows[key][0][0]) - 1 for key in ids]),
            [[tuple(map(float, row)) for row in boxes.rows[key]] for key in ids],
        )

    return Cub(cub(list(names.values())), part("1"), part("0"))


def _bad(rows: list[list[str]]) -> str | None:
    path = Path(rows[0][0])
    return f"{brief(rows[0][0])}: expected a file below {IMAGES}/" if path.is_absolute() or ".." in path.parts else None


def _others(table: _Table, what: str, known: Sequence[str], expected: str) -> list[str]:
    """A line for each image whose word is none of the `known`."""
    wrong = {key: rows[0][0] for key, rows in table.rows.items() if rows[0][0] not in known}
    return [f"{table.name}: image {key}: {what} {brief(word)}, expected {expected}" for key, word in wrong.items()]


def _box_problem(row: list[str]) -> str | None:
    try:
        numbers = [float(word) for word in row]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)) or min(numbers[2:]) <= 0:
        return f"expected numbers x y width height, the last two above 0, found {brief(' '.join(row))}"
    return None


def check_boxed_images(images: BoxedImages, root: str | Path, *, decode: bool = False) -> None:
    """Look at the header and the end of every image, with `decode` at all of it, and whether its boxes lie in it.

    Raises `UserError` with every image that cannot be used and every box outside its image, by file and number.
    """
    index_of = {image_id: index for index, image_id in enumerate(images.ids)}

    def check(image_id: str) -> list[str]:
        index = index_of[image_id]
        path = Path(images.paths[index])
        try:
            size = image_size(path)
            if decode:
                load_rgb(path)
        except UserError as error:
            return [str(error)]
        return [
            f"{BOX_FILE}: image {image_id}: the box {' '.join(f'{number:g}' for number in box)} (x y width height) lies"
            f" outside its image, {path}, {size[0]} x {size[1]} pixels"
            for box in images.boxes[index]
            if not _inside(box, size)
        ]

    raise_problems(f"{FLAG} {root}: images that cannot be used", run_checks(check, images.ids, "images"))


def _inside(box: Box, size: tuple[int, int]) -> bool:
    x, y, width, height = box
    least, right, bottom = min(x, y), x + width - size[0], y + height - size[1]
    return least >= -BEYOND and max(right, bottom) <= BEYOND
