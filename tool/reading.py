"""Loader processes: which image each is at, for the process that trains to know when one dies; and what ends them."""

import os
import signal
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
from typing import Any

import torch
from torch.utils.data import get_worker_info

from tool.limits import reported_limits

MAX_PROCESSES = 4096
ENDING = (signal.SIGINT, signal.SIGTERM)


class Reading:
    """A table that a data set's loader processes share with the process that made it.

    Args:
        ids: of the images, by their index.
    """

    def __init__(self, ids: Sequence[str]):
        self.ids = ids
        # The process (0: none) and the index of its image, of each loader process.
        self._table = torch.zeros((MAX_PROCESSES, 2), dtype=torch.int64)

    def share(self) -> None:
        """Let loader processes that are started from now on write into the table."""
        self._table.share_memory_()

    @contextmanager
    def of(self, index: int) -> Iterator[None]:
        """In the block this process, if it is a loader's, is at the image `index`.

        Raises `UserError`, naming the image, for a limit of the machine that is met there.
        """
        worker = get_worker_info()
        if worker is not None:
            self._table[worker.id] = torch.tensor([os.getpid(), index])
        with reported_limits(at=self.ids[index]):
            yield  # not left by an error either: that one is reported by itself
        if worker is not None:
            self._table[worker.id] = 0

    def left_by(self, living: Collection[int]) -> list[str]:
        """The images of those processes that are not among the living."""
        return [self.ids[index] for process, index in self._table.tolist() if process and process not in living]


def started(loader: Iterable[Any]) -> Iterator[Any]:
    """`iter(loader)`, whose processes hear of no signal until they are ready to outlive it (`outlive_signals`).

    They share the `reading` that its data set has.
    """
    reading = getattr(getattr(loader, "dataset", None), "reading", None)
    if reading is not None and loader.num_workers > 0:  # without processes no shared memory is asked for
        reading.share()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def outlive_signals(_: int) -> None:
    """For the start of a loader process (`worker_init_fn`): neither SIGTERM nor Ctrl-C ends it.

    Others may send them to all processes of a run (a terminal, `timeout`, a job's manager, torchrun): the step that the
    run is at, which it saves, may still need this one. It ends with its loader, with the block of `none_left_behind`,
    and by itself where the run's process is gone.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def none_left_behind() -> Iterator[None]:
    """What loader processes there still are at the block's end, however it ends, are killed: nobody waits for them."""
    try:
        yield
    finally:
        if left := active_children():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would take it for a death of its own
            for process in left:
                process.kill()
