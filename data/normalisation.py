"""From an image's pixels to a net's input, and back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tool.device import copied_to


@dataclass(frozen=True)
class Normalisation:
    """Pixels by 255, less the channel's `mean`, over its `std`: a net's input is what its weights were trained with.

    Both are of red, green, blue, for pixels in 0..1; with `bgr` the input has blue first. The net says which it is;
    loader, CRF and pictures take it from there. All is computed where the pixels are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False

    def __call__(self, image: Image.Image | np.ndarray, device: torch.device | None = None) -> Tensor:
        """The net's input from an RGB image, uint8 or float of 0..255, (H, W, 3): float32 (3, H, W), on `device` or, if
        None, the CPU."""
        pixels = torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())
        return self.of_pixels(pixels if device is None else copied_to(pixels, device))

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """The net's input from pixels, uint8 or float of 0..255, (..., 3, H, W): float32 of that shape."""
        scaled = pixels.to(torch.float32, copy=True).mul_(1 / 255)
        return self._of_scaled(scaled)

    def truncated(self, image: Tensor) -> Tensor:
        """Pixels from the net's input, float (..., 3, H, W): uint8 of that shape, clamped to 0..255 and truncated.

        As HSC's recipe has it for the CRF (paper/method.md): a pixel may come back one below what it was.
        """
        return self._scaled(image).mul_(255).clamp(0, 255).to(torch.uint8)

    def rounded(self, image: Tensor) -> Tensor:
        """As `truncated`, but to the nearest: each pixel comes back as it was."""
        return self._scaled(image).mul_(255).round().clamp(0, 255).to(torch.uint8)

    def of_others(self, image: Tensor, other: "Normalisation") -> Tensor:
        """This net's input from that of a net of `other`, float (..., 3, H, W); `image` itself where they are equal."""
        if self == other:
            return image
        return self._of_scaled(other._scaled(image))

    def _of_scaled(self, scaled: Tensor) -> Tensor:
        """The net's input from pixels of 0..1, red first, which it overwrites."""
        image = scaled.sub_(of_channels(self.mean, scaled)).div_(of_channels(self.std, scaled))
        return image.flip(-3) if self.bgr else image

    def _scaled(self, image: Tensor) -> Tensor:
        """Pixels of about 0..1, red first, from the net's input."""
        image = image.flip(-3) if self.bgr else image
        return image * of_channels(self.std, image) + of_channels(self.mean, image)


def of_channels(values: Sequence[float], like: Tensor) -> Tensor:
    """A number for each channel, (C, 1, 1), of the type and on the device of `like`.

    Made there: a copy would make the host wait for a GPU, and one that is kept may not be ready for another stream.
    """
    return torch.stack([like.new_full((), value) for value in values])[:, None, None]


# Of ImageNet's training images: what torchvision's and the published weights were trained with.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
