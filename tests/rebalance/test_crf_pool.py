"""CRFs by processes beside the net: the same labels, from any thread, and a death that is reported."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from rebalance.crf_pool import CRFPool, named
from rebalance.labels import labels_of, seeds_of
from tests.golden_inputs import uni
from tool.cli import UserError

NAMES = [f"{number}.jpg" for number in range(5)]


@pytest.fixture(scope="module")
def batch():
    pictures = [(uni(n, 12 + n, 20, 3) * 255).byte()[:, 3:] for n in range(5)]
    return pictures, [uni(n, 2 + n % 2, 4, 5) for n in range(5)]


def test_processes_make_what_is_made_here_and_for_other_threads_too(batch):
    seeds = partial(seeds_of, kind="background")
    with CRFPool(backend="torch", processes=2) as pool, ThreadPoolExecutor(1) as thread:
        for work in (seeds, labels_of):
            found = thread.submit(pool, work, *batch).result()
            expected = work(*batch, backend="torch")
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        os.kill(next(iter(pool.pool.processes.values())).pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"a CRF process died at \d\.jpg, .*--resume"), named(NAMES):
            pool(labels_of, *batch)
