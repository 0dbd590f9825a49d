"""CAMs as MSA's evaluators write them: an array of all labels, background first (paper/method.md, MSA)."""

from pathlib import Path

import numpy as np

from tool.artifact import atomic_file, checked_cam
from tool.cli import UserError
from tool.dataset import DataSet
from tool.pickled import load_pickled


def save_msa_cam(
    path: str | Path,
    cams: dict[int, np.ndarray],
    data_set: DataSet,
    *,
    shape: tuple[int, int],
    background: np.ndarray | None = None,
) -> None:
    """Write CAMs by class as float32 (1, K + 1, H, W), `shape` being (H, W).

    Channel 0 is `background`, (H, W), which decides nothing; 0 where there is none, as in the channels of absent
    classes. Raises `UserError` as `load_cam`.
    """
    array = np.zeros((1, data_set.num_labels, *shape), np.float32)
    if background is not None:
        array[0, 0] = background
    for index, scores in checked_cam(path, cams, data_set, shape).items():
        array[0, data_set.label_of(index)] = scores
    with atomic_file(path) as file:
        np.save(file, array)


def load_msa_cam(path: str | Path, data_set: DataSet, *, shape: tuple[int, int] | None = None) -> dict[int, np.ndarray]:
    """Read what `save_msa_cam` writes, as `load_cam` gives it, without the classes that are 0 everywhere.

    Raises `UserError` as `load_cam`, and for any other form.
    """
    found = load_pickled(path, numbers=True)
    if not isinstance(found, np.ndarray):
        raise UserError(f"{path}: expected MSA's array of CAMs, found {type(found).__name__}")
    return checked_cam(path, found, data_set, shape)
