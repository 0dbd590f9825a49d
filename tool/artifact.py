"""The files that tie the stages together: CAM dicts, CRF dicts, label maps. Written whole or not at all, read warily.

    CAM dict   <id>.npy   {class 0..19: float32 (H, W)}, the classes of the image; {} where it has none
    CRF dict   <id>.npy   {label 0..20: float32 (H, W)}, posteriors that sum to 1; 0 = background, always there
    label map  <id>.png   palette PNG in VOC's colours; 0 = background, class + 1, 255 = ignored

`numpy.load(path, allow_pickle=True).item()` reads the dicts too, but only files that one made oneself: a pickle can
run anything. The readers here run nothing (`load_pickled`).
"""

import io
import math
import os
import pickle
import pickletools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from tool.classes import LABEL_NAMES
from tool.cli import DEVICE, UserError, what_is_at
from tool.colour import voc_palette

NUM_CLASSES = len(LABEL_NAMES) - 1
IGNORE = 255
POSTERIOR_TOLERANCE = 1e-2  # CRF posteriors sum to 1 within this, also after a trip through float16

_PALETTE = voc_palette().tobytes()
_BLACK = b"\0\0\0"
_LABEL_OF_COLOUR = {_PALETTE[3 * label :][:3]: label for label in (*range(NUM_CLASSES + 1), IGNORE)}


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


def _read_file(path: str | Path) -> bytes:
    """The content of a file. Raises `OSError`, for a pipe or a device too, reading which may never end."""
    if what_is_at(path) == DEVICE:
        raise OSError(f"it is {DEVICE}")
    return Path(path).read_bytes()


# -- pickled .npy ------------------------------------------------------------------------------------------------------

# What NumPy's pickles of arrays and scalars refer to, NumPy 2's `numpy._core` written as NumPy 1's `numpy.core`.
_ARRAY = "numpy.core.multiarray._reconstruct"
_SCALAR = "numpy.core.multiarray.scalar"
_BUFFER = "numpy.core.numeric._frombuffer"
_DTYPE = "numpy.dtype"
_ENCODE = "_codecs.encode"  # how protocol 2 spells bytes
_ADMITTED = {_ARRAY, _SCALAR, _BUFFER, _DTYPE, _ENCODE, "numpy.ndarray"}

# Containers, numbers, strings, the memo, and a call or a state for the names above.
_OPCODES = {
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2",
    "TUPLE3", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
}  # fmt: skip
_DTYPE_CODE = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,3}")
_MAX_DEPTH = 8


class _Name:
    """An admitted name, or a call of it, kept as data: unpickling calls nothing, `_plain` reads these afterwards."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple = ()):
        self.name, self.arguments, self.state = name, arguments, None

    def __call__(self, *arguments: Any) -> "_Name":
        return _Name(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads plain containers, numbers and strings, and NumPy's values as `_Name`; refuses every other name."""

    def find_class(self, module: str, name: str) -> _Name:
        full_name = f"{module.replace('numpy._core.', 'numpy.core.', 1)}.{name}"
        if full_name not in _ADMITTED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which can run code")
        return _Name(full_name)


def _check_opcodes(stream: io.BytesIO) -> None:
    """Raise before anything is built if an opcode is not admitted or a declared size goes beyond the data."""
    start = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(start)
    for opcode, argument, _ in pickletools.genops(stream):  # raises where a length exceeds what is left
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"it uses the pickle opcode {opcode.name}")
        if opcode.name == "LONG_BINPUT" and argument > size:
            raise pickle.UnpicklingError("a memo index is larger than the file")
    stream.seek(start)


def _dtype(value: Any) -> np.dtype:
    """The dtype that a pickle describes: booleans, integers, floats and fixed-length strings only."""
    if not (isinstance(value, _Name) and value.name == _DTYPE and value.arguments):
        raise pickle.UnpicklingError("an array without a dtype")
    code = value.arguments[0]
    if not (isinstance(code, str) and _DTYPE_CODE.fullmatch(code)):
        raise pickle.UnpicklingError(f"an array of dtype {code!r}")
    if value.state is None:
        return np.dtype(code)
    _, byte_order, subarray, names, fields, *_ = value.state
    if byte_order not in ("<", ">", "|", "=") or not subarray is names is fields is None:
        raise pickle.UnpicklingError("an array of structured dtype")
    return np.dtype(byte_order + code)


