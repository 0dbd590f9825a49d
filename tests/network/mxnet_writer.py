"""Writes MXNet parameter files, sound and unsound, as the tests' counterpart of the reader."""

import struct

import numpy as np

CODES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def array_record(
    array: np.ndarray, layout: str, *, storage: int = 0, code: int | None = None, shape: tuple | None = None
) -> bytes:
    """One array; `storage`, `code` and `shape` put something other than the truth into its head."""
    shape = array.shape if shape is None else shape
    code = CODES[array.dtype.name] if code is None else code
    head = {
        "legacy": struct.pack("<I", len(shape)),
        "v1": struct.pack("<II", 0xF993FAC8, len(shape)),
        "v2": struct.pack("<IiI", 0xF993FAC9, storage, len(shape)),
    }[layout]
    dimensions = struct.pack(f"<{len(shape)}{'I' if layout == 'legacy' else 'q'}", *shape)
    return head + dimensions + struct.pack("<iii", 1, 0, code) + array.tobytes()


def params_file(records: list[bytes], names: list[bytes]) -> bytes:
    """A whole file of array records and their names."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(records)), *records, struct.pack("<Q", len(names))]
    return b"".join(parts + [struct.pack("<Q", len(name)) + name for name in names])


def params_of(arrays: dict[str, np.ndarray], layout: str = "v2") -> bytes:
    """A sound file of `arrays`."""
    return params_file([array_record(array, layout) for array in arrays.values()], [name.encode() for name in arrays])


def mxnet_name(name: str) -> str:
    """The MXNet name of a released one: the reader's mapping, written the other way round."""
    layer, leaf = name.rsplit(".", 1)
    if "." in layer:
        block, branch = layer.split(".")
        stage, _, number = block[1:].partition("_")
        kind, branch = branch.split("_")
        layer = f"{'res' if kind == 'conv' else 'bn'}{stage}{'b' + number if number else 'a'}_{branch}"
    norm = layer.startswith("bn")
    leaf = {
        "weight": "gamma" if norm else "weight", "bias": "beta",
        "running_mean": "moving_mean", "running_var": "moving_var",
    }[leaf]  # fmt: skip
    return f"{'aux' if leaf.startswith('moving') else 'arg'}:{layer}_{leaf}"
