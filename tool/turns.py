"""Threads of a process that share a GPU's memory: side by side while it is enough, else one after the other."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from tool.crf.mean_field import forget_kernels
from tool.limits import lacked_memory

Result = TypeVar("Result")


class Turns:
    """Lets threads work side by side, and one alone whose work did not find the memory beside the others'."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._is_taken = False  # by one that works alone, or waits to

    def run(self, work: Callable[[], Result]) -> Result:
        """What `work` gives; called again, alone, where the memory was too small for it and the others together."""
        try:
            with self._beside_others():
                return work()
        except Exception as error:
            if not lacked_memory(error):
                raise
        # Not in the handler: the error holds what the work had in memory.
        with self._alone():
            forget_kernels()
            torch.cuda.empty_cache()  # what the other threads' streams keep for themselves
            return work()

    @contextmanager
    def _beside_others(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken)
            self._is_taken = True
            self._changed.wait_for(lambda: self._working == 0)
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()
