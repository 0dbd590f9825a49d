"""The files that tie the stages together: CAM dicts, CRF dicts, label maps. Written whole or not at all, read warily.

    CAM dict   <id>.npy   {class: float32 (H, W)}, the classes of the image, from 0; {} where it has none
                          (IRN's and MSA's forms are read, too: `tool.cam_forms`)
    CRF dict   <id>.npy   {label: float32 (H, W)}, posteriors that sum to 1; 0 = background, always there
    label map  <id>.png   palette PNG in the data set's colours; 0 = background, class + 1, 255 = ignored

The data set (`tool.dataset`) says how many classes there are, and whether there is a background; without one a class's
label is its number.

`numpy.load(path, allow_pickle=True).item()` reads the dicts too, NumPy 1 as well as 2, but only files that one made
oneself: a pickle can run anything. The readers here run nothing (`tool.pickled`). `numpy.array(PIL.Image.open(path))`
reads the label maps; cv2 and imageio turn their palette into colours or greys.
"""

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from tool.cam_forms import by_class, is_irns
from tool.cli import UserError, brief
from tool.colour import is_vocs
from tool.dataset import IGNORE, DataSet
from tool.image import UNREADABLE
from tool.limits import limit_met
from tool.pickled import load_pickled, read_file, write_pickled

POSTERIOR_TOLERANCE = 1e-2  # CRF posteriors sum to 1 within this, also after a trip through float16
HIGHEST_CAM = 1 + 1e-3  # no lowest: where a map is nearly flat, what `tool.cam.min_max` zeroed is far below 0

_BLACK = b"\0\0\0"


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


def write_json(path: str | Path, value: Any) -> None:
    """Write what JSON can hold, indented, as `atomic_file`."""
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=2).encode())


def load_whole(load: Callable[..., Any], path: Path, *arguments: Any, **options: Any) -> Any:
    """What `load` reads at `path`; None where no file is, or a damaged one or another than `load` is asked for: it is
    made anew."""
    try:
        return load(path, *arguments, **options) if path.exists() else None
    except UserError:
        return None


# -- CAM and CRF dicts -------------------------------------------------------------------------------------------------


def save_pickled(path: str | Path, value: dict) -> None:
    """Write a dict of arrays, whole or not at all."""
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
            found = repr(key[:80]) if isinstance(key, str) else brief(key)
            raise UserError(f"{path}: expected {what}, keys {keys[0]} to {keys[-1]}, found the key {found}")
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


def _is_posterior(maps: dict[int, np.ndarray], data_set: DataSet) -> bool:
    """Whether the maps are CRF posteriors: a background, if the data set has one, and a sum of 1 at every pixel.

    Keys alone do not tell: {0: ...} is background or the first class. Beside maps of 0 alone, a label's posterior is
    exactly 1 everywhere, and a CAM, divided by its maximum + 1e-5, is not, even where it is flat: in a tiny image.
    """
    if not maps or (data_set.background and 0 not in maps):
        return False
    total = sum(maps.values())
    is_alone = sum(bool(scores.any()) for scores in maps.values()) == 1
    return bool(np.all(np.abs(total - 1) <= (0 if is_alone else POSTERIOR_TOLERANCE)))


def checked_cam(path: str | Path, cams: Any, data_set: DataSet, shape: tuple | None) -> dict[int, np.ndarray]:
    """What `load_cam` makes of what the file at `path` holds. Raises as there."""
    cams = by_class(path, cams, data_set, shape)
    if isinstance(cams, dict) and data_set.background and data_set.num_classes in cams and 0 in cams:
        raise UserError(f"{path}: holds CRF posteriors (by label, background 0), not CAMs; eval.py: --type crf")
    cams = _score_maps(path, cams, range(data_set.num_classes), "CAMs by class", shape)
    if _is_posterior(cams, data_set):
        raise UserError(f"{path}: holds CRF posteriors (they sum to 1 at every pixel), not CAMs; eval.py: --type crf")
    if (highest := max((scores.max() for scores in cams.values()), default=0)) > HIGHEST_CAM:
        raise UserError(f"{path}: expected CAMs of 0 to 1, found values up to {highest:.6g}")
    return cams


def _checked_crf(path: str | Path, posteriors: Any, data_set: DataSet, shape: tuple | None) -> dict[int, np.ndarray]:
    if is_irns(posteriors):
        raise UserError(f"{path}: expected CRF posteriors, found IRN's CAMs (keys, cam, high_res); eval.py: --type npy")
    posteriors = _score_maps(path, posteriors, range(data_set.num_labels), "CRF posteriors by label", shape)
    if not _is_posterior(posteriors, data_set):
        lacking = data_set.background and 0 not in posteriors
        found = "there is no background, key 0" if lacking else "they do not sum to 1 at every pixel"
        raise UserError(f"{path}: expected CRF posteriors, found other maps ({found}); eval.py: CAMs are --type npy")
    return posteriors


