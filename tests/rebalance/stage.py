"""A tiny data set for DHR: plain shapes of seven classes, masks of an earlier method, and features of their colours."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from data.images import load_rgb
from rebalance.feature_files import grid_of, save_features
from tests.shapes import Shapes, make_shapes
from tool.artifact import load_label_map, save_label_map
from tool.lists import Source, find_images

TRAIN = "rebalance/train.py"
PATCH = 14
STEPS = 4  # two epochs of eight images in batches of four
TINY = {
    **{"--backbone": "resnet38d", "--width": 0.0625, "--weights": "none", "--crop_size": 64, "--batch_size": 4},
    **{"--min_image": 40, "--max_image": 72, "--max_epoches": 2, "--lr": 1e-3, "--device": "cpu"},
    **{"--num_workers": 0, "--crf_workers": 1, "--log_every": 1, "--save_every": 1},
}


@dataclass(frozen=True)
class Stage:
    shapes: Shapes
    masks: Path
    features: Path

    @property
    def images(self) -> dict[str, Path]:
        source = Source("", "train_aug.txt")
        return find_images(list(self.shapes.ids), self.shapes.root, self.shapes.data_set, flag="", source=source)

    def flags(self, **changes: object) -> dict[str, object]:
        """That lead train.py to it."""
        root = self.shapes.root
        places = {"--data_set": self.shapes.data_set.name, "--data_root": root, "--labels": root / "labels.json"}
        made = {"--wss_masks": self.masks, "--uss_features": self.features, "--train_list": root / "train_aug.txt"}
        return {**TINY, **places, **made, **changes}


def make_stage(root: Path) -> Stage:
    """Masks are the true ones without one class of each image; features are means of colours, and where a cell is."""
    stage = Stage(make_shapes(root / "data", classes=7), root / "masks", root / "features")
    stage.masks.mkdir()
    stage.features.mkdir()
    for image_id, path in stage.images.items():
        mask = load_label_map(stage.shapes.mask(image_id), stage.shapes.data_set)
        lost = max(label for label in np.unique(mask) if label != 255)
        save_label_map(
            stage.masks / f"{image_id}.png", np.where(mask == lost, 0, mask).astype(np.uint8), stage.shapes.data_set
        )
        save_features(stage.features / f"{image_id}.pt", colours_of(path))
    (stage.features / "settings.json").write_text(json.dumps({"uss": "colours"}))
    return stage


def colours_of(path: Path) -> torch.Tensor:
    """Features (5, h, w) of an image: centred colours and the place."""
    image = load_rgb(path)
    pixels = torch.tensor(np.array(image)).permute(2, 0, 1).float() / 128 - 1
    grid = grid_of(image.size, PATCH)
    cells = F.interpolate(pixels[None], grid, mode="bilinear", align_corners=False, antialias=True)[0]
    places = torch.meshgrid(*(torch.linspace(-0.2, 0.2, side) for side in grid), indexing="ij")
    return torch.cat([cells, torch.stack(places)])
