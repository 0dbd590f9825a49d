"""From displacements and walked CAMs to an image's instances (paper/method.md, IRN)."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from refine.irn.walked import WalkRecipe, scores_of, walked, winners
from tool.instances import Instances

TRACES = 300  # times that each cell follows the displacements
CENTRE = 2.5  # cells: displacements shorter than that are at an object's centre
MIN_SHARE = 0.01  # of the image's pixels; what is smaller scores 0


@torch.inference_mode()
def clusters_of(displacement: Tensor) -> Tensor:
    """The clusters of cells, bool (n, h, w), that displacements, float32 (2, h, w), make: cells whose centroids lie in
    one centre, of 4-connected cells with short displacements, are a cluster, and so are those whose centroids lie in
    none."""
    centroids = traced(displacement).round().long()
    is_centre = (displacement.square().sum(dim=0).sqrt() < CENTRE).cpu().numpy()
    centres, _ = ndimage.label(is_centre)
    found = centres[tuple(centroids.cpu().numpy())]
    masks = torch.from_numpy(np.stack([found == number for number in np.unique(found)]))
    return masks.to(displacement.device)


def traced(displacement: Tensor) -> Tensor:
    """Where each cell comes to that follows displacements (2, h, w), which are read between cells too and never lead
    out of the grid."""
    _, height, width = displacement.shape
    ends = displacement.new_tensor([height - 1, width - 1]).view(2, 1, 1)
    axes = [torch.arange(side, device=displacement.device, dtype=displacement.dtype) for side in (height, width)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    for _ in range(TRACES):
        grid = (2 * places / ends.clamp(min=1) - 1).flip(0).permute(1, 2, 0)  # x and y from -1 to 1
        moves = F.grid_sample(displacement[None], grid[None], align_corners=True, padding_mode="border")[0]
        places = (places + moves).clamp(min=torch.zeros_like(ends), max=ends)
    return places


@torch.inference_mode()
def instances_of(
    cams: Tensor,
    classes: np.ndarray,
    logits: Tensor,
    displacement: Tensor,
    *,
    shape: tuple[int, int],
    recipe: WalkRecipe,
) -> Instances:
    """The instances of an image of `shape`, (H, W): each class's CAM walks from each cluster alone, and what it wins
    falls into 4-connected parts.

    cams: (K, h, w) of `classes`. logits: of the edges, (h, w). displacement: (2, h, w).
    """
    masks = clusters_of(displacement)
    starts = (cams[:, None] * masks).flatten(0, 1)  # class after class, cluster after cluster
    scores = scores_of(walked(starts, logits, recipe), shape)
    best = winners(scores, recipe.background).cpu().numpy()
    found = Instances.none(shape)
    for row in np.unique(best[best > 0]) - 1:
        parts, count = ndimage.label(best == row + 1)
        values = scores[row].cpu().numpy()
        for number in range(1, count + 1):
            mask = parts == number
            score = float(values[mask].max()) if mask.mean() >= MIN_SHARE else 0.0
            found.add(score, mask, int(classes[row // len(masks)]))
    return found
