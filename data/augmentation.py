"""The augmentation of stage 1 (paper/method.md, Recipe, seeds, score), and its parts that other stages share."""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.normalisation import IMAGENET, Normalisation
from data.saliency import MEAN_SALIENCY, SaliencyCrop


class Crop(NamedTuple):
    """Where a crop lies, along the width and the height: its start in the image, its start in the output, and its
    length; all in pixels."""

    horizontal: tuple[int, int, int]
    vertical: tuple[int, int, int]

    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in the image."""
        (left, _, width), (top, _, height) = self.horizontal, self.vertical
        return left, top, left + width, top + height

    def part(self) -> tuple[slice, slice]:
        """Rows and columns of the image."""
        left, top, right, bottom = self.box()
        return slice(top, bottom), slice(left, right)

    def padding(self, crop_size: int) -> tuple[int, int, int, int]:
        """What the output has beside it: left, right, above, below."""
        (_, x, width), (_, y, height) = self.horizontal, self.vertical
        return x, crop_size - width - x, y, crop_size - height - y


class Place(NamedTuple):
    """What becomes of an image: its longer side in pixels, whether it is mirrored, and the crop of what it is then."""

    longer_side: int
    mirrored: bool
    crop: Crop


def saliency_to_tensor(saliency: Image.Image, *, first_channel: bool = False) -> Tensor:
    """A saliency map's values, float32 (1, H, W) in 0..1: the mean of the channels of an RGB image, or the first of
    them, by 255."""
    pixels = torch.from_numpy(np.atleast_3d(np.array(saliency))).permute(2, 0, 1).to(torch.float32)
    return (pixels[:1] if first_channel else pixels.mean(dim=0, keepdim=True)) / 255


def resized(size: tuple[int, int], longer_side: int) -> tuple[int, int]:
    """(width, height) of an image of `size` whose longer side is to be `longer_side`; halves go to the even number."""
    width, height = (max(1, round(side * longer_side / max(size))) for side in size)
    return width, height


def random_integer(low: int, high: int) -> int:
    """Uniform in low..high, both included, from torch's generator."""
    return int(torch.randint(low, high + 1, ()))


def random_span(side: int, crop_size: int) -> tuple[int, int, int]:
    """Along one side of `side` pixels: where the crop starts in the image, where that lands in the output of
    `crop_size` pixels, and how long it is. An image smaller than the crop lies anywhere in it."""
    length = min(side, crop_size)
    return random_integer(0, side - length), random_integer(0, crop_size - length), length


def random_crop(size: tuple[int, int], crop_size: int) -> Crop:
    """A crop of `random_span` along the width, and then the height, of an image of `size`."""
    return Crop(*(random_span(side, crop_size) for side in size))


class TrainingAugmentation:
    """Random resizing, mirroring, colour jitter, normalisation and cropping of an image and its saliency map.

    Args:
        crop_size: side of the square output in pixels.
        resize: bounds of the image's longer side before cropping, in pixels, both included.
        normalisation: the net's.
        jitter: whether colours change.
        saliency: how the map is brought to the crop.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(
        self,
        *,
        crop_size: int = 448,
        resize: tuple[int, int] = (448, 768),
        normalisation: Normalisation = IMAGENET,
        jitter: bool = True,
        saliency: SaliencyCrop = MEAN_SALIENCY,
    ):
        from torchvision.transforms import v2  # not at the top: stage 3's test, which has no use for it, would wait

        self.crop_size = crop_size
        self.resize = resize
        self.normalisation = normalisation
        self.jitter = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1) if jitter else v2.Identity()
        self.saliency = saliency

    def __call__(self, image: Image.Image, saliency: Image.Image | None = None) -> tuple[Tensor, Tensor | None]:
        """Augment RGB images of one size (W, H), the saliency map as the image but for the colour jitter.

        Returns:
            The normalised image, float32 (3, c, c), and the saliency, float32 (1, c, c) in 0..1, or None without one.
            Where the resized image does not reach, the image is exactly 0, and so is the saliency unless `SaliencyCrop`
            says otherwise.
        """
        longer_side, mirrored = random_integer(*self.resize), bool(torch.rand(()) < 0.5)
        size = resized(image.size, longer_side)
        picture = _brought_to(image, size, mirrored, Image.Resampling.BICUBIC)
        # Before the crop, since the jitter of contrast looks at the mean of the whole image.
        picture = self.jitter(picture)
        place = Place(longer_side, mirrored, random_crop(size, self.crop_size))
        return self._cropped(picture, saliency, place)

    def at(self, image: Image.Image, saliency: Image.Image | None, place: Place) -> tuple[Tensor, Tensor | None]:
        """What `__call__` gives for these draws, without jitter."""
        size = resized(image.size, place.longer_side)
        return self._cropped(_brought_to(image, size, place.mirrored, Image.Resampling.BICUBIC), saliency, place)

    def _cropped(
        self, picture: Image.Image, saliency: Image.Image | None, place: Place
    ) -> tuple[Tensor, Tensor | None]:
        """The crops of a picture that is resized and mirrored, and of the saliency map as it is read."""
        # Cropped before it is normalised, to spare the pixels that are cut off; each pixel is normalised by itself.
        box, padding = place.crop.box(), place.crop.padding(self.crop_size)
        image_crop = F.pad(self.normalisation(picture.crop(box)), padding)
        if saliency is None:
            return image_crop, None
        rule = self.saliency
        how = Image.Resampling.NEAREST if rule.nearest else Image.Resampling.BICUBIC
        grey = _brought_to(saliency, picture.size, place.mirrored, how)
        crop = saliency_to_tensor(grey.crop(box), first_channel=rule.first_channel)
        is_dark = rule.dark is not None and grey.getchannel(0).getextrema()[1] <= rule.dark
        return image_crop, F.pad(crop, padding, value=float(is_dark))


def _brought_to(image: Image.Image, size: tuple[int, int], mirrored: bool, how: Image.Resampling) -> Image.Image:
    resized_image = image.resize(size, how)
    return resized_image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else resized_image


def top_left(image: Image.Image, side: int, normalisation: Normalisation) -> Tensor:
    """The crop of an RGB image at its top left, normalised: float32 (3, side, side), 0 where the image ends."""
    width, height = (min(side, each) for each in image.size)
    return F.pad(normalisation(image.crop((0, 0, width, height))), (0, side - width, 0, side - height))
