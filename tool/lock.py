"""Who may write into a folder while several commands run: one of them until it ends, or one after the other."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tool.cli import UserError

# Open as long as the process: the locks on the folders that it writes into.
_held: dict[str, int] = {}


def _let_go() -> None:
    while _held:
        os.close(_held.popitem()[1])


# A lock lasts until all copies of its descriptor are closed, and forked loader processes outlive a killed run a little.
os.register_at_fork(after_in_child=_let_go)


def hold_folder(folder: Path, flag: str) -> None:
    """Keep other runs out of `folder`, which `flag` leads to, until this process ends, however it ends.

    Does nothing if the folder is missing or this process already holds it. A file system that knows no locks keeps
    nobody out. Raises `UserError` if another process holds the folder.
    """
    place = os.path.realpath(folder)
    if place in _held:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"{flag} {folder}: another run is writing into it; wait for its end, or name another") from None
    except OSError:
        os.close(descriptor)
        return
    _held[place] = descriptor


@contextmanager
def turn_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for `folder`, then keep others waiting, however the block ends.

    A file system that knows no locks lets all in at once. Raises `OSError` if there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # of a file system that knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
