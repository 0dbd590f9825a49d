"""Matrices of MATLAB files, read as SciPy reads them; what is refused."""

import os
import struct

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from context.mat import load_mat
from tool.cli import UserError

NUMBERS = np.arange(35).reshape(5, 7)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("numbers", [NUMBERS, NUMBERS[:1, :3], NUMBERS[:1, :1], NUMBERS[:0]], ids=len)
def test_a_matrix_is_read_as_scipy_reads_it(tmp_path, numbers, kind, packed):
    path = tmp_path / "a.mat"
    others = {"a": "text", "before": {"LabelMap": np.ones(3)}, "cells": np.array([1, "b"], object)}
    savemat(path, {**others, "LabelMap": numbers.astype(kind), "z": 1}, do_compression=packed)
    found = load_mat(path, "LabelMap")
    np.testing.assert_array_equal(found, loadmat(path)["LabelMap"])
    assert found.shape == numbers.shape and found.dtype == kind


def big_endian_doubles_in_bytes() -> bytes:
    """As MATLAB on such a machine wrote doubles that fit in bytes: of class 6, stored as type 2."""
    parts = [(6, struct.pack(">II", 6, 0)), (5, struct.pack(">ii", 2, 3)), (1, b"LabelMap"), (2, bytes(range(6)))]
    body = b"".join(struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8) for kind, data in parts)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(body)) + body


def test_another_byte_order_and_numbers_stored_smaller_than_their_class(tmp_path):
    path = tmp_path / "a.mat"
    path.write_bytes(big_endian_doubles_in_bytes())
    expected = loadmat(path)["LabelMap"]
    assert expected.tolist() == [[0, 2, 4], [1, 3, 5]]
    np.testing.assert_array_equal(load_mat(path, "LabelMap"), expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([[1j]]), "no matrix of numbers"),
        ("text", "no matrix of numbers"),
        ({"a": 1}, "no matrix of numbers"),
        (None, "no LabelMap in it"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(tmp_path, value, message):
    savemat(tmp_path / "a.mat", {"other": 1} if value is None else {"LabelMap": value})
    with pytest.raises(UserError, match=rf"a\.mat: .*{message}"):
        load_mat(tmp_path / "a.mat", "LabelMap")


def test_a_matrix_that_ends_after_its_first_part_is_refused(tmp_path):
    (tmp_path / "a.mat").write_bytes(big_endian_doubles_in_bytes()[:132] + struct.pack(">IIIII", 16, 6, 8, 6, 0))
    with pytest.raises(UserError, match="without all its parts"):
        load_mat(tmp_path / "a.mat", "LabelMap")


def test_other_versions_are_named(tmp_path):
    savemat(tmp_path / "a.mat", {"LabelMap": NUMBERS}, format="4")
    with pytest.raises(UserError, match="not of version 5 to 7"):
        load_mat(tmp_path / "a.mat", "LabelMap")
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384))
    with pytest.raises(UserError, match="save it as -v7"):
        load_mat(tmp_path / "a.mat", "LabelMap")


def test_a_small_file_does_not_unpack_to_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr("context.mat.MAX_UNPACKED", 1000)
    savemat(tmp_path / "a.mat", {"LabelMap": np.zeros((100, 100), np.uint8)}, do_compression=True)
    with pytest.raises(UserError, match="more than 1000 bytes"):
        load_mat(tmp_path / "a.mat", "LabelMap")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mat")
    with pytest.raises(UserError, match=r"a\.mat: cannot be read.* a pipe or a device"):
        load_mat(tmp_path / "a.mat", "LabelMap")
