"""Two-scale consistency (SEAM): pure functions, no state.

Maps are (N, L, h, w) with background as the last channel; `label` is (N, K), ones for the classes in the image.
"""

import torch
from torch import Tensor

from method.terms.maps import resize, with_background

EPSILON = 1e-5


def min_max_normalise(maps: Tensor) -> Tensor:
    """(N, C, h, w) -> each channel's positive part brought to 0..1, its smallest value to 0 (n(x) of the spec)."""
    maps = maps.float().relu()
    low = maps.amin((2, 3), keepdim=True)
    high = maps.amax((2, 3), keepdim=True)
    return (maps - low - EPSILON).relu() / (high - low + EPSILON)


def keep_strongest(maps: Tensor, *, skip_first_channel: bool) -> Tensor:
    """Zero all but each pixel's largest channel (h(x) of the spec).

    **Q** With `skip_first_channel`, as released, channel 0 (the first class) takes no part and stays as it is.
    """
    first = int(skip_first_channel)
    competing = maps[:, first:]
    strongest = competing * (competing == competing.amax(1, keepdim=True))
    return torch.cat([maps[:, :first], strongest], dim=1)


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
    skip_first_channel: bool,
) -> tuple[Tensor, Tensor]:
    """Equivariant regularisation and equivariant cross regularisation (Wang et al., SEAM, CVPR 2020) on view 2's grid.

    Args:
        cam1, cam_rv1: (N, L, h1, w1), view 1's CAM and refined CAM. cam2, cam_rv2: (N, L, h2, w2), view 2's.

    Returns:
        (er, ecr), both means.
    """
    size, present = cam2.shape[-2:], with_background(label)
    cams = [resize(min_max_normalise(cam), size) * present for cam in (cam1, cam2)]
    refined = [resize(min_max_normalise(cam), size) * present for cam in (cam_rv1, cam_rv2)]
    er = (cams[0][:, :-1] - cams[1][:, :-1]).abs().mean()

    ecr = cam1.new_zeros((), dtype=torch.float32)
    for target_cam, refined_cam in ((cams[1], refined[0]), (cams[0], refined[1])):
        foreground = target_cam.detach()[:, :-1]
        target = torch.cat([foreground, 1 - foreground.amax(1, keepdim=True)], dim=1)
        target = keep_strongest(target, skip_first_channel=skip_first_channel)
        ecr = ecr + hardest_mean((target - refined_cam).abs(), hardest_share)
    return er, ecr
