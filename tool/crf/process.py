"""The process that an image's CRF runs in: one of a pool on the CPU, or the network's own, on its GPU."""

import torch


class CRFProcess:
    """What such a process holds from its start on."""

    device: torch.device
    backend: str

    @classmethod
    def start(cls, backend: str) -> None:
        """A process of a pool, on the CPU, beside the network's."""
        torch.set_num_threads(1)
        cls.device, cls.backend = torch.device("cpu"), backend

    @classmethod
    def share(cls, device: torch.device) -> None:
        """The network's process: a second one on its GPU would take half a gigabyte more."""
        cls.device, cls.backend = device, "torch"
