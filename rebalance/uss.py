"""Unsupervised features of a whole image: averaged over scales and mirrors, reduced by PCA, as a picture
(paper/method.md, DHR)."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from network.unsupervised import Reduction
from tool.checkpoint import load_checkpoint, save_checkpoint
from tool.cli import UserError

SCALES = (2.0, 1.0, 1.5, 0.5)  # of the image's sides; on the grid of the first the features are averaged
# PCA is fitted on so many images, evenly spaced over the sorted ids, and so many cells of each.
PCA_IMAGES, PCA_CELLS = 500, 200


@torch.inference_mode()
def multi_scale_features(net: Callable[[Tensor], Tensor], image: Tensor, *, patch: int) -> Tensor:
    """Features, float (D, h, w), of `image`, float (3, H, W), normalised: the mean over four scales and their mirrors,
    on the grid of the image at twice its size.

    net: from images (N, 3, h, w), whose sides are multiples of `patch`, to (N, D, h / patch, w / patch).
    """
    total = None
    for scale in SCALES:
        scaled = scaled_to_patches(image, scale, patch)
        plain, mirrored = net(torch.cat([scaled, scaled.flip(-1)]))
        both = ((plain + mirrored.flip(-1)) / 2)[None]
        if total is None:
            total = both
        else:
            total = total + F.interpolate(both, size=total.shape[2:], mode="bilinear", align_corners=False)
    return total[0] / len(SCALES)


def scaled_to_patches(image: Tensor, scale: float, patch: int) -> Tensor:
    """`image` (3, H, W) resized, (1, 3, h, w): sides times `scale`, raised to the next multiples of `patch`."""
    size = [max(1, -(-int(side * scale) // patch)) * patch for side in image.shape[1:]]
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """`most` places, or all, among `count`, from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


@torch.inference_mode()
def cells_for_pca(net: Callable[[Tensor], Tensor], image: Tensor, *, patch: int) -> Tensor:
    """Some cells' features, (cells, E), of `image`, float (3, H, W), normalised, at its own size without mirror."""
    features = net(scaled_to_patches(image, 1.0, patch))[0].flatten(1).T
    return features[torch.from_numpy(evenly_spaced(len(features), PCA_CELLS)).to(features.device)]


def fit_pca(samples: Iterable[Tensor], dim: int) -> Reduction:
    """The reduction of features to their `dim` leading components, from each image's (cells, E).

    Sums are kept in float64, so that memory is E squared. Each component's largest entry is positive.
    """
    count, total, products = 0, 0.0, 0.0
    for sample in samples:
        sample = sample.double()
        count += len(sample)
        total = total + sample.sum(dim=0)
        products = products + sample.T @ sample
    mean = total / count
    _, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))  # ascending
    components = vectors.T.flip(0)[:dim]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    return Reduction(mean.float().cpu(), (components * largest.sign()).float().cpu())


def save_pca(path: Path, reduction: Reduction, *, backbone: str, sha256: str) -> None:
    """Write a reduction and what it is of: a backbone's name and its file's SHA-256."""
    about = {"backbone": backbone, "sha256": sha256}
    save_checkpoint(path, {"mean": reduction.mean, "components": reduction.components, **about})


def load_pca(path: Path, *, backbone: str, sha256: str, channels: int, dim: int, flag: str) -> Reduction:
    """The reduction at `path`, of `channels` to `dim`.

    Raises `UserError`, naming `flag`, for a damaged file and for one of another backbone, other weights or sizes.
    """
    advice = "remove it and the features beside it, and run again"
    try:
        found = load_checkpoint(path, flag)
    except UserError as error:  # says how to get weights
        raise UserError(f"{flag} {path}: cannot be read as the PCA of these features, damaged; {advice}") from error
    wanted = {"backbone": backbone, "sha256": sha256}
    parts = {"mean": (channels,), "components": (dim, channels)}
    about = found if isinstance(found, dict) else {}
    shapes = {name: tuple(about[name].shape) for name in parts if isinstance(about.get(name), Tensor)}
    problems = [f"{name} {about.get(name)}, not {value}" for name, value in wanted.items() if about.get(name) != value]
    problems += [
        f"{name} {shapes.get(name)}, not {shape}" for name, shape in parts.items() if shapes.get(name) != shape
    ]
    if problems:
        raise UserError(f"{flag} {path}: expected the PCA of these features, found {'; '.join(problems)}; {advice}")
    return Reduction(found["mean"].float(), found["components"].float())


def picture_of(features: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The three leading components of an image's own features (D, h, w) as red, green and blue: uint8 (H, W, 3), each
    from its least to its largest; `size` is (height, width)."""
    cells = features.float().flatten(1).T
    reduction = fit_pca([cells], 3)
    components = reduction(features[None].float())[0]
    components = F.pad(components, (0, 0, 0, 0, 0, 3 - len(components)))  # of fewer channels
    low, high = (found[:, None, None] for found in components.flatten(1).aminmax(dim=1))
    shown = (components - low) / (high - low).clamp_min(1e-5)
    shown = F.interpolate(shown[None], size=size, mode="nearest")[0]
    return (shown * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