def save_cam(path: str | Path, cams: dict[int, np.ndarray], data_set: DataSet) -> None:
    """Write a CAM dict, {class: float (H, W)}; {} for an image without classes. Raises as `load_cam`."""
    save_pickled(path, checked_cam(path, cams, data_set, None))


def load_cam(path: str | Path, data_set: DataSet, *, shape: tuple[int, int] | None = None) -> dict[int, np.ndarray]:
    """Read a CAM dict: {class: float32 (H, W)}, classes from 0, ascending; {} for an image without classes.

    IRN's form, {"keys", "cam", "high_res"}, and MSA's array (1, L, H, W) of all labels are read as this one
    (`tool.cam_forms`).

    Raises `UserError` naming the file if it is damaged, holds anything but finite maps of one size (of `shape` where
    that is given), values above 1, or CRF posteriors.
    """
    return checked_cam(path, load_pickled(path, numbers=True), data_set, shape)


def save_crf(path: str | Path, posteriors: dict[int, np.ndarray], data_set: DataSet) -> None:
    """Write a CRF dict, {label: float (H, W)}. Raises as `load_crf`."""
    save_pickled(path, _checked_crf(path, posteriors, data_set, None))


def load_crf(path: str | Path, data_set: DataSet, *, shape: tuple[int, int] | None = None) -> dict[int, np.ndarray]:
    """Read a CRF dict: {label: float32 (H, W)}, labels ascending; a background, label 0, is always there.

    Raises `UserError` naming the file if it is damaged, holds anything but finite maps of one size (of `shape` where
    that is given), or does not sum to 1 at every pixel, as CAMs do not.
    """
    return _checked_crf(path, load_pickled(path), data_set, shape)


def labels_of_posteriors(posteriors: dict[int, np.ndarray]) -> np.ndarray:
    """The most likely label of every pixel, uint8 (H, W), of a CRF dict; the first of equal ones."""
    return np.array(list(posteriors), np.uint8)[np.stack(list(posteriors.values())).argmax(axis=0)]


def load_label_scores(
    path: str | Path, data_set: DataSet, *, shape: tuple[int, int] | None = None
) -> dict[int, np.ndarray]:
    """Read what a CRF says of an image's labels: {label: float32 (H, W)}, labels ascending, from a CRF dict or from an
    array (L, H, W) of all the data set's labels.

    A dict may have a CRF over all labels for its source and those of the image alone, so that the sum is a little below
    1. Raises `UserError` naming the file if it is damaged, holds anything but finite maps of one size (of `shape` where
    that is given), has no background, or other maps than posteriors.
    """
    found = load_pickled(path, numbers=True)
    if isinstance(found, np.ndarray):
        expected = data_set.num_labels
        if found.ndim != 3 or len(found) != expected:
            raise UserError(f"{path}: expected ({expected}, height, width), by label, found an array of {found.shape}")
        found = dict(enumerate(found))
    scores = _score_maps(path, found, range(data_set.num_labels), "CRF posteriors by label", shape)
    total = sum(scores.values(), np.zeros(1, np.float32))
    if 0 not in scores or total.min() < 0.5 or total.max() > 1 + POSTERIOR_TOLERANCE:
        why = "there is no background, key 0" if 0 not in scores else "they do not sum to about 1 at every pixel"
        raise UserError(f"{path}: expected CRF posteriors by label, as prepare.py makes them, found other maps ({why})")
    return scores


# -- label maps --------------------------------------------------------------------------------------------------------


def check_labels(path: str | Path, labels: np.ndarray, data_set: DataSet, *, ignore: bool) -> None:
    """Raise `UserError`, naming `path`, unless all `labels` are the data set's, or 255 where `ignore` allows it."""
    last = data_set.num_labels - 1
    if labels.max() <= last:
        return
    wrong = [str(label) for label in np.unique(labels[labels > last]) if not (ignore and label == IGNORE)]
    if wrong:
        expected = f"0 to {last}" + (f" or {IGNORE}" if ignore else "")
        if wrong == [str(last + 1)] and data_set.relabel:
            advice = f"; if it is the border, {data_set.relabel} --border {last + 1} makes it {IGNORE}"
        elif wrong == [str(IGNORE)]:
            advice = "; eval.py: --wrong_255 counts it as wrong"
        elif {*np.unique(labels).tolist()} <= _greys(data_set):  # which differ less than the labels
            advice = (
                f"; all are greys of {data_set.title}'s colours, as cv2.imread(path, 0) makes them: start from the"
                " masks it read"
            )
        else:
            advice = ""
        raise UserError(f"{path}: expected labels {expected}, found {', '.join(wrong[:10])}{advice}")


