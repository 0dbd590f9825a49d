"""A matrix of numbers in a MATLAB file of versions 5 to 7, as MathWorks' MAT-File Format says.

SciPy's reader is not used, since damaged files end its process.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tool.cli import UserError
from tool.limits import limit_met
from tool.pickled import read_file

HEADER = 128  # bytes: MATLAB and any text, then version and byte order
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # by type
NUMBERS = range(6, 16)  # the classes of arrays that are double, single or whole
COMPLEX = 0x800
MAX_UNPACKED = 2**28  # bytes


def load_mat(path: Path, name: str) -> np.ndarray:
    """The matrix `name` of the MATLAB file at `path`, as it is stored. Raises `UserError`."""
    try:
        content = read_file(path)
        if content[:8] == b"\x89HDF\r\n\x1a\n" or content[124:126] in (b"\x00\x02", b"\x02\x00"):
            raise ValueError("version 7.3; save it as -v7")
        order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
        if order is None or not content.startswith(b"MATLAB"):
            raise ValueError("not of version 5 to 7")
        for kind, data in _elements(content[HEADER:], order):
            if kind == COMPRESSED:
                ((kind, data),) = _elements(_unpacked(data), order)
            if kind == MATRIX and (found := _matrix(data, order, name)) is not None:
                return found
        raise ValueError(f"no {name} in it")
    except (OSError, ValueError, struct.error, zlib.error) as error:
        if limit_met(error) is not None:  # of the machine; the file may be sound
            raise
        raise UserError(f"{path}: cannot be read as a MATLAB file, missing or damaged ({error})") from error


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The type and the bytes of each element, the next one read when it is asked for."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # a small one has both in one word, and at most four bytes behind it
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            if size > 4:
                raise ValueError("an element of a wrong size")
            place += 8
        else:
            place = start + size + (0 if kind == COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError("it ends amid an element")
        yield kind, data[start : start + size]


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data, MAX_UNPACKED)
    if not unpacker.eof:
        raise ValueError(f"packed data that end early, or are more than {MAX_UNPACKED} bytes")
    return found


def _matrix(data: bytes, order: str, name: str) -> np.ndarray | None:
    """The matrix that an element holds, or None if it has another name."""
    parts = _elements(data, order)
    head = [part for _, part in itertools.islice(parts, 3)]
    if len(head) < 3:
        raise ValueError("a matrix without all its parts")
    flags, shape, found = head
    if found.rstrip(b"\0") != name.encode():
        return None
    kind, values = next(parts, (0, b""))
    (word,) = struct.unpack_from(f"{order}I", flags)
    if word & 0xFF not in NUMBERS or word & COMPLEX or kind not in STORED:
        raise ValueError(f"{name} is no matrix of numbers")
    numbers = np.frombuffer(values, np.dtype(STORED[kind]).newbyteorder(order))
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    if min(sizes, default=-1) < 0 or math.prod(sizes) != len(numbers):
        raise ValueError(f"{name} has {len(numbers)} numbers for its shape {sizes[:4]}")
    return numbers.reshape(sizes, order="F").astype(numbers.dtype.newbyteorder("="))
