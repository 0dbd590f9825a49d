"""How good a superpixel network is on masks: what its superpixels keep of them, and how far labels walk along them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.images import load_rgb
from network.scn import SCN
from network.superpixel import hard_map, walk
from superpixel.measures import figures, superpixel_counts
from tool.artifact import load_label_map
from tool.dataset import IGNORE, DataSet
from tool.device import autocast, copied_to
from tool.distributed import found_by_all
from tool.metric import iou, label_counts, occurs

COARSE = 12  # cells of a side that labels are blurred to before they walk
STEPS = 20  # of the walk


def walked_labels(association: Tensor, labels: Tensor, data_set: DataSet) -> Tensor:
    """Labels, blurred and walked back along the superpixels: int64 (N, H, W).

    association: float (N, 9, H, W). labels: int64 (N, H, W) of `data_set`; 255 counts as background, where there is
    one, else as no label.
    """
    unlabelled = 0 if data_set.background else data_set.num_labels
    channels = F.one_hot(labels.where(labels != IGNORE, unlabelled), data_set.num_labels + 1)
    maps = channels[..., : data_set.num_labels].permute(0, 3, 1, 2).float()
    coarse = F.interpolate(maps, (COARSE, COARSE), mode="bilinear", align_corners=False)
    blurred = F.interpolate(coarse, maps.shape[2:], mode="bilinear", align_corners=False)
    return walk(blurred, association, STEPS).argmax(dim=1)


def top_left(image: np.ndarray, crop_size: int) -> np.ndarray:
    """The top left corner of (H, W) or (H, W, 3), at most (crop_size, crop_size)."""
    return image[:crop_size, :crop_size]


@torch.no_grad()
def validate(
    net: SCN,
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    *,
    data_set: DataSet,
    crop_size: int,
    amp: str = "off",
) -> dict[str, float]:
    """Figures in 0..1, by name: `mIoU` of walked labels, over those that occur, and the measures.

    They are of all processes together, each of which takes its share of `images` and `masks`, by id. Of each image its
    top left crop; beside it nothing is counted. The net is left in the mode that it was in. Raises `UserError` naming a
    file that cannot be read.
    """
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()

    def read(image_id: str) -> tuple[np.ndarray, np.ndarray]:
        pixels = top_left(np.asarray(load_rgb(images[image_id])), crop_size)
        return pixels, top_left(load_label_map(masks[image_id], data_set), crop_size)

    def count(image_id: str, pixels_and_mask: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        pixels, mask = pixels_and_mask
        height, width = mask.shape
        beside = (0, crop_size - width, 0, crop_size - height)
        image = F.pad(net.normalisation(pixels, device), beside)[None]
        labels = F.pad(copied_to(torch.from_numpy(mask.astype(np.int64)), device), beside, value=IGNORE)[None]
        with autocast(device, amp):
            association = net(image)
        walked = walked_labels(association, labels, data_set)[0, :height, :width].cpu().numpy()
        superpixels = hard_map(association)[0, :height, :width].cpu().numpy()
        return label_counts(walked, mask, num_labels=data_set.num_labels), superpixel_counts(superpixels, mask)

    counts, measured = map(sum, zip(*found_by_all(list(images), count, read=read, what="validate"), strict=True))
    net.train(was_training)
    found = iou(counts)[occurs(counts)]
    return {"mIoU": float(found.mean()) if found.size else 0.0, **figures(measured)}
