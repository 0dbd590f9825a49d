"""What work takes, and two ways of doing it side by side."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")
TIMES = 3


def synchronize(device: torch.device) -> None:
    """Wait until what a GPU was told to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Result], device: torch.device, times: int = TIMES) -> tuple[float, Result]:
    """The least of so many times that `work` takes, of processor time on a CPU, and what it gives."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    taken = []
    for _ in range(times):
        synchronize(device)
        start = clock()
        result = work()
        synchronize(device)
        taken.append(clock() - start)
    return min(taken), result


def mean_seconds(work: Callable[[], object], device: torch.device, *, times: int, settling: int = 1) -> float:
    """What `work` takes by the clock, the mean of `times` in a row, after `settling` to warm up."""
    for number in range(settling + times):
        if number == settling:
            synchronize(device)
            start = time.perf_counter()
        work()
    synchronize(device)
    return (time.perf_counter() - start) / times


def report(plain_name: str, plain: float, fast_name: str, fast: float) -> None:
    print(f"  {plain_name:<22}{1000 * plain:9.1f} ms")
    print(f"  {fast_name:<22}{1000 * fast:9.1f} ms, {plain / fast:.1f} times faster, equal")
