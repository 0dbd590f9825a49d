"""From an image's pixels to a net's input, and back."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tool.device import copied_to

# Of ImageNet's training images in 0..1, red, green, blue: what the published weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def of_channels(values: Sequence[float], like: Tensor) -> Tensor:
    """A number for each channel, (C, 1, 1), of the type and on the device of `like`.

    Made there: a copy would make the host wait for a GPU, and one that is kept may not be ready for another stream.
    """
    return torch.stack([like.new_full((), value) for value in values])[:, None, None]


def normalise(image: Image.Image) -> Tensor:
    """The net's input from an RGB image: float32 (3, H, W), each channel /255, less its mean, by its deviation."""
    return normalise_pixels(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def normalise_pixels(pixels: Tensor) -> Tensor:
    """`normalise` of an image's pixels, uint8 (..., 3, H, W), on their device."""
    scaled = pixels.to(torch.float32).mul_(1 / 255)
    return scaled.sub_(of_channels(IMAGENET_MEAN, scaled)).div_(of_channels(IMAGENET_STD, scaled))


def denormalise(image: Tensor) -> Tensor:
    """Pixels from the net's input: float (..., 3, H, W) -> uint8 of that shape, clamped to 0..255 and truncated.

    Truncation is the recipe's (spec/hsc.md, HSC terms), so that `denormalise(normalise(image))` may lie one below.
    """
    mean, std = of_channels(IMAGENET_MEAN, image), of_channels(IMAGENET_STD, image)
    return ((image * std + mean) * 255).clamp(0, 255).to(torch.uint8)


class InputNormalisation:
    """The net's input from an RGB image: uint8 (H, W, 3) -> float32 (3, H, W), by /255, less `mean`, over `std`."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean = list(mean)
        self.std = list(std)

    def __call__(self, image: np.ndarray, device: torch.device | None = None) -> Tensor:
        """The input on `device`, where it is computed from the pixels; None: on the CPU."""
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        pixels = (pixels if device is None else copied_to(pixels, device)).to(torch.float32) / 255
        return pixels.sub_(of_channels(self.mean, pixels)).div_(of_channels(self.std, pixels))

    def inverse(self, image: Tensor) -> Tensor:
        """The pixels of a net's input, uint8 (3, H, W), for a picture of it."""
        mean, std = of_channels(self.mean, image), of_channels(self.std, image)
        return ((image * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
