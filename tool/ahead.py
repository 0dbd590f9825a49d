"""Files read ahead by threads, while this one, and a GPU, computes with those that were read."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tool.torchrun import own_cores

Item = TypeVar("Item")
Value = TypeVar("Value")
MOST_READERS = 4
AHEAD = 8  # items


def read_ahead(items: Sequence[Item], read: Callable[[Item], Value]) -> Iterator[tuple[Item, Value]]:
    """Each of `items` with what `read` gives of it, in their order. What `read` raises comes in an item's turn."""
    waiting: deque[tuple[Item, Future[Value]]] = deque()
    with ThreadPoolExecutor(min(own_cores(), MOST_READERS)) as readers:
        for item in items:
            waiting.append((item, readers.submit(read, item)))
            if len(waiting) > AHEAD:
                first, value = waiting.popleft()
                yield first, value.result()
        while waiting:
            first, value = waiting.popleft()
            yield first, value.result()
