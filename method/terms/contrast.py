"""What pixel and class contrast is made of: normalised CAMs, ranks, prototypes, and the cross entropy against them.

Both views stand on one grid and are handled together. Shape suffixes:
    V views (2), N images, H W grid, P pixels of the batch (N * H * W, ordered image, row, column),
    C channels, K classes, L labels (K + 1, background last), T pixels taken, D feature channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from method.terms.maps import resize
from tool.cam import min_max


def on_grid(views: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The views' maps, (N, C, h, w) each, resized to `size` and stacked, (V, N, C, H, W) float32."""
    return torch.stack([resize(each.float(), size) for each in views])


def normalise_cam(cam_NLHW: Tensor, *, clamp: bool) -> Tensor:
    """Bring each channel's positive part to about 0..1, background channel included; detached, float32.

    **Q** With `clamp=False`, as released, entries zeroed for lying under min + 1e-5 are shifted like the others and
    come out negative, and a channel without any activation is -1 everywhere.
    """
    cam = min_max(cam_NLHW.detach().float())
    return cam.relu() if clamp else cam


def contrast_cam(cam_VNLHW: Tensor, *, clamp: bool, background_score: float) -> Tensor:
    """Refined CAMs as contrast takes them, (V, N, L, H, W): `normalise_cam`'s, the background channel a constant."""
    cam = normalise_cam(cam_VNLHW.flatten(0, 1), clamp=clamp)
    cam[:, -1] = background_score
    return cam.unflatten(0, cam_VNLHW.shape[:2])


def strongest_pixels(score_VCP: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each channel's `count` highest scores in order and their pixels, (V, C, count) each; ties: lowest index first.

    A stable sort, since `torch.topk` leaves the order of equal scores open.
    """
    ranked = score_VCP.sort(dim=-1, descending=True, stable=True)
    count = min(count, score_VCP.shape[-1])
    return ranked.values[..., :count], ranked.indices[..., :count]


def weighted_sum(weight_VCT: Tensor, pixel_VCT: Tensor, feat_VPD: Tensor) -> Tensor:
    """sum_t weight[v, c, t] feat[v, pixel[v, c, t]] -> (V, C, D).

    The weights go into a (V, C, P) matrix and one product: gathering (V, C, T, D) features would move far more bytes.
    """
    spread_VCP = weight_VCT.new_zeros(*weight_VCT.shape[:2], feat_VPD.shape[1]).scatter_(2, pixel_VCT, weight_VCT)
    return spread_VCP @ feat_VPD


def flatten_pixels(maps_VNCHW: Tensor) -> Tensor:
    """(V, N, C, H, W) -> (V, P, C)."""
    return maps_VNCHW.permute(0, 1, 3, 4, 2).flatten(1, 3)


def pixel_prototypes(feat_VPD: Tensor, score_VLP: Tensor, count: int) -> Tensor:
    """Per label the weighted mean feature of its `count` highest scored pixels, L2-normalised (V, L, D), detached.

    The mean's divisor, the sum of the weights, can be negative. Of it only the sign outlives the normalisation; and a
    label without any weight gets a zero row, not 0 / 0.
    """
    weight_VLT, pixel_VLT = strongest_pixels(score_VLP.detach(), count)
    sign_VL1 = weight_VLT.sum(-1, keepdim=True).sign()
    return F.normalize(weighted_sum(weight_VLT, pixel_VLT, feat_VPD.detach()) * sign_VL1, dim=-1)


def prototype_entropy(
    feat_PD: Tensor, pseudo_P: Tensor, rows_LD: Tensor, *, temperature: float, usable_L: Tensor
) -> Tensor:
    """Mean cross entropy of pixels between the labels' prototypes, by cosine over `temperature` (F of paper/method.md).

    feat_PD: L2-normalised features. pseudo_P: labels, 0..L-1. rows_LD: a prototype a label. usable_L: bool, which of
    them take part.
    """
    logits_PL = (feat_PD @ rows_LD.T / temperature).masked_fill(~usable_L, float("-inf"))
    return F.cross_entropy(logits_PL, pseudo_P)
