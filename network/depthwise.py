"""A dilated depthwise convolution whose gradients a CPU finds fast."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F


class DilatedDepthwise(nn.Conv2d):
    """A depthwise convolution of stride 1, odd `kernel_size`, any dilation, that keeps its grid; no bias.

    What it computes and what it is called in checkpoints is `nn.Conv2d`'s. On a CPU the library behind that has no
    kernel for the gradients of dilated depthwise convolutions and takes a detour; both are rewritten here as
    convolutions that it has.
    """

    def __init__(self, channels: int, kernel_size: int, *, dilation: int) -> None:
        """Raises ValueError for an even `kernel_size`, which keeps no grid."""
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size}: expected an odd number")
        super().__init__(
            *(channels, channels, kernel_size),
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            groups=channels,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or self.dilation == (1, 1) or not torch.is_grad_enabled():
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        convolved = _Depthwise.apply(x.to(dtype), self.weight.to(dtype), self.dilation[0])
        return convolved if self.bias is None else convolved + self.bias.to(dtype)[:, None, None]


def mend_depthwise(net: nn.Module) -> bool:
    """Make each dilated depthwise convolution in `net` that can be one a `DilatedDepthwise`, in place: the same weights
    under the same names. Whether there are depthwise convolutions at all."""
    depthwise = [part for part in net.modules() if isinstance(part, nn.Conv2d) and 1 < part.groups == part.in_channels]
    for part in depthwise:
        side, rate = part.kernel_size[0], part.dilation[0]
        square = part.kernel_size == (side, side) and part.dilation == (rate, rate) and part.stride == (1, 1)
        keeps_grid = square and side % 2 == 1 and part.padding == (side // 2 * rate,) * 2
        if type(part) is nn.Conv2d and keeps_grid and rate > 1 and part.out_channels == part.groups:
            part.__class__ = DilatedDepthwise
    return bool(depthwise)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return _convolve(x, weight, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            # At stride 1 the transposed convolution is the convolution with the kernel turned by half a turn.
            of_x = _convolve(gradient, weight.flip(2, 3), ctx.dilation)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(gradient, x, weight, ctx.dilation)
        return of_x, of_weight, None


def _convolve(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    padding = [side // 2 * dilation for side in weight.shape[2:]]
    return F.conv2d(x, weight, padding=padding, dilation=dilation, groups=len(weight))


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Every dilation-th row and column see only their like: on each of these grids the kernel is not dilated."""
    padding = [side // 2 for side in weight.shape[2:]]
    total = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    height, width = x.shape[2:]
    for row in range(min(dilation, height)):
        for column in range(min(dilation, width)):
            grid = (..., slice(row, None, dilation), slice(column, None, dilation))
            total += torch.ops.aten.convolution_backward(
                *(gradient[grid], x[grid], weight, None, [1, 1], padding, [1, 1], False, [0, 0], len(weight)),
                [False, True, False],
            )[1]
    return total.to(weight.dtype)
