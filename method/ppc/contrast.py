"""Pixel-to-prototype contrast (Du et al., PPC, CVPR 2022): pure functions of features, maps and a draw.

Both views stand on one grid and are handled together. Shape suffixes:
    V views (2), N images, H W grid, P pixels of the batch (N * H * W, ordered image, row, column),
    K classes, L labels (K + 1, background last), D feature channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from method.ppc.config import ContrastConfig
from method.terms.contrast import flatten_pixels, pixel_prototypes, prototype_entropy
from method.terms.maps import with_background


def pseudo_labels(cam_VNLHW: Tensor, label_NK: Tensor, *, background_first: bool) -> Tensor:
    """The label of each pixel's strongest channel among an image's own, (V, N, H, W), int64, 0..L-1.

    Equal scores go to the lowest channel of the released order, in which background is the first or the last.
    """
    share = (cam_VNLHW * with_background(label_NK)).softmax(dim=2)
    if not background_first:
        return share.argmax(dim=2)
    return (share.roll(1, dims=2).argmax(dim=2) - 1) % share.shape[2]


def prototype_contrast(
    feat_VNDHW: Tensor,
    cam_VNLHW: Tensor,
    pseudo_VNHW: Tensor,
    label_NK: Tensor,
    key_VP: Tensor,
    *,
    config: ContrastConfig,
) -> dict[str, Tensor]:
    """The three terms: pixels against the other view's prototypes (cross), against their own view's under the other
    view's pseudo labels (cross2), and against semi-hard prototypes of their own view (intra).

    Args:
        feat_VNDHW: pixel features, any range.
        cam_VNLHW: normalised CAMs with the background's score, no gradient; they rank and weigh the pixels of each
            label's prototype.
        pseudo_VNHW: pseudo labels, 0..L-1. label_NK: image labels.
        key_VP: decides the draw of pixels (`intra_contrast`).
    """
    feat_VPD = flatten_pixels(feat_VNDHW.float())
    pixels_per_map = feat_VNDHW.shape[-2] * feat_VNDHW.shape[-1]
    score_VLP = flatten_pixels(cam_VNLHW).transpose(1, 2)
    if config.background_by_rest:
        score_VLP = torch.cat([score_VLP[:, :-1], 1 - score_VLP[:, :-1].amax(1, keepdim=True)], dim=1)
    rows_VLD = pixel_prototypes(feat_VPD, score_VLP, max(pixels_per_map // config.pixel_share, 1))
    feat_VPD = F.normalize(feat_VPD, dim=-1)
    pseudo_VP = pseudo_VNHW.flatten(1)
    usable_L = F.pad(label_NK.amax(0) > 0, (0, 1), value=True) | config.absent_prototypes

    def entropy(view: int, pseudo_view: int, rows_view: int) -> Tensor:
        return prototype_entropy(
            feat_VPD[view],
            pseudo_VP[pseudo_view],
            rows_VLD[rows_view],
            temperature=config.temperature,
            usable_L=usable_L,
        )

    def intra(view: int) -> Tensor:
        return intra_contrast(
            feat_VPD[view], pseudo_VP[view], rows_VLD[view], key_VP[view], usable_L=usable_L, config=config
        )

    half = config.weight / 2
    return {
        "cross": half * (entropy(0, 0, 1) + entropy(1, 1, 0)),
        "cross2": half * (entropy(0, 1, 0) + entropy(1, 0, 1)),
        "intra": half * (intra(0) + intra(1)),
    }


def intra_contrast(
    feat_PD: Tensor, pseudo_P: Tensor, rows_LD: Tensor, key_P: Tensor, *, usable_L: Tensor, config: ContrastConfig
) -> Tensor:
    """Contrast of one view's pixels with its prototypes, on semi-hard prototypes and hard pixels (I of
    paper/method.md).

    A scalar: the mean over labels of the mean over the label's chosen pixels.

    Args:
        feat_PD: L2-normalised features. pseudo_P: labels, 0..L-1. rows_LD: a prototype a label, no gradient.
        key_P: half of each label's pixels are drawn: those with the lowest keys, of equal ones the first.
        usable_L: bool, which prototypes take part.
    """
    cosine_PL = feat_PD @ rows_LD.T
    logits_PL = (cosine_PL / config.temperature).masked_fill(~usable_L, float("-inf"))
    own_P1 = logits_PL.gather(1, pseudo_P[:, None])
    entropy_P = torch.cat([own_P1, _rivals(logits_PL, pseudo_P, config)], dim=1).logsumexp(1) - own_P1[:, 0]
    is_label_LP = pseudo_P == torch.arange(len(rows_LD), device=pseudo_P.device)[:, None]
    if config.hard:
        own_cosine_P = cosine_PL.detach().gather(1, pseudo_P[:, None])[:, 0]
        weight_P = _pixel_weights(own_cosine_P, is_label_LP, key_P, config)
    else:
        weight_P = torch.ones_like(entropy_P)
    weight_LP = is_label_LP * weight_P
    loss_L = weight_LP @ entropy_P / weight_LP.sum(1).clamp(min=1)
    counted_L = is_label_LP.any(1) if config.count_lone else weight_LP.any(1)
    return loss_L.sum() / counted_L.sum().clamp(min=1)


def _rivals(logits_PL: Tensor, pseudo_P: Tensor, config: ContrastConfig) -> Tensor:
    """The logits that a pixel's own is held against: with mining, those of the semi-hard prototypes; else of all
    others."""
    is_own_PL = pseudo_P[:, None] == torch.arange(logits_PL.shape[1], device=pseudo_P.device)
    others_PL = logits_PL.masked_fill(is_own_PL, float("-inf"))
    if not config.mining:
        return others_PL
    ranked = (logits_PL if config.rank_own else others_PL).sort(dim=1, descending=True, stable=True).values
    return ranked[:, config.dropped : config.dropped + config.kept]


def _pixel_weights(cosine_P: Tensor, is_label_LP: Tensor, key_P: Tensor, config: ContrastConfig) -> Tensor:
    """How often each pixel counts: of each label's n, n // 2 are drawn, and n // 2 are hard: of the int(0.6 n) least
    similar to their prototype all but the very least, which may have a wrong label."""
    count_L = is_label_LP.sum(1)
    count_P = (is_label_LP * count_L[:, None]).sum(0)
    half_P = count_P // 2
    drawn_P = _rank_within_label(key_P, is_label_LP) < half_P
    rank_P = _rank_within_label((cosine_P + 1) / 2, is_label_LP)
    end_P = (config.hard_share * count_P.double()).long()
    hard_P = (rank_P >= end_P - half_P) & (rank_P < end_P)
    times_P = drawn_P.float() + hard_P.float()
    return times_P if config.count_twice else times_P.clamp(max=1)


def _rank_within_label(value_P: Tensor, is_label_LP: Tensor) -> Tensor:
    """Each pixel's rank by value among those of its label, from 0; equal ones in their order. Nothing waits for a
    count."""
    order_P = value_P.argsort(stable=True)
    sorted_LP = is_label_LP[:, order_P]
    rank_P = ((sorted_LP.cumsum(1) - 1) * sorted_LP).sum(0)
    return torch.empty_like(rank_P).scatter_(0, order_P, rank_P)
