"""The processes of a pool that run the CRF, beside the network's."""

from collections.abc import Sequence
from multiprocessing.queues import SimpleQueue

import torch


class CRFProcess:
    """What such a process holds from its start on."""

    device: torch.device
    backend: str

    @classmethod
    def start(cls, devices: SimpleQueue, backend: str) -> None:
        torch.set_num_threads(1)
        cls.device, cls.backend = torch.device(devices.get()), backend


def crf_devices(backend: str, devices: Sequence[str], workers: int) -> list[str]:
    """The device of each CRF process beside networks on `devices`: one a GPU, or `workers` on the CPU."""
    gpus = [device for device in dict.fromkeys(devices) if device != "cpu"]
    return gpus if backend == "torch" and gpus else ["cpu"] * workers
