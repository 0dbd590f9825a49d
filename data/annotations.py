"""Annotations in VOC's form, one XML file an image."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tool.cli import DEVICE, what_is_at


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
