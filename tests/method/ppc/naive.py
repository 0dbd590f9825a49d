"""PPC's contrast, pixel by pixel and word by word from its formulas; slow, and independent of what it tests."""

import math

import torch
from torch import Tensor

VIEWS, LABELS, TEMPERATURE = 2, 21, 0.1


def normalise(vector: Tensor) -> Tensor:
    return vector / max(float(vector.norm()), 1e-12)


def pixels(maps: Tensor) -> list[Tensor]:
    """(N, C, H, W) -> a vector a pixel, ordered image, row, column."""
    return [maps[n, :, y, x] for n in range(len(maps)) for y in range(maps.shape[2]) for x in range(maps.shape[3])]


def prototypes(feat: Tensor, cam: Tensor, count: int) -> list[Tensor]:
    """A view's prototypes, of the `count` strongest pixels of each label."""
    vectors, scores = pixels(feat), pixels(cam)
    rows = []
    for label in range(cam.shape[1]):
        ranked = sorted(range(len(vectors)), key=lambda p: -float(scores[p][label]))[:count]
        total = sum(float(scores[p][label]) for p in ranked)
        mean = sum(float(scores[p][label]) * vectors[p].detach() for p in ranked)
        rows.append(normalise(mean / total if total else 0 * mean))
    return rows


def contrast(feat: Tensor, labels: list[int], rows: list[Tensor]) -> Tensor:
    """F: the mean cross entropy of pixels against the labels' prototypes."""
    losses = []
    for vector, label in zip(pixels(feat), labels, strict=True):
        direction = normalise_with_gradient(vector)
        scores = torch.stack([direction @ row for row in rows]) / TEMPERATURE
        losses.append(scores.logsumexp(0) - scores[label])
    return torch.stack(losses).mean()


def normalise_with_gradient(vector: Tensor) -> Tensor:
    return vector / vector.norm().clamp(min=1e-12)


def intra(
    feat: Tensor,
    labels: list[int],
    rows: list[Tensor],
    drawn: dict[int, list[int]],
    *,
    mining: bool = True,
    hard: bool = True,
    rank_own: bool = True,
    twice: bool = True,
    lone: bool = True,
) -> Tensor:
    """I of one view. drawn: of each label the pixels drawn, as numbers within the label."""
    vectors = [normalise_with_gradient(vector) for vector in pixels(feat)]
    similar, entropy = [], []
    for vector, label in zip(vectors, labels, strict=True):
        scores = [vector @ row for row in rows]
        others = [c for c in range(len(rows)) if rank_own or c != label]
        if mining:
            others = sorted(others, key=lambda c: -float(scores[c].detach()))[3:13]
        else:
            others = [c for c in range(len(rows)) if c != label]
        parts = [scores[label], *(scores[c] for c in others)]
        entropy.append(torch.stack(parts).div(TEMPERATURE).logsumexp(0) - scores[label] / TEMPERATURE)
        similar.append(float((scores[label].detach() + 1) / 2))
    total, number = 0.0, 0
    for label in sorted(set(labels)):
        members = [p for p, own in enumerate(labels) if own == label]
        n = len(members)
        if not hard:
            chosen = members
        elif n < 2:
            number += lone
            continue
        else:
            half, end = n // 2, math.floor(0.6 * n)
            furthest = sorted(members, key=lambda p: similar[p])[:end][end - half :]
            chosen = [members[i] for i in drawn[label][:half]] + furthest
            chosen = chosen if twice else sorted(set(chosen))
        total, number = total + sum(entropy[p] for p in chosen) / len(chosen), number + 1
    return total / number