def _greys(data_set: DataSet) -> set[int]:
    """What a picture in grey makes of the colours of the labels and of 255."""
    greys = np.asarray(Image.fromarray(data_set.palette[None]).convert("L"))[0]
    return {*greys[[*range(data_set.num_labels), IGNORE]].tolist()}


def _contradiction(labels: np.ndarray, palette: bytes, data_set: DataSet) -> str | None:
    """Which index in use has the data set's colour of another label, as where an image of colours was quantised, if any
    has.

    Other palettes say nothing about the indices. Neither does VOC's, whole or as far as there are labels, which many
    tools give to any label map, nor a grey ramp where it meets the colour of a label, nor black where index 0 is black
    too: unset entries are.
    """
    own = data_set.palette.tobytes()
    if is_vocs(palette, data_set.num_labels) or own.startswith(palette):
        return None
    label_of = {own[3 * label :][:3]: label for label in (*range(data_set.num_labels), IGNORE)}
    for index in range(len(palette) // 3):
        colour = palette[3 * index :][:3]
        is_filler = colour == bytes([index] * 3) or colour == palette[:3] == _BLACK
        label = label_of.get(colour, index)
        is_own = colour == own[3 * index :][:3]  # two labels may have the same
        if label != index and not is_own and not is_filler and np.any(labels == index):
            return f"index {index} has the colour of label {label} in {data_set.title}'s palette"
    return None


def save_label_map(path: str | Path, labels: np.ndarray, data_set: DataSet) -> None:
    """Write labels of the data set or 255, uint8 (H, W), as a palette PNG in its colours. Raises `UserError`."""
    if labels.dtype != np.uint8 or labels.ndim != 2 or not labels.size:
        raise UserError(f"{path}: expected labels as uint8 (H, W), found {labels.dtype} {labels.shape}")
    check_labels(path, labels, data_set, ignore=True)
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(data_set.palette.tobytes())
    with atomic_file(path) as file:
        image.save(file, format="PNG")


def read_png(path: str | Path) -> Image.Image:
    """The PNG at `path`, decoded whole. Raises `UserError`, for grey of 2 or 4 bits too, whose values Pillow scales."""
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
    if data[24:26] in (b"\2\0", b"\4\0"):  # of the header: bits, and grey without a palette
        raise UserError(
            f"{path}: expected a palette or 8-bit grey PNG, found {data[24]}-bit grey; save its labels as 8-bit grey"
        )
    return image


def read_mask(path: str | Path, data_set: DataSet) -> tuple[np.ndarray, str | None]:
    """What the PNG at `path` holds: label indices, uint8 (H, W), and None; or colours, uint8 (H, W, 3), and what tells.

    Indices may be any. Raises `UserError` for a file that is damaged, no PNG, or of another depth than 8 bits.
    """
    image = read_png(path)
    pixels, palette = np.array(image), bytes(image.getpalette() or ())
    if image.mode in ("RGB", "RGBA"):
        return pixels[..., :3], f"{image.mode} colours"
    if image.mode not in ("P", "L"):
        found = (
            "16-bit values" if image.mode.startswith("I") else {"1": "1-bit grey"}.get(image.mode, f"mode {image.mode}")
        )
        raise UserError(f"{path}: expected a palette or 8-bit grey PNG of label indices, found {found}")
    if image.mode == "P" and (what := _contradiction(pixels, palette, data_set)):
        return np.array(image.convert("RGB")), f"colours ({what})"
    return pixels, None


def load_label_map(
    path: str | Path, data_set: DataSet, *, shape: tuple[int, int] | None = None, ignore: bool = True
) -> np.ndarray:
    """Read a PNG label map, palette or 8-bit grey: uint8 (H, W) of the data set's labels, and 255 unless `ignore` is
    False.

    Raises `UserError` naming the file if it is damaged, holds colours or 16 bits instead of indices, has a palette that
    contradicts its indices, holds other labels, or is not of `shape`, (height, width), where that is given.
    """
    labels, colours = read_mask(path, data_set)
    if colours:
        advice = f"; {data_set.relabel} makes label maps of them" if data_set.relabel else ""
        raise UserError(f"{path}: expected label indices, found {colours}{advice}")
    if shape is not None and labels.shape != tuple(shape):
        raise UserError(f"{path}: expected {_size(shape)}, found {_size(labels.shape)}")
    check_labels(path, labels, data_set, ignore=ignore)
    return labels
