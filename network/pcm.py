"""The pixel correlation module: a CAM refined by the similarity of the pixels' features (paper/method.md, Net; SEAM).

The convolutions that make the features belong to the net, whose released names are flat; here are the formulas.

Shapes: N images, K channels with background last, C feature channels, P = h w pixels.
"""

import torch
from torch.nn import functional as F

EPSILON = 1e-5


@torch.no_grad()
def normalised_cam(cam: torch.Tensor) -> torch.Tensor:
    """`cam` (N, K, h, w) as the PCM spreads it: float32 of the same shape, in [0, 1], without gradient.

    Positive activations are divided by their channel's maximum; background is what the strongest foreground class
    leaves; at each pixel the foreground classes below the strongest are 0 (equals stay).
    """
    cam = F.relu(cam.float())
    peak = cam.amax(dim=(2, 3), keepdim=True) + EPSILON
    foreground = (F.relu(cam - EPSILON) / peak)[:, :-1]
    strongest = foreground.amax(dim=1, keepdim=True)
    foreground = torch.where(foreground < strongest, 0, foreground)
    return torch.cat([foreground, 1 - strongest], dim=1)


def refine(cam: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The refined CAM (N, K, h, w), float32 in [0, 1], of `cam` (N, K, h, w) and `features` (N, C, h, w).

    Every pixel receives the mean of the normalised CAM over all pixels, weighted by the positive part of their
    features' cosine with its own. The gradient goes to `features` only. Runs in float32 also under autocast.
    Memory: one affinity of (N, h w, h w) floats, and its gradient.
    """
    with torch.autocast(cam.device.type, enabled=False):
        cam_NKP = normalised_cam(cam).flatten(2)
        feat_NCP = features.float().flatten(2)
        feat_NCP = feat_NCP / (torch.linalg.vector_norm(feat_NCP, dim=1, keepdim=True) + EPSILON)
        affinity_NPP = F.relu(feat_NCP.transpose(1, 2) @ feat_NCP, inplace=True)
        # A row of ones beside the classes sums the columns in the same product. Dividing K rows by the sums instead of
        # the affinity saves three passes over the largest tensor.
        ones_N1P = torch.ones_like(cam_NKP[:, :1])
        spread_NKP, sum_N1P = (torch.cat([cam_NKP, ones_N1P], dim=1) @ affinity_NPP).split([cam_NKP.shape[1], 1], dim=1)
        return (spread_NKP / (sum_N1P + EPSILON)).reshape(cam.shape)
