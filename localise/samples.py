"""The images of localisation: augmented to train on, resized to test on (paper/method.md, Object localisation)."""

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from data.augmentation import random_integer
from data.cub import BoxedImages
from data.images import load_rgb
from data.normalisation import Normalisation
from data.training import AugmentedImages
from tool.reading import Reading


class LocalisationAugmentation:
    """Resizing to a square, whatever the aspect; a random crop, mirrored or not; normalisation.

    Args:
        resize_size: side of the square in pixels. crop_size: of the crop in it, at most that.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(self, *, resize_size: int, crop_size: int, normalisation: Normalisation):
        self.resize_size, self.crop_size, self.normalisation = resize_size, crop_size, normalisation

    def __call__(self, image: Image.Image) -> Tensor:
        """Augment an RGB image (W, H): float32 (3, c, c)."""
        image = squared(image, self.resize_size)
        left, top = (random_integer(0, self.resize_size - self.crop_size) for _ in range(2))
        image = image.crop((left, top, left + self.crop_size, top + self.crop_size))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self.normalisation(image)


def squared(image: Image.Image, side: int) -> Image.Image:
    """The image resized to side x side, its aspect lost."""
    return image.resize((side, side), Image.Resampling.BILINEAR)


class LocalisationSet(AugmentedImages):
    """Images with their classes: `image` float32 (3, c, c), normalised, `label`, a class from 0."""

    def __init__(self, images: BoxedImages, *, augmentation: LocalisationAugmentation, seed: int):
        super().__init__(dict(zip(images.ids, images.paths, strict=True)), seed=seed)
        self.labels, self.augmentation = images.labels, augmentation

    def augment(self, index: int, image: Image.Image) -> dict[str, Tensor | int]:
        return {"image": self.augmentation(image), "label": int(self.labels[index])}


class WholeImages(Dataset):
    """Images as they are tested, under their indices in `images`."""

    def __init__(self, images: BoxedImages, *, side: int, normalisation: Normalisation):
        self.images, self.side, self.normalisation = images, side, normalisation
        self.reading = Reading(images.ids)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        """`image` float32 (3, side, side), normalised; `label`; `index`; `size`, int64 (2), the file's (W, H)."""
        with self.reading.of(index):
            image = load_rgb(self.images.paths[index])
            picture = self.normalisation(squared(image, self.side))
        label = int(self.images.labels[index])
        return {"image": picture, "label": label, "index": index, "size": torch.tensor(image.size)}
