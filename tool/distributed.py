"""Several processes that train one net on one global batch: torchrun starts them, and here each finds its place."""

import os

import torch
from torch import Tensor, distributed


def join_processes(device: torch.device) -> torch.device:
    """Join the processes that torchrun started, and this process's device: its own GPU, or the CPU.

    Alone, without torchrun, the process keeps `device`.
    """
    if not started_by_torchrun():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def leave_processes() -> None:
    """Part from the other processes, if there are any."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def started_by_torchrun() -> bool:
    return distributed.is_torchelastic_launched()


def rank() -> int:
    """This process's number, from 0. Process 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, the same on each; no gradient passes."""
    value = value.detach()
    if distributed.is_initialized():
        value = value.clone()
        distributed.all_reduce(value)
    return value
