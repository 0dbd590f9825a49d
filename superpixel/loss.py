"""What the superpixel network learns from: colour and place of each pixel, rebuilt from its superpixels."""

import torch
from torch import Tensor

from network.cells import CELL
from network.superpixel import pool, up

SCALE = 0.005  # of the whole loss
PLACE_WEIGHT = 0.003  # of places, in pixels, beside colours, in 0..1


def pixel_features(lab: Tensor) -> Tensor:
    """float32 (N, 5, H, W): OpenCV's 8-bit Lab `lab`, uint8 (N, 3, H, W), by 255; column and row, from 0."""
    images, _, height, width = lab.shape
    rows = torch.arange(height, device=lab.device, dtype=torch.float32)[:, None].expand(height, width)
    columns = torch.arange(width, device=lab.device, dtype=torch.float32).expand(height, width)
    places = torch.stack([columns, rows]).expand(images, 2, height, width)
    return torch.cat([lab.float() / 255, places], dim=1)


def reconstruction_losses(association: Tensor, lab: Tensor) -> dict[str, Tensor]:
    """How far pixels are from what `pool` and then `up` make of them: `total` and its terms `lab` and `xy`, scalars.

    Args:
        association: float (N, 9, H, W), H and W multiples of 16. lab: uint8 (N, 3, H, W), of `pixel_features`.
    """
    features = pixel_features(lab)
    away = up(pool(features, association), association) - features
    divisor = len(lab) * CELL
    colour = torch.linalg.vector_norm(away[:, :3], dim=1).sum() / divisor
    place = torch.linalg.vector_norm(away[:, 3:], dim=1).sum() / divisor
    terms = {"lab": SCALE * colour, "xy": SCALE * PLACE_WEIGHT * place}
    return {"total": terms["lab"] + terms["xy"], **terms}
