"""HSC's terms the plain way, for ours to be timed against: loops over views, images and classes.

Each gives the value of the vectorised term of `method.hsc.contrast` with the released switches. Shapes as there; the
banks are changed in place.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from method.hsc.config import ContrastConfig
from voc12.classes import NUM_CLASSES as BACKGROUND

NUM_LABELS = BACKGROUND + 1

CONFIG = ContrastConfig()


def contrast_terms(
    feat_pixel: Tensor,
    feat_region: Tensor,
    cam: Tensor,
    score: Tensor,
    pseudo: Tensor,
    label: Tensor,
    banks: list[Tensor],
) -> dict[str, Tensor]:
    """rsc, csc and psc of stacked views; `banks`: region (2, 2, D), class and pixel (2, L, D)."""
    return {
        "rsc": region_contrast(feat_region, pseudo, banks[0]),
        "csc": class_contrast(feat_region, cam, label, banks[1]),
        "psc": pixel_contrast(feat_pixel, score, pseudo, banks[2]),
    }


def region_contrast(feat: Tensor, pseudo: Tensor, bank: Tensor) -> Tensor:
    feat = F.normalize(feat.float(), dim=-1)
    means = {}
    for view in range(2):
        for region in range(2):
            rows = []
            for image, labels in zip(feat[view], pseudo[view], strict=True):
                mask = ((labels == BACKGROUND) if region == 0 else (labels != BACKGROUND)).to(image)
                rows.append(F.normalize((image * mask).sum(dim=(1, 2)) / (mask.sum() + 1e-5), dim=0))
            means[view, region] = torch.stack(rows)

    def distance(background: Tensor, foreground: Tensor) -> Tensor:
        cosine = (background @ foreground.T).clamp(CONFIG.min_cosine, 1 - CONFIG.min_cosine)
        return -(1 - cosine).log().mean()

    loss = sum(distance(means[view, 0], means[other, 1]) for view in range(2) for other in range(2)) / 2
    for (view, region), rows in means.items():
        loss = loss + (bank[view, region] - rows).abs().mean() / 2
        bank[view, region] = (bank[view, region] + rows.detach().mean(dim=0)) / 2
    return CONFIG.weight * loss


def class_contrast(feat: Tensor, cam: Tensor, label: Tensor, bank: Tensor) -> Tensor:
    shares = (cam * F.pad(label, (0, 1), value=1.0)[None, :, :, None, None]).softmax(dim=2)
    features = feat.float().permute(0, 1, 3, 4, 2).flatten(1, 3)
    total, present = 0, [c for c in range(label.shape[1]) if label[:, c].any()]
    for c in present:
        rows = []
        for view in range(2):
            weight, pixel = shares[view, :, c].flatten().sort(descending=True, stable=True)

            def row(count: int, view: int = view, weight: Tensor = weight, pixel: Tensor = pixel) -> Tensor:
                weighted = weight[:count, None] * features[view][pixel[:count]]
                return F.normalize(weighted.sum(dim=0) / weight[:count].sum(), dim=0)

            anchor = row(CONFIG.class_pixels)
            rows.append(row(CONFIG.class_bank_pixels).detach())
            for other in range(2):
                logits = F.normalize(bank[other], dim=1) @ anchor / CONFIG.temperature
                total = total + logits.logsumexp(dim=0) - logits[c]
        for view in range(2):
            bank[view, c] = (rows[view] + bank[view, c]) / 2
    return CONFIG.weight / 4 / len(present) * total


def pixel_contrast(feat: Tensor, score: Tensor, pseudo: Tensor, bank: Tensor) -> Tensor:
    features = feat.float().permute(0, 1, 3, 4, 2).flatten(1, 3)
    count = feat.shape[-2] * feat.shape[-1] // CONFIG.pixel_share
    prototypes = [torch.zeros_like(bank[view]) for view in range(2)]
    for view in range(2):
        for c in range(NUM_LABELS):
            weight, pixel = score[view, :, c].flatten().sort(descending=True, stable=True)
            weighted = weight[:count, None] * features[view].detach()[pixel[:count]]
            prototypes[view][c] = F.normalize(weighted.sum(dim=0) / weight[:count].sum(), dim=0)

    def towards(view: int, labels_of: int, rows: Tensor) -> Tensor:
        logits = F.normalize(features[view], dim=1) @ rows.T / CONFIG.temperature
        return F.cross_entropy(logits, pseudo[labels_of].flatten())

    loss = 0
    for view in range(2):
        loss = loss + towards(view, view, prototypes[view]) + towards(view, view, prototypes[1 - view])
        loss = loss + towards(view, 1 - view, prototypes[view]) + towards(view, view, bank[view].clone())
        bank[view] = (prototypes[view] + bank[view]) / 2
    return CONFIG.weight / 2 * loss
