"""The training images of the superpixel network, each with the colours that it learns to rebuild (paper/method.md,
MSA)."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.augmentation import Place, random_crop, random_integer, resized
from data.normalisation import Normalisation
from data.training import AugmentedImages

BRIGHT = 100  # **Q** the copy of an image with a value above it is padded with 0, another with 255


class SuperpixelAugmentation:
    """Random resizing, mirroring and cropping of an image, as the net sees it and in the colours that it rebuilds.

    Args:
        crop_size: side of the square output in pixels.
        resize: bounds of the image's longer side before cropping, in pixels, both included.
        normalisation: the net's.
        same_resize: **Q** The copy for the colours is resized to the nearest pixel, the image bicubic. Sane: both
            bicubic.
        black_padding: **Q** Beside a dark image the colours are white, `BRIGHT`. Sane: black beside any.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(
        self,
        *,
        crop_size: int,
        resize: tuple[int, int],
        normalisation: Normalisation,
        same_resize: bool = False,
        black_padding: bool = False,
    ):
        self.crop_size = crop_size
        self.resize = resize
        self.normalisation = normalisation
        self.same_resize = same_resize
        self.black_padding = black_padding

    def __call__(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        """Augment an RGB image.

        Returns:
            The normalised image, float32 (3, c, c), 0 where it does not reach, and OpenCV's 8-bit Lab, uint8 (3, c, c).
        """
        longer_side = random_integer(*self.resize)
        mirrored = bool(torch.rand(()) < 0.5)
        crop = random_crop(resized(image.size, longer_side), self.crop_size)
        return self.at(image, Place(longer_side, mirrored, crop))

    def at(self, image: Image.Image, place: Place) -> tuple[Tensor, Tensor]:
        """What `__call__` gives for these draws."""
        size = resized(image.size, place.longer_side)
        copy_resize = Image.Resampling.BICUBIC if self.same_resize else Image.Resampling.NEAREST
        picture, copy = (image.resize(size, how) for how in (Image.Resampling.BICUBIC, copy_resize))
        if place.mirrored:
            picture, copy = (each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in (picture, copy))
        box, padding = place.crop.box(), place.crop.padding(self.crop_size)
        (_, x, width), (_, y, height) = place.crop
        brightest = max(high for _, high in copy.getextrema())
        beside = 0 if self.black_padding or brightest > BRIGHT else 255
        pixels = np.full((self.crop_size, self.crop_size, 3), beside, np.uint8)
        pixels[y : y + height, x : x + width] = np.asarray(copy.crop(box))
        return F.pad(self.normalisation(picture.crop(box)), padding), to_lab(pixels)


def to_lab(pixels: np.ndarray) -> Tensor:
    """OpenCV's 8-bit Lab, uint8 (3, H, W), 0..255 in all channels, of RGB `pixels`, uint8 (H, W, 3)."""
    return torch.from_numpy(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).transpose(2, 0, 1).copy())


class SuperpixelSet(AugmentedImages):
    """Images with their colours: `image` float32 (3, c, c), `lab` uint8 (3, c, c).

    Args:
        images, seed: of `AugmentedImages`. augmentation: draws its randomness from torch's global CPU generator.
    """

    def __init__(self, images: Mapping[str, Path], *, augmentation: SuperpixelAugmentation, seed: int):
        super().__init__(images, seed=seed)
        self.augmentation = augmentation

    def augment(self, index: int, image: Image.Image) -> dict[str, Tensor]:
        picture, lab = self.augmentation(image)
        return {"image": picture, "lab": lab}