def _bytes(value: Any) -> bytes | bytearray:
    """Raw data as Python 3 or 2 wrote it."""
    if isinstance(value, _Name) and value.name == _ENCODE:
        value, encoding = value.arguments
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    if not isinstance(value, (str, bytes, bytearray)):
        raise pickle.UnpicklingError("an array without data")
    return value.encode("latin1") if isinstance(value, str) else value


def _array(shape: Any, dtype: Any, data: Any, order: str) -> np.ndarray:
    """A writable array over a copy of `data`, whose size must be what shape and dtype say."""
    data, dtype = _bytes(data), _dtype(dtype)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"{len(data)} bytes for an array of shape {shape} and dtype {dtype}")
    return np.ndarray(shape, dtype, data, order=order).copy(order="K")


def _numpy_value(value: _Name) -> Any:
    """The array, scalar or bytes that a `_Name` stands for."""
    if value.name == _ARRAY:
        _, shape, dtype, fortran_order, data = value.state
        return _array(shape, dtype, data, "F" if fortran_order else "C")
    if value.name == _BUFFER:
        data, dtype, shape, order = value.arguments
        return _array(shape, dtype, data, order)
    if value.name == _SCALAR:
        dtype, data = value.arguments
        return _array((), dtype, data, "C")[()]
    if value.name == _ENCODE:
        return bytes(_bytes(value))
    raise pickle.UnpicklingError(f"a bare {value.name}")


