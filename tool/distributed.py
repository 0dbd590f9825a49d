"""Several processes that train one net on one global batch: torchrun starts them, and here each finds its place."""

import atexit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tool.ahead import read_ahead
from tool.cli import UserError
from tool.device import usable_gpus
from tool.progress import Bar
from tool.shared_norm import share_statistics
from tool.torchrun import local_rank, local_world_size, started_by_torchrun

Item = TypeVar("Item")
Value = TypeVar("Value")
Finding = TypeVar("Finding")
# A process that waits for others' work; torchrun ends it where one of them dies.
PATIENCE = timedelta(days=30)
_waiting: list["distributed.ProcessGroup"] = []  # the group that processes wait in, where there are several


def join_processes(device: torch.device) -> torch.device:
    """Join the processes that torchrun started, and this process's device: its own GPU, or the CPU.

    Alone, without torchrun, the process keeps `device`. Raises `UserError` where there are more processes than GPUs, or
    one GPU is named for several.
    """
    if not started_by_torchrun():
        return device
    if device.type == "cuda":
        if device.index is not None and local_world_size() > 1:
            raise UserError(f"--device {device}: one GPU for one process; take --device cuda, or leave it out")
        there = usable_gpus()
        if local_world_size() > there:
            raise UserError(f"--nproc_per_node {local_world_size()}: this machine has {there} GPUs; start as many")
        device = torch.device("cuda", local_rank() if device.index is None else device.index)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    _waiting.append(distributed.new_group(backend="gloo", timeout=PATIENCE))
    if device.type != "cuda":
        atexit.register(leave_processes)
    return device


def wait_for_all() -> None:
    """Go on when every process has come here, however long that takes: some have images left to do, or a download.

    By the hosts: NCCL gives up after ten minutes, and ends all.
    """
    if distributed.is_initialized():
        distributed.monitored_barrier(_waiting[0], timeout=PATIENCE)  # `barrier` would give up after half an hour


@contextmanager
def first_alone(is_needed: bool) -> Iterator[None]:
    """Where `is_needed`, the others begin the block when the first process has ended it, as with a download, which it
    leaves to them."""
    if is_needed and rank() > 0:
        wait_for_all()
    yield
    if is_needed and rank() == 0:
        wait_for_all()


def leave_processes() -> None:
    """Part from the other processes, if there are any."""
    if distributed.is_initialized():
        _waiting.clear()
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number, from 0. Process 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def found_by_all(
    items: Sequence[Item],
    find: Callable[[Item, Value], Finding],
    *,
    read: Callable[[Item], Value],
    what: str,
    unit: str = "image",
) -> list[Finding]:
    """What `find` gives of each of `items` and of what threads `read` of it meanwhile, in their order, in all
    processes, each of which looks at its share; with a bar, which says `what` is done."""
    share = items[rank() :: world_size()]
    bar = Bar(share, desc=what, unit=unit, shown=rank() == 0)
    own = [find(item, value) for item, value in read_ahead(bar, read)]
    if world_size() == 1:
        return own
    shares: list[list[Finding]] = [[]] * world_size()
    distributed.all_gather_object(shares, own, group=_waiting[0])  # by the hosts, as `wait_for_all`
    return [shares[number % world_size()][number // world_size()] for number in range(len(items))]


class Agreement:
    """What any process says when a step begins, known to all when it ends, so that all do the same after it.

    The processes exchange it over their hosts' network (gloo) beside the step: nothing waits for a GPU, and the
    exchange is over long before the step is. A store that each looks into would not do: on GPUs the hosts run ahead by
    as many steps as they like, so that no step is known to lie before all of them.
    """

    def __init__(self) -> None:
        self._group = distributed.new_group(backend="gloo") if world_size() > 1 else None

    def begin(self, said: Sequence[int]) -> Callable[[], int]:
        """Called when a step begins; what it returns, called when the step ends, gives the largest number said, or 0.

        Alone, a number that is said during the step counts too.
        """
        if self._group is None:
            return lambda: max(said, default=0)
        largest = torch.tensor(max(said, default=0))
        exchange = distributed.all_reduce(largest, distributed.ReduceOp.MAX, group=self._group, async_op=True)

        def end() -> int:
            exchange.wait()
            return int(largest)

        return end


def one_over_processes(module: nn.Module, *, shared_norms: bool = True) -> nn.Module:
    """`module`, or what makes one of several processes' modules: to be called instead, once a step.

    It averages gradients while backward runs, and they lie in its buckets. Weights and buffers become process 0's, and
    batch norms share their statistics, unless not `shared_norms`; one that keeps its statistics does so all the same.

    Batch norms that share their statistics make the host wait for the GPU in each forward pass (PyTorch's do).

    Which parameters get a gradient must be the same at every step and in all processes; some may get none, but every
    output with a gradient must be part of the loss.
    """
    if world_size() == 1:
        return module
    # Norms are replaced in place: others hold the same modules.
    if shared_norms:
        share_statistics(module)
    # A static graph: parameters without gradient are found once, where looking for them at each step makes the host
    # wait for a GPU.
    return DistributedDataParallel(module, static_graph=True, gradient_as_bucket_view=True)


def gather_images(values: Tensor, dim: int) -> Tensor:
    """`values` of all processes, one after the other along `dim`, which is as long in each.

    Gradient passes to this process's own part, times the number of processes: the mean over them
    (`one_over_processes`) is then the gradient of a loss that each computes from all.
    """
    if world_size() == 1:
        return values
    parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(world_size())]
    distributed.all_gather(parts, values.detach().contiguous())
    own = values.view_as(values)
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * world_size())
    parts[rank()] = own
    return torch.cat(parts, dim)


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, the same on each; no gradient passes."""
    value = value.detach()
    if distributed.is_initialized():
        value = value.clone()
        distributed.all_reduce(value)
    return value


def means_over_processes(figures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean of each scalar over all processes, the same on each, by one exchange of them all; no gradient passes."""
    means = sum_over_processes(torch.stack(list(figures.values()))) / world_size()
    return dict(zip(figures, means, strict=True))
