"""Between pixels and superpixels: what an association says of which pixel belongs to which cell (paper/method.md, MSA).

An association Q, float (N, 9, H, W), not negative, sums to 1 over its channels. The image is a grid of cells of
S x S pixels; channel 3 (dy + 1) + (dx + 1) is the weight of the pixel for the cell at (dy, dx) from its own. Weight
that points outside the grid is lost: nothing is renormalised at the border. With S = 1 every pixel is its own cell.

Shape suffixes: N images, C channels, K offsets, (h, w) cells, P pixels of a cell.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from network.cells import CELL, whole_cells

EPSILON = 1e-8  # beside the weight of all pixels of a superpixel, of which there may be none


def pool(features: Tensor, association: Tensor, size: int = CELL) -> Tensor:
    """The superpixels' means of `features`, weighted by `association`.

    Args:
        features: float (N, C, H, W), H and W multiples of `size`. association: float (N, 9, H, W). size: S.

    Returns:
        float32 (N, C, H / S, W / S). Computed in float32 also under autocast.
    """
    with torch.autocast(features.device.type, enabled=False):
        # One product a cell gives its sums for all nine; a channel of ones beside the others sums the weights.
        values_NhwCP = _by_cell(torch.cat([features.float(), torch.ones_like(features[:, :1]).float()], dim=1), size)
        weights_NhwKP = _by_cell(association.float(), size)
        sums = (values_NhwCP @ weights_NhwKP.transpose(-1, -2)).permute(0, 4, 3, 1, 2) / size**2
        total = _gathered(sums)
        return total[:, :-1] / (total[:, -1:] + EPSILON)


def up(values: Tensor, association: Tensor, size: int = CELL) -> Tensor:
    """The pixels' mixtures of their nine cells' `values`, float (N, C, h, w): (N, C, h S, w S).

    `association`: float (N, 9, h S, w S). Cells outside the grid count as 0. With S = 1 a dynamic convolution, 3 x 3.
    """
    if size == 1:
        return ShiftedSum.apply(values, association)
    dtype = torch.promote_types(values.dtype, association.dtype)
    around_NhwCK = F.unfold(values.to(dtype), 3, padding=1).unflatten(1, (values.shape[1], -1))
    around_NhwCK = around_NhwCK.unflatten(3, values.shape[2:]).permute(0, 3, 4, 1, 2)
    return _of_cells(around_NhwCK @ _by_cell(association.to(dtype), size).to(dtype), size)


def affinity(association: Tensor, size: int = CELL) -> Tensor:
    """How much of each near cell comes to a superpixel by `up` and then `pool`: float32 (N, 25, h, w).

    Channel 5 (dy + 2) + (dx + 2) is the weight of the cell at (dy, dx) from the superpixel's own; 0 where that is
    outside the grid. `association`: float (N, 9, h S, w S).
    """
    with torch.autocast(association.device.type, enabled=False):
        weights_NhwKP = _by_cell(association.float(), size)
        # Of a cell's pixels: what goes to the superpixel at offset k (first) of what comes from that at j (second).
        pairs = (weights_NhwKP @ weights_NhwKP.transpose(-1, -2)).permute(0, 3, 4, 1, 2) / size**2
        weight = _gathered(weights_NhwKP.sum(-1).permute(0, 3, 1, 2)[:, :, None] / size**2)
        height, width = pairs.shape[-2:]
        shares = pairs.new_zeros(len(pairs), 5, 5, height, width)
        for number, (dy, dx) in enumerate(_offsets(1)):
            inside, moved = _shift(dy, dx, height, width)
            block = shares[:, 1 - dy : 4 - dy, 1 - dx : 4 - dx]  # from the superpixel, j is at offset j - k
            block[(..., *moved)] += pairs[:, number].unflatten(1, (3, 3))[(..., *inside)]
        return shares.flatten(1, 2) / (weight + EPSILON) * _neighbours_inside(shares)


def step(values: Tensor, shares: Tensor) -> Tensor:
    """A step of a walk by `affinity`'s `shares`, (N, 25, h, w): `values`, float (N, C, h, w), the same shape again."""
    return ShiftedSum.apply(values, shares)


def walk(features: Tensor, association: Tensor, steps: int) -> Tensor:
    """`features`, float (N, C, H, W), after so many steps to superpixels and back; 0 leaves them as they are."""
    if steps == 0:
        return features
    values = pool(features, association)
    shares = affinity(association) if steps > 1 else None
    for _ in range(steps - 1):
        values = step(values, shares)
    return up(values, association)


