"""COCO's instances_<split>.json: read without what nobody needs of it, and checked."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coco14.classes import CLASS_OF_CATEGORY, CLASSES
from tool.cli import UserError, brief, require_file
from tool.lists import id_problem

PARTS = ("images", "annotations", "categories")
KEPT = frozenset((
    *PARTS, "id", "name", "file_name", "height", "width",
    "image_id", "category_id", "iscrowd", "segmentation", "counts", "size",
))  # fmt: skip
MAX_SIDE = 1 << 16
FLAG = "--coco14_root"


class Instance(NamedTuple):
    """An object, or a crowd of them: its class, from 0, and where it is.

    where: polygons, float64 (2 P,) each, x1, y1, x2, ... in pixels from the upper left corner; or run lengths, int64,
    outside and inside in turns, column by column.
    """

    class_index: int
    is_crowd: bool
    where: list[np.ndarray] | np.ndarray


class Annotated(NamedTuple):
    """An image: the size that COCO notes, (height, width), and its instances in the file's order."""

    shape: tuple[int, int]
    instances: list[Instance]


def read_instances(path: Path) -> tuple[dict[str, Annotated], list[str]]:
    """The images that the file at `path` annotates, by id, sorted; and a line for everything that is wrong with them.

    Numbers of outlines become arrays while the text is read, and keys that are not used are dropped, so that COCO's own
    file takes a fraction of the memory that its lists would. Raises `UserError` for a file that is no such JSON.
    """
    require_file(path, FLAG, "COCO's annotations")
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file, object_hook=_compact)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{FLAG} {path}: cannot be read as JSON ({error})") from error
    if not (isinstance(found, dict) and all(isinstance(found.get(part), list) for part in PARTS)):
        what = f"of these {brief(list(found))}" if isinstance(found, dict) else type(found).__name__
        raise UserError(f"{FLAG} {path}: expected an object with lists of {', '.join(PARTS)}, found {what}")
    problems = list(_wrong_categories(found["categories"]))
    numbers: dict[int, str] = {}
    images: dict[str, Annotated] = {}
    for entry, problem in _checked(found["images"], "image", _image_problem):
        identifier = "" if problem else entry["file_name"].removesuffix(".jpg")
        if not problem and (entry["id"] in numbers or identifier in images):
            problem = f"expected each id and each file once, found {brief(entry['id'])}, {identifier}.jpg again"
        if problem:
            problems.append(f"image {_number(entry)}: {problem}")
            continue
        numbers[entry["id"]] = identifier
        images[identifier] = Annotated((entry["height"], entry["width"]), [])
    for entry, problem in _checked(found["annotations"], "annotation", _annotation_problem):
        if not problem and entry["image_id"] not in numbers:
            problem = f"image_id {entry['image_id']}: the file has no such image"
        if not problem:
            image = images[numbers[entry["image_id"]]]
            where, problem = _where(entry["segmentation"], image.shape)
        if problem:
            problems.append(f"annotation {_number(entry)}: {problem}")
            continue
        is_crowd = entry.get("iscrowd", 0) == 1
        image.instances.append(Instance(CLASS_OF_CATEGORY[entry["category_id"]], is_crowd, where))
    return dict(sorted(images.items())), [f"{path.name}: {problem}" for problem in problems]


def _compact(found: dict) -> dict:
    """One of the file's objects with the keys that are read, and its outline as arrays, if it is one."""
    kept = {key: found[key] for key in found.keys() & KEPT}
    with suppress(ValueError, TypeError, OverflowError):  # what is no outline stays, to be named
        if isinstance(outline := kept.get("segmentation"), list):
            kept["segmentation"] = [np.array(part, np.float64) for part in outline]
        elif isinstance(counts := kept.get("counts"), list):
            kept["counts"] = np.array(counts)
    return kept


def _number(entry: Any) -> str:
    """What an entry is called in messages."""
    return brief(entry.get("id")) if isinstance(entry, dict) else brief(entry)


