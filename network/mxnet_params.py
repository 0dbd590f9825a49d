"""MXNet's parameter files, read without MXNet. All numbers are little-endian."""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tool.cli import UserError, require_file

LIST_MAGIC = 0x112
V1_MAGIC = 0xF993FAC8  # int64 dimensions
V2_MAGIC = 0xF993FAC9  # storage type before the shape, int64 dimensions; older heads are themselves the dimension count
DENSE = 0
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
MAX_DIMENSIONS = 32


class _Reader:
    """The file, its position, and the one rule: nothing is read or allocated that the file's size does not allow."""

    def __init__(self, path: Path, file: BinaryIO, flag: str) -> None:
        self.path, self.file, self.flag = path, file, flag
        self.size = os.fstat(file.fileno()).st_size

    def error(self, offset: int, found: str) -> UserError:
        return UserError(
            f"{self.flag} {self.path}: byte {offset}: {found}; the file is damaged, or no MXNet parameter file that we "
            f"read (dense arrays with names): download it again"
        )

    def require(self, length: int, what: str) -> None:
        """Raise unless `length` more bytes are there."""
        offset = self.file.tell()
        if length > self.size - offset:
            raise self.error(offset, f"expected {length} bytes ({what}), found {self.size - offset}")

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        """Little-endian numbers in `struct`'s notation."""
        length = struct.calcsize("<" + layout)
        self.require(length, what)
        return struct.unpack("<" + layout, self.file.read(length))

    def name(self) -> str:
        (length,) = self.numbers("Q", "length of a name")
        self.require(length, "a name")
        offset = self.file.tell()
        try:
            return self.file.read(length).decode()
        except UnicodeDecodeError:
            raise self.error(offset, "a name that is not UTF-8") from None

    def shape(self) -> tuple[int, ...]:
        """The head of an array up to its dimensions."""
        offset = self.file.tell()
        (head,) = self.numbers("I", "head of an array")
        if head == V2_MAGIC:
            (storage,) = self.numbers("i", "storage type")
            if storage != DENSE:
                raise self.error(offset, f"a sparse array (storage type {storage}), expected dense ones")
        modern = head in (V1_MAGIC, V2_MAGIC)
        (count,) = self.numbers("I", "number of dimensions") if modern else (head,)
        if count > MAX_DIMENSIONS:
            raise self.error(offset, f"an array of {count} dimensions, or an unknown layout")
        shape = self.numbers(f"{count}{'q' if modern else 'I'}", "dimensions")
        if any(size < 1 for size in shape):
            raise self.error(offset, f"an array of shape {shape}, expected sizes of at least 1")
        return shape

    def array(self) -> np.ndarray:
        shape = self.shape()
        if not shape:
            return np.empty(0, np.float32)  # MXNet's "none": the record ends after the shape
        self.numbers("ii", "device")
        offset = self.file.tell()
        (code,) = self.numbers("i", "dtype")
        if code not in DTYPES:
            raise self.error(offset, f"unknown dtype {code}, expected one of 0 to {max(DTYPES)}")
        dtype = np.dtype(DTYPES[code])
        self.require(math.prod(shape) * dtype.itemsize, f"data of an array of shape {shape}")
        array = np.empty(shape, dtype)
        self.file.readinto(array.reshape(-1).view(np.uint8))
        return array


def read_params(path: str | Path, flag: str = "--weights") -> dict[str, np.ndarray]:
    """The arrays of an MXNet parameter file, by their names (`arg:conv1a_weight`, `aux:bn7_moving_mean`, ...).

    `flag` names the file in messages.
    Reads the three layouts that MXNet has written. Each array has the shape and dtype of the file. Raises `UserError`
    with file and offset for a file that is damaged, longer than its contents, or holds sparse arrays, unknown dtypes or
    a name twice; no more is allocated than the file is long.
    """
    path = require_file(path, flag, "an MXNet parameter file")
    with open(path, "rb") as file:
        reader = _Reader(path, file, flag)
        magic, _, count = reader.numbers("QQQ", "head of the file")
        if magic != LIST_MAGIC:
            raise reader.error(0, f"expected {LIST_MAGIC:#x}, found {magic:#x}")
        reader.require(4 * count, f"{count} arrays")
        arrays = [reader.array() for _ in range(count)]
        offset = file.tell()
        (name_count,) = reader.numbers("Q", "number of names")
        if name_count != count:
            raise reader.error(offset, f"{name_count} names for {count} arrays")
        params: dict[str, np.ndarray] = {}
        for array in arrays:
            offset = file.tell()
            name = reader.name()
            if name in params:
                raise reader.error(offset, f"the name {name} a second time")
            params[name] = array
        if file.tell() != reader.size:
            raise reader.error(file.tell(), f"{reader.size - file.tell()} bytes after the end")
        return params
