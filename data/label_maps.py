"""Images with their label maps, checked before any long work."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.images import image_size
from tool.artifact import load_label_map, load_whole
from tool.checks import run_checks
from tool.cli import UserError, raise_problems
from tool.dataset import IGNORE, DataSet
from tool.places import other_ending


def check_label_maps(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    data_set: DataSet,
    *,
    label_root: Path,
    label_key: str,
    advice: str = "correct them",
    classes: Mapping[str, np.ndarray] | None = None,
) -> list[str]:
    """Look at the header of every image, by id, and at every label of its map in `labels`.

    Args:
        images: all of a list, or a process's share of it, which may be empty. labels: the maps of the whole list.
        label_root: where they were looked for. label_key: names it in messages. advice: what to do about what is
            wrong. classes: each image's, zeros and ones (K,), by id.

    Returns the ids whose maps have none of their image's `classes`, where these are given.

    Raises `UserError` with every file that is missing, damaged, of another size than its image, or of other labels, and
    if not one pixel of all `labels` is labelled.
    """
    labelled, strangers = [], set()

    def check(identifier: str) -> list[str]:
        problems, shape = [], None
        try:
            width, height = image_size(images[identifier])
            shape = height, width
        except UserError as error:
            problems.append(str(error))
        path = labels[identifier]
        try:
            if not path.exists():
                raise UserError(f"{path}: no such file{other_ending(path, ('.PNG',))}")
            found = np.bincount(load_label_map(path, data_set, shape=shape).ravel(), minlength=IGNORE + 1) > 0
            labelled.append(found[:IGNORE].any())
            if classes is not None and not found[np.flatnonzero(classes[identifier]) + data_set.background].any():
                strangers.add(identifier)
        except UserError as error:
            problems.append(str(error))
        return problems

    raise_problems(
        f"{label_key} {label_root}: images or label maps of the list that cannot be used; {advice}",
        run_checks(check, list(images), "images and label maps"),
    )
    others = (path for identifier, path in labels.items() if identifier not in images)
    if not any(labelled) and not any(_may_be_labelled(path, data_set) for path in others):
        raise UserError(f"{label_key} {label_root}: every pixel of every map is {IGNORE}, left out; expected labels")
    return [identifier for identifier in images if identifier in strangers]


def _may_be_labelled(path: Path, data_set: DataSet) -> bool:
    """Whether a map has a labelled pixel; a faulty one may have: the process that it is the share of names it."""
    try:
        return bool((load_label_map(path, data_set) != IGNORE).any())
    except UserError:
        return True


def has_label_map(path: Path, data_set: DataSet, shape: tuple[int, int], *, ignore: bool) -> bool:
    """Whether an image's label map is there, whole and of its (height, width); with 255 only where `ignore` allows."""
    return load_whole(load_label_map, path, data_set, shape=shape, ignore=ignore) is not None
