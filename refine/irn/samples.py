"""The training images of IRN with their sure labels (paper/method.md, IRN)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from data.augmentation import random_crop, top_left
from data.images import load_rgb
from data.normalisation import Normalisation
from network.irn import STRIDE
from tool.dataset import IGNORE
from tool.reading import Reading

FACTORS = 0.5, 1.5  # of an image's sides
MIDDLE = 2  # of a cell's pixels, the one that PIL's nearest takes; PyTorch's takes the first


def reduced(labels: Tensor) -> Tensor:
    """A quarter of labels (..., H, W), of sides that 4 divides."""
    return labels[..., MIDDLE::STRIDE, MIDDLE::STRIDE]


class IRNAugmentation:
    """Resizing, mirroring and cropping of an image and its labels, and normalisation.

    Args:
        crop_size: side of the square output in pixels, a multiple of 4. normalisation: the net's.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(self, *, crop_size: int, normalisation: Normalisation):
        self.crop_size = crop_size
        self.normalisation = normalisation

    def __call__(self, image: Image.Image, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Augment an RGB image (W, H) and its labels, uint8 (H, W).

        Returns:
            The normalised image, float32 (3, c, c), 0 beside it, and a quarter of its labels, int64 (c / 4, c / 4), 255
            beside it.
        """
        low, high = FACTORS
        factor = low + (high - low) * float(torch.rand(()))
        size = tuple(max(1, round(side * factor)) for side in image.size)
        picture = image.resize(size, Image.Resampling.BICUBIC)
        label_map = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
        if torch.rand(()) < 0.5:
            picture, label_map = (each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in (picture, label_map))
        # Cropped before it is normalised, to spare the pixels that are cut off; each pixel is normalised by itself.
        crop = random_crop(size, self.crop_size)
        box, padding = crop.box(), crop.padding(self.crop_size)
        cut = torch.from_numpy(np.array(label_map.crop(box)))
        picture = F.pad(self.normalisation(picture.crop(box)), padding)
        return picture, reduced(F.pad(cut, padding, value=IGNORE)).long()


class TopLeftSet(Dataset):
    """The top left of images, under keys (epoch, index in `images`): `image` float32 (3, c, c), 0 beside it; `id`."""

    def __init__(self, images: Mapping[str, Path], *, crop_size: int, normalisation: Normalisation):
        self.ids = list(images)
        self.paths = [str(path) for path in images.values()]
        self.reading = Reading(self.ids)
        self.crop_size = crop_size
        self.normalisation = normalisation

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor | str]:
        _, index = key
        with self.reading.of(index):
            image = top_left(load_rgb(self.paths[index]), self.crop_size, self.normalisation)
        return {"image": image, "id": self.ids[index]}
