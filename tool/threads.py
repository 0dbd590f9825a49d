"""How many threads a training run computes with on a CPU: as many as there are free cores, and later the same again."""

import os
import time
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch

from tool.cli import cores

LOOK = 0.2  # seconds, of a hundred ticks each
# Threads spin while they wait for each other: where one has to share its core, all spin until it has done its part, and
# a step takes twice as long as with one thread. So cores may be busy for a quarter of one's time, all together: what
# keeps them busy moves from one to another.
TOLERANCE = 0.25
STAT = Path("/proc/stat")


def take_threads(checkpoint: Mapping[str, Any] | None) -> str:
    """Set how many threads this process computes with; a line that says how many and why.

    The user's `OMP_NUM_THREADS`, which torchrun sets too where it starts several processes; or that of the run's
    `checkpoint`, under `threads`, on which its bits depend, if there are as many cores; or the cores that are free now.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return _with_number(torch.get_num_threads(), "OMP_NUM_THREADS")
    if checkpoint is not None and "threads" in checkpoint:
        torch.set_num_threads(min(checkpoint["threads"], cores()))
        return _with_number(torch.get_num_threads(), "as before")
    free = free_cores()
    torch.set_num_threads(max(int(free + TOLERANCE), 1))
    return _with_number(torch.get_num_threads(), f"{free:.1f} of {cores()} cores are free")


def _with_number(threads: int, why: str) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''} ({why})"


def free_cores() -> float:
    """How many of this process's cores are idle, seen over `LOOK` seconds, no more than it may use; all of these, where
    that cannot be seen."""
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    try:
        before = STAT.read_text()
        time.sleep(LOOK)
        after = STAT.read_text()
    except OSError:
        return cores()
    return min(len(own) - busy_cores(before, after, own), cores()) if own else cores()


def busy_cores(before: str, after: str, own: Set[int]) -> float:
    """How many of the cores `own` were busy, their shares added up, between two readings of /proc/stat."""
    busy = 0.0
    then = _ticks(before)
    for core, now in _ticks(after).items():
        if core not in own or core not in then:
            continue
        spent = [late - early for late, early in zip(now, then[core], strict=True)]
        idle = spent[3] + spent[4]  # waiting for a disk is idle
        if sum(spent) > 0:  # some containers count nothing
            busy += 1 - idle / sum(spent)
    return busy


def _ticks(stat: str) -> dict[int, list[int]]:
    """Each core's ticks of user, nice, system, idle, iowait, irq, softirq, steal; guests' are users' too."""
    lines = (line.split() for line in stat.splitlines() if line.startswith("cpu") and line[3].isdigit())
    return {int(name[3:]): [int(number) for number in numbers[:8]] for name, *numbers in lines}
