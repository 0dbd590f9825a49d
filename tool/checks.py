"""A look at the files of each image before the work: with a bar, and by threads where the disk makes it wait."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tool.progress import Bar

CHECK_THREADS = 8  # while the disk is slow, which makes a check wait more than it computes
CHECKS_BETWEEN_LOOKS = 256
Finding = TypeVar("Finding")


def run_checks(check: Callable[[str], list[Finding]], ids: Sequence[str], what: str) -> list[Finding]:
    """What `check` finds with each of `ids`, in their order; with a bar beyond a second."""
    bar = Bar(_checked(check, ids), total=len(ids), desc=f"checking {what}", delay=1)
    return [finding for findings in bar for finding in findings]


def _checked(check: Callable[[str], list[Finding]], ids: Sequence[str]) -> Iterator[list[Finding]]:
    """`check` of each id: one after the other as long as files come at once, where threads would take turns with one
    interpreter and be two to three times as slow; by threads from where it waits for them more than it computes."""
    for start in range(0, len(ids), CHECKS_BETWEEN_LOOKS):
        began, computed = time.perf_counter(), time.thread_time()
        yield from map(check, ids[start : start + CHECKS_BETWEEN_LOOKS])
        if time.perf_counter() - began > 2 * (time.thread_time() - computed):
            with ThreadPoolExecutor(CHECK_THREADS) as executor:
                yield from executor.map(check, ids[start + CHECKS_BETWEEN_LOOKS :])
            return
