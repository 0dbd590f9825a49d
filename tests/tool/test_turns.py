"""Threads that share a memory: what does not find enough beside the others runs again, alone, and nobody else does."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.tool.test_crf import SEED_KERNELS
from tool.cli import UserError
from tool.crf.mean_field import mean_field
from tool.limits import reported_limits
from tool.turns import Turns

MEMORY = 10  # of which a work takes its size


class Card:
    """A memory that several works share, and who was in it."""

    def __init__(self):
        self.lock, self.taken, self.calls, self.full = threading.Lock(), 0, [], threading.Event()

    def work(self, size, *, hold=0.02):
        with self.lock:
            self.calls.append((size, self.taken))
            if self.taken + size > MEMORY:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            self.taken += size
        threading.Event().wait(hold)
        with self.lock:
            self.taken -= size
        return size

    def reported(self, size):
        with reported_limits("take less", at="a.jpg"):
            return self.work(size)


def test_works_that_are_too_large_together_are_all_done():
    card, turns = Card(), Turns()
    sizes = [4, 6, 5, 9, 2, 10, 3, 8, 10, 1] * 4
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda size: turns.run(lambda: card.reported(size)), sizes)) == sizes
    assert len(card.calls) > len(sizes)  # some came again
    assert max(taken for _, taken in card.calls) > 0  # and others were beside each other


def test_one_that_is_too_large_alone_is_tried_twice_and_says_so():
    card, turns = Card(), Turns()
    with pytest.raises(UserError, match=r"a\.jpg: the GPU's memory is too small; take less"):
        turns.run(lambda: card.reported(MEMORY + 1))
    assert card.calls == [(MEMORY + 1, 0)] * 2
    assert turns.run(lambda: card.work(3)) == 3  # nobody is left waiting


def test_another_error_is_no_reason_to_try_again():
    calls = []

    def fail():
        calls.append(0)
        raise UserError("a.jpg: damaged")

    with pytest.raises(UserError, match="damaged"):
        Turns().run(fail)
    assert len(calls) == 1


def test_one_that_runs_alone_has_the_memory_of_the_crfs_kept_kernels():
    kept = sys.modules["tool.crf.mean_field"]._build_smoothness_kernel
    image, energy = torch.zeros(1, 8, 9, 3, dtype=torch.uint8), torch.zeros(1, 2, 8, 9)
    found = []

    def work():
        found.append(kept.cache_info().currsize)
        if len(found) == 1:
            mean_field(image, energy, kernels=SEED_KERNELS, iterations=1)
            found.append(kept.cache_info().currsize)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    Turns().run(work)
    assert found[1] > 0 and found[2] == 0
