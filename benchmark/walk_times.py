"""AffinityNet's walk and loss, IRN's walk and affinities, as we do them and plainly; processor time on CPUs."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.timing import TIMES, report, seconds
from network.affinity import CHANNELS, affinities
from network.irn import STRIDE as IRN_STRIDE
from network.irn import edge_affinities
from refine.affinity.labels import STRIDE
from refine.irn.training import RADIUS
from refine.irn.walked import WalkRecipe
from refine.pairs import PairLabels, pair_labels, pair_losses
from refine.walk import random_walk, structure
from tool.irn_cam import quarter
from tool.pairs import Pairs, pairs_of

AFFINITY = WalkRecipe(beta=8, exp_times=6)  # AffinityNet's
CLASSES = 2


def transitions(affinities: Tensor, pairs: Pairs, beta: float) -> Tensor:
    """The full matrix T, of the affinities' type."""
    matrix = torch.eye(pairs.height * pairs.width, dtype=affinities.dtype, device=affinities.device)
    first, second = torch.from_numpy(pairs.index).to(affinities.device)
    matrix[first, second] = matrix[second, first] = affinities
    matrix = matrix**beta
    return matrix / matrix.sum(dim=0)


def squared(scores: Tensor, affinities: Tensor, pairs: Pairs, recipe: WalkRecipe) -> Tensor:
    """The walk as released: the full matrix, squared again and again."""
    matrix = transitions(affinities, pairs, recipe.beta)
    for _ in range(recipe.exp_times):
        matrix = matrix @ matrix
    return (scores.flatten(1) @ matrix).view(scores.shape)


def stepped(scores: Tensor, affinities: Tensor, pairs: Pairs, recipe: WalkRecipe) -> Tensor:
    """The walk by its definition, step after step, in float64; squarings in float32 are up to 1e-4 off."""
    matrix, walked = transitions(affinities.double(), pairs, recipe.beta), scores.double().flatten(1)
    for _ in range(2**recipe.exp_times):
        walked = walked @ matrix
    return walked.view(scores.shape).float()


def walk_times(size: tuple[int, int], device: torch.device) -> None:
    pairs = pairs_of(*(-(-side // STRIDE) for side in size))
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(1, 16, pairs.height, pairs.width, generator=generator)
    scores = torch.rand(CLASSES + 1, pairs.height, pairs.width, generator=generator)
    compare_walks("walk", scores.to(device), affinities(features, pairs)[0].to(device), pairs, AFFINITY)


def irn_walk_times(size: tuple[int, int], device: torch.device) -> None:
    """Of edges as a net has them that finds few."""
    pairs = pairs_of(*quarter(size), everywhere=True)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(pairs.height, pairs.width, generator=generator) - 3
    cams = torch.rand(CLASSES, pairs.height, pairs.width, generator=generator) * (1 - logits.sigmoid())
    near = edge_affinities(logits[None, None], pairs)[0]
    compare_walks("IRN's walk", cams.to(device), near.to(device), pairs, WalkRecipe())


def compare_walks(title: str, scores: Tensor, near: Tensor, pairs: Pairs, recipe: WalkRecipe) -> None:
    """Time the walk of `scores` (K, h, w) by squarings and as we do it; what both give is equal."""
    device, steps = scores.device, 2**recipe.exp_times
    structure(pairs)  # of images of one size it is kept
    plain, nearly = seconds(lambda: squared(scores, near, pairs, recipe), device, 1 if device.type == "cpu" else TIMES)
    fast, found = seconds(lambda: random_walk(scores, near, pairs, beta=recipe.beta, steps=steps), device)
    torch.testing.assert_close(found, stepped(scores, near, pairs, recipe), atol=1e-5, rtol=0)
    torch.testing.assert_close(found, nearly, atol=1e-4 * float(nearly.max()), rtol=0)
    cells = f"{pairs.height} x {pairs.width} cells, {steps} steps"
    print(f"{title} on {cells} ({device.type}, one thread on a CPU)")
    report("squarings", plain, "sparse products", fast)


def loop(features: Tensor, pairs: Pairs) -> Tensor:
    """The affinities, offset after offset, differentiated by autograd."""
    both = zip(pairs.starts, pairs.ends, strict=True)
    means = [(features[(..., *end)] - features[(..., *start)]).abs().mean(1).flatten(1) for start, end in both]
    return torch.exp(-torch.cat(means, dim=1))


def pair_loss_times(count: int, crop: int, device: torch.device) -> None:
    cells = crop // STRIDE
    pairs = pairs_of(cells, cells)
    features = torch.rand(count, sum(CHANNELS), cells, cells, device=device).requires_grad_()
    label = torch.tensor([0, 1, 2, 255], device=device)[torch.randint(0, 4, (count, cells, cells), device=device)]
    labels: PairLabels = pair_labels(label, pairs)

    def step(of: Callable[[Tensor, Pairs], Tensor]) -> Tensor:
        return torch.autograd.grad(pair_losses(of(features, pairs), labels)["total"], features)[0]

    plain, expected = seconds(lambda: step(loop), device)
    fast, found = seconds(lambda: step(affinities), device)
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-4)
    print(f"pair loss and its gradient, {count} crops of {crop} ({len(pairs)} pairs each)")
    report("loop over the offsets", plain, "ours", fast)
    kept = 4 * features.numel() * len(pairs) / cells**2
    print(
        f"  kept for the gradient: {kept / 2**20:,.0f} MB by the loop, {4 * features.numel() / 2**20:,.0f} MB by ours"
    )


def paths_loop(logits: Tensor, pairs: Pairs) -> Tensor:
    """IRN's affinities, offset after offset, from a copy of each offset's paths, differentiated by autograd."""
    edges = logits.sigmoid()[:, 0]
    parts = []
    for (rows, columns), path in zip(pairs.starts, pairs.paths, strict=True):
        cells = [edges[:, rows.start + y : rows.stop + y, columns.start + x : columns.stop + x] for y, x in path]
        parts.append(torch.stack(cells).amax(dim=0).flatten(1))
    return 1 - torch.cat(parts, dim=1)


def path_times(count: int, crop: int, device: torch.device) -> None:
    cells = crop // IRN_STRIDE
    pairs = pairs_of(cells, cells, radius=RADIUS)
    logits = torch.randn(count, 1, cells, cells, device=device).requires_grad_()
    weight = torch.rand(count, len(pairs), device=device)

    def step(of: Callable[[Tensor, Pairs], Tensor]) -> Tensor:
        return torch.autograd.grad((weight * of(logits, pairs)).sum(), logits)[0]

    plain, expected = seconds(lambda: step(paths_loop), device)
    fast, found = seconds(lambda: step(edge_affinities), device)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    print(f"IRN's affinities and their gradient, {count} crops of {crop} ({len(pairs)} pairs each)")
    report("copies of the paths", plain, "ranks of the cells", fast)
    points = sum(map(len, pairs.paths)) * len(pairs) // len(pairs.offsets)
    kept, ours = (4 * count * each / 2**20 for each in (points, 3 * len(pairs)))  # a place, of 8 bytes, and a value
    print(f"  kept for the gradient: {kept:,.0f} MB by the copies, {ours:,.0f} MB by ours")
