"""Which image each loader process is at, for the process that trains to know when one dies."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils.data import get_worker_info

MAX_PROCESSES = 4096


class Reading:
    """A table that a data set's loader processes share with the process that made it.

    Args:
        ids: of the images, by their index.
    """

    def __init__(self, ids: Sequence[str]):
        self.ids = ids
        # The process (0: none) and the index of its image, of each loader process.
        self._table = torch.zeros((MAX_PROCESSES, 2), dtype=torch.int64).share_memory_()

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