def to_whole_cells(image: Tensor) -> Tensor:
    """Images, float (N, C, h, w), resized to the next multiples of a cell's side; bilinear, corners not aligned."""
    sides = whole_cells(image.shape[2:])
    return image if image.shape[2:] == sides else F.interpolate(image, sides, mode="bilinear", align_corners=False)


def hard_map(association: Tensor) -> Tensor:
    """The superpixel of each pixel, int64 (N, H, W): row x columns + column of the cell that its largest weight, the
    first of equal ones, names, or at the grid's border of the nearest cell of the grid."""
    height, width = (side // CELL for side in association.shape[2:])
    best = association.argmax(dim=1)
    rows = torch.arange(height * CELL, device=best.device)[:, None] // CELL + best // 3 - 1
    columns = torch.arange(width * CELL, device=best.device) // CELL + best % 3 - 1
    return rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)


class ShiftedSum(Function):
    """sum_k weights_k(s) values(s + off_k), 0 outside: values (N, C, h, w), weights (N, K, h, w), K = 9 or 25.

    The K shifted maps are views of one. Nothing but the inputs is kept for the gradient.
    """

    @staticmethod
    def forward(ctx, values: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(values, weights)
        result = values.new_zeros(values.shape, dtype=torch.promote_types(values.dtype, weights.dtype))
        for weight, (inside, moved) in _parts(weights):
            # What is at s + off_k comes to s.
            result[(..., *inside)].addcmul_(values[(..., *moved)], weight[(..., *inside)])
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        values, weights = ctx.saved_tensors
        of_values = torch.zeros_like(values) if ctx.needs_input_grad[0] else None
        of_weights = torch.zeros_like(weights) if ctx.needs_input_grad[1] else None
        for number, (weight, (inside, moved)) in enumerate(_parts(weights)):
            part = gradient[(..., *inside)]
            if of_values is not None:
                of_values[(..., *moved)].addcmul_(part, weight[(..., *inside)])
            if of_weights is not None:
                of_weights[:, number][(..., *inside)] = (part * values[(..., *moved)]).sum(1)
        return of_values, of_weights


def _parts(weights: Tensor) -> Iterator[tuple[Tensor, tuple]]:
    """Each offset's weights, (N, 1, h, w), with its two regions of the map, as `_shift` gives them."""
    radius = 1 if weights.shape[1] == 9 else 2
    for number, offset in enumerate(_offsets(radius)):
        yield weights[:, number : number + 1], _shift(*offset, *weights.shape[2:])


def _offsets(radius: int) -> Iterator[tuple[int, int]]:
    sides = range(-radius, radius + 1)
    return ((dy, dx) for dy in sides for dx in sides)


def _shift(dy: int, dx: int, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The cells whose neighbour at (dy, dx) is in the grid, and these neighbours, as slices of rows and columns."""
    sides = ((dy, height), (dx, width))
    inside = tuple(slice(max(-by, 0), max(side - max(by, 0), 0)) for by, side in sides)
    moved = tuple(slice(max(by, 0), max(side - max(-by, 0), 0)) for by, side in sides)
    return inside, moved


def _by_cell(values: Tensor, size: int) -> Tensor:
    """(N, C, h S, w S) -> (N, h, w, C, P)."""
    height, width = (side // size for side in values.shape[2:])
    return values.unflatten(3, (width, size)).unflatten(2, (height, size)).permute(0, 2, 4, 1, 3, 5).flatten(4)


def _of_cells(values: Tensor, size: int) -> Tensor:
    """(N, h, w, C, P) -> (N, C, h S, w S)."""
    return values.unflatten(4, (size, size)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def _gathered(sums: Tensor) -> Tensor:
    """What each cell sends to its nine, (N, 9, C, h, w), summed where it arrives: (N, C, h, w)."""
    height, width = sums.shape[-2:]
    total = sums.new_zeros(sums[:, 0].shape)
    for number, (dy, dx) in enumerate(_offsets(1)):
        inside, moved = _shift(dy, dx, height, width)
        total[(..., *moved)] += sums[:, number][(..., *inside)]
    return total


def _neighbours_inside(like: Tensor) -> Tensor:
    """Whether the cell at each of 25 offsets is in the grid, (25, h, w), 0 or 1, for maps `like` (..., h, w)."""
    inside = like.new_zeros(25, *like.shape[-2:])
    for number, offset in enumerate(_offsets(2)):
        inside[(number, *_shift(*offset, *like.shape[-2:])[0])] = 1
    return inside