def _plain(value: Any, memo: dict[int, Any], depth: int = 0) -> Any:
    """`value` with every `_Name` replaced by what it stands for; what occurs twice is made once."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if depth == _MAX_DEPTH:  # a container inside itself ends here too
        raise pickle.UnpicklingError(f"more than {_MAX_DEPTH} nested containers")
    if isinstance(value, _Name):
        plain = _numpy_value(value)
    elif isinstance(value, dict):
        plain = {_plain(key, memo, depth + 1): _plain(item, memo, depth + 1) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        plain = type(value)(_plain(item, memo, depth + 1) for item in value)
    else:
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
    memo[id(value)] = plain
    return plain


def load_pickled(path: str | Path) -> Any:
    """The object in a .npy file as `numpy.save(path, object)` writes it, by NumPy 1 or 2, Python 2 or 3.

    Dicts, lists, tuples, numbers, strings, bytes, and NumPy arrays and scalars of booleans, integers, floats or
    strings; arrays are writable. Nothing in the file is executed, and no memory is taken that the file's own size does
    not warrant. Raises `UserError` naming the file if it holds anything else, is damaged, or is no such file.
    """
    try:
        stream = io.BytesIO(_read_file(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(stream)]
        shape, _, dtype = read_header(stream)
    except Exception as error:  # a damaged header can raise anything
        raise UserError(f"{path}: expected a .npy file, found something else or a damaged one ({error})") from error
    if not dtype.hasobject or shape != ():
        raise UserError(f"{path}: expected a pickled dict, found an array of {dtype}, shape {shape}")
    try:
        _check_opcodes(stream)
        # NumPy pickles a 0-d object array around the object. Python 2's strings, raw data among them, are latin1.
        outer = _Unpickler(stream, encoding="latin1").load()
        if not (isinstance(outer, _Name) and outer.name == _ARRAY):
            raise pickle.UnpicklingError("no array around the object")
        _, shape, _, _, items = outer.state
        if shape != () or type(items) is not list or len(items) != 1:
            raise pickle.UnpicklingError("more than one object")
        return _plain(items[0], {})
    except Exception as error:  # a damaged pickle can raise anything
        why = str(error)[:200] or type(error).__name__
        raise UserError(f"{path}: refused, damaged or not plain data: {why}") from error


def _save_pickled(path: str | Path, value: dict) -> None:
    with atomic_file(path) as file:
        np.save(file, np.array(value, dtype=object), allow_pickle=True)


# -- CAM and CRF dicts -------------------------------------------------------------------------------------------------


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


def _checked_cam(path: str | Path, cams: Any, shape: tuple | None) -> dict[int, np.ndarray]:
    if isinstance(cams, dict) and NUM_CLASSES in cams and 0 in cams:
        raise UserError(f"{path}: holds CRF posteriors (by label, background 0), not CAMs; eval.py: --type crf")
    cams = _score_maps(path, cams, range(NUM_CLASSES), "CAMs by class", shape)
    if _is_posterior(cams):
        raise UserError(f"{path}: holds CRF posteriors (they sum to 1 at every pixel), not CAMs; eval.py: --type crf")
    return cams


def _checked_crf(path: str | Path, posteriors: Any, shape: tuple | None) -> dict[int, np.ndarray]:
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


def _check_labels(path: str | Path, labels: np.ndarray, ignore: bool) -> None:
    if labels.max() <= NUM_CLASSES:
        return
    above = np.unique(labels[labels > NUM_CLASSES])
    wrong = [str(label) for label in above if not (ignore and label == IGNORE)]
    if wrong:
        expected = f"0 to {NUM_CLASSES}" + (f" or {IGNORE}" if ignore else "")
        raise UserError(f"{path}: expected labels {expected}, found {', '.join(wrong[:10])}")


def _check_colours(path: str | Path, labels: np.ndarray, palette: bytes) -> None:
    """Raise if an index in use has VOC's colour of another label, as where an image of colours was quantised.

    Other palettes say nothing about the indices. Neither does a grey ramp where it meets VOC's grey, nor black where
    index 0 is black too: unset entries are.
    """
    for index in range(len(palette) // 3):
        colour = palette[3 * index :][:3]
        is_filler = colour == bytes([index] * 3) or colour == palette[:3] == _BLACK
        label = _LABEL_OF_COLOUR.get(colour, index)
        if label != index and not is_filler and np.any(labels == index):
            raise UserError(
                f"{path}: index {index} has the colour of label {label} in VOC's palette: these are colours, not label"
                " indices; save the indices"
            )


def save_label_map(path: str | Path, labels: np.ndarray) -> None:
    """Write labels, uint8 (H, W) with 0 to 20 or 255, as a palette PNG in VOC's colours. Raises `UserError`."""
    if labels.dtype != np.uint8 or labels.ndim != 2 or not labels.size:
        raise UserError(f"{path}: expected labels as uint8 (H, W), found {labels.dtype} {labels.shape}")
    _check_labels(path, labels, ignore=True)
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(_PALETTE)
    with atomic_file(path) as file:
        image.save(file, format="PNG")


def load_label_map(path: str | Path, *, shape: tuple[int, int] | None = None, ignore: bool = True) -> np.ndarray:
    """Read a PNG label map, palette or 8-bit grey: uint8 (H, W) of 0 to 20, and 255 unless `ignore` is False.

    Raises `UserError` naming the file if it is damaged, holds colours or 16 bits instead of indices, has a palette that
    contradicts its indices, holds other labels, or is not of `shape`, (height, width), where that is given.
    """
    try:
        data = _read_file(path)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.verify()  # decoding alone stops at the last pixel, before the last check sums
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            mode = image.mode
            labels = np.array(image)
            palette = bytes(image.getpalette() or ())
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: cannot be read as a PNG, another kind of file or a damaged one") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a PNG, missing or damaged ({error})") from error
    if mode not in ("P", "L"):
        found = {"RGB": "RGB colours", "RGBA": "RGBA colours", "1": "1-bit grey"}.get(mode, f"mode {mode}")
        found = "16-bit values" if mode.startswith("I") else found
        raise UserError(f"{path}: expected a palette or 8-bit grey PNG of label indices, found {found}")
    if shape is not None and labels.shape != tuple(shape):
        raise UserError(f"{path}: expected {_size(shape)}, found {_size(labels.shape)}")
    if mode == "P" and palette != _PALETTE:
        _check_colours(path, labels, palette)
    _check_labels(path, labels, ignore)
    return labels
