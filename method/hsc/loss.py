"""Classification, saliency guidance (EPS) and two-scale consistency (SEAM): pure functions, no state.

Maps are (N, 21, h, w) with background as channel 20; `label` is (N, 20), ones for the classes in the image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners aligned, as everywhere in the method."""
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size, mode="bilinear", align_corners=True)


def with_background(label: Tensor) -> Tensor:
    """(N, 20) image labels -> (N, 21, 1, 1), background always present."""
    return F.pad(label, (0, 1), value=1.0)[:, :, None, None]


def min_pool_loss(cam_rv: Tensor, label: Tensor) -> Tensor:
    """Mean activation of each image's least activated quarter of pixels, in the refined foreground maps.

    Keeps the refined map from lighting up everywhere: an image's quietest pixels should belong to no class.
    """
    strongest = (cam_rv[:, :-1] * label[:, :, None, None]).amax(dim=1).flatten(1)
    lowest = strongest.topk(max(strongest.shape[1] // 4, 1), dim=1, largest=False).values
    return lowest.relu().mean()


def saliency_loss(
    cam: Tensor, saliency: Tensor, label: Tensor, *, overlap: float, foreground_share: float
) -> tuple[Tensor, Tensor]:
    """Squared distance between the saliency that the CAM predicts and the given one (Lee et al., EPS, CVPR 2021).

    Args:
        cam: (N, 21, h, w), any range.
        saliency: (N, 1, H, W) in 0..1, brought to the map's size by nearest neighbour.
        label: (N, 20).
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


def min_max_normalise(maps: Tensor) -> Tensor:
    """(N, C, h, w) -> each channel's positive part brought to 0..1, its smallest value to 0 (n(x) of the spec)."""
    maps = maps.float().relu()
    low = maps.amin((2, 3), keepdim=True)
    high = maps.amax((2, 3), keepdim=True)
    return (maps - low - EPSILON).relu() / (high - low + EPSILON)


def keep_strongest(maps: Tensor, *, skip_first_channel: bool) -> Tensor:
    """Zero all but each pixel's largest channel (h(x) of the spec).

    **Q** With `skip_first_channel`, as released, channel 0 (aeroplane) takes no part and stays as it is.
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
        cam1, cam_rv1: (N, 21, h1, w1), view 1's CAM and refined CAM. cam2, cam_rv2: (N, 21, h2, w2), view 2's.

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
