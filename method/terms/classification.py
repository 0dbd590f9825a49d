"""Terms on image labels.

Maps are (N, L, h, w) with background as the last channel; `label` is (N, K), ones for the classes in the image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def classification_loss(logits: Sequence[Tensor], label: Tensor, *, cam_rv: Sequence[Tensor] | None = None) -> Tensor:
    """Image labels against the foreground logits, a mean over the views; with refined maps, their quiet pixels are kept
    quiet, too (`min_pool_loss`).

    logits: a view's, (N, K) or, with background last, (N, K + 1). cam_rv: a view's refined maps.
    """
    classes = label.shape[1]
    entropy = [F.multilabel_soft_margin_loss(each[:, :classes].float(), label) for each in logits]
    loss = torch.stack(entropy).mean()
    if cam_rv is not None:
        loss = loss + torch.stack([min_pool_loss(each.float(), label) for each in cam_rv]).mean()
    return loss


def min_pool_loss(cam_rv: Tensor, label: Tensor) -> Tensor:
    """Mean activation of each image's least activated quarter of pixels, in the refined foreground maps.

    Keeps the refined map from lighting up everywhere: an image's quietest pixels should belong to no class.
    """
    strongest = (cam_rv[:, :-1] * label[:, :, None, None]).amax(dim=1).flatten(1)
    lowest = strongest.topk(max(strongest.shape[1] // 4, 1), dim=1, largest=False).values
    return lowest.relu().mean()
