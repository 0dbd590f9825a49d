"""Image labels from VOC's annotations, one XML file an image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.annotations import annotated_classes
from voc12.classes import CLASSES


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
