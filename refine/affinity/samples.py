"""The training images of AffinityNet with what is sure of their cells (spec/ppc.md, AffinityNet)."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from data.augmentation import random_span
from data.images import load_rgb
from data.normalisation import Normalisation
from refine.affinity.labels import grid_labels
from tool.artifact import load_label_scores
from tool.dataset import DataSet
from tool.randomness import mixed_seed
from tool.reading import Reading


class Place(NamedTuple):
    """Where a crop lies: along the height and the width, its start in the image, its start in the output, its length,
    in pixels; and whether it is mirrored."""

    vertical: tuple[int, int, int]
    horizontal: tuple[int, int, int]
    mirrored: bool


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
        spans = random_span(height, self.crop_size), random_span(width, self.crop_size)
        return self.crop(np.asarray(image), low, high, Place(*spans, bool(torch.rand(()) < 0.5)))

    def crop(self, image: np.ndarray, low: np.ndarray, high: np.ndarray, place: Place) -> tuple[Tensor, Tensor]:
        """What lies at `place`; image: uint8 (H, W, 3)."""
        pixels = np.moveaxis(image, 2, 0)
        if self.grey_padding:
            picture = self._cut(self.normalisation(image), place)
        else:
            picture = self.normalisation.of_pixels(self._cut(torch.tensor(pixels), place))
        low, high = (self._cut(torch.from_numpy(scores), place) for scores in (low, high))
        return picture, grid_labels(low, high)

    def _cut(self, values: Tensor, place: Place) -> Tensor:
        """The crop of values (C, H, W), 0 beside them."""
        (top, y, height), (left, x, width), mirrored = place
        part = values[:, top : top + height, left : left + width]
        padded = F.pad(part, (x, self.crop_size - width - x, y, self.crop_size - height - y))
        return padded.flip(-1) if mirrored else padded


class AffinitySet(Dataset):
    """Augmented images with the labels of their cells, under keys (epoch, index in `images`).

    What a key gives depends on (seed, epoch, index) alone: not on workers, nor on what was read before.

    Args:
        images: their paths by id (`tool.lists.find_images`).
        low_root, high_root: folders of `<id>.npy`, scores by label (`tool.artifact.load_label_scores`).
        data_set: that the labels are of.
        augmentation: draws its randomness from torch's global CPU generator.
        seed: not negative.
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
        self.ids = list(images)
        self.paths = [str(path) for path in images.values()]
        self.reading = Reading(self.ids)
        self.roots = low_root, high_root
        self.data_set = data_set
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor | str]:
        """The sample of (epoch, index): `image` float32 (3, c, c), `label` int64 (c / 8, c / 8), `id`.

        Raises `UserError` naming the file if one cannot be read or the scores have another size.
        """
        epoch, index = key
        identifier = self.ids[index]
        with self.reading.of(index), torch.random.fork_rng(devices=[]):
            image = load_rgb(self.paths[index])
            low, high = (
                load_label_scores(root / f"{identifier}.npy", self.data_set, shape=image.size[::-1])
                for root in self.roots
            )
            torch.default_generator.manual_seed(mixed_seed(self.seed, epoch, index))
            picture, label = self.augmentation(image, *(np.stack(list(scores.values())) for scores in (low, high)))
        return {"image": picture, "label": label, "id": identifier}
