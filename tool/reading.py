"""Loader processes: which image each is at, for the process that trains to know when one dies; and what ends them."""

import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
from types import FrameType
from typing import Any

import torch
from torch.utils.data import get_worker_info

from tool.cli import UserError
from tool.limits import limit_met, reported_limits
from tool.torchrun import loader_processes

MAX_PROCESSES = 4096
ENDING = (signal.SIGINT, signal.SIGTERM)
RESUME = "; --resume goes on from the last checkpoint"
# What a loader meets that fetches a batch from a process which has just died.
LOST_CONNECTION = (EOFError, ConnectionResetError, ConnectionRefusedError)


class Reading:
    """A table that a data set's loader processes share with the process that made it.

    Args:
        ids: of the images, by their index.
    """

    def __init__(self, ids: Sequence[str]):
        self.ids = ids
        # The process (0: none) and the index of its image, of each loader process.
        self._table = torch.zeros((MAX_PROCESSES, 2), dtype=torch.int64)

    def share(self) -> None:
        """Let loader processes that are started from now on write into the table."""
        self._table.share_memory_()

    @contextmanager
    def of(self, index: int) -> Iterator[None]:
        """In the block this process, if it is a loader's, is at the image `index`.

        Raises `UserError`, naming the image, for a limit of the machine that is met there.
        """
        worker = get_worker_info()
        if worker is not None:
            self._table[worker.id] = torch.tensor([os.getpid(), index])
        with reported_limits(at=self.ids[index]):
            yield  # not left by an error either: that one is reported by itself
        if worker is not None:
            self._table[worker.id] = 0

    def left_by(self, living: Collection[int]) -> list[str]:
        """The images of those processes that are not among the living."""
        return [self.ids[index] for process, index in self._table.tolist() if process and process not in living]


class Deaths:
    """SIGCHLD's handler around torch's own, which raises the death of a loader process wherever this process is: amid
    the end of another error too, past what would have told of it. Here only who waits for a batch gets it raised."""

    def __init__(self) -> None:
        self.waiting = False
        self.heard: RuntimeError | None = None
        self._torchs: Callable[[int, FrameType | None], None] | None = None

    def listen(self) -> None:
        """Take the place of torch's handler, which the process's first loader has set."""
        self.heard = None
        handler = signal.getsignal(signal.SIGCHLD)
        if callable(handler) and handler != self._hear:
            self._torchs = handler
            signal.signal(signal.SIGCHLD, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        try:
            self._torchs(number, frame)
        except RuntimeError as death:
            self.heard = death
            if self.waiting:
                raise


_deaths = Deaths()


def of_processes(asked: int) -> dict[str, Any]:
    """PyTorch's `DataLoader` arguments for `asked` loader processes, of which no more start than there are cores.

    They are forked, also where Python would not (3.14): one that imports torch for itself takes ten seconds to start.
    """
    number = loader_processes(asked)
    return {"num_workers": number, "multiprocessing_context": "fork" if number else None}


def started(loader: Iterable[Any], then: str = RESUME) -> Iterator[Any]:
    """`iter(loader)`, whose processes hear of no signal until they are ready to outlive it (`outlive_signals`).

    They share the `reading` that its data set has. then: the end of what is said of a process that dies: waiting for a
    batch raises `UserError`, which names the image that the process was at where there is a `reading`.
    """
    reading = getattr(getattr(loader, "dataset", None), "reading", None)
    if reading is not None and loader.num_workers > 0:  # without processes no shared memory is asked for
        reading.share()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        batches = iter(loader)
        _deaths.listen()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return _each(batches, reading, then)


def _each(batches: Iterator[Any], reading: Reading | None, then: str) -> Iterator[Any]:
    while True:
        try:
            try:
                _deaths.waiting = True
                if _deaths.heard is not None:
                    raise _deaths.heard
                batch = next(batches, None)
            finally:
                _deaths.waiting = False
        except (RuntimeError, *LOST_CONNECTION) as error:
            raise _told(error, reading, then) from None
        if batch is None:
            return
        yield batch


def _told(error: Exception, reading: Reading | None, then: str) -> BaseException:
    """What to raise for an error met while waiting for a batch: of a death, what is known of it; or `error` itself."""
    if isinstance(error, LOST_CONNECTION):
        time.sleep(1)  # the death itself is heard of a little later
    said = _deaths.heard or error  # which of them knows the signal
    death = re.search(r"(?:DataLoader worker \(pid[\d, (s)]+\)|Pin memory thread) ([^.\n]+)", str(said))
    if death is None and isinstance(error, RuntimeError):
        return error
    if isinstance(error.__context__, KeyboardInterrupt | SystemExit):
        return error.__context__
    time.sleep(0.2)  # where all of this run's processes were told to end, this one hears of it here
    held = [] if reading is None else reading.left_by({process.pid for process in active_children()})
    cause, advice = limit_met(said) or (  # shared memory, where the signal was SIGBUS
        "if memory is short",
        "take fewer of them (--num_workers, or DATA_WORKERS in stage 3)",
    )
    how = death[1] if death else "died"
    return UserError(f"a loader process {how}; it was at {', '.join(held) or 'no image'}; {cause}, {advice}{then}")


def outlive_signals(_: int) -> None:
    """For the start of a loader process (`worker_init_fn`): neither SIGTERM nor Ctrl-C ends it.

    Others may send them to all processes of a run (a terminal, `timeout`, a job's manager, torchrun): the step that the
    run is at, which it saves, may still need this one. It ends with its loader, with the block of `none_left_behind`,
    and by itself where the run's process is gone.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def none_left_behind() -> Iterator[None]:
    """What loader processes there still are at the block's end, however it ends, are killed: nobody waits for them."""
    try:
        yield
    finally:
        if left := active_children():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would take it for a death of its own
            for process in left:
                process.kill()
