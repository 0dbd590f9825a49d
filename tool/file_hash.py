"""What tells a file from others: the hash of its content."""

import hashlib
from pathlib import Path

CHUNK = 2**20  # bytes: weights have up to 4.5 GB


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits; never more than a part of it is in memory.

    Raises `OSError` where it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
