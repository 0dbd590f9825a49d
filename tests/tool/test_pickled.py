"""Data in .npy files: `load_pickled` refuses what is damaged or hostile, `write_pickled` suits every NumPy."""

import io
import math
import os
import pickle
import pickletools
import struct
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.labels import save_labels
from tool.artifact import save_cam, save_crf
from tool.cli import UserError
from tool.pickled import load_pickled, write_pickled
from voc12.classes import VOC12


def write_pickle(path, payload: bytes):
    """A .npy file with the header of a 0-d object array, then `payload`."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(payload)


def assert_same(actual, expected):
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)
        assert actual.flags.writeable
    else:
        assert actual == expected


PLAIN = {
    "2007_000032": np.arange(6, dtype=np.float32).reshape(2, 3),
    np.str_("id"): np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    3: np.array([True, False]),
    np.int64(-4): np.arange(3, dtype=">i2"),
    5: [1, 2.5, None, True, "text", b"\x00\xff", 10**30],
    6: (np.float32(0.1), np.ones((1, 4), np.uint8), {}, [], ()),
    7: np.array(["ab", "c"]),
    8: np.array(1.5),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_is_read_back_from_every_pickle_protocol(tmp_path, protocol):
    path = tmp_path / "plain.npy"
    write_pickle(path, pickle.dumps(np.array(PLAIN, dtype=object), protocol=protocol))
    assert_same(load_pickled(path), PLAIN)


def test_the_module_names_of_both_numpy_generations_are_read(tmp_path):
    path = tmp_path / "plain.npy"
    payload = pickle.dumps(np.array({1: np.arange(3), 2: np.float64(0.5)}, dtype=object), protocol=2)
    old = payload.replace(b"numpy._core.", b"numpy.core.")
    for variant in (old, old.replace(b"numpy.core.", b"numpy._core.")):
        write_pickle(path, variant)
        assert_same(load_pickled(path), {1: np.arange(3), 2: np.float64(0.5)})


def test_a_file_of_python_2_is_read(tmp_path):
    # Protocol 2 with byte strings, as Python 2 pickles {'id': array([1.5], float32)} inside its object array.
    def text(string):
        return b"U" + bytes([len(string)]) + string

    def array(shape, dtype, is_object, data):
        start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        state = b"(K\x03" + text(b"|" if is_object else b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        described = b"cnumpy\ndtype\n" + text(dtype) + b"K\x00K\x01\x87R" + state
        return start + b"(K\x01" + shape + described + b"\x89" + data + b"tb"

    inner = array(b"K\x01\x85", b"f4", False, text(struct.pack("<f", 1.5)))
    content = b"]}" + text(b"id") + inner + b"sa"
    path = tmp_path / "python2.npy"
    write_pickle(path, b"\x80\x02" + array(b")", b"O8", True, content) + b".")
    assert_same(load_pickled(path), {"id": np.array([1.5], np.float32)})


class Recorder(pickle.Unpickler):
    """Notes what a file refers to as it is read."""

    def __init__(self, file):
        super().__init__(file)
        self.names: set[str] = set()

    def find_class(self, module, name):
        self.names.add(f"{module}.{name}")
        return super().find_class(module, name)


def read_by_pickle(path):
    """The pickle protocol of a .npy file, the names it refers to, and the object in it."""
    with open(path, "rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file) == ((), False, np.dtype(object))
        start = file.tell()
        (protocol,) = [argument for opcode, argument, _ in pickletools.genops(file) if opcode.name == "PROTO"]
        file.seek(start)
        reader = Recorder(file)
        return protocol, reader.names, reader.load().item()


OURS = {key: value for key, value in PLAIN.items() if not isinstance(key, np.generic) and key != 6}  # no NumPy scalars
MAPS = {0: np.full((2, 3), 0.25, np.float32), 4: np.full((2, 3), 0.75, np.float32)}
WRITERS = {
    "plain data": lambda path: path.write_bytes(pickled(OURS)),
    "CAMs": lambda path: save_cam(path, {k: scores / 2 for k, scores in MAPS.items()}, VOC12),
    "no CAMs": lambda path: save_cam(path, {}, VOC12),
    "posteriors": lambda path: save_crf(path, MAPS, VOC12),
    "labels": lambda path: save_labels(path, {"2007_000032": np.eye(20, dtype=np.float32)[3]}),
}


def pickled(value) -> bytes:
    stream = io.BytesIO()
    write_pickled(stream, value)
    return stream.getvalue()


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_is_written_needs_no_version_of_numpy(tmp_path, write):
    """NumPy 2 itself writes names in numpy._core, which NumPy 1.25 and older do not have."""
    write(tmp_path / "ours.npy")
    protocol, names, value = read_by_pickle(tmp_path / "ours.npy")
    assert protocol <= 4 and names == {"numpy.ndarray", "numpy.dtype"}
    assert_same(load_pickled(tmp_path / "ours.npy"), value)
    np.save(tmp_path / "theirs.npy", value, allow_pickle=True)
    _, names, same = read_by_pickle(tmp_path / "theirs.npy")
    assert any("core.multiarray" in name for name in names)
    assert_same(same, value)


def test_plain_data_is_written_as_it_is(tmp_path):
    (tmp_path / "ours.npy").write_bytes(pickled(OURS))
    assert_same(np.load(tmp_path / "ours.npy", allow_pickle=True).item(), OURS)
    assert_same(load_pickled(tmp_path / "ours.npy"), OURS)


def test_the_golden_dicts_are_read_as_numpy_reads_them(golden):
    paths = sorted((golden / "eval" / "npy").glob("*.npy"))
    assert paths
    for path in paths:
        expected = np.load(path, allow_pickle=True).item()
        assert_same(load_pickled(path), expected)
    path = golden / "inference" / "cls_labels.npy"
    assert_same(load_pickled(path), np.load(path, allow_pickle=True).item())


class Hostile:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def touch(path):
    open(path, "w").close()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [touch, os.mkdir, eval], ids=["own", "os", "builtin"])
def test_a_hostile_file_runs_nothing(tmp_path, protocol, function):
    mark = tmp_path / "mark"
    argument = f"open({str(mark)!r}, 'w')" if function is eval else str(mark)
    payload = pickle.dumps(np.array({1: Hostile(function, argument)}, dtype=object), protocol=protocol)
    write_pickle(tmp_path / "hostile.npy", payload)
    with pytest.raises(UserError, match=r"hostile\.npy: refused.*which can run code"):
        load_pickled(tmp_path / "hostile.npy")
    assert not mark.exists()
    np.load(tmp_path / "hostile.npy", allow_pickle=True)  # the file is a working attack on the plain reader
    assert mark.exists()


TENSORS = {
    "whole": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "turned": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,
    "part": torch.arange(24, dtype=torch.float16).reshape(2, 3, 4)[1, :, 2],
    "row": torch.arange(3)[None],
    "number": torch.tensor(7, dtype=torch.int32),
    "empty": torch.zeros((0, 3), dtype=torch.uint8),
    "booleans": torch.tensor([True, False]),
}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_tensors_are_read_as_arrays_of_their_numbers(tmp_path, protocol):
    write_pickle(tmp_path / "a.npy", pickle.dumps(np.array(TENSORS, dtype=object), protocol=protocol))
    expected = {name: np.asarray(tensor.numpy(), order="C").copy() for name, tensor in TENSORS.items()}
    assert_same(load_pickled(tmp_path / "a.npy"), expected)


class Tensor:
    """Pickled as a tensor's parts are."""

    def __init__(self, storage, *where):
        self.parts = storage, *where, False, OrderedDict()

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.parts


