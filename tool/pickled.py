"""Plain data pickled in .npy files, as `numpy.save(path, {...})` makes them: read warily, written for all of NumPy.

What others share in a pickle, an .npz or JSON instead is read as warily.
"""

import io
import json
import math
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tool.cli import DEVICE, UserError, brief, what_is_at
from tool.limits import limit_met


def read_file(path: str | Path) -> bytes:
    """The content of a file. Raises `OSError`, for a pipe or a device too, reading which may never end."""
    if what_is_at(path) == DEVICE:
        raise OSError(f"it is {DEVICE}")
    return Path(path).read_bytes()


# What pickles of arrays and scalars refer to, NumPy 2's `numpy._core` written as NumPy 1's `numpy.core`.
_ARRAYS = {"numpy.core.multiarray._reconstruct", "numpy.ndarray"}  # NumPy's own, and `_Pickler`'s
_SCALAR = "numpy.core.multiarray.scalar"
_BUFFER = "numpy.core.numeric._frombuffer"
_DTYPE = "numpy.dtype"
_ENCODE = "_codecs.encode"  # how protocol 2 spells bytes
# And what pickles of torch's tensors refer to, with the elements' types.
_TENSOR = "torch._utils._rebuild_tensor_v2"
_STORAGE = "torch.storage._load_from_bytes"
_ELEMENTS = {
    "torch.FloatStorage": "<f4", "torch.DoubleStorage": "<f8", "torch.HalfStorage": "<f2", "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4", "torch.ByteStorage": "u1", "torch.BoolStorage": "?",
}  # fmt: skip
_HOOKS = "collections.OrderedDict"  # an empty one, the tensor's
_ADMITTED = {*_ARRAYS, _SCALAR, _BUFFER, _DTYPE, _ENCODE, _TENSOR, _STORAGE, _HOOKS, *_ELEMENTS}

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
_MAX_DIMENSIONS = 64  # of NumPy's arrays
_MAX_UNPACKED = 2**28  # bytes of an .npz's arrays; labels of 12,031 images take 2.5 MB


class _Name:
    """An admitted name, or a call of it, kept as data: unpickling calls nothing, `_Plain` reads these afterwards."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple = ()):
        self.name, self.arguments, self.state = name, arguments, None

    def __call__(self, *arguments: Any) -> "_Name":
        return _Name(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads plain containers, numbers and strings, NumPy's and torch's values as `_Name`; refuses every other name."""

    def find_class(self, module: str, name: str) -> _Name:
        full_name = f"{module.replace('numpy._core.', 'numpy.core.', 1)}.{name}"
        if full_name not in _ADMITTED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which can run code")
        return _Name(full_name)

    def persistent_load(self, identity: Any) -> Any:  # what a torch file says of a storage; `_OPCODES` has none
        return identity


def _check_opcodes(stream: io.BytesIO, admitted: set[str] = _OPCODES) -> None:
    """Raise before anything is built if an opcode is not admitted or a declared size goes beyond the data."""
    start = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(start)
    for opcode, argument, _ in pickletools.genops(stream):  # raises where a length exceeds what is left
        if opcode.name not in admitted:
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
        raise pickle.UnpicklingError(f"an array of dtype {brief(code)}")
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
            raise pickle.UnpicklingError(f"bytes encoded as {brief(encoding)}")
    if not isinstance(value, (str, bytes, bytearray)):
        raise pickle.UnpicklingError("an array without data")
    return value.encode("latin1") if isinstance(value, str) else value


def _sizes(value: Any) -> tuple[int, ...]:
    """A shape, or strides: a product of anything else may be as large as one likes."""
    if type(value) is not tuple or len(value) > _MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in value):
        raise pickle.UnpicklingError(f"an array of shape or strides {brief(value)}")
    return value


def _array(shape: Any, dtype: Any, data: Any, order: str) -> np.ndarray:
    """A writable array over a copy of `data`, whose size must be what shape and dtype say."""
    shape, data, dtype = _sizes(shape), _bytes(data), _dtype(dtype)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"{len(data)} bytes for an array of shape {shape} and dtype {dtype}")
    return np.ndarray(shape, dtype, data, order=order).copy(order="K")


