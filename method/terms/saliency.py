"""Saliency guidance (EPS).

Maps are (N, L, h, w) with background as the last channel; `label` is (N, K), ones for the classes in the image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def saliency_guidance(
    maps: Sequence[Sequence[Tensor]],
    saliency: Sequence[Tensor],
    label: Tensor,
    *,
    overlap: float,
    foreground_share: float,
) -> Tensor:
    """The saliency loss of several kinds of maps, such as CAMs and refined CAMs: each a mean over the views, added.

    maps: of each kind a view's. saliency: a view's. The rest is `saliency_loss`'s.
    """
    numbers = {"overlap": overlap, "foreground_share": foreground_share}
    kinds = [
        torch.stack([saliency_loss(*pair, label, **numbers)[0] for pair in zip(of_kind, saliency, strict=True)]).mean()
        for of_kind in maps
    ]
    return torch.stack(kinds).sum()


def saliency_loss(
    cam: Tensor, saliency: Tensor, label: Tensor, *, overlap: float, foreground_share: float
) -> tuple[Tensor, Tensor]:
    """Squared distance between the saliency that the CAM predicts and the given one (Lee et al., EPS, CVPR 2021).

    Args:
        cam: (N, L, h, w), any range.
        saliency: (N, 1, H, W) in 0..1, brought to the map's size by nearest neighbour.
        label: (N, K).
        overlap: tau. A present class joins the foreground where more than this share of its map is salient.
        foreground_share: alpha, the foreground map's weight against the inverted background map's.

    Returns:
        The mean loss, and the predicted saliency (N, 1, h, w) in 0..1.
    """
    target = F.interpolate(saliency, cam.shape[-2:], mode="nearest")
    probability = cam.float().softmax(dim=1)
    foreground, background = probability[:, :-1], probability[:, -1:]
    with torch.no_grad():
        confident = foreground.round()
        share = (confident * target.round()).sum((2, 3)) / (confident + 1e-4).sum((2, 3))
        present = label > 0
        kept = (present & (share > overlap)).float()[:, :, None, None]
        rejected = (present & (share <= overlap)).float()[:, :, None, None]
    foreground_map = (foreground * kept).sum(1, keepdim=True)
    background_map = background + (foreground * rejected).sum(1, keepdim=True)
    predicted = foreground_share * foreground_map + (1 - foreground_share) * (1 - background_map)
    return F.mse_loss(predicted, target), predicted
