"""Limits of the machine, of memory, shared memory, open files, processes and disk: told where they are met, and before.

It needs no torch: what can be known of loader processes is known before a run takes seconds to begin.
"""

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Listener
from pathlib import Path
from typing import NamedTuple

from tool.cli import UserError
from tool.torchrun import local_world_size

SHARED_MEMORY = Path("/dev/shm")
BATCHES_AHEAD = 2  # of each loader process, torch's default
FEWER_LOADERS = "take fewer loader processes, or none (--num_workers 0; DATA_WORKERS=0 in stage 3)"
MORE_SHARED_MEMORY = f"{FEWER_LOADERS}, or more of it: docker run --shm-size=8g, or --ipc=host"
MORE_OPEN_FILES = (
    f"{FEWER_LOADERS}, or fewer processes; or raise the limit: ulimit -n 4096, docker run --ulimit nofile=4096"
)
LESS_MEMORY = "take smaller images, crops, batches or --scales, or fewer processes"


class Limit(NamedTuple):
    """A limit that was met: what it is, and what helps; None where that depends on what was done."""

    words: str
    help: str | None


def limit_met(error: BaseException) -> Limit | None:
    """The machine's limit that `error` says was met, or None.

    The libraries have no class in common for it, and what a loader process raised comes as text: so by its words.
    """
    text = str(error)
    is_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if not (is_memory or isinstance(error, OSError | RuntimeError | ImportError) or type(error).__module__ == "cv2"):
        return None
    for words, limit in _BY_WORDS:
        if words.search(text):
            return limit
    if is_memory or _OUT_OF_MEMORY.search(text):
        return Limit(f"the memory is too small{_missing(text)}", None)
    return None


def lacked_memory(error: BaseException) -> bool:
    """Whether it was memory, a GPU's too, that `error` or what led to it did not find."""
    limit = limit_met(error)
    if limit is not None:
        return limit.help is None  # only memory's depends on what was done
    return error.__cause__ is not None and lacked_memory(error.__cause__)


@contextmanager
def reported_limits(advice: str = LESS_MEMORY, *, at: str = "") -> Iterator[None]:
    """Make of a limit of the machine that is met in the block a `UserError`.

    advice: what helps where it is the memory, a GPU's too. at: what the block works at, an image and its size.
    """
    try:
        yield
    except Exception as error:
        limit = limit_met(error)
        if limit is None:
            raise
        raise UserError(f"{at and f'{at}: '}{limit.words}; {limit.help or advice}") from error


# Compiled before there is no memory for it. The words of memory come last: others hold some of them too.
_BY_WORDS = tuple(
    (re.compile(words), Limit(*limit))
    for words, *limit in (
        (
            r"Failed to find C compiler|too old to be supported by the triton|working triton installation",
            "PyTorch cannot compile for this GPU: that needs Triton, a C compiler and compute capability 7.0",
            "leave --compile out",
        ),
        (
            r"pin memory thread[\s\S]*out of memory",
            "the machine's memory is too small for batches that lie ready for the GPU",
            None,
        ),
        # GPUs' libraries have their own words for it.
        (
            r"(?i:cuda).*out of memory|_ALLOC\w*_FAILED|CU\w+_STATUS_NOT_INITIALIZED|unable to find an engine",
            "the GPU's memory is too small",
            None,
        ),
        (
            r"Too many open files|received \d+ items of ancdata",
            "too many files are open at once for this system's limit (ulimit -n)",
            MORE_OPEN_FILES,
        ),
        (
            r"shared memory\(shm\)|unable to (resize|write to) file|killed by signal: Bus error",
            f"shared memory ({SHARED_MEMORY}) is too small",
            MORE_SHARED_MEMORY,
        ),
        (
            r"can't start new thread|Resource temporarily unavailable",
            "no more processes or threads can be started (ulimit -u)",
            "take fewer processes, or raise the limit",
        ),
        (
            r"No usable temporary directory|AF_UNIX path too long",
            "there is no folder for temporary files, writable and with a path of at most 70 characters",
            "set TMPDIR to one",
        ),
        (
            r"No space left on device|Disk quota exceeded",
            f"a disk is full: of temporary files ($TMPDIR, or /tmp), of the output, or shared memory ({SHARED_MEMORY})",
            "make space there, or set TMPDIR to a folder that has some",
        ),
    )
)
_OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator|MemoryError|[Cc]an(no|')t allocate memory|bad_?alloc|Insufficient memory"
    r"|could not (create|execute) a (primitive|memory)|failed to map segment"
)
_SIZE = re.compile(r"allocate (\d+) bytes|Unable to allocate ([\d.]+?)\.? (\w*B)")


def _missing(text: str) -> str:
    """How much memory could not be had, as far as `text` says, and the limit, where the user's shell set one."""
    found = _SIZE.search(text)
    size = found and (megabytes(int(found[1])) if found[1] else f"{found[2]} {found[3]}")
    parts = [f"{size} more could not be had"] if size else []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    parts += [] if limit == resource.RLIM_INFINITY else [f"ulimit -v gives a process {megabytes(limit)}"]
    return f" ({'; '.join(parts)})" if parts else ""


def megabytes(size: int) -> str:
    """As containers' flags and `df` count them."""
    return f"{size / 2**20:,.0f} MB"


def check_loaders(*, workers: int, batch_bytes: int, num_batches: int, flag: str) -> None:
    """See, before a run begins, whether its loader processes will find what they need; `UserError` if not.

    Args:
        workers: loader processes of this process, asked for by `flag`. batch_bytes: what one hands over at once.
        num_batches: that are loaded in all.

    Their batches, two of each that are loaded ahead and one that is at work, lie in shared memory, which the processes
    that torchrun started on a machine share. A tensor is handed over by an open file and a socket in the folder for
    temporary files: where a loader process lacks them, the run waits for ever.
    """
    if workers == 0:
        return
    processes = local_world_size()
    batches = processes * min(BATCHES_AHEAD * workers + 1, num_batches)
    _check_shared_memory(batches, batch_bytes, f"{processes * workers} loader processes ({flag})")
    _raise_open_files(
        sum(1 for _ in Path("/dev/fd").iterdir()) + 16 + 9 * workers, f"{workers} loader processes ({flag})"
    )
    with reported_limits():
        Listener(family="AF_UNIX").close()


def _check_shared_memory(batches: int, batch_bytes: int, loaders: str) -> None:
    try:
        disk = os.statvfs(SHARED_MEMORY)
    except OSError:  # a system that has it elsewhere
        return
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < batches * batch_bytes:  # no blocks: no limit
        raise UserError(
            f"shared memory ({SHARED_MEMORY}) has {megabytes(free)} free, {loaders} fill"
            f" {megabytes(batches * batch_bytes)} ({batches} batches of {megabytes(batch_bytes)}); {MORE_SHARED_MEMORY}"
        )


def _raise_open_files(needed: int, loaders: str) -> None:
    """Let this process have as many files open as are `needed`, which the system admits to a bound."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(f"ulimit -n: {hard} files may be open at once, {loaders} need {needed}; {MORE_OPEN_FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
