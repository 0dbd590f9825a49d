"""The CRFs of a training's steps, made by processes on the CPU while the net goes on."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from tool.cli import UserError
from tool.crf.process import CRFProcess
from tool.pipeline import Pool, ProcessDied, outcomes
from tool.reading import outlive_signals


class CRFDied(UserError):
    """A process ended by itself; `numbers` are those of the images, in a call's order, that it was at, of `names`."""

    def __init__(self, numbers: Sequence[int], names: Sequence[str] = ()) -> None:
        at = f" at {', '.join(names[number] for number in numbers)}" if numbers and names else ""
        super().__init__(
            f"a CRF process died{at}, killed or out of memory; --resume goes on from the last checkpoint, with fewer"
            " --crf_workers if memory is short"
        )
        self.numbers = list(numbers)


@contextmanager
def named(names: Sequence[str]) -> Iterator[None]:
    """A process that dies within is reported with the name of the image that it was at."""
    try:
        yield
    except CRFDied as died:
        raise CRFDied(died.numbers, names) from died


class CRFPool:
    """Processes, all started at once, that make an image's CRF each; called as `rebalance.labels.RunCRF`.

    It may be called from any thread, one at a time; it ends with the `with` block. backend: pydensecrf or torch.
    """

    def __init__(self, *, backend: str, processes: int) -> None:
        self.pool = Pool("CRF", _work_on_one, processes, start=functools.partial(_start, backend))

    def __enter__(self) -> "CRFPool":
        """Ready when all processes are: from then on no signal ends them. Raises `UserError` if one died."""
        with _reported_death():
            self.pool.start_all()
            while len(self.pool.started) < len(self.pool.processes):
                list(outcomes(self.pool))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.pool.processes.values():
            process.kill()
        self.pool.__exit__(kind, error, trace)

    def __call__(
        self, work: Callable[..., list[Tensor]], pictures: Sequence[Tensor], maps: Sequence[Tensor]
    ) -> list[Tensor]:
        """What `work` makes of each image's picture and maps. Raises `UserError` if a process died."""
        pairs = [
            (np.ascontiguousarray(a.cpu().numpy()), np.ascontiguousarray(b.cpu().numpy()))
            for a, b in zip(pictures, maps, strict=True)
        ]
        self.pool.waiting.extend((number, work, *pair) for number, pair in enumerate(pairs))
        with _reported_death():
            found = dict(self.pool.results())
        return [torch.from_numpy(found[number]).to(maps[number].device) for number in range(len(pairs))]


@contextmanager
def _reported_death() -> Iterator[None]:
    try:
        yield
    except ProcessDied as died:
        raise CRFDied(died.keys) from died


def _start(backend: str) -> None:
    CRFProcess.start(backend)
    outlive_signals(0)  # the step that a run is at when it is told to end needs its labels


def _work_on_one(number: int, work: Callable[..., list[Tensor]], picture: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """`work` on an image alone, in a process of the pool."""
    (made,) = work([torch.tensor(picture)], [torch.tensor(maps)], backend=CRFProcess.backend)
    return made.numpy()