def storage_with(value):
    """A storage whose description holds `value`."""
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return Hostile(torch.storage._load_from_bytes, stream.getvalue())


NUMBERS = torch.arange(4.0).__reduce_ex__(4)[1][0]  # the storage, as a tensor pickles it


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(NUMBERS, 0, (5,), (1,)),
        Tensor(NUMBERS, 1, (4,), (1,)),
        Tensor(NUMBERS, 0, (2, 2), (3, 1)),
        Tensor(NUMBERS, 0, (10**6, 10**6), (0, 0)),
        Tensor(NUMBERS, -1, (2,), (1,)),
        Tensor(NUMBERS, 3, (2,), (-1,)),
        Tensor(NUMBERS, 0, (-1,), (1,)),
        Tensor(NUMBERS, 0, (2,), (1, 1)),
        Tensor(b"", 0, (2,), (1,)),
        Tensor(Hostile(torch.storage._load_from_bytes, b""), 0, (2,), (1,)),
        Tensor(storage_with({"a": 1}), 0, (2,), (1,)),
        NUMBERS,
        OrderedDict(),
    ],
)
def test_a_tensor_is_refused_if_its_storage_is_none_or_does_not_hold_it(tmp_path, tensor):
    write_pickle(tmp_path / "a.npy", pickle.dumps(np.array({1: tensor}, dtype=object), protocol=4))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.npy: refused"):
        load_pickled(tmp_path / "a.npy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_a_hostile_storage_runs_nothing(tmp_path):
    mark = tmp_path / "mark"
    tensor = Tensor(storage_with(Hostile(touch, str(mark))), 0, (2,), (1,))
    write_pickle(tmp_path / "hostile.npy", pickle.dumps(np.array({1: tensor}, dtype=object), protocol=4))
    with pytest.raises(UserError, match=r"hostile\.npy: refused.*which can run code"):
        load_pickled(tmp_path / "hostile.npy")
    assert not mark.exists()


def object_array(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


LOOP: list = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        object_array([1, "a"]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros(2, dtype="M8[s]"),
        np.dtype("f4"),
        np.ndarray,
        {1, 2},
        1j,
        LOOP,
    ],
    ids=["objects", "structured", "dates", "dtype", "type", "set", "complex", "loop"],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_is_not_plain_data_is_refused(tmp_path, value, protocol):
    path = tmp_path / "other.npy"
    write_pickle(path, pickle.dumps(np.array({1: value}, dtype=object), protocol=protocol))
    with pytest.raises(UserError, match=r"other\.npy: refused"):
        load_pickled(path)


def test_sizes_beyond_the_file_are_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "large.npy"
    outer = pickle.dumps(np.array({1: np.zeros(3, np.uint8)}, dtype=object), protocol=2)
    head, tail = outer.split(b"K\x03\x85")  # the inner array's shape
    payloads = [
        head + b"\x8a\x05\xff\xff\xff\xff\x00\x85" + tail,  # a shape
        b"\x80\x04\x8e" + struct.pack("<Q", 2**30) + b"abc.",  # the length of bytes
        b"\x80\x05\x96" + struct.pack("<Q", 2**30) + b"abc.",  # the length of a bytearray
        b"\x80\x04\x95" + struct.pack("<Q", 2**30) + b"N.",  # the length of a frame
        b"\x80\x02Nr" + struct.pack("<I", 2**24) + b".",  # an index of the memo
    ]
    for payload in payloads:
        write_pickle(path, payload)
        tracemalloc.start()
        with pytest.raises(UserError, match="refused"):
            load_pickled(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2**22


def test_shared_containers_do_not_unfold(tmp_path):
    value: list = []
    for _ in range(6):
        value = [value] * 1000
    path = tmp_path / "laughs.npy"
    write_pickle(path, pickle.dumps(np.array({1: value}, dtype=object), protocol=4))
    assert len(load_pickled(path)[1]) == 1000


def test_every_truncation_is_refused(tmp_path):
    whole = io.BytesIO()
    np.save(whole, {3: np.ones((2, 2), np.float32)}, allow_pickle=True)
    path = tmp_path / "cut.npy"
    for length in range(len(whole.getvalue())):
        path.write_bytes(whole.getvalue()[:length])
        with pytest.raises(UserError, match=r"cut\.npy"):
            load_pickled(path)


@settings(max_examples=300)
@given(position=st.integers(0), byte=st.integers(0, 255))
def test_a_changed_byte_never_raises_anything_but_a_user_error(tmp_path_factory, position, byte):
    stream = io.BytesIO()
    np.save(stream, {3: np.ones((2, 2), np.float32), 4: np.float64(2)}, allow_pickle=True)
    data = bytearray(stream.getvalue())
    data[position % len(data)] = byte
    path = tmp_path_factory.getbasetemp() / "changed.npy"
    path.write_bytes(data)
    try:
        load_pickled(path)
    except UserError as error:
        assert "changed.npy" in str(error)


@pytest.mark.parametrize("shape", [(-1, -4), (1,) * 70, (0, 10**30)], ids=["negative", "many", "large"])
def test_a_plain_array_of_a_shape_that_none_has_is_refused(tmp_path, shape):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.write(bytes(4 * math.prod(shape)))
    with pytest.raises(UserError, match=r"a\.npy: an array of float32, shape \(.*\), is cut off or damaged"):
        load_pickled(tmp_path / "a.npy", numbers=True)


def test_other_files_are_refused_by_name(tmp_path):
    np.save(tmp_path / "plain.npy", np.zeros((2, 3), np.float32))
    np.save(tmp_path / "list.npy", object_array([1, 2]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello, this is no array")
    (tmp_path / "empty.npy").touch()
    with open(tmp_path / "bare.npy", "wb") as file:
        pickle.dump({1: 2}, file)
    for name, found in [
        ("plain.npy", r"array of float32, shape \(2, 3\)"),
        ("list.npy", r"shape \(2,\)"),
        ("text.npy", "expected a .npy file"),
        ("empty.npy", "expected a .npy file"),
        ("bare.npy", "expected a .npy file"),
        ("none.npy", "cannot be read: No such file"),
    ]:
        with pytest.raises(UserError, match=f"{name}: .*{found}"):
            load_pickled(tmp_path / name)
