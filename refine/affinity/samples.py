"""The training images of AffinityNet with what is sure of their cells (paper/method.md, AffinityNet)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.augmentation import Crop, random_span
from data.normalisation import Normalisation
from data.training import AugmentedImages
from refine.affinity.labels import grid_labels
from tool.artifact import load_label_scores
from tool.dataset import DataSet


class AffinityAugmentation:
    """Colour jitter, cropping and mirroring of an image at its own size with its scores, and normalisation.

    Args:
        crop_size: side of the square output in pixels, a multiple of 8.
        normalisation: the net's.
        grey_padding: **Q** An image smaller than the crop lies on black, as it is normalised after the crop. Sane: on
            the mean grey, which is 0 for the net.

    All randomness is drawn from torch's global CPU generator.
    """

    def __init__(self, *, crop_size: int, normalisation: Normalisation, grey_padding: bool = False):
        from torchvision.transforms import v2  # not at the top: inference, which has no use for it, would wait

        self.crop_size = crop_size
        self.normalisation = normalisation
        self.grey_padding = grey_padding
        self.jitter = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)

    def __call__(self, image: Image.Image, low: np.ndarray, high: np.ndarray) -> tuple[Tensor, Tensor]:
        """Augment an RGB image (W, H) and its scores, float32 (K, H, W), as `grid_labels` takes them.

        Returns:
            The normalised image, float32 (3, c, c), and the label of each cell, int64 (c / 8, c / 8).
        """
        image = self.jitter(image)
        width, height = image.size
        vertical, horizontal = (random_span(side, self.crop_size) for side in (height, width))
        mirrored = bool(torch.rand(()) < 0.5)
        return self.at(np.asarray(image), low, high, Crop(horizontal, vertical), mirrored=mirrored)

    def at(
        self, image: np.ndarray, low: np.ndarray, high: np.ndarray, crop: Crop, *, mirrored: bool
    ) -> tuple[Tensor, Tensor]:
        """What `__call__` gives for these draws, without jitter; image: uint8 (H, W, 3)."""
        pixels = np.moveaxis(image, 2, 0)
        if self.grey_padding:
            picture = self._cut(self.normalisation(image), crop, mirrored)
        else:
            picture = self.normalisation.of_pixels(self._cut(torch.tensor(pixels), crop, mirrored))
        low, high = (self._cut(torch.from_numpy(scores), crop, mirrored) for scores in (low, high))
        return picture, grid_labels(low, high)

    def _cut(self, values: Tensor, crop: Crop, mirrored: bool) -> Tensor:
        """The crop of values (C, H, W), 0 beside them."""
        padded = F.pad(values[(..., *crop.part())], crop.padding(self.crop_size))
        return padded.flip(-1) if mirrored else padded


class AffinitySet(AugmentedImages):
    """Images with the labels of their cells: `image` float32 (3, c, c), `label` int64 (c / 8, c / 8).

    Args:
        images, seed: of `AugmentedImages`.
        low_root, high_root: folders of `<id>.npy`, scores by label (`tool.artifact.load_label_scores`).
        data_set: that the labels are of.
        augmentation: draws its randomness from torch's global CPU generator.
    """

    def __init__(
        self,
        images: Mapping[str, Path],
        *,
        low_root: Path,
        high_root: Path,
        data_set: DataSet,
        augmentation: AffinityAugmentation,
        seed: int,
    ):
        super().__init__(images, seed=seed)
        self.roots = low_root, high_root
        self.data_set = data_set
        self.augmentation = augmentation

    def read(self, index: int, image: Image.Image) -> tuple[np.ndarray, ...]:
        scores = (
            load_label_scores(root / f"{self.ids[index]}.npy", self.data_set, shape=image.size[::-1])
            for root in self.roots
        )
        return tuple(np.stack(list(each.values())) for each in scores)

    def augment(self, index: int, image: Image.Image, low: np.ndarray, high: np.ndarray) -> dict[str, Tensor]:
        picture, label = self.augmentation(image, low, high)
        return {"image": picture, "label": label}
