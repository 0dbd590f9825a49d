"""The generated images and maps of DHR's golden labels and steps."""

import numpy as np
import torch

from data.normalisation import IMAGENET
from rebalance.boxes import Box
from rebalance.crf import seen_by_crf
from rebalance.labels import Scene
from tests.golden_inputs import rnd, uni
from tool.dataset import DataSet

DATA_SETS = {
    "labels": DataSet("shapes.json", "shapes", tuple(f"class {number}" for number in range(20))),
    "labels_no_background": DataSet("bare.json", "bare", tuple(f"class {n}" for n in range(6)), background=False),
}


def golden_pixels(seed):
    """Four images, uint8 (4, 128, 128, 3): coarse blocks with fine noise."""
    coarse = (uni(seed, 4, 3, 16, 16) * 200).byte().repeat_interleave(8, 2).repeat_interleave(8, 3)
    return (coarse + (uni(seed + 1, 4, 3, 128, 128) * 25).byte()).permute(0, 2, 3, 1)


def golden_scenes(file, pixels, *, suffix="", device="cpu"):
    """The scenes whose masks, boxes, labels and features are in a golden file, under names that end in `suffix`."""
    scenes = []
    for number, box in enumerate(file["boxes"].tolist()):
        scenes.append(
            Scene(
                torch.from_numpy(seen_by_crf(pixels[number].numpy(), IMAGENET)).to(device),
                torch.from_numpy(file[f"mask{suffix}"][number].astype(np.int64)).to(device),
                Box(*box),
                file[f"image_labels{suffix}"][number].nonzero()[0].tolist(),
                torch.from_numpy(file[f"f_us{suffix}_{number}"]).float().to(device),
            )
        )
    return scenes


def golden_maps(seed, data_set, device="cpu"):
    """What the stand-in net gives: CAMs, logits, C4 and C5."""
    classes, labels = data_set.num_classes, data_set.num_labels
    return [
        maps.to(device)
        for maps in (
            2 * rnd(seed + 70, 4, classes, 8, 8) + 0.5,
            rnd(seed + 71, 4, labels, 32, 32),
            rnd(seed + 72, 4, 16, 16, 16),
            rnd(seed + 73, 4, 24, 16, 16).relu(),
        )
    ]