def _checked(
    entries: Iterable[Any], what: str, problem_of: Callable[[dict], str | None]
) -> Iterator[tuple[Any, str | None]]:
    for entry in entries:
        yield entry, problem_of(entry) if isinstance(entry, dict) else f"expected an object, the {what}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong_categories(entries: list) -> Iterator[str]:
    """A line for each category that is none of COCO's, or has another name."""
    for entry in entries:
        number, name = (entry.get(key) for key in ("id", "name")) if isinstance(entry, dict) else (entry, None)
        index = CLASS_OF_CATEGORY.get(number) if _is_whole(number) else None
        if index is None or name != CLASSES[index]:
            expected = "one of COCO's 80" if index is None else CLASSES[index]
            yield f"category {brief(number)}: expected {expected}, found {brief(name)}"


def _image_problem(entry: dict) -> str | None:
    name = entry.get("file_name")
    if not _is_whole(entry.get("id")):
        return "expected a whole number, its id"
    if not (isinstance(name, str) and name.endswith(".jpg")):
        return f"expected a file_name, <id>.jpg, found {brief(name)}"
    if problem := id_problem(name.removesuffix(".jpg")):
        return f"file_name {name!r}: the id {problem}"
    size = [entry.get(key) for key in ("height", "width")]
    if not all(_is_whole(side) and 0 < side < MAX_SIDE for side in size):
        return f"expected height and width in pixels, found {brief(size)}"
    return None


def _annotation_problem(entry: dict) -> str | None:
    """What is wrong with all but its image and its outline, which is looked at with the image."""
    category = entry.get("category_id")
    if not (_is_whole(category) and category in CLASS_OF_CATEGORY):
        return f"category_id {brief(category)}: expected one of COCO's 80 categories"
    if not _is_whole(entry.get("image_id")):
        return f"expected an image_id, found {brief(entry.get('image_id'))}"
    if entry.get("iscrowd", 0) not in (0, 1):
        return f"expected an iscrowd of 0 or 1, found {brief(entry['iscrowd'])}"
    return None if "segmentation" in entry else "expected a segmentation, found none"


def _where(outline: Any, shape: tuple[int, int]) -> tuple[list[np.ndarray] | np.ndarray, str | None]:
    """Polygons that enclose something, or run lengths; or what is wrong with them.

    Beyond an image's size around the image no outline reaches: there it would cost memory and time without end.
    """
    if isinstance(outline, list):
        expected = "expected polygons, lists of x1, y1, x2, ... in pixels"
        if not all(isinstance(part, np.ndarray) and part.ndim == 1 and part.size % 2 == 0 for part in outline):
            return [], f"{expected}, found {brief(outline)}"
        limit = np.array(shape[::-1])
        for part in outline:
            points = part.reshape(-1, 2)
            if not ((points >= -limit) & (points <= 2 * limit)).all():  # so written, it refuses nan
                return [], f"{expected}, found points far outside of the image"
        return [part for part in outline if part.size >= 6], None
    if not isinstance(outline, dict):
        return [], f"expected polygons or run lengths, found {brief(outline)}"
    size, counts = outline.get("size"), outline.get("counts")
    if size != list(shape):
        return [], f"run lengths: expected the size of its image, {list(shape)}, found {brief(size)}"
    runs = _packed(counts) if isinstance(counts, str) else counts
    pixels = shape[0] * shape[1]
    is_right = isinstance(runs, np.ndarray) and runs.ndim == 1 and runs.dtype.kind == "i" and len(runs) > 0
    if not (is_right and runs.min() >= 0 and runs.max() <= pixels and runs.sum() == pixels):
        return [], f"run lengths: expected numbers of pixels that add up to {pixels}, found others; they are damaged"
    return runs, None


def _packed(text: str) -> np.ndarray | None:
    """The run lengths in COCO's packed form, int64; None if it is none.

    Six bits a character: five of a number, the lowest first, and whether more follow; the last one's fifth is the sign.
    From the fourth run on a number is the difference from the last run but one. Written here, and not read by
    pycocotools, which believes any text and writes beyond its memory.
    """
    runs, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        value -= (bits & 0x10) << (shift - 4)
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    return None if shift else np.array(runs, np.int64)
