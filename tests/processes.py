"""Processes of a command that was started in a session of its own, and what this one holds, found through /proc."""

import re
import time
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes through /proc")


def living(group: int) -> list[str]:
    """The command lines of the group's processes that run, which those do not that only wait to be reaped."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of_group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):  # it ended while it was looked at
            continue
    return found


def children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:
        return []


def assert_all_end(group: int, seconds: float = 60) -> None:
    """All of the group's processes end by themselves."""
    deadline = time.monotonic() + seconds
    while there := living(group):
        assert time.monotonic() < deadline, there
        time.sleep(0.05)


def peak(*, anew: bool = False) -> int | None:
    """The most KiB that this process has held, if `anew` counted from now on; None where that cannot be had."""
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5")
        return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
    except OSError:
        return None
