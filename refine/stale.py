"""Whether what stage 2 made of an image is of its CAM dict, which is made anew where image labels are corrected."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tool.artifact import load_cam, load_label_map, load_whole
from tool.dataset import IGNORE, DataSet


def labels_of_cams(path: Path, data_set: DataSet) -> list[int] | None:
    """The labels that the CAM dict at `path` makes, background first; None where it cannot be read, which is said where
    something is made of it."""
    cams = load_whole(load_cam, path, data_set)
    return None if cams is None else [0, *map(data_set.label_of, cams)]


def is_of_cams(path: Path, found: Iterable[int], cams: Path, data_set: DataSet) -> bool:
    """Whether the file `path`, which has the labels `found`, can be of the CAM dict `cams` as it is now.

    It may not have other labels than the CAMs. It may lack one, which a walk lost, if it is not older than them. Age
    alone decides nothing: copied files have any.
    """
    labels = {*(labels_of_cams(cams, data_set) or ())}
    found = {0, *found} - {IGNORE}
    return found == labels or (found < labels and path.stat().st_mtime_ns >= cams.stat().st_mtime_ns)


def has_label_map_of_cams(path: Path, cams: Path, data_set: DataSet, shape: tuple[int, int], *, ignore: bool) -> bool:
    """Whether an image's label map is there, whole, of its (height, width) and of its CAM dict `cams`; with 255 only
    where `ignore` allows."""
    labels = load_whole(load_label_map, path, data_set, shape=shape, ignore=ignore)
    return labels is not None and is_of_cams(path, np.flatnonzero(np.bincount(labels.ravel())).tolist(), cams, data_set)
