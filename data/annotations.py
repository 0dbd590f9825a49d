"""Annotations in VOC's form, one XML file an image."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tool.checks import run_checks
from tool.cli import DEVICE, what_is_at
from tool.dataset import DataSet


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


def labels_from_annotations(
    folder: Path, ids: Sequence[str], data_set: DataSet, *, may_be_empty: bool = False
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The labels of `ids` from `<folder>/<id>.xml`, and what is wrong with these files.

    Returns:
        Labels, float32 (K,) each, 1 where the image has an object of the class; without those of faulty files.
        One line for each annotation that is missing, unreadable, of an unknown class or, unless they `may_be_empty`,
        without objects.
    """
    labels = {}

    def check(image_id: str) -> list[str]:
        path = folder / f"{image_id}.xml"
        try:
            names = annotated_classes(path)
        except (OSError, ValueError) as error:
            return [f"{path}: cannot be read as an annotation ({getattr(error, 'strerror', None) or error})"]
        if unknown := sorted(names.difference(data_set.classes)):
            return [f"{path}: expected classes of {data_set.title}, found {', '.join(map(repr, unknown))}"]
        if not names and not may_be_empty:
            return [f"{path}: expected objects, found none"]
        labels[image_id] = np.array([name in names for name in data_set.classes], np.float32)
        return []

    problems = run_checks(check, ids, "annotations")
    return {image_id: labels[image_id] for image_id in ids if image_id in labels}, problems
