"""Image-level labels: read, checked, written."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tool.artifact import save_pickled
from tool.cli import UserError, brief, raise_problems, require_file
from tool.dataset import DataSet
from tool.lists import entry_id
from tool.pickled import load_plain


def load_labels(path: str | Path, data_set: DataSet, *, flag: str = "--labels") -> dict[str, np.ndarray]:
    """The labels at `path`, by id: vectors of K zeros and ones in the order of the data set's K classes.

    The file is a dict as .npy, .npz, a pickle or JSON. Keys are ids, names of image files, or numbers as IRN writes
    them, 2007000032 for 2007_000032; values are arrays or lists of numbers. Every vector comes back as float32; their
    length and values are left to `labels_of`, since a run may need a few of them only.

    Raises `UserError` naming `flag` and `path` for a file that is missing, unreadable or no such dict, and if not one
    value is of K numbers.
    """
    num_classes = data_set.num_classes
    path = require_file(path, flag, f"image labels, a dict of id -> {num_classes} numbers")
    way_out = f"; {data_set.prepare} makes such a file from {data_set.title}'s annotations" if data_set.prepare else ""
    try:
        found = load_plain(path)
    except UserError as error:
        raise UserError(f"{flag}: {error}{way_out}") from error
    expected = f"{flag} {path}: expected a dict of id -> {num_classes} numbers"
    if isinstance(found, dict) and len(found) == 1 and isinstance(only := next(iter(found.values())), dict):
        found = only  # numpy.savez(path, labels={...}), and the like
    if not isinstance(found, dict):
        raise UserError(f"{expected}, found {_described(found, data_set)}{way_out}")
    ids = {key: _id_of_key(key) for key in found}
    if strange := [key for key, identifier in ids.items() if identifier is None]:
        raise UserError(
            f"{expected}, with keys as 2007_000032, or IRN's numbers, as 2007000032; found {len(strange)} others, as"
            f" {brief(strange[0])}{way_out}"
        )
    counts = Counter(ids.values())
    raise_problems(
        f"{expected}, each id once", [f"{name}: {counts[name]} labels" for name in counts if counts[name] > 1]
    )
    vectors = {ids[key]: _vector(value) for key, value in found.items()}
    if vectors and not any(vector is not None and vector.shape == (num_classes,) for vector in vectors.values()):
        raise UserError(f"{expected}, found {_described(found, data_set)}{way_out}")
    raise_problems(
        expected,
        [
            f"{ids[key]}: expected {num_classes} numbers, found {_described(value, data_set)}"
            for key, value in found.items()
            if vectors[ids[key]] is None
        ],
    )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and `labels_of` refuses that
        return {identifier: vector.astype(np.float32) for identifier, vector in vectors.items()}


def _id_of_key(key: Any) -> str | None:
    """The id that the key of a label means; None if it means none."""
    if isinstance(key, str):
        return entry_id(str(key))
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and 10**9 <= key < 10**10:
        return f"{key // 10**6}_{key % 10**6:06}"
    return None


def _vector(value: Any) -> np.ndarray | None:
    """A label as an array of numbers of any shape; None for anything else."""
    if isinstance(value, list | tuple) and all(isinstance(item, bool | int | float | np.number) for item in value):
        with suppress(OverflowError):  # of whole numbers that no float holds
            value = np.array(value)
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "buif" else None


def _is_list_of_classes(vector: np.ndarray, num_classes: int) -> bool:
    """Whether a vector that is no label has the numbers of an image's classes, each once."""
    numbers = set(vector.ravel().tolist())
    return vector.ndim == 1 and len(numbers) == len(vector) < num_classes and numbers <= set(range(num_classes + 1))


def _described(found: Any, data_set: DataSet) -> str:
    """What was found in place of labels, or of one label, for a message."""
    if not isinstance(found, dict):
        return brief(found) if isinstance(found, str | list | tuple) else type(found).__name__
    vectors = [_vector(value) for value in found.values()]
    if any(vector is None for vector in vectors):
        return f"values as {brief(next(iter(found.values())))}"
    if all(vector.shape == (data_set.num_classes + 1,) for vector in vectors):
        first, last = (all(vector[place] for vector in vectors) for place in (0, -1))
        where = f" (the {'first' if first else 'last'} is 1 everywhere)" if first != last else ""
        return f"{data_set.num_classes + 1} numbers an image: leave out the background{where}"
    if all(_is_list_of_classes(vector, data_set.num_classes) for vector in vectors):
        return (
            f"lists of classes' numbers, as {vectors[0].tolist()}: make of each {data_set.num_classes} zeros and ones,"
            f" in the order of {data_set.described_in}"
        )
    return f"arrays of shape {vectors[0].shape}"


def label_problem(vector: np.ndarray | None, data_set: DataSet, *, may_be_empty: bool = False) -> str | None:
    """Why `vector` is no image's label, or None: a label is K zeros and ones, with at least one 1 unless it
    `may_be_empty`."""
    if vector is None:
        return "no label"
    if vector.shape != (data_set.num_classes,):
        return f"label of shape {vector.shape}, expected ({data_set.num_classes},)"
    if np.isnan(vector).any():
        return "label with NaN"
    if not np.isin(vector, (0, 1)).all():
        return f"label with values other than 0 and 1 ({vector[~np.isin(vector, (0, 1))][0]:g})"
    if not (may_be_empty or vector.any()):
        return "label without any class"
    return None


def label_problems(
    ids: Sequence[str], labels: dict[str, np.ndarray], data_set: DataSet, *, may_be_empty: bool = False
) -> list[str]:
    """One line for each of `ids` whose label is missing or none (see `label_problem`); one if no id has any."""
    if ids and not any(identifier in labels for identifier in ids):
        others = f"the labels are of other images, as {next(iter(labels))}" if labels else "there are no labels at all"
        if any(identifier.replace("_", "") in labels for identifier in ids):
            others = f"the labels' ids lack the underscore; make {ids[0].replace('_', '')} {ids[0]}, and so on"
        return [f"{ids[0]}: no label, nor of any other image of the list: {others}"]
    problems = {
        identifier: label_problem(labels.get(identifier), data_set, may_be_empty=may_be_empty) for identifier in ids
    }
    return [f"{identifier}: {problem}" for identifier, problem in problems.items() if problem is not None]


def labels_of(
    ids: Sequence[str], labels: dict[str, np.ndarray], data_set: DataSet, *, source: str, may_be_empty: bool = False
) -> dict[str, np.ndarray]:
    """The labels of `ids`, each float32 (K,) of zeros and ones, with at least one 1 unless they `may_be_empty`.

    Raises `UserError`, naming `source` (flag and file of the labels), with every id at fault.
    """
    raise_problems(
        f"{source}: not every image of the list has a label",
        label_problems(ids, labels, data_set, may_be_empty=may_be_empty),
    )
    return {identifier: labels[identifier] for identifier in ids}


def save_labels(path: str | Path, labels: dict[str, np.ndarray]) -> None:
    """Write `labels` as VOC projects share them: `np.load(path, allow_pickle=True).item()` gives the dict."""
    save_pickled(path, labels)
