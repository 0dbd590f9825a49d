"""The training images of DHR with what their labels are made from (paper/method.md, DHR): a batch has lists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.augmentation import random_crop, random_integer, resized
from data.normalisation import Normalisation
from data.training import AugmentedImages
from rebalance.boxes import Box, features_of_crop
from rebalance.crf import seen_by_crf
from rebalance.feature_files import load_features
from rebalance.labels import Scene
from tool.artifact import load_label_map
from tool.cli import UserError
from tool.dataset import IGNORE, DataSet


class RebalanceAugmentation:
    """Random resizing, mirroring, colour jitter, normalisation and cropping of an image, its mask and its features.

    Args:
        crop_size: side of the square output in pixels.
        resize: bounds of the image's longer side before cropping, in pixels, both included.
        jitter: of brightness, contrast, saturation and hue.
        normalisation: the net's.
        plain_picture: whether the CRF sees the image itself, not what `seen_by_crf` makes of it.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(
        self,
        *,
        crop_size: int,
        resize: tuple[int, int],
        jitter: tuple[float, float, float, float],
        normalisation: Normalisation,
        plain_picture: bool = False,
    ):
        from torchvision.transforms import v2  # not at the top: it takes as long as torch, in each process

        self.crop_size = crop_size
        self.resize = resize
        self.jitter = v2.ColorJitter(*jitter)
        self.normalisation = normalisation
        self.plain_picture = plain_picture

    def __call__(self, image: Image.Image, mask: np.ndarray, features: Tensor) -> dict[str, Any]:
        """Augment an RGB image (W, H), its label map, uint8 (H, W), and its features, (D, h, w).

        Returns:
            image: normalised, float32 (3, c, c), 0 where the resized image does not reach. picture: what the CRF sees
            of it, uint8 (c, c, 3). mask: uint8 (c, c), 255 there. box: where it reaches. features: float32, of the box.
        """
        longer_side = random_integer(*self.resize)
        size = resized(image.size, longer_side)
        image = image.resize(size, Image.Resampling.BICUBIC)
        labels = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
        mirrored = bool(torch.rand(()) < 0.5)
        if mirrored:
            image, labels = (each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in (image, labels))
        image = self.jitter(image)
        place = random_crop(size, self.crop_size)
        crop, padding = Box(*place.box()), place.padding(self.crop_size)
        x, right, y, below = padding
        box = Box(x, y, self.crop_size - right, self.crop_size - below)
        pixels = np.array(image.crop(crop))
        picture = pixels if self.plain_picture else seen_by_crf(pixels, self.normalisation)
        return {
            "image": F.pad(self.normalisation(pixels), padding),
            "picture": F.pad(torch.from_numpy(picture), (0, 0, *padding)),
            "mask": F.pad(torch.from_numpy(np.array(labels.crop(crop))), padding, value=IGNORE),
            "box": box,
            "features": features_of_crop(features, image_size=size, crop=crop, mirrored=mirrored),
        }


class RebalanceSet(AugmentedImages):
    """Images with their masks and features, as `RebalanceAugmentation` makes them, and `tags`: float32 (K,).

    Args:
        images, seed: of `AugmentedImages`. mask_root: folder of `<id>.png`. feature_root: folder of `<id>.pt`;
            None: a cell of zeros is in their place.
        tags: of each of `images`, zeros and ones, of the classes of `data_set`.
        augmentation: draws its randomness from torch's global CPU generator.
    """

    def __init__(
        self,
        images: Mapping[str, Path],
        *,
        mask_root: Path,
        feature_root: Path | None,
        tags: Mapping[str, np.ndarray],
        data_set: DataSet,
        augmentation: RebalanceAugmentation,
        seed: int,
    ):
        super().__init__(images, seed=seed)
        self.mask_root, self.feature_root = mask_root, feature_root
        self.tags = torch.from_numpy(np.stack([tags[image_id] for image_id in self.ids]))
        self.data_set = data_set
        self.augmentation = augmentation

    def read(self, index: int, image: Image.Image) -> tuple[np.ndarray, Tensor]:
        mask = load_label_map(self.mask_root / f"{self.ids[index]}.png", self.data_set, shape=image.size[::-1])
        if self.feature_root is None:
            return mask, torch.zeros(1, 1, 1)
        path = self.feature_root / f"{self.ids[index]}.pt"
        features = load_features(path)
        if not features.isfinite().all():
            raise UserError(f"{path}: features are not finite (NaN or infinite); run rebalance/features.py again")
        return mask, features

    def augment(self, index: int, image: Image.Image, mask: np.ndarray, features: Tensor) -> dict[str, Any]:
        return {**self.augmentation(image, mask, features), "tags": self.tags[index]}


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch: of what differs in size from image to image, and of ids, boxes and classes, a list."""
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in ("image", "picture", "mask", "tags")}
    lists = {name: [sample[name] for sample in samples] for name in ("box", "features", "id")}
    return {**batch, **lists, "classes": [sample["tags"].nonzero().flatten().tolist() for sample in samples]}


def scenes_of(batch: Mapping[str, Any], device: torch.device) -> list[Scene]:
    """What the labels of a batch are made from, brought to `device`."""
    pictures, masks = (batch[name].to(device, non_blocking=True) for name in ("picture", "mask"))
    features = [each.to(device, non_blocking=True) for each in batch["features"]]
    return [
        Scene(picture, mask, Box(*box), classes, own, name)
        for picture, mask, box, classes, own, name in zip(
            pictures, masks.long(), batch["box"], batch["classes"], features, batch["id"], strict=True
        )
    ]