def _elements(storage: Any) -> np.ndarray:
    """The numbers of a storage in torch's first format: five pickles, of which the fourth says their type, and the raw
    data after its length in 8 bytes."""
    if not (isinstance(storage, _Name) and storage.name == _STORAGE):
        raise pickle.UnpicklingError("a tensor without a storage")
    stream, parts = io.BytesIO(_bytes(*storage.arguments)), []
    for _ in range(5):
        _check_opcodes(stream, {*_OPCODES, "BINPERSID"})
        parts.append(_Unpickler(stream).load())
    _, kind, *_ = parts[3]
    return np.frombuffer(stream.read()[8:], _ELEMENTS[kind.name])


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    """The array of a tensor's elements, none of which may lie outside its storage."""
    elements, shape, strides = _elements(storage), _sizes(shape), _sizes(strides)
    (offset,) = _sizes((offset,))
    if math.prod(shape) > len(elements):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} in {len(elements)} elements")
    if 0 in shape:
        return np.empty(shape, elements.dtype)
    index = np.asarray(offset)
    for size, stride in zip(shape, strides, strict=True):
        index = np.add.outer(index, stride * np.arange(size))
    return np.asarray(elements[index])


def _numpy_value(value: _Name) -> Any:
    """The array, scalar or bytes that a `_Name` stands for; an array for a tensor."""
    if value.name in _ARRAYS and value.state is not None:
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
    if value.name == _TENSOR:
        return _tensor(*value.arguments[:4])
    raise pickle.UnpicklingError(f"a bare {value.name}")


