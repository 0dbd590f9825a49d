"""Limits of the machine, met for real where that can be had: what is said of them, here and from other processes."""

import os
import resource
import subprocess
from collections import deque

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tests.scripts.conftest import ROOT, forker
from tests.tool.test_loop import Run
from tool.cli import UserError
from tool.limits import check_loaders, limit_met, reported_limits
from tool.pipeline import Pool, run_pools
from tool.reading import Reading

TOO_MUCH = 2**60  # bytes, beyond the addresses of any machine
MEMORY = "the memory is too small"


def of_torch():
    torch.empty(TOO_MUCH, dtype=torch.uint8)


def of_numpy():
    np.empty(TOO_MUCH, np.uint8)


def of_opencv():
    cv2.resize(np.zeros((1, 1), np.uint8), (2**31 - 1, 2**31 - 1))


def of_python():
    bytearray(TOO_MUCH)


def of_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        os.pipe()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def of_shared_memory():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a full /dev/shm, for this process alone
    try:
        torch.zeros(10**6).share_memory_()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def python(code: str) -> subprocess.CompletedProcess:
    """What became of code that uses what is in this file."""
    code = f"from tests.tool.test_limits import *\nfrom tool.cli import run_script\n{code}"
    return forker().run(["-c", code], ROOT)


MET = {
    of_torch: f"{MEMORY} (1,099,511,627,776 MB more could not be had",
    of_numpy: f"{MEMORY} (1.00 EiB more could not be had",
    of_opencv: f"{MEMORY} (",
    of_python: MEMORY,
    of_files: "too many files are open at once for this system's limit (ulimit -n); take fewer loader processes",
    of_shared_memory: "shared memory (/dev/shm) is too small; take fewer loader processes",
}


@pytest.mark.parametrize("work", MET)
def test_a_limit_that_is_met_is_named_with_what_helps(work):
    with pytest.raises(UserError) as raised, reported_limits("take less", at="a.jpg"):
        work()
    assert str(raised.value).startswith(f"a.jpg: {MET[work]}"), raised.value
    assert str(raised.value).endswith("; take less") == (MEMORY in str(raised.value))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate"), "the GPU's memory is too small"),
        (RuntimeError("CUDA error: out of memory"), "the GPU's memory is too small"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when"), "the GPU's memory is too small"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling"), "the GPU's memory is too small"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), "the GPU's memory is too small"),
        (
            RuntimeError("Caught RuntimeError in pin memory thread for device 0.\nCUDA error: out of memory"),
            "the machine's memory is too small for batches",
        ),
        (
            RuntimeError("backend='inductor' raised: Failed to find C compiler. Please specify"),
            "PyTorch cannot compile",
        ),
        (RuntimeError("std::bad_alloc"), MEMORY),
        (RuntimeError("received 0 items of ancdata"), "too many files are open"),
        (RuntimeError("Caught OSError in DataLoader worker process 0.\n[Errno 24] Too many open files"), "too many"),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error."), "shared memory"),
        (OSError(28, "No space left on device"), "a disk is full"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "no more processes"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "there is no folder for temporary"),
        (RuntimeError("another"), None),
        (RuntimeError("out of memory"), None),
        (ValueError("Too many open files"), None),
        (UserError("a.png: cannot be written: No space left on device"), None),
    ],
)
def test_what_cannot_be_met_here_is_known_by_its_words_and_nothing_else_is(error, expected):
    limit = limit_met(error)
    assert limit is None if expected is None else limit.words.startswith(expected)


@pytest.mark.parametrize("work", [of_numpy, of_files])
def test_a_script_that_meets_a_limit_ends_with_one_line(work):
    done = python(f"run_script({work.__name__})")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith(f"error: {MET[work]}"), line


# -- in processes of pools ---------------------------------------------------------------------------------------------


def too_much_for_b(image_id: str) -> None:
    if image_id == "b":
        of_numpy()


def say_too_much(image_id: str) -> "Unpicklable":
    return Unpicklable()


class Unpicklable:
    """A result too large to be sent."""

    def __reduce__(self):
        of_numpy()


def answer(image_id: str) -> None:
    pass


def test_of_an_image_that_a_pool_has_no_memory_for_one_line_is_said_and_the_others_are_done(capfd):
    pool = Pool("cam", too_much_for_b, 2)
    pool.waiting = deque([("a",), ("b",), ("c",)])
    (problem,) = run_pools(pool)
    assert problem.startswith(f"b: {MEMORY} (1.00 EiB more")
    assert "Traceback" not in capfd.readouterr().err


def test_a_result_too_large_to_be_sent_is_one_line_too(capfd):
    pool = Pool("cam", say_too_much, 1)
    pool.waiting = deque([("a",)])
    (problem,) = run_pools(pool)
    assert problem.startswith(f"a: {MEMORY} (1.00 EiB more")
    assert "Traceback" not in capfd.readouterr().err


def test_a_pool_whose_processes_have_no_memory_to_start_says_so(capfd):
    pool = Pool("cam", answer, 1, start=of_numpy)
    pool.waiting = deque([("a",)])
    with pytest.raises(UserError, match=rf"^{MEMORY} \(1.00 EiB more"):
        run_pools(pool)
    assert "Traceback" not in capfd.readouterr().err


# -- in loader processes -----------------------------------------------------------------------------------------------


class Images(Dataset):
    """Ten samples; number 7 meets a limit."""

    def __init__(self, work):
        self.work = work
        self.reading = Reading([f"image {number}" for number in range(10)])

    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> dict:
        with self.reading.of(number):
            if number == 7:
                self.work()
        return {"number": str(number), "id": str(number)}  # no tensor: one takes an open file to be handed over


def train_on(images, workers):
    Run([1.0] * 10).go(range(10), loader=DataLoader(images, batch_size=1, num_workers=workers))


@pytest.mark.parametrize(("work", "workers"), [(of_opencv, 0), (of_numpy, 2), (of_files, 2)])
def test_a_limit_that_a_loader_meets_names_the_image(work, workers):
    done = python(f"run_script(lambda: train_on(Images({work.__name__}), {workers}))")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith(f"error: image 7: {MET[work]}"), line


def test_loader_processes_find_as_many_open_files_as_the_system_admits():
    code = """
resource.setrlimit(resource.RLIMIT_NOFILE, (30, {hard}))
run_script(lambda: check_loaders(workers=8, batch_bytes=1, num_batches=1, flag="--num_workers"))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = python(code.format(hard=500))
    assert done.returncode == 0 and 60 < int(done.stdout) < 500
    done = python(code.format(hard=60))
    assert done.returncode == 2
    assert "error: ulimit -n: 60 files may be open at once, 8 loader processes (--num_workers) need" in done.stderr


def test_without_loader_processes_nothing_is_asked_for():
    check_loaders(workers=0, batch_bytes=TOO_MUCH, num_batches=1, flag="")
    with pytest.raises(UserError, match=r"1 loader processes \(--f\) fill .* \(2 batches of"):
        check_loaders(workers=1, batch_bytes=TOO_MUCH, num_batches=2, flag="--f")
