"""The three levels of semantic contrast of HSC (Wu et al., IJCAI 2023): pure functions of features, maps and banks.

Both views stand on one grid and are handled together. Shape suffixes:
    V views (2), N images, H W grid, P pixels of the batch (N * H * W, ordered image, row, column),
    K classes, L labels (K + 1, background last), R regions (2: background, foreground), D feature channels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from method.hsc.config import ContrastConfig
from method.terms.contrast import (
    flatten_pixels,
    pixel_prototypes,
    prototype_entropy,
    strongest_pixels,
    weighted_sum,
)


class Contrast(NamedTuple):
    """A term's value and the rows its bank has after the step, detached and of the bank's shape."""

    loss: Tensor
    bank: Tensor


def region_contrast(
    feat_VNDHW: Tensor,
    pseudo_VNHW: Tensor,
    bank_VRD: Tensor,
    *,
    background: int,
    bank: bool,
    cross: bool,
    config: ContrastConfig,
) -> Contrast:
    """Push the background's mean feature away from the foreground's, and both towards their banks (rsc).

    Args:
        feat_VNDHW: region features, any range.
        pseudo_VNHW: pseudo labels; `background` is theirs.
        bank_VRD: momentum prototypes, row 0 background, row 1 foreground.
        bank: without it the two distances to the bank are left out.
        cross: without it the pairs across views are left out.
    """
    feat = F.normalize(feat_VNDHW.float(), dim=-1 if config.norm_along_width else 2)
    is_background = pseudo_VNHW == background
    mask_VNRP = torch.stack([is_background, ~is_background], dim=2).flatten(3).to(feat)
    mean_VNRD = mask_VNRP @ feat.flatten(3).transpose(2, 3) / (mask_VNRP.sum(-1, keepdim=True) + 1e-5)
    region_VRND = F.normalize(mean_VNRD, dim=-1).transpose(1, 2)

    background_VND, foreground_VND = region_VRND.unbind(1)
    cosine = torch.einsum("vnd,umd->vunm", background_VND, foreground_VND)
    repulsion_VV = -(1 - cosine.clamp(config.min_cosine, 1 - config.min_cosine)).log().mean((2, 3))
    loss = repulsion_VV.diagonal().sum() / 2
    if cross:
        loss = loss + (repulsion_VV[0, 1] + repulsion_VV[1, 0]) / 2
    if bank:
        loss = loss + (bank_VRD[:, :, None] - region_VRND).abs().mean((2, 3)).sum() / 2
    moved = bank_VRD.lerp(region_VRND.detach().mean(2), 1 - config.bank_momentum)
    return Contrast(config.weight * loss, moved)


def class_contrast(
    feat_VNDHW: Tensor,
    cam_VNLHW: Tensor,
    label_NK: Tensor,
    bank_VLD: Tensor,
    *,
    bank: bool,
    cross: bool,
    config: ContrastConfig,
) -> Contrast:
    """Contrast each present class's mean feature with the class bank, own and other view's (csc).

    The published code scores and moves the classes one after the other, ascending, so that class c meets the rows of
    lower present classes already moved. The same here by choosing, per (anchor, row), the old or the moved row.

    Args:
        feat_VNDHW: region features, any range.
        cam_VNLHW: normalised CAMs, no gradient; the last channel holds the background score.
        label_NK: image labels.
        bank_VLD: momentum prototypes.
        bank: without it the rows are this step's own and absent classes are no negatives.
        cross: without it the other view's bank is left out.
    """
    num_classes = label_NK.shape[1]
    label_NL = F.pad(label_NK, (0, 1), value=1.0)
    weight_VNLHW = (cam_VNLHW * label_NL[None, :, :, None, None]).softmax(dim=2)
    weight_VKP = flatten_pixels(weight_VNLHW[:, :, :num_classes]).transpose(1, 2)
    feat_VPD = flatten_pixels(feat_VNDHW.float())
    top_weight, top_pixel = strongest_pixels(weight_VKP, config.class_pixels)
    anchor_VKD = F.normalize(weighted_sum(top_weight, top_pixel, feat_VPD), dim=-1)
    count = config.class_bank_pixels
    row_VKD = F.normalize(weighted_sum(top_weight[..., :count], top_pixel[..., :count], feat_VPD.detach()), dim=-1)

    present_K = label_NK.amax(0) > 0
    moved_VKD = torch.where(
        present_K[:, None], bank_VLD[:, :num_classes].lerp(row_VKD, 1 - config.bank_momentum), bank_VLD[:, :num_classes]
    )
    moved_VLD = torch.cat([moved_VKD, bank_VLD[:, num_classes:]], dim=1)
    if bank:
        before_VLD, after_VLD = bank_VLD, moved_VLD
        is_negative_L = F.pad(torch.ones_like(present_K), (0, 1), value=config.random_background_row)
    else:
        before_VLD = after_VLD = F.pad(row_VKD, (0, 0, 0, 1))
        is_negative_L = F.pad(present_K, (0, 1), value=False)

    def cosine(rows_VLD: Tensor) -> Tensor:
        """(anchor's view, bank's view, K, L)"""
        return torch.einsum("vkd,uld->vukl", anchor_VKD, F.normalize(rows_VLD, dim=-1))

    seen_moved_KL = torch.ones(num_classes, num_classes + 1, device=present_K.device).tril(-1) > 0
    logits_VVKL = torch.where(seen_moved_KL, cosine(after_VLD), cosine(before_VLD)) / config.temperature
    own_KL = torch.eye(num_classes, num_classes + 1, dtype=torch.bool, device=present_K.device)
    logits_VVKL = logits_VVKL.masked_fill(~(is_negative_L | own_KL), float("-inf"))
    entropy_VVK = logits_VVKL.logsumexp(-1) - logits_VVKL.diagonal(dim1=2, dim2=3)
    # An absent class's anchor is no anchor; where() and not a product, since its entropy may be anything.
    entropy_VV = torch.where(present_K, entropy_VVK, 0.0).sum(-1) / present_K.sum().clamp(min=1)
    total = entropy_VV.sum() if cross else entropy_VV.diagonal().sum()
    return Contrast(config.weight * total / 4, moved_VLD.detach())


def pixel_contrast(
    feat_VNDHW: Tensor,
    score_VNLHW: Tensor,
    pseudo_VNHW: Tensor,
    label_NK: Tensor,
    bank_VLD: Tensor,
    *,
    bank: bool,
    cross: bool,
    config: ContrastConfig,
) -> Contrast:
    """Pull each pixel to its pseudo label's prototype, away from the others' (psc).

    Args:
        feat_VNDHW: pixel features, any range.
        score_VNLHW: what ranks and weights the pixels of each label, no gradient.
        pseudo_VNHW: pseudo labels, 0..L-1.
        label_NK: image labels.
        bank_VLD: momentum prototypes, as they are (**Q** not normalised).
        bank, cross: the ablation; without them their parts are left out, the divisor stays.
    """
    feat_VPD = flatten_pixels(feat_VNDHW.float())
    pixels_per_map = feat_VNDHW.shape[-2] * feat_VNDHW.shape[-1]
    prototype_VLD = pixel_prototypes(
        feat_VPD, flatten_pixels(score_VNLHW).transpose(1, 2), max(pixels_per_map // config.pixel_share, 1)
    )
    feat_VPD = F.normalize(feat_VPD, dim=-1)
    pseudo_VP = pseudo_VNHW.flatten(1)
    usable_L = F.pad(label_NK.amax(0) > 0, (0, 1), value=True) | config.absent_prototypes
    bank_rows_VLD = F.normalize(bank_VLD, dim=-1) if config.normalise_pixel_bank else bank_VLD

    def entropy(view: int, pseudo_view: int, rows_LD: Tensor) -> Tensor:
        return prototype_entropy(
            feat_VPD[view], pseudo_VP[pseudo_view], rows_LD, temperature=config.temperature, usable_L=usable_L
        )

    # (view of the features, view of the pseudo label, rows)
    terms = [(0, 0, prototype_VLD[0]), (1, 1, prototype_VLD[1])]
    if cross:
        terms += [(0, 0, prototype_VLD[1]), (1, 1, prototype_VLD[0])]  # cross prototype
        terms += [(0, 1, prototype_VLD[0]), (1, 0, prototype_VLD[1])]  # cross pseudo label
    if bank:
        terms += [(0, 0, bank_rows_VLD[0]), (1, 1, bank_rows_VLD[1])]
    loss = torch.stack([entropy(*term) for term in terms]).sum()
    moved_VLD = bank_VLD.lerp(prototype_VLD, 1 - config.bank_momentum)
    return Contrast(config.weight / 2 * loss, torch.where(usable_L[:, None], moved_VLD, bank_VLD))
