"""Loader processes: which image each is at, for the process that trains to know when one dies; and what ends them."""

import os
import signal
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils.data import get_worker_info

from tool.cli import UserError

MAX_PROCESSES = 4096


class Reading:
    """A table that a data set's loader processes share with the process that made it.

    Args:
        ids: of the images, by their index.

    Raises `UserError` where the system has no shared memory left.
    """

    def __init__(self, ids: Sequence[str]):
        self.ids = ids
        # The process (0: none) and the index of its image, of each loader process.
        self._table = torch.zeros((MAX_PROCESSES, 2), dtype=torch.int64)
        try:
            self._table.share_memory_()
        except RuntimeError as error:
            raise UserError(f"shared memory (/dev/shm) cannot be had, which loaders need: {error}") from error

    @contextmanager
    def of(self, index: int) -> Iterator[None]:
        """In the block this process, if it is a loader's, is at the image `index`."""
        worker = get_worker_info()
        if worker is not None:
            self._table[worker.id] = torch.tensor([os.getpid(), index])
        yield  # not left by an error either: that one is reported by itself
        if worker is not None:
            self._table[worker.id] = 0

    def left_by(self, living: Collection[int]) -> list[str]:
        """The images of those processes that are not among the living."""
        return [self.ids[index] for process, index in self._table.tolist() if process and process not in living]


def heed_parent_alone(_: int) -> None:
    """For the start of a loader process (`worker_init_fn`): SIGTERM ends it only if its parent sends it.

    Others may tell all processes of a run to end (torchrun, `timeout`, a job's manager): the step that the run is at,
    which it saves, may still need this one.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_parent_says, daemon=True).start()


def _end_when_parent_says() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
