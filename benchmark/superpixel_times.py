"""Superpixels' operators by our functions and by the plain way, and the network on an image, timed."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmark.timing import report, seconds
from network.cells import CELL
from network.fold import fold_norms
from network.scn import SCN
from network.superpixel import pool, up
from superpixel.inference import superpixels_of

FEATURES = 5  # Lab and places, as in training
CHANNELS, GRID = 2048, 30  # of the classifier's last map, rebuilt by up with cells of one pixel


def plain_pool(features: Tensor, association: Tensor, size: int = CELL) -> Tensor:
    """Nine products of the whole map, each averaged over cells, side by side, and moved by padding."""
    ninefold = (features[:, None] * association[:, :, None]).flatten(1, 2)
    sums = F.avg_pool2d(ninefold, size).unflatten(1, (9, -1))
    weights = F.avg_pool2d(association, size)[:, :, None]
    return _moved(sums) / (_moved(weights) + 1e-8)


def _moved(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    total = 0
    for k, each in enumerate(maps.unbind(dim=1)):
        padded = F.pad(each, (1, 1, 1, 1))
        top, left = 2 - k // 3, 2 - k % 3
        total = total + padded[..., top : top + height, left : left + width]
    return total


def plain_up(values: Tensor, association: Tensor, size: int = CELL) -> Tensor:
    """The nine neighbours of each cell, unfolded, repeated to the pixels, weighted and summed."""
    height, width = values.shape[2:]
    around = F.unfold(values, 3, padding=1).view(len(values), -1, height, width)
    if size > 1:
        around = F.interpolate(around, scale_factor=size, mode="nearest")
    return (around.unflatten(1, (values.shape[1], 9)) * association[:, None]).sum(2)


def compare(name: str, plain: Callable, fast: Callable, *inputs: Tensor, size: int) -> None:
    """Time both, forward and backward, and hold one against the other."""
    inputs = [each.requires_grad_() for each in inputs]

    def step(of: Callable) -> Tensor:
        result = of(*inputs, size)
        gradients = torch.autograd.grad(result.square().sum(), inputs)
        return torch.cat([each.flatten() for each in (result.detach(), *gradients)])

    device = inputs[0].device
    slow, expected = seconds(lambda: step(plain), device)
    quick, found = seconds(lambda: step(fast), device)
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4)
    print(name)
    report("nine-fold", slow, "ours", quick)


def operator_times(count: int, crop: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    cells = crop // CELL

    def rnd(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    association = torch.softmax(rnd(count, 9, crop, crop), dim=1)
    kind = f"{count} crops of {crop}, {FEATURES} channels, with gradients ({device.type}, one thread on a CPU)"
    compare(f"pool, {kind}", plain_pool, pool, rnd(count, FEATURES, crop, crop), association, size=CELL)
    compare(f"up, {kind}", plain_up, up, rnd(count, FEATURES, cells, cells), association.detach(), size=CELL)
    near = torch.softmax(rnd(1, 9, GRID, GRID), dim=1)
    name = f"up with cells of one pixel, {CHANNELS} channels, {GRID} x {GRID}, with gradients"
    compare(name, plain_up, up, rnd(1, CHANNELS, GRID, GRID), near, size=1)


def network_time(size: tuple[int, int], device: torch.device) -> None:
    """From an image to its superpixels, with norms folded and as they are: equal on all but ties."""
    torch.manual_seed(0)
    net = SCN().eval().requires_grad_(False)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))

    def labels() -> Tensor:
        return torch.from_numpy(superpixels_of(net.to(device), image, device))

    plain, expected = seconds(labels, device)
    fold_norms(net)
    fast, found = seconds(labels, device)
    if (found == expected).float().mean() < 0.999:
        raise AssertionError("superpixels of the folded network differ")
    print(f"superpixels of an image of {size[1]} x {size[0]}")
    report("norms as they are", plain, "folded, as infer.py", fast)
