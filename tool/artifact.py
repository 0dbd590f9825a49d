"""The files that tie the stages together: CAM dicts, CRF dicts, label maps. Written whole or not at all, read warily.

    CAM dict   <id>.npy   {class 0..19: float32 (H, W)}, the classes of the image; {} where it has none
                          (IRN's {"keys", "cam", "high_res"} is read, too)
    CRF dict   <id>.npy   {label 0..20: float32 (H, W)}, posteriors that sum to 1; 0 = background, always there
    label map  <id>.png   palette PNG in VOC's colours; 0 = background, class + 1, 255 = ignored

`numpy.load(path, allow_pickle=True).item()` reads the dicts too, NumPy 1 as well as 2, but only files that one made
oneself: a pickle can run anything. The readers here run nothing (`tool.pickled`). `numpy.array(PIL.Image.open(path))`
reads the label maps; cv2 and imageio turn their palette into colours or greys.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from tool.classes import LABEL_NAMES
from tool.cli import UserError
from tool.colour import voc_palette
from tool.image import UNREADABLE
from tool.limits import limit_met
from tool.pickled import load_pickled, read_file, write_pickled

NUM_CLASSES = len(LABEL_NAMES) - 1
IGNORE = 255
POSTERIOR_TOLERANCE = 1e-2  # CRF posteriors sum to 1 within this, also after a trip through float16

_PALETTE = voc_palette().tobytes()
_BLACK = b"\0\0\0"
_LABELS = (*range(NUM_CLASSES + 1), IGNORE)
_LABEL_OF_COLOUR = {_PALETTE[3 * label :][:3]: label for label in _LABELS}
_GREYS = {*np.asarray(Image.fromarray(voc_palette()[None]).convert("L"))[0, _LABELS].tolist()}


@contextmanager
def reported_unwritable(path: str | Path) -> Iterator[None]:
    """Make of what the file system refuses in the block (no such folder, no permission, disk full) a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file to write `path` into: renamed to `path` at the end of the block, removed if the block fails.

    Until then it lies in the same folder as `.<name>.tmp`, so that what a killed run leaves is written over by the run
    that goes on. A link is followed. Raises `UserError` where the file system refuses (no such folder, no permission,
    disk full) and where something else than a file is there: a rename would replace a device, too.
    """
    with reported_unwritable(path):
        path = Path(os.path.realpath(path) if Path(path).is_symlink() else path)
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be written: expected a file, found a folder, a device or the like")
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with open(temporary, "wb") as file:
                yield file
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


# -- CAM and CRF dicts -------------------------------------------------------------------------------------------------


def _save_pickled(path: str | Path, value: dict) -> None:
    with atomic_file(path) as file:
        write_pickled(file, value)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + " (height x width)"


def _score_maps(path: str | Path, maps: Any, keys: range, what: str, shape: tuple | None) -> dict[int, np.ndarray]:
    """`maps` as {int: float32 (H, W)}, sorted by key; `UserError` if it is anything but finite maps of one size."""
    if not isinstance(maps, dict):
        raise UserError(f"{path}: expected a dict of {what}, found {type(maps).__name__}")
    checked = {}
    for key, scores in maps.items():
        if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or key not in keys:
            raise UserError(f"{path}: expected {what}, keys {keys[0]} to {keys[-1]}, found the key {repr(key)[:80]}")
        if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or scores.ndim != 2 or not scores.size:
            found = f"{scores.dtype} {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
            raise UserError(f"{path}: expected a float (H, W) array under key {key}, found {found}")
        shape = shape or scores.shape
        if scores.shape != tuple(shape):
            raise UserError(f"{path}: expected {_size(shape)} under key {key}, found {_size(scores.shape)}")
        with np.errstate(over="ignore"):
            checked[int(key)] = np.ascontiguousarray(scores, np.float32)
        if not np.isfinite(checked[int(key)]).all():
            raise UserError(f"{path}: values under key {key} are not finite (NaN or infinite)")
    return dict(sorted(checked.items()))


def _is_posterior(maps: dict[int, np.ndarray]) -> bool:
    """Whether the maps are CRF posteriors: a background, and a sum of 1 at every pixel.

    Keys alone do not tell: {0: ...} is background or aeroplane. Alone, the background is exactly 1 everywhere, and a
    CAM, divided by its maximum + 1e-5, is not.
    """
    if 0 not in maps:
        return False
    total = sum(maps.values())
    return bool(np.all(np.abs(total - 1) <= (POSTERIOR_TOLERANCE if len(maps) > 1 else 0)))


def _by_class(path: str | Path, cams: Any) -> Any:
    """A CAM dict as IRN and its successors write it, {"keys": (K,), "cam", "high_res": (K, H, W)}, by class; any other
    value as it is.

    keys are classes, 0..19. Where they were padded for pseudo labels, they are labels with 0, background, before them,
    which may have a map of its own. cam, of lower resolution, is taken where there is no high_res.
    """
    if not isinstance(cams, dict) or "keys" not in cams:
        return cams
    keys, maps = np.asarray(cams["keys"]), cams.get("high_res", cams.get("cam"))
    if keys.ndim == 1 and isinstance(maps, np.ndarray) and maps.ndim == 3:
        if len(keys) and keys[0] == 0 and (len(keys) == len(maps) + 1 or NUM_CLASSES in keys):
            maps = maps[len(maps) - len(keys) + 1 :]
            keys = keys[1:] - 1
        if len(keys) == len(maps) == len(np.unique(keys)):
            return dict(zip(keys.tolist(), maps, strict=True))
    found = f"{keys.shape} and {getattr(maps, 'shape', 'none')}"
    raise UserError(f"{path}: expected IRN's CAMs, keys (K,) and high_res (K, height, width), found {found}")


def _checked_cam(path: str | Path, cams: Any, shape: tuple | None) -> dict[int, np.ndarray]:
    cams = _by_class(path, cams)
    if isinstance(cams, dict) and NUM_CLASSES in cams and 0 in cams:
        raise UserError(f"{path}: holds CRF posteriors (by label, background 0), not CAMs; eval.py: --type crf")
    cams = _score_maps(path, cams, range(NUM_CLASSES), "CAMs by class", shape)
    if _is_posterior(cams):
        raise UserError(f"{path}: holds CRF posteriors (they sum to 1 at every pixel), not CAMs; eval.py: --type crf")
    return cams


def _checked_crf(path: str | Path, posteriors: Any, shape: tuple | None) -> dict[int, np.ndarray]:
    if isinstance(posteriors, dict) and "keys" in posteriors:
        raise UserError(f"{path}: expected CRF posteriors, found IRN's CAMs (keys, cam, high_res); eval.py: --type npy")
    posteriors = _score_maps(path, posteriors, range(NUM_CLASSES + 1), "CRF posteriors by label", shape)
    if not _is_posterior(posteriors):
        found = "they do not sum to 1 at every pixel" if 0 in posteriors else "there is no background, key 0"
        raise UserError(f"{path}: expected CRF posteriors, found other maps ({found}); eval.py: CAMs are --type npy")
    return posteriors


def save_cam(path: str | Path, cams: dict[int, np.ndarray]) -> None:
    """Write a CAM dict, {class 0..19: float (H, W)}; {} for an image without classes. Raises as `load_cam`."""
    _save_pickled(path, _checked_cam(path, cams, None))


def load_cam(path: str | Path, *, shape: tuple[int, int] | None = None) -> dict[int, np.ndarray]:
    """Read a CAM dict: {class 0..19: float32 (H, W)}, classes ascending, {} for an image without classes.

    IRN's form, {"keys", "cam", "high_res"}, is read as this one.

    Raises `UserError` naming the file if it is damaged, holds anything but finite maps of one size (of `shape` where
    that is given), or holds CRF posteriors.
    """
    return _checked_cam(path, load_pickled(path), shape)


def save_crf(path: str | Path, posteriors: dict[int, np.ndarray]) -> None:
    """Write a CRF dict, {label 0..20: float (H, W)} with 0 = background. Raises as `load_crf`."""
    _save_pickled(path, _checked_crf(path, posteriors, None))


def load_crf(path: str | Path, *, shape: tuple[int, int] | None = None) -> dict[int, np.ndarray]:
    """Read a CRF dict: {label 0..20: float32 (H, W)}, labels ascending, 0 = background always there.

    Raises `UserError` naming the file if it is damaged, holds anything but finite maps of one size (of `shape` where
    that is given), or does not sum to 1 at every pixel, as CAMs do not.
    """
    return _checked_crf(path, load_pickled(path), shape)


# -- label maps --------------------------------------------------------------------------------------------------------


RELABEL = "python -m voc12.relabel"  # mends masks of other projects


def check_labels(path: str | Path, labels: np.ndarray, ignore: bool) -> None:
    """Raise `UserError`, naming `path`, unless all `labels` are 0 to 20, or 255 where `ignore` allows it."""
    if labels.max() <= NUM_CLASSES:
        return
    above = np.unique(labels[labels > NUM_CLASSES])
    wrong = [str(label) for label in above if not (ignore and label == IGNORE)]
    if wrong:
        expected = f"0 to {NUM_CLASSES}" + (f" or {IGNORE}" if ignore else "")
        if wrong == [str(NUM_CLASSES + 1)]:
            advice = f"; if it is the border, {RELABEL} --border {NUM_CLASSES + 1} makes it {IGNORE}"
        elif wrong == [str(IGNORE)]:
            advice = "; eval.py: --wrong_255 counts it as wrong"
        elif {*np.unique(labels).tolist()} <= _GREYS:  # which differ less than the labels
            advice = "; all are greys of VOC's colours, as cv2.imread(path, 0) makes them: start from the masks it read"
        else:
            advice = ""
        raise UserError(f"{path}: expected labels {expected}, found {', '.join(wrong[:10])}{advice}")


def _contradiction(labels: np.ndarray, palette: bytes) -> str | None:
    """Which index in use has VOC's colour of another label, as where an image of colours was quantised, if any has.

    Other palettes say nothing about the indices. Neither does a grey ramp where it meets VOC's grey, nor black where
    index 0 is black too: unset entries are.
    """
    for index in range(len(palette) // 3):
        colour = palette[3 * index :][:3]
        is_filler = colour == bytes([index] * 3) or colour == palette[:3] == _BLACK
        label = _LABEL_OF_COLOUR.get(colour, index)
        if label != index and not is_filler and np.any(labels == index):
            return f"index {index} has the colour of label {label} in VOC's palette"
    return None


def save_label_map(path: str | Path, labels: np.ndarray) -> None:
    """Write labels, uint8 (H, W) with 0 to 20 or 255, as a palette PNG in VOC's colours. Raises `UserError`."""
    if labels.dtype != np.uint8 or labels.ndim != 2 or not labels.size:
        raise UserError(f"{path}: expected labels as uint8 (H, W), found {labels.dtype} {labels.shape}")
    check_labels(path, labels, ignore=True)
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(_PALETTE)
    with atomic_file(path) as file:
        image.save(file, format="PNG")


