"""CAM dicts in IRN's form, at the image's size and at a quarter of it, which IRN's walk reads."""

from pathlib import Path
from typing import Any

import numpy as np

from tool.artifact import checked_cam, save_pickled
from tool.cam_forms import is_irns
from tool.cli import UserError
from tool.dataset import DataSet
from tool.pickled import load_pickled


def quarter(size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) of the maps that IRN's walk reads, from the image's."""
    return (size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1


def save_irn_cam(
    path: str | Path, cam: dict[int, np.ndarray], high_res: dict[int, np.ndarray], data_set: DataSet
) -> None:
    """Write the dict of IRN and its successors from CAMs by class: at a quarter of the image's size, and at it.

    It holds keys, int64 (n), classes from 0, ascending; cam and high_res, float32 (n, h, w) (paper/method.md, CRT).
    Raises `UserError` as `load_cam`.
    """
    whole = checked_cam(path, high_res, data_set, None)
    shape = next(iter(whole.values())).shape if whole else None
    small = checked_cam(path, cam, data_set, shape and quarter(shape))
    if list(small) != list(whole):
        raise UserError(f"{path}: expected the same classes at both sizes, found {list(small)} and {list(whole)}")
    save_pickled(path, {"keys": np.array([*whole], np.int64), "cam": _stacked(small), "high_res": _stacked(whole)})


def _stacked(cams: dict[int, np.ndarray]) -> np.ndarray:
    return np.stack([*cams.values()]) if cams else np.zeros((0, 0, 0), np.float32)


def load_irn_cam(
    path: str | Path, data_set: DataSet, *, shape: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read what `save_irn_cam` writes, or IRN's own code: keys, cam and high_res, as there.

    Raises `UserError` as `load_cam`, and for a dict of another form or whose cam is not a quarter of its high_res.
    """
    return _irn_cam(path, load_pickled(path), data_set, shape)


def _irn_cam(path: str | Path, cams: Any, data_set: DataSet, shape: tuple | None) -> tuple:
    if not is_irns(cams) or "cam" not in cams or "high_res" not in cams:
        found = ", ".join(map(repr, [*cams][:5])) if isinstance(cams, dict) else type(cams).__name__
        raise UserError(f"{path}: expected IRN's CAMs, keys, cam and high_res, found {found or 'an empty dict'}")
    whole = checked_cam(path, cams, data_set, shape)
    size = quarter(next(iter(whole.values())).shape) if whole else None
    small = checked_cam(path, {"keys": cams["keys"], "cam": cams["cam"]}, data_set, size)
    return np.array([*whole], np.int64), _stacked(small), _stacked(whole)


def load_quarter_cam(path: str | Path, data_set: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """The CAMs of an image at a quarter of its size, which IRN's walk reads, from any CAM dict.

    Of IRN's form, its own cam; else the maps resized (bilinear, corners not aligned).

    Returns:
        The classes, int64 (n), from 0, ascending, and their maps, float32 (n, h, w), h and w as `quarter`; (0, 0, 0)
        without classes.

    Raises `UserError` as `load_cam`.
    """
    cams = load_pickled(path, numbers=True)
    if is_irns(cams) and {"cam", "high_res"} <= cams.keys():
        return _irn_cam(path, cams, data_set, None)[:2]
    whole = _stacked(checked := checked_cam(path, cams, data_set, None))
    if not checked:
        return np.zeros(0, np.int64), whole
    import torch  # not at the top: processes that compute no net do without
    from torch.nn import functional as F

    small = F.interpolate(torch.from_numpy(whole)[None], quarter(whole.shape[1:]), mode="bilinear", align_corners=False)
    return np.array([*checked], np.int64), small[0].numpy()
