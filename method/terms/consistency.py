"""Two-scale consistency (SEAM): pure functions, no state.

Maps are (N, L, h, w) with background as the last channel; `label` is (N, K), ones for the classes in the image.
"""

import torch
from torch import Tensor

from method.terms.maps import resize, with_background
from tool.cam import min_max


def keep_strongest(maps: Tensor, *, spared_channel: int | None) -> Tensor:
    """Zero all but each pixel's largest channel (h of paper/method.md); `spared_channel` takes no part and
    stays as it is.

    SEAM spares the background, its first channel. **Q** HSC's release kept that index, where the first class is.
    """
    if spared_channel is None:
        return maps * (maps == maps.amax(1, keepdim=True))
    is_spared = torch.zeros(maps.shape[1], 1, 1, dtype=torch.bool, device=maps.device)
    is_spared[spared_channel] = True
    return maps * (is_spared | (maps == maps.masked_fill(is_spared, float("-inf")).amax(1, keepdim=True)))


def hardest_mean(distance: Tensor, share: float) -> Tensor:
    """Mean over images of the mean of each image's largest `share` of entries; (N, C, h, w) -> scalar."""
    entries = distance.flatten(1)
    return entries.topk(max(int(entries.shape[1] * share), 1), dim=1).values.mean()


def consistency_losses(
    cam1: Tensor,
    cam2: Tensor,
    cam_rv1: Tensor,
    cam_rv2: Tensor,
    label: Tensor,
    *,
    hardest_share: float,
    spared_channel: int | None,
) -> tuple[Tensor, Tensor]:
    """Equivariant regularisation and equivariant cross regularisation (Wang et al., SEAM, CVPR 2020) on view 2's grid.

    Args:
        cam1, cam_rv1: (N, L, h1, w1), view 1's CAM and refined CAM. cam2, cam_rv2: (N, L, h2, w2), view 2's.
        hardest_share: of each image's entries, those that ecr averages. spared_channel: of `keep_strongest`.

    Returns:
        (er, ecr), both means.
    """
    size, present = cam2.shape[-2:], with_background(label)

    def normalised(cam: Tensor) -> Tensor:
        return resize(min_max(cam.float()).relu(), size) * present  # 0..1

    cams, refined = ([normalised(cam) for cam in pair] for pair in ((cam1, cam2), (cam_rv1, cam_rv2)))
    er = (cams[0][:, :-1] - cams[1][:, :-1]).abs().mean()

    ecr = cam1.new_zeros((), dtype=torch.float32)
    for target_cam, refined_cam in ((cams[1], refined[0]), (cams[0], refined[1])):
        foreground = target_cam.detach()[:, :-1]
        target = torch.cat([foreground, 1 - foreground.amax(1, keepdim=True)], dim=1)
        target = keep_strongest(target, spared_channel=spared_channel)
        ecr = ecr + hardest_mean((target - refined_cam).abs(), hardest_share)
    return er, ecr