def _read_png(path: str | Path) -> Image.Image:
    """The PNG at `path`, decoded whole. Raises `UserError`."""
    try:
        data = read_file(path)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.verify()  # decoding alone stops at the last pixel, before the last check sums
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        image.load()
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: cannot be read as a PNG, another kind of file or a damaged one") from error
    except UNREADABLE as error:
        if limit_met(error) is not None:
            raise
        raise UserError(f"{path}: cannot be read as a PNG, missing or damaged ({error})") from error
    return image


def read_mask(path: str | Path) -> tuple[np.ndarray, str | None]:
    """What the PNG at `path` holds: label indices, uint8 (H, W), and None; or colours, uint8 (H, W, 3), and what tells.

    Indices may be any. Raises `UserError` for a file that is damaged, no PNG, or of another depth than 8 bits.
    """
    image = _read_png(path)
    pixels, palette = np.array(image), bytes(image.getpalette() or ())
    if image.mode in ("RGB", "RGBA"):
        return pixels[..., :3], f"{image.mode} colours"
    if image.mode not in ("P", "L"):
        found = (
            "16-bit values" if image.mode.startswith("I") else {"1": "1-bit grey"}.get(image.mode, f"mode {image.mode}")
        )
        raise UserError(f"{path}: expected a palette or 8-bit grey PNG of label indices, found {found}")
    if image.mode == "P" and palette != _PALETTE and (what := _contradiction(pixels, palette)):
        return np.array(image.convert("RGB")), f"colours ({what})"
    return pixels, None


def load_label_map(path: str | Path, *, shape: tuple[int, int] | None = None, ignore: bool = True) -> np.ndarray:
    """Read a PNG label map, palette or 8-bit grey: uint8 (H, W) of 0 to 20, and 255 unless `ignore` is False.

    Raises `UserError` naming the file if it is damaged, holds colours or 16 bits instead of indices, has a palette that
    contradicts its indices, holds other labels, or is not of `shape`, (height, width), where that is given.
    """
    labels, colours = read_mask(path)
    if colours:
        raise UserError(f"{path}: expected label indices, found {colours}; {RELABEL} makes label maps of them")
    if shape is not None and labels.shape != tuple(shape):
        raise UserError(f"{path}: expected {_size(shape)}, found {_size(labels.shape)}")
    check_labels(path, labels, ignore)
    return labels
