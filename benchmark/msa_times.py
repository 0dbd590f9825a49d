"""MSA's propagation by products, by squarings and as released, and a step's terms the plain way, timed."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.superpixel_times import plain_pool, plain_up
from benchmark.timing import report, seconds
from method.msa.config import CONFIGS, IPCConfig
from method.msa.criterion import rebuilding_loss, rebuilt_target
from network.cells import CELL
from network.pixel_affinity import propagate, similarity
from network.superpixel import up
from tool.cam import positive_by_maximum

SQUARINGS = 3  # which make 8 steps
THRESHOLD = 0.6
X4, X5 = 1024, 2048  # channels


def released_propagation(logits: Tensor, features: Tensor) -> Tensor:
    """The affinity divided once, then a product a step."""
    unit = F.normalize(features.flatten(2), dim=1)
    affinity = (unit.transpose(1, 2) @ unit).clamp(0.01, 0.999)
    affinity = torch.where(affinity < THRESHOLD, torch.zeros_like(affinity), affinity)
    affinity = affinity / affinity.sum(1, keepdim=True)
    spread = logits.flatten(2)
    for _ in range(2**SQUARINGS):
        spread = spread @ affinity
    return spread.view(logits.shape)


def squared_propagation(logits: Tensor, features: Tensor) -> Tensor:
    """The affinity of all steps at once, of three squarings."""
    affinity = similarity(features, threshold=THRESHOLD)
    affinity = affinity / affinity.sum(1, keepdim=True)
    for _ in range(SQUARINGS):
        affinity = affinity @ affinity
    return (logits.flatten(2) @ affinity).view(logits.shape)


def our_propagation(logits: Tensor, features: Tensor) -> Tensor:
    return propagate(logits, features, steps=2**SQUARINGS, threshold=THRESHOLD)


def with_gradients(of: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """The result, and the gradients of its sum of squares, one after the other."""
    result = of(*inputs)
    gradients = torch.autograd.grad(result.square().sum(), inputs)
    return torch.cat([each.detach().flatten() for each in (result, *gradients)])


def alike(count: int, channels: int, side: int, generator: torch.Generator) -> Tensor:
    """Features in four groups of columns, half of them alike enough."""
    groups = torch.randn(count, channels, 1, 4, generator=generator)
    columns = F.interpolate(groups, (side, side), mode="nearest")
    return 1.4 * columns + torch.randn(count, channels, side, side, generator=generator)


def propagation_times(count: int, side: int, num_labels: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, num_labels, side, side, generator=generator).to(device).requires_grad_()
    features = alike(count, X4, side, generator).to(device).requires_grad_()
    ways = {"divided once": released_propagation, "three squarings": squared_propagation, "products": our_propagation}
    taken = {name: seconds(lambda way=way: with_gradients(way, logits, features), device) for name, way in ways.items()}
    expected = taken["divided once"][1]
    print(
        f"{2**SQUARINGS} steps on {count} x {side} x {side} cells, {num_labels} labels, with gradients ({device.type})"
    )
    for name in ("three squarings", "products"):
        torch.testing.assert_close(taken[name][1], expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
    for name, (time, _) in taken.items():
        print(f"  {name:<22}{1000 * time:9.1f} ms")


def plain_rebuilding(maps: Tensor, target: Tensor, config: IPCConfig) -> Tensor:
    """Patch after patch, image after image, class after class."""
    side = round(config.patches**0.5)
    height, width = (length // side for length in maps.shape[2:])
    places = [
        (n, slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
        for row in range(side)
        for column in range(side)
        for n in range(len(maps))
    ]
    kept, parts = [], []
    for n, rows, columns in places:
        cam, colours = maps[n, :, rows, columns], target[n, :, rows, columns]
        inside = (colours.sum(0) != 0).float()
        background = 1 - cam.amax(0)
        kept.append(bool((1 - background * inside).max() > config.threshold))
        kept[-1] &= bool((background * inside).max() > config.threshold)
        parts.append((torch.cat([background[None], cam]), F.normalize(colours, dim=0), inside))
    error, cells = 0, 0
    for is_kept, (shares, unit, inside) in zip(kept, parts, strict=True):
        inside = inside * float(is_kept or not any(kept))
        rebuilt = 0
        for share in shares:
            weight = share * inside
            prototype = (weight * unit).sum((1, 2)) / (weight.sum() + 1e-5)
            rebuilt = rebuilt + weight * prototype[:, None, None]
        error = error + (inside * (rebuilt - unit * inside).square()).sum()
        cells = cells + inside.sum()
    return error / (cells + 1e-3)


def step_times(count: int, grid: int, device: torch.device) -> None:
    """From x4, the head's maps and the predictors' scores to IPC's loss, and back: what MSA adds to a classifier's step
    beside convolutions."""
    generator, config = torch.Generator().manual_seed(0), CONFIGS["msa_image"].ipc

    def rnd(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    image, association = rnd(count, 3, grid * CELL, grid * CELL), rnd(count, 9, grid * CELL, grid * CELL).softmax(1)
    inputs = [alike(count, X4, grid, generator).to(device), rnd(count, 21, grid, grid), rnd(count, 9, grid, grid)]
    inputs = [each.requires_grad_() for each in inputs]
    label = torch.zeros(count, 20, device=device)
    label[:, :2] = 1

    def maps_of(logits: Tensor) -> Tensor:
        return positive_by_maximum(logits[:, 1:]) * label[:, :, None, None]

    def plain(x4: Tensor, maps: Tensor, scores: Tensor) -> Tensor:
        weights = scores.softmax(1)
        x4, maps = plain_up(x4, weights, 1), plain_up(maps, weights, 1)
        cam = maps_of(released_propagation(maps, x4))
        corner = image[:, :, ::CELL, ::CELL].sum(1, keepdim=True) != 0
        return plain_rebuilding(cam, plain_pool(image, association) * corner, config)

    def ours(x4: Tensor, maps: Tensor, scores: Tensor) -> Tensor:
        weights = scores.softmax(1)
        x4, maps = up(x4, weights, 1), up(maps, weights, 1)
        cam = maps_of(our_propagation(maps, x4))
        return rebuilding_loss(cam, rebuilt_target(image, None, association), config=config)[0]

    slow, expected = seconds(lambda: with_gradients(plain, *inputs), device)
    quick, found = seconds(lambda: with_gradients(ours, *inputs), device)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
    print(f"DCR's up, propagation and IPC of {count} crops of {grid * CELL}, with gradients ({device.type})")
    report("the plain way", slow, "ours", quick)