class _Plain:
    """Makes of a pickle's values plain ones: every `_Name` is replaced by what it stands for; what occurs twice is made
    once. Arrays hold `size` bytes at most, the file's: one buffer can be the data of many."""

    def __init__(self, size: int):
        self.left = size
        self.memo: dict[int, Any] = {}

    def of(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if id(value) in self.memo:
            return self.memo[id(value)]
        if depth == _MAX_DEPTH:  # a container inside itself ends here too
            raise pickle.UnpicklingError(f"more than {_MAX_DEPTH} nested containers")
        if isinstance(value, _Name):
            plain = _numpy_value(value)
            self.left -= len(plain) if isinstance(plain, bytes) else plain.nbytes
            if self.left < 0:
                raise pickle.UnpicklingError("arrays that are larger than the file")
        elif isinstance(value, dict):
            plain = {self.of(key, depth + 1): self.of(item, depth + 1) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            plain = type(value)(self.of(item, depth + 1) for item in value)
        else:
            raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
        self.memo[id(value)] = plain
        return plain


def load_pickled(path: str | Path, *, numbers: bool = False) -> Any:
    """The object in a .npy file as `numpy.save(path, object)` writes it, by NumPy 1 or 2, Python 2 or 3; with `numbers`
    also a plain array.

    Dicts, lists, tuples, numbers, strings, bytes, and NumPy arrays and scalars of booleans, integers, floats or
    strings; arrays are writable. A tensor of torch comes back as an array. Nothing in the file is executed, and no
    memory is taken that the file's own size does not warrant. Raises `UserError` naming the file if it holds anything
    else, is damaged, or is no such file.
    """
    return _load_npy(_read(path), path, numbers=numbers)


def load_plain(path: str | Path) -> Any:
    """What a file of plain data holds: .npy as `load_pickled` reads it, a bare pickle of protocol 2 or later, JSON, or
    an .npz, as a dict of its arrays by name, told apart by their content. Raises as `load_pickled`."""
    content = _read(path)
    if content.startswith(b"\x80"):
        return _unpickled(io.BytesIO(content), path)
    if content.startswith(b"PK\x03\x04"):
        return _load_npz(content, path)
    if content.lstrip()[:1] in (b"{", b"["):
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    return _load_npy(content, path)


def _read(path: str | Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        if limit_met(error) is not None:
            raise
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _load_npz(content: bytes, path: str | Path) -> dict[str, Any]:
    """The arrays of an .npz by name; one that holds another object, as `numpy.savez(path, labels={...})` puts it, gives
    that object."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > _MAX_UNPACKED:
                raise UserError(f"{path}: more than {_MAX_UNPACKED >> 20} MB unpacked; expected fewer in an .npz")
            _check_number_of_members(content, archive)
            members = {part.filename.removesuffix(".npy"): _unpacked(archive, part) for part in parts}
    except UserError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(f"{path}: cannot be read as an .npz ({error})") from error
    return {name: _load_npy(member, path, numbers=True) for name, member in members.items()}


def _unpacked(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    """What a part of an archive holds; no more is unpacked than it says, which bzip2 and LZMA would do."""
    if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{part.filename} is packed in a way that numpy.savez does not")
    with archive.open(part) as file:
        return file.read(part.file_size + 1)  # with the byte behind its end, where the check sum is compared


def _check_number_of_members(content: bytes, archive: zipfile.ZipFile) -> None:
    """Raise `BadZipFile` if the archive's last record counts other members than its directory, whose damaged entry may
    swallow those after it; zipfile does not look."""
    record = len(content) - len(archive.comment) - 22
    counted = int.from_bytes(content[record + 10 : record + 12], "little")
    if counted not in (len(archive.infolist()), 0xFFFF):  # the latter where there are more than it can hold
        raise zipfile.BadZipFile(f"{counted} arrays counted, {len(archive.infolist())} listed")


def _load_npy(content: bytes, path: str | Path, *, numbers: bool = False) -> Any:
    """The object in the bytes of a .npy file; with `numbers` also a plain array. `path` is for messages."""
    stream = io.BytesIO(content)
    try:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(stream)]
        shape, fortran_order, dtype = read_header(stream)
    except Exception as error:  # a damaged header can raise anything
        raise UserError(f"{path}: expected a .npy file, found something else or a damaged one ({error})") from error
    if numbers and dtype.kind in "buif":
        data = stream.read()
        try:
            if math.prod(_sizes(shape)) * dtype.itemsize == len(data):
                return np.ndarray(shape, dtype, data, order="F" if fortran_order else "C").copy()
        except (ValueError, pickle.UnpicklingError):  # a shape that no array has
            pass
        raise UserError(f"{path}: an array of {dtype}, shape {shape}, is cut off or damaged")
    if not dtype.hasobject or shape != ():
        raise UserError(f"{path}: expected a pickled dict, found an array of {dtype}, shape {shape}")
    return _unpickled(stream, path, in_array=True)


def _unpickled(stream: io.BytesIO, path: str | Path, *, in_array: bool = False) -> Any:
    """The object of a pickle, or of the 0-d object array that NumPy pickles around it."""
    try:
        _check_opcodes(stream)
        # Python 2's strings, raw data among them, are latin1.
        outer = _Unpickler(stream, encoding="latin1").load()
        plain = _Plain(len(stream.getbuffer()))
        if not in_array:
            return plain.of(outer)
        if not (isinstance(outer, _Name) and outer.name in _ARRAYS and outer.state is not None):
            raise pickle.UnpicklingError("no array around the object")
        _, shape, _, _, items = outer.state
        if shape != () or type(items) is not list or len(items) != 1:
            raise pickle.UnpicklingError("more than one object")
        return plain.of(items[0])
    except MemoryError:  # no size in a file asks for more than the file holds
        raise
    except Exception as error:  # a damaged pickle can raise anything
        why = str(error)[:200] or type(error).__name__
        raise UserError(f"{path}: refused, damaged or not plain data: {why}") from error


class _Pickler(pickle.Pickler):
    """Pickles arrays by the public name `numpy.ndarray` and their state.

    NumPy's own pickles call a function of `numpy._core` or `numpy.core`, as its version has it: those of NumPy 2 do not
    load under 1.25 or older.
    """

    def reducer_override(self, value: Any) -> Any:
        return (np.ndarray, ((0,),), value.__reduce__()[2]) if type(value) is np.ndarray else NotImplemented


def write_pickled(file: BinaryIO, value: Any) -> None:
    """Write plain data of dicts, lists, numbers, strings and arrays as `numpy.save(file, value)` does.

    NumPy 1 and 2 under Python 3.4 and later read it: `numpy.load(path, allow_pickle=True).item()`.
    """
    wrapped = np.empty((), dtype=object)
    wrapped[()] = value
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(wrapped))
    _Pickler(file, protocol=4).dump(wrapped)
