"""The MXNet reader agrees with MXNet, and no file makes it fail in any way but a `UserError`."""

import struct

import numpy as np
import pytest

from network.mxnet_params import read_params
from tests.network.mxnet_writer import CODES, array_record, params_file, params_of
from tool.cli import UserError

LAYOUTS = ("legacy", "v1", "v2")
SMALL = {"arg:a_weight": np.arange(6, dtype=np.float32).reshape(2, 3), "aux:b": np.ones(2, np.float16)}
RECORDS = [array_record(array, "v2") for array in SMALL.values()]
NAMES = [name.encode() for name in SMALL]


@pytest.fixture
def read(tmp_path):
    def read(content: bytes) -> dict:
        path = tmp_path / "file.params"
        path.write_bytes(content)
        return read_params(path)

    return read


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_what_mxnet_wrote(golden, layout):
    expected = np.load(golden / "mxnet" / "expected.npz")
    params = read_params(golden / "mxnet" / f"{layout}.params")
    assert list(params) == expected.files
    for name, array in params.items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", CODES)
def test_every_dtype_comes_back_bit_for_bit(read, layout, dtype):
    array = np.array([[[0, 1, 2], [3, 100, 127]]]).astype(dtype)
    params = read(params_of({"arg:x": array}, layout))
    np.testing.assert_array_equal(params["arg:x"], array, strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_cut_at_any_byte_is_refused(read, layout):
    whole = params_of(SMALL, layout)
    assert list(read(whole)) == list(SMALL)
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"file\.params: byte \d+: "):
            read(whole[:length])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_wrong_byte_anywhere_is_read_or_refused_but_never_crashes(read, layout):
    whole = params_of(SMALL, layout)
    refused = 0
    for position in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            content = bytearray(whole)
            content[position] ^= flip
            try:
                read(bytes(content))
            except UserError:
                refused += 1
    assert refused > len(whole)


def test_an_array_without_dimensions_is_empty_and_ends_its_record(read):
    for none in (struct.pack("<I", 0), struct.pack("<II", 0xF993FAC8, 0), struct.pack("<IiI", 0xF993FAC9, 0, 0)):
        params = read(params_file([none, *RECORDS], [b"arg:none", *NAMES]))
        assert params["arg:none"].size == 0
        np.testing.assert_array_equal(params["arg:a_weight"], SMALL["arg:a_weight"])


ARRAY = SMALL["arg:a_weight"]
WRONG = {
    "trailing bytes": (params_of(SMALL) + b"\0", "1 bytes after the end"),
    "a sparse array": (params_file([array_record(ARRAY, "v2", storage=1)], [b"a"]), "sparse"),
    "an unknown dtype": (params_file([array_record(ARRAY, "v2", code=7)], [b"a"]), "unknown dtype 7"),
    "a negative dtype": (params_file([array_record(ARRAY, "v2", code=-1)], [b"a"]), "unknown dtype -1"),
    "a negative size": (params_file([array_record(ARRAY, "v2", shape=(-2, -3))], [b"a"]), r"\(-2, -3\)"),
    "an empty size": (params_file([array_record(ARRAY, "v2", shape=(0, 2**62))], [b"a"]), "at least 1"),
    "a huge array": (params_file([array_record(ARRAY, "v2", shape=(2**62, 2**62))], [b"a"]), "expected .* bytes"),
    "a huge legacy array": (params_file([array_record(ARRAY, "legacy", shape=(2**32 - 1, 2))], [b"a"]), "34359738360"),
    "many dimensions": (params_file([struct.pack("<II", 0xF993FAC8, 2**31)], [b"a"]), "2147483648 dimensions"),
    "a newer array layout": (params_file([struct.pack("<Ii", 0xF993FACA, 0)], [b"a"]), "unknown layout"),
    "many arrays": (struct.pack("<QQQ", 0x112, 0, 2**60) + RECORDS[0], "1152921504606846976 arrays"),
    "another magic": (struct.pack("<QQQ", 0x113, 0, 0) + struct.pack("<Q", 0), "expected 0x112, found 0x113"),
    "fewer names than arrays": (params_file(RECORDS, NAMES[:1]), "1 names for 2 arrays"),
    "more names than arrays": (params_file(RECORDS, [*NAMES, b"c"]), "3 names for 2 arrays"),
    "a name twice": (params_file(RECORDS, [b"same", b"same"]), "same a second time"),
    "a huge name": (
        params_file(RECORDS[:1], [b"a"])[:-9] + struct.pack("<Q", 2**63) + b"a", "expected 9223372036854775808 bytes"
    ),
    "a name that is no text": (params_file(RECORDS[:1], [b"\xff\xfe"]), "UTF-8"),
    "a text": (b"version https://git-lfs.example/spec/v1\n", "expected 0x112"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_unsound_file_is_refused_with_file_byte_and_reason(read, case):
    content, reason = WRONG[case]
    with pytest.raises(UserError, match=rf"file\.params: byte \d+: .*{reason}"):
        read(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.params.*nothing there"):
        read_params(tmp_path / "absent.params")
