"""What every stage does that makes files of one image after the other: it finds what is missing, and makes it by
processes with a net, and the CRF's beside them.

On CPUs the two are apart: nets want few processes with much memory, CRFs one a core. On GPUs, where both run on the
same one, a process does all of an image, several images at a time.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from tool.checks import run_checks
from tool.cli import pace, raise_problems
from tool.crf import resolve_backend
from tool.crf.process import CRFProcess
from tool.device import images_at_once, on_own_stream, process_devices
from tool.distributed import join_processes, wait_for_all
from tool.pipeline import Pool, queue_of, run_pools
from tool.turns import Turns

Result = TypeVar("Result")


class NetProcess:
    """What a process with a net holds from its start on."""

    net: Any
    device: torch.device
    turns: Turns

    @classmethod
    def start(cls, devices: SimpleQueue, load: Callable[[torch.device], Any], processes: int) -> None:
        """Take a device; `load` puts the net there, whose gradients nobody wants: with them autocast would keep half
        precision weights, which other threads' streams would find half done."""
        cls.device, cls.turns = torch.device(devices.get()), Turns()
        torch.set_num_threads(max(torch.get_num_threads() // processes, 1))
        cls.net = load(cls.device)
        CRFProcess.share(cls.device)  # in a pool of its own it says otherwise there

    @classmethod
    def run(cls, work: Callable[[], Result]) -> Result:
        """What `work` gives, on this thread's stream; on a GPU again and alone, if beside other images it is too much
        for the memory."""

        def on_stream() -> Result:
            with on_own_stream(cls.device):
                return work()

        return on_stream() if cls.device.type == "cpu" else cls.turns.run(on_stream)


def no_net(*_: object) -> None:
    """The half of an image's work that needs a net, and what loads that, where there is none."""


class Work(NamedTuple):
    """The halves of an image's work, functions of modules, each called with the image's id and its own arguments.

    net: needs the net, `NetProcess.net`, and returns what the other half gets last, or None. after: does without, as
    the CRF; None where nothing follows. load: as `NetProcess.start` takes it; pickled. names: of the halves, for bars
    and messages.
    """

    net: Callable[..., Tensor | None]
    after: Callable[..., None] | None = None
    load: Callable[[torch.device], Any] = no_net
    names: tuple[str, str] = ("net", "crf")

    def both(self, image_id: str, for_net: tuple | None, for_after: tuple) -> None:
        """All of an image in a process with a net, whose results never leave a GPU; without `for_net` the rest."""

        def all_of_it() -> None:
            result = None if for_net is None else self.net(image_id, *for_net)
            if self.after is not None:
                self.after(image_id, *for_after, *([] if result is None else [result]))

        NetProcess.run(all_of_it)

    def net_alone(self, image_id: str, *for_net: Any) -> np.ndarray | None:
        """The net's half, for another process to go on from."""

        def half() -> np.ndarray | None:
            result = self.net(image_id, *for_net)
            return None if result is None else result.cpu().numpy()

        return NetProcess.run(half)


class Job(NamedTuple):
    """What is to be done of an image: the arguments of the halves of its `Work`; without `for_net` the second alone."""

    image_id: str
    for_net: tuple | None
    for_after: tuple = ()


class Processes(NamedTuple):
    """What does the work: devices, of the net's processes, a name for each; crf_backend: pydensecrf or torch, which on
    a GPU is computed where the net is; crf_workers: the most processes of the second half, on CPUs."""

    devices: Sequence[str]
    crf_backend: str
    crf_workers: int


@contextmanager
def joined_processes(args: argparse.Namespace) -> Iterator[Processes]:
    """The processes that the flags of a command ask for (`tool.flags`), once this one has joined those that torchrun
    started.

    The block loads the net, so that a wrong checkpoint is reported there and once, not by every process of a pool; then
    the first process opens the folders, which the others wait for at the block's end.

    Raises `UserError` as `process_devices` and `resolve_backend`.
    """
    left_out = {"n_gpus": None, "n_processes_per_gpu": [1], "crf_backend": "torch", "crf_workers": 1}
    flags = argparse.Namespace(**(left_out | vars(args)))
    devices = process_devices(flags.device, flags.n_gpus, flags.n_processes_per_gpu)
    crf_backend = resolve_backend(flags.crf_backend, torch.device(devices[0]))
    join_processes(torch.device("cpu"))  # GPUs are for the processes of the pools
    yield Processes(devices, crf_backend, flags.crf_workers)
    wait_for_all()


def make_missing(
    images: Mapping[str, Path],
    missing: Callable[[str], list[Job]],
    work: Work,
    processes: Processes,
    *,
    gave: str,
    done: str = "done",
) -> None:
    """Make what `images`, by id, lack, and say of how many.

    Args:
        missing: the `Job` of an image of which files are missing or damaged, in a list, which is empty for others.
        gave, done: what the images give and what is done to them, for the messages.

    Ends when all processes have done their shares, so that what follows finds all files, and the first process keeps
    others out of the folders for as long. Raises `UserError` with a line for each image that could not be done, or if a
    process died.
    """
    jobs = run_checks(missing, list(images), "what is there")
    started = time.perf_counter()
    problems = process_images(jobs, work, processes)
    line = f"{len(jobs)} of {len(images)} images {done} {pace(started, len(jobs))}"
    without_net = sum(job.for_net is None for job in jobs)
    if work.load is not no_net and without_net:  # which explains a pace that no net has
        line += f", {without_net} of them without the net"
    if not jobs:
        line = f"nothing is missing of {len(images)} images"
    wait_for_all()
    raise_problems(f"images that gave no {gave}; the others are done", problems)
    print(line)


def process_images(jobs: Sequence[Job], work: Work, processes: Processes) -> list[str]:
    """Do all `jobs`; a line for each image that was refused, the others are done. Raises `UserError` if a process
    died."""
    devices, crf_backend, crf_workers = processes
    together = work.after is None or (devices[0] != "cpu" and crf_backend == "torch")
    with_net = Pool(
        " and ".join(work.names) if together and work.after is not None else work.names[0],
        work.both if together else work.net_alone,
        len(devices),
        threads=images_at_once(devices[0]),
        start=functools.partial(NetProcess.start, queue_of(devices), work.load, len(devices)),
    )
    if together:
        with_net.waiting.extend(jobs)
        return run_pools(with_net)
    after = Pool(work.names[1], work.after, crf_workers, start=functools.partial(CRFProcess.start, crf_backend))
    arguments = {job.image_id: job.for_after for job in jobs}
    with_net.waiting.extend((job.image_id, *job.for_net) for job in jobs if job.for_net is not None)
    after.waiting.extend((job.image_id, *job.for_after) for job in jobs if job.for_net is None)

    def follow_up(image_id: str, result: np.ndarray | None) -> tuple:
        return image_id, *arguments[image_id], *([] if result is None else [result])

    return run_pools(with_net, after, follow_up=follow_up)
