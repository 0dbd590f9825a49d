"""The augmentations of stage 3, of images and their pseudo labels, and what its loader processes do first."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.augmentation import Crop, random_integer, random_span
from data.normalisation import Normalisation
from tool.dataset import IGNORE
from tool.reading import outlive_signals


class SegmentationAugmentation:
    """Colour jitter, mirroring, scaling, normalisation and cropping of an image and its label map, in this order.

    Args:
        crop_size: side of the square output in pixels.
        scale: bounds of the factor on both sides of the image.
        jitter: the most that hue, saturation and value move, in OpenCV's units (hue 0..179, the others 0..255).
        mirrored: share of images that are mirrored.
        normalisation: the net's.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(
        self,
        *,
        crop_size: int,
        scale: tuple[float, float],
        jitter: tuple[int, int, int],
        mirrored: float,
        normalisation: Normalisation,
    ):
        self.crop_size = crop_size
        self.scale = scale
        self.jitter = jitter
        self.mirrored = mirrored
        self.normalisation = normalisation

    def __call__(self, image: Image.Image | np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Augment an RGB image, uint8 (H, W, 3), and its label map, uint8 (H, W).

        Returns:
            The normalised image, float32 (3, c, c), 0 where the scaled image does not reach, and the labels, int64
            (c, c), 255 there.
        """
        image = jitter_colours(np.asarray(image), [random_integer(-most, most) for most in self.jitter])
        if torch.rand(()) < self.mirrored:
            image, labels = image[:, ::-1], labels[:, ::-1]
        low, high = self.scale
        factor = low + (high - low) * float(torch.rand(()))
        image, labels = scale_image(image, factor), scale_labels(labels, factor)

        height, width = labels.shape
        vertical, horizontal = (random_span(side, self.crop_size) for side in (height, width))
        crop = Crop(horizontal, vertical)
        part, padding = crop.part(), crop.padding(self.crop_size)
        label_crop = torch.from_numpy(labels[part].astype(np.int64))
        return F.pad(self.normalisation(image[part]), padding), F.pad(label_crop, padding, value=IGNORE)


def jitter_colours(image: np.ndarray, shifts: Sequence[int]) -> np.ndarray:
    """Move hue (around the circle), saturation and value (up to their bounds) of an RGB image, uint8 (H, W, 3)."""
    channels = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    # Not cv2.add, which takes a number for an array of its own size where a channel is 4 x 1.
    hue, saturation, value = (channel.astype(np.int16) + shift for channel, shift in zip(channels, shifts, strict=True))
    moved = [hue % 180, saturation.clip(0, 255), value.clip(0, 255)]
    return cv2.cvtColor(cv2.merge([channel.astype(np.uint8) for channel in moved]), cv2.COLOR_HSV2RGB)


def scaled_size(array: np.ndarray, factor: float) -> tuple[int, int]:
    """(width, height), at least 1 each, as OpenCV wants it."""
    height, width = array.shape[:2]
    return max(1, round(width * factor)), max(1, round(height * factor))


def scale_image(image: np.ndarray, factor: float) -> np.ndarray:
    """An image, uint8 (H, W, 3), with both sides scaled by `factor`, bicubic."""
    return cv2.resize(np.ascontiguousarray(image), scaled_size(image, factor), interpolation=cv2.INTER_CUBIC)


def scale_labels(labels: np.ndarray, factor: float) -> np.ndarray:
    """A label map, uint8 (H, W), with both sides scaled by `factor`: the label at the nearest pixel's centre."""
    size = scaled_size(labels, factor)
    return cv2.resize(np.ascontiguousarray(labels), size, interpolation=cv2.INTER_NEAREST_EXACT)


class ScalesAugmentation:
    """deeplab-pytorch's: one of a few scales, padding to the crop on the right and below, cropping and mirroring.

    Args:
        scales: factors on both sides of the image; sides are rounded down.
        crop_size, jitter, mirrored, normalisation: as `SegmentationAugmentation` has them; a jitter of zeros does
            nothing.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(
        self,
        *,
        crop_size: int,
        scales: Sequence[float],
        jitter: tuple[int, int, int],
        mirrored: float,
        normalisation: Normalisation,
    ):
        self.crop_size = crop_size
        self.scales = scales
        self.jitter = jitter
        self.mirrored = mirrored
        self.normalisation = normalisation

    def __call__(self, image: Image.Image | np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """As `SegmentationAugmentation`."""
        image = np.asarray(image)
        if any(self.jitter):
            image = jitter_colours(image, [random_integer(-most, most) for most in self.jitter])
        factor = self.scales[random_integer(0, len(self.scales) - 1)]
        image, labels = scale_by(image, labels, factor)
        top, left = (random_integer(0, max(0, side - self.crop_size)) for side in labels.shape)
        image, label = crop_or_pad(image, labels, top=top, left=left, size=self.crop_size, normalise=self.normalisation)
        if torch.rand(()) < self.mirrored:
            image, label = image.flip(-1), label.flip(-1)
        return image, label


def scale_by(image: np.ndarray, labels: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """An image, uint8 (H, W, 3), and its label map, uint8 (H, W), with both sides scaled by `factor` and rounded down:
    the image bilinear, float32, the labels PIL's nearest."""
    size = tuple(max(1, int(side * factor)) for side in labels.shape[::-1])
    image = cv2.resize(np.ascontiguousarray(image, np.float32), size, interpolation=cv2.INTER_LINEAR)
    return image, np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def crop_or_pad(
    image: np.ndarray, labels: np.ndarray, *, top: int, left: int, size: int, normalise: Normalisation
) -> tuple[Tensor, Tensor]:
    """The square of `size` pixels from (top, left) on, normalised; 0 where the image does not reach, and 255."""
    part = np.s_[top : top + size, left : left + size]
    label = torch.from_numpy(labels[part].astype(np.int64))
    padding = (0, size - label.shape[1], 0, size - label.shape[0])
    return F.pad(normalise(image[part]), padding), F.pad(label, padding, value=IGNORE)


def start_loader_process(number: int) -> None:
    """What a loader process does first: beside what all do, its OpenCV keeps to one thread, as its torch does."""
    outlive_signals(number)
    cv2.setNumThreads(0)
