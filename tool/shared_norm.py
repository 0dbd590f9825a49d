"""Batch norms that take their statistics over the images of all processes, on CPUs too, where PyTorch's own refuse."""

import torch
from torch import Tensor, distributed, nn


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes, each of which has part in the others' losses: gradients are summed, too."""

    @staticmethod
    def forward(context: object, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the global batch while it trains.

    Every process must call it as often, with as many images or others.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))  # in half precision sums lose what they are for
        dims, shape = (0, 2, 3), (1, -1, 1, 1)
        count = _SumOverProcesses.apply(values.new_full((), values.numel() / values.shape[1]))
        mean = _SumOverProcesses.apply(values.sum(dims)) / count
        centred = values - mean.view(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(dims)) / count
        self._move_statistics(mean.detach(), (variance * count / (count - 1).clamp(min=1)).detach())
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        return (normalised * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _move_statistics(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def share_statistics(module: nn.Module) -> None:
    """Put one that shares them in place of each batch norm in `module` that trains: PyTorch's on GPUs, else a
    `SharedBatchNorm`."""
    for name, part in module.named_children():
        if isinstance(part, nn.BatchNorm2d):
            if part.training:
                setattr(module, name, _shared(part))
        else:
            share_statistics(part)


def _shared(norm: nn.BatchNorm2d) -> nn.Module:
    """With the weights and buffers of `norm`; of timm's `BatchNormAct2d` also with what follows in it."""
    kind = nn.SyncBatchNorm if norm.weight.is_cuda else SharedBatchNorm
    shared = kind(norm.num_features, norm.eps, norm.momentum)
    shared.weight, shared.bias = norm.weight, norm.bias
    shared.running_mean, shared.running_var = norm.running_mean, norm.running_var
    shared.num_batches_tracked = norm.num_batches_tracked
    if hasattr(norm, "act"):
        shared.drop, shared.act = norm.drop, norm.act
        shared.register_forward_hook(_activated)
    return shared


def _activated(shared: nn.Module, _: object, normalised: Tensor) -> Tensor:
    return shared.act(shared.drop(normalised))
