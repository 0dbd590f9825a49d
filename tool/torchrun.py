"""What torchrun says to each process that it starts, by the environment; to hear it needs no torch."""

import os
from collections.abc import Sequence
from typing import TypeVar

from tool.cli import cores

Item = TypeVar("Item")


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def local_rank() -> int:
    """This process's number on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world_size() -> int:
    """How many processes torchrun started on this machine; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def own_cores() -> int:
    """This process's share of its machine's cores, which those that torchrun started there divide."""
    return max(cores() // local_world_size(), 1)


def loader_processes(asked: int) -> int:
    """How many loader processes this process starts where `asked` of them are: no more than it has cores."""
    return min(asked, own_cores())


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """This process's share of what the processes on all machines divide; all of it without torchrun."""
    return items[int(os.environ["RANK"]) :: int(os.environ["WORLD_SIZE"])] if started_by_torchrun() else items


def is_first() -> bool:
    """Whether this process is the first of all, or alone."""
    return not started_by_torchrun() or os.environ["RANK"] == "0"
