"""Image-level labels: read, checked, made from VOC's annotations, written."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tool.artifact import atomic_file
from tool.cli import DEVICE, UserError, raise_problems, require_file, what_is_at
from tool.pickled import load_pickled, write_pickled
from voc12.classes import CLASSES, NUM_CLASSES


def load_labels(path: str | Path, flag: str = "--labels") -> dict[str, np.ndarray]:
    """The labels at `path`: a pickled dict of id -> vector of 20 zeros and ones in VOC order.

    Every vector comes back as float32; their length and values are left to `labels_of`, since a run may need a few of
    them only. Raises `UserError` naming `flag` and `path` for a file that is missing, unreadable or no such dict.
    """
    path = require_file(path, flag, "image labels, a pickled dict of id -> 20 numbers")
    try:
        labels = load_pickled(path)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error
    if not isinstance(labels, dict) or not all(isinstance(identifier, str) for identifier in labels):
        raise UserError(f"{flag} {path}: expected a dict of id (a string) -> {NUM_CLASSES} numbers, found other data")
    problems = [
        f"{identifier}: expected an array of {NUM_CLASSES} numbers, found {type(value).__name__}"
        for identifier, value in labels.items()
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "buif"
    ]
    raise_problems(f"{flag} {path}: expected a dict of id -> {NUM_CLASSES} numbers", problems)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and `labels_of` refuses that
        return {identifier: vector.astype(np.float32) for identifier, vector in labels.items()}


def label_problem(vector: np.ndarray | None) -> str | None:
    """Why `vector` is no image's label, or None: a label is 20 zeros and ones, with at least one 1."""
    if vector is None:
        return "no label"
    if vector.shape != (NUM_CLASSES,):
        return f"label of shape {vector.shape}, expected ({NUM_CLASSES},)"
    if np.isnan(vector).any():
        return "label with NaN"
    if not np.isin(vector, (0, 1)).all():
        return f"label with values other than 0 and 1 ({vector[~np.isin(vector, (0, 1))][0]:g})"
    if not vector.any():
        return "label without any class"
    return None


def label_problems(ids: Sequence[str], labels: dict[str, np.ndarray]) -> list[str]:
    """One line for each of `ids` whose label is missing or none (see `label_problem`)."""
    problems = {identifier: label_problem(labels.get(identifier)) for identifier in ids}
    return [f"{identifier}: {problem}" for identifier, problem in problems.items() if problem is not None]


def labels_of(ids: Sequence[str], labels: dict[str, np.ndarray], *, source: str) -> dict[str, np.ndarray]:
    """The labels of `ids`, each float32 (20,) of zeros and ones with at least one 1.

    Raises `UserError`, naming `source` (flag and file of the labels), with every id at fault.
    """
    raise_problems(f"{source}: not every image of the list has a label", label_problems(ids, labels))
    return {identifier: labels[identifier] for identifier in ids}


class AnnotationBuilder(ElementTree.TreeBuilder):
    """Builds the tree of an XML file, but no document type: that is where entity bombs are declared."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type, which VOC's annotations never do")


def annotated_classes(path: Path) -> set[str]:
    """The names of the objects in the VOC annotation at `path`, difficult ones too, parts of objects left out.

    Raises `ValueError` or `OSError` if the file is not readable as such.
    """
    if what_is_at(path) == DEVICE:
        raise ValueError(f"expected a file, found {DEVICE}")
    try:
        root = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=AnnotationBuilder()))
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: of an encoding it declares
        raise ValueError(f"not readable as XML ({error})") from error
    return {(item.findtext("name") or "").strip() for item in root.findall("object")}


def labels_from_annotations(folder: Path, ids: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The labels of `ids` from `<folder>/<id>.xml`, and what is wrong with these files.

    Returns:
        Labels, float32 (20,) each, 1 where the image has an object of the class; without those of faulty files.
        One line for each annotation that is missing, unreadable, without objects or with an unknown class.
    """
    labels, problems = {}, []
    for identifier in tqdm(ids, desc="reading annotations", delay=1, disable=None, leave=False):
        path = folder / f"{identifier}.xml"
        try:
            names = annotated_classes(path)
        except (OSError, ValueError) as error:
            problems.append(f"{path}: cannot be read as an annotation ({getattr(error, 'strerror', None) or error})")
            continue
        if unknown := sorted(names.difference(CLASSES)):
            problems.append(f"{path}: expected VOC's twenty classes, found {', '.join(map(repr, unknown))}")
        elif not names:
            problems.append(f"{path}: expected objects, found none")
        else:
            labels[identifier] = np.array([name in names for name in CLASSES], np.float32)
    return labels, problems


def save_labels(path: str | Path, labels: dict[str, np.ndarray]) -> None:
    """Write `labels` as VOC projects share them: `np.load(path, allow_pickle=True).item()` gives the dict."""
    with atomic_file(path) as file:
        write_pickled(file, labels)
