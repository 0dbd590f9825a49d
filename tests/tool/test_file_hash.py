"""Files are hashed whole, and in pieces."""

import hashlib
import tracemalloc

import pytest

from tool.file_hash import CHUNK, sha256_of


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 7])
def test_the_hash_is_of_all_of_a_file(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


def test_a_file_is_never_in_memory_as_a_whole(tmp_path):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(40 * CHUNK)
    tracemalloc.start()
    try:
        sha256_of(tmp_path / "file")
        assert tracemalloc.get_traced_memory()[1] < 4 * CHUNK
    finally:
        tracemalloc.stop()
