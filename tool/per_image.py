"""What every stage does that makes files of one image after the other: processes with a net, and the CRF's beside them.

On CPUs the two are apart: nets want few processes with much memory, CRFs one a core. On GPUs, where both run on the
same one, a process does all of an image, several images at a time.
"""

import functools
from collections.abc import Callable, Sequence
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from tool.crf.process import CRFProcess
from tool.device import images_at_once, on_own_stream
from tool.pipeline import Pool, queue_of, run_stages
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


class Work(NamedTuple):
    """The halves of an image's work, functions of modules, each called with the image's id and its own arguments.

    net: needs the net, `NetProcess.net`, and returns what the other half gets last, or None. after: does without, as
    the CRF; None where nothing follows.
    """

    net: Callable[..., Tensor | None]
    after: Callable[..., None] | None = None

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


def no_net(*_: object) -> None:
    """The half of an image's work that needs a net, and what loads that, where there is none."""


class Job(NamedTuple):
    """What is to be done of an image: the arguments of the halves of its `Work`; without `for_net` the second alone."""

    image_id: str
    for_net: tuple | None
    for_after: tuple = ()


def process_images(
    jobs: Sequence[Job],
    work: Work,
    *,
    names: tuple[str, str],
    devices: Sequence[str],
    load: Callable[[torch.device], Any],
    crf_backend: str,
    crf_workers: int,
) -> list[str]:
    """Do all `jobs`; a line for each image that was refused, the others are done.

    Args:
        names: of the halves, for bars and messages. devices: of the net's processes, a name for each.
        load: as `NetProcess.start` takes it; pickled. crf_backend: pydensecrf or torch; on a GPU, torch is computed
            where the net is. crf_workers: the most processes of the second half, on CPUs.

    Raises `UserError` if a process died.
    """
    together = work.after is None or (devices[0] != "cpu" and crf_backend == "torch")
    with_net = Pool(
        " and ".join(names) if together and work.after is not None else names[0],
        work.both if together else work.net_alone,
        len(devices),
        threads=images_at_once(devices[0]),
        start=functools.partial(NetProcess.start, queue_of(devices), load, len(devices)),
    )
    if together:
        with_net.waiting.extend(jobs)
        return run_stages(with_net)
    after = Pool(names[1], work.after, crf_workers, start=functools.partial(CRFProcess.start, crf_backend))
    arguments = {job.image_id: job.for_after for job in jobs}
    with_net.waiting.extend((job.image_id, *job.for_net) for job in jobs if job.for_net is not None)
    after.waiting.extend((job.image_id, *job.for_after) for job in jobs if job.for_net is None)

    def follow_up(image_id: str, result: np.ndarray | None) -> tuple:
        return image_id, *arguments[image_id], *([] if result is None else [result])

    return run_stages(with_net, after, follow_up=follow_up)
