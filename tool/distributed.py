"""Several processes that train one net on one global batch: torchrun starts them, and here each finds its place."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, distributed, nn

from tool.cli import UserError
from tool.torchrun import local_rank, local_world_size, started_by_torchrun


def join_processes(device: torch.device) -> torch.device:
    """Join the processes that torchrun started, and this process's device: its own GPU, or the CPU.

    Alone, without torchrun, the process keeps `device`. Raises `UserError` where there are more processes than GPUs.
    """
    if not started_by_torchrun():
        return device
    if device.type == "cuda":
        there = torch.cuda.device_count()
        if local_world_size() > there:
            raise UserError(f"--nproc_per_node {local_world_size()}: this machine has {there} GPUs; start as many")
        device = torch.device("cuda", local_rank())
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if distributed.is_initialized():
        distributed.barrier()


def leave_processes() -> None:
    """Part from the other processes, if there are any."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number, from 0. Process 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


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


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of `parameters` by their means over the processes, in one exchange.

    For a net that a step runs more than once, or with parameters that get no gradient: DistributedDataParallel takes
    neither. Which parameters have one must be the same in all processes.
    """
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = sum_over_processes(torch.cat([gradient.flatten() for gradient in gradients])) / world_size()
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def share_norms(net: nn.Module) -> None:
    """Let the batch norms of `net`, in place, share their statistics over the processes; on GPUs only.

    A norm that keeps its statistics does so all the same.
    """
    if world_size() > 1 and next(net.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(net)


def gather_images(values: Tensor, dim: int) -> Tensor:
    """`values` of all processes, one after the other along `dim`, which is as long in each.

    Gradient passes to this process's own part, times the number of processes: the mean over them
    (`average_gradients`) is then the gradient of a loss that each computes from all.
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
