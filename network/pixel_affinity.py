"""Affinity propagation (AP): class maps spread along how alike the pixels' features are (paper/method.md, MSA).

Shapes: N images, K channels, C feature channels, P = h w cells.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST, MOST = 0.01, 0.999  # what similarities are clamped to, a cell's with itself too
NORM_EPSILON = 1e-12


def similarity(features: Tensor, *, threshold: float) -> Tensor:
    """The cosine of each two cells' `features` (N, C, h, w), clamped, and 0 below `threshold`: float32 (N, P, P),
    symmetric. A cell that is like none, not even itself, as one whose features are all 0, is like itself alone."""
    feat_NCP = F.normalize(features.flatten(2).float(), dim=1, eps=NORM_EPSILON)
    cosine_NPP = (feat_NCP.transpose(1, 2) @ feat_NCP).clamp(LEAST, MOST)
    cosine_NPP = torch.where(cosine_NPP < threshold, 0, cosine_NPP)
    own_NP = cosine_NPP.diagonal(dim1=1, dim2=2)
    own_NP += own_NP.detach() == 0  # a cell's own is its largest
    return cosine_NPP


def propagate(logits: Tensor, features: Tensor, *, steps: int, threshold: float) -> Tensor:
    """`logits` (N, K, h, w) after `steps` steps, in each of which a cell gets the mean over all cells, weighted by how
    alike their `features` (N, C, h, w) are to its own: float32 of the same shape.

    The gradient goes to both. Computed in float32 also under autocast. Memory: an affinity of (N, P, P) floats.
    """
    if steps == 0:
        return logits
    with torch.autocast(logits.device.type, enabled=False):
        affinity_NPP = similarity(features, threshold=threshold)
        # K rows a step are divided instead of the whole affinity once: that is several times as large.
        total_N1P = affinity_NPP.sum(1, keepdim=True)
        spread_NKP = logits.flatten(2).float()
        for _ in range(steps):
            spread_NKP = (spread_NKP @ affinity_NPP) / total_N1P
        return spread_NKP.view(logits.shape)
