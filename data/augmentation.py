"""The augmentation of stage 1 (spec/hsc.md, Recipe)."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.normalisation import IMAGENET, Normalisation


def saliency_to_tensor(saliency: Image.Image) -> Tensor:
    """A saliency map's values, float32 (1, H, W) in 0..1: the mean of the channels of an RGB image, by 255."""
    pixels = torch.from_numpy(np.atleast_3d(np.array(saliency))).permute(2, 0, 1)
    return pixels.to(torch.float32).mean(dim=0, keepdim=True) / 255


def random_integer(low: int, high: int) -> int:
    """Uniform in low..high, both included, from torch's generator."""
    return int(torch.randint(low, high + 1, ()))


def random_span(side: int, crop_size: int) -> tuple[int, int, int]:
    """Along one side of `side` pixels: where the crop starts in the image, where that lands in the output of
    `crop_size` pixels, and how long it is. An image smaller than the crop lies anywhere in it."""
    length = min(side, crop_size)
    return random_integer(0, side - length), random_integer(0, crop_size - length), length


class TrainingAugmentation:
    """Random resizing, mirroring, colour jitter, normalisation and cropping of an image and its saliency map.

    Args:
        crop_size: side of the square output in pixels.
        resize: bounds of the image's longer side before cropping, in pixels, both included.
        normalisation: the net's.
        jitter: whether colours change.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(
        self,
        *,
        crop_size: int = 448,
        resize: tuple[int, int] = (448, 768),
        normalisation: Normalisation = IMAGENET,
        jitter: bool = True,
    ):
        from torchvision.transforms import v2  # not at the top: stage 3's test, which has no use for it, would wait

        self.crop_size = crop_size
        self.resize = resize
        self.normalisation = normalisation
        self.jitter = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1) if jitter else v2.Identity()

    def __call__(self, image: Image.Image, saliency: Image.Image | None = None) -> tuple[Tensor, Tensor | None]:
        """Augment RGB images of one size (W, H), the saliency map as the image but for the colour jitter.

        Returns:
            The normalised image, float32 (3, c, c), and the saliency, float32 (1, c, c) in 0..1, or None without one.
            Where the resized image does not reach, both are exactly 0.
        """
        pictures = [image] if saliency is None else [image, saliency]
        longer_side = random_integer(*self.resize)
        size = tuple(max(1, round(side * longer_side / max(image.size))) for side in image.size)
        pictures = [picture.resize(size, Image.Resampling.BICUBIC) for picture in pictures]
        if torch.rand(()) < 0.5:
            pictures = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in pictures]
        # Before the crop, since the jitter of contrast looks at the mean of the whole image.
        pictures[0] = self.jitter(pictures[0])

        # Cropped before it is normalised, to spare the pixels that are cut off; each pixel is normalised by itself.
        (left, x, width), (top, y, height) = (random_span(side, self.crop_size) for side in size)
        box = (left, top, left + width, top + height)
        padding = (x, self.crop_size - width - x, y, self.crop_size - height - y)
        image_crop = F.pad(self.normalisation(pictures[0].crop(box)), padding)
        if saliency is None:
            return image_crop, None
        return image_crop, F.pad(saliency_to_tensor(pictures[1].crop(box)), padding)
