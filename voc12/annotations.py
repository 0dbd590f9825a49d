"""Image labels from VOC's annotations, one XML file an image."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tool.cli import DEVICE, what_is_at
from voc12.classes import CLASSES


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
