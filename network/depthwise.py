"""A dilated depthwise convolution whose gradients a CPU finds fast."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

# Pixels beyond the edge that the library's kernels for dilated depthwise convolutions can see: three by three at rate
# 4, five by five at rate 2.
REACH = 4


class DilatedDepthwise(nn.Conv2d):
    """A depthwise convolution of stride 1, odd `kernel_size`, any dilation, that keeps its grid; no bias.

    What it computes and what it is called in checkpoints is `nn.Conv2d`'s. On a CPU the library behind that has no
    kernel for the gradients of dilated depthwise convolutions, nor for any that reach far, and takes a detour; all are
    rewritten here with what it has.
    """

    def __init__(self, channels: int, kernel_size: int, *, dilation: int) -> None:
        """Raises ValueError for an even `kernel_size`, which keeps no grid."""
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size}: expected an odd number")
        super().__init__(
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            groups=channels,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or self.dilation == (1, 1):
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
    half = weight.shape[2] // 2
    if half * dilation <= REACH:
        return F.conv2d(x, weight, padding=half * dilation, dilation=dilation, groups=len(weight))
    convolved = F.conv2d(_apart(x, dilation), weight, padding=half, groups=len(weight))
    return _together(convolved, dilation)[..., : x.shape[2], : x.shape[3]]


def _apart(x: Tensor, step: int) -> Tensor:
    """Every step-th row and column as an image of its own: (N, C, H, W) to (N * step**2, C, ceil(H / step),
    ceil(W / step)), channels last in memory; zeros where the last ones end."""
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
    num, channels, height, width = x.shape
    grids = x.permute(0, 2, 3, 1).reshape(num, height // step, step, width // step, step, channels)
    grids = grids.permute(0, 2, 4, 1, 3, 5).reshape(-1, height // step, width // step, channels)
    return grids.permute(0, 3, 1, 2)


def _together(grids: Tensor, step: int) -> Tensor:
    """What `_apart` took apart, with the rows and columns that it added."""
    _, channels, height, width = grids.shape
    x = grids.permute(0, 2, 3, 1).reshape(-1, step, step, height, width, channels)
    x = x.permute(0, 3, 1, 4, 2, 5).reshape(-1, height * step, width * step, channels)
    return x.permute(0, 3, 1, 2)


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    if x.shape[2] < weight.shape[2] * dilation:
        return _by_taps(gradient, x, weight, dilation)
    return _by_grids(gradient, x, weight, dilation)


def _by_grids(gradient: Tensor, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Every dilation-th row and column see only their like: on each of these grids the kernel is not dilated."""
    padding = [side // 2 for side in weight.shape[2:]]
    total = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    height, width = x.shape[2:]
    for row in range(min(dilation, height)):
        for column in range(min(dilation, width)):
            grid = (..., slice(row, None, dilation), slice(column, None, dilation))
            total += torch.ops.aten.convolution_backward(
                gradient[grid],
                x[grid],
                weight,
                None,
                [1, 1],
                padding,
                [1, 1],
                False,
                [0, 0],
                len(weight),
                [False, True, False],
            )[1]
    return total.to(weight.dtype)


def _by_taps(gradient: Tensor, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Tap by tap, over the pixels from which it lies in the map: few where the map is small for the kernel."""
    gradient, x = gradient.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
    total = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    rows, columns = (list(_meeting(side, weight.shape[2], dilation)) for side in x.shape[1:3])
    for row, (here_y, there_y) in enumerate(rows):
        for column, (here_x, there_x) in enumerate(columns):
            met = gradient[:, here_y, here_x] * x[:, there_y, there_x]
            total[:, 0, row, column] = met.sum((0, 1, 2), dtype=total.dtype)
    return total.to(weight.dtype)


def _meeting(size: int, side: int, dilation: int) -> Iterator[tuple[slice, slice]]:
    """For each of a kernel's `side` taps along an axis of `size` places, those from which it lies in it, and those that
    it lies on; empty where there are none."""
    for tap in range(side):
        offset = (tap - side // 2) * dilation
        here = max(-offset, 0), max(size - max(offset, 0), 0)
        yield slice(*here), slice(max(offset, 0), max(size + min(offset, 0), 0))
