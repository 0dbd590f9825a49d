"""CAM files as other projects write them, brought to a dict by class.

IRN and its successors   a dict: keys (K,), high_res (K, H, W), and cam (K, h, w), at a quarter of the size
MSA                      an array, float32 (1, K + 1, H, W): background, which decides nothing, and all classes, 0 where
                         the image has not the class
"""

from pathlib import Path
from typing import Any

import numpy as np

from tool.cli import UserError, brief
from tool.dataset import DataSet


def is_irns(cams: Any) -> bool:
    """Whether `cams` are a dict as IRN and its successors write it."""
    return isinstance(cams, dict) and "keys" in cams


def by_class(path: str | Path, cams: Any, data_set: DataSet, shape: tuple | None = None) -> Any:
    """The CAMs of the file at `path` by class, {class: (H, W)}, of either form; any other value as it is.

    Raises `UserError` for what is nearly of one of the forms.
    """
    if isinstance(cams, np.ndarray):
        return _of_array(path, cams, data_set, shape)
    return _of_irns(path, cams, data_set) if is_irns(cams) else cams


def _of_array(path: str | Path, cams: np.ndarray, data_set: DataSet, shape: tuple | None) -> dict[int, np.ndarray]:
    """Of MSA's array. Background's map decides nothing; a class is there that has a value other than 0."""
    height, width = shape or cams.shape[-2:] if cams.ndim == 4 else (0, 0)
    expected = (1, data_set.num_labels, height, width)
    if not data_set.background or cams.shape != expected or cams.dtype.kind != "f":
        raise UserError(
            f"{path}: expected a dict of CAMs by class, or MSA's array of floats (1, {data_set.num_labels}, height,"
            f" width), found an array of {cams.dtype} {cams.shape}"
        )
    return {index: scores for index, scores in enumerate(cams[0, 1:]) if scores.any()}


def _of_irns(path: str | Path, cams: dict, data_set: DataSet) -> dict[int, np.ndarray]:
    """Of IRN's dict. keys are classes, from 0. Where they were padded for pseudo labels, they are labels with 0,
    background, before them, which may have a map of its own. cam, of lower resolution, is taken where there is no
    high_res."""
    keys, maps = cams["keys"], cams.get("high_res", cams.get("cam"))
    keys = keys.tolist() if isinstance(keys, np.ndarray) else keys
    is_flat = isinstance(keys, list | tuple) and all(isinstance(key, int | np.integer) for key in keys)
    if is_flat and isinstance(maps, np.ndarray) and maps.ndim == 3:
        if len(keys) and keys[0] == 0 and (len(keys) == len(maps) + 1 or data_set.num_classes in keys):
            maps = maps[len(maps) - len(keys) + 1 :]
            keys = [key - 1 for key in keys[1:]]
        if len(keys) == len(maps) == len({*keys}):
            return dict(zip(keys, maps, strict=True))
    found = f"{brief(keys)} and {getattr(maps, 'shape', 'none')}"
    raise UserError(f"{path}: expected IRN's CAMs, keys (K,) and high_res (K, height, width), found {found}")
