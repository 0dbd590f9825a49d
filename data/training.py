"""The training images of every stage, and their loader: order and augmentation that a seed alone decides."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from data.augmentation import TrainingAugmentation
from data.images import load_rgb
from tool.artifact import load_label_map
from tool.cli import UserError
from tool.dataset import DataSet
from tool.distributed import rank, world_size
from tool.randomness import mixed_seed
from tool.reading import Reading, of_processes, outlive_signals


class AugmentedImages(Dataset):
    """Augmented images of a training, under keys (epoch, index in `images`).

    What a key gives depends on (seed, epoch, index) alone: not on workers, nor on what was read before. What a training
    reads beside an image is in `read`, what becomes of them in `augment`.

    Args:
        images: their paths by id (`tool.lists.find_images`). seed: not negative.
    """

    def __init__(self, images: Mapping[str, Path], *, seed: int):
        self.ids = list(images)
        self.paths = [str(path) for path in images.values()]  # lighter than paths in each process that reads
        self.reading = Reading(self.ids)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor | str]:
        """The sample of (epoch, index): what `augment` makes, and `id`. Raises `UserError` naming a file that cannot be
        read or does not fit its image."""
        epoch, index = key
        with self.reading.of(index), torch.random.fork_rng(devices=[]):
            image = load_rgb(self.paths[index])
            others = self.read(index, image)
            # Not torch.manual_seed: that reaches the GPUs' generators too, which are not restored here.
            torch.default_generator.manual_seed(mixed_seed(self.seed, epoch, index))
            return {**self.augment(index, image, *others), "id": self.ids[index]}

    def read(self, index: int, image: Image.Image) -> tuple[Any, ...]:
        """What comes with the RGB `image` (W, H), for `augment`."""
        return ()

    def augment(self, index: int, image: Image.Image, *others: Any) -> dict[str, torch.Tensor]:
        """The sample. All randomness is drawn from torch's global CPU generator."""
        raise NotImplementedError


class TrainingSet(AugmentedImages):
    """Images with their labels and, where it is used, their saliency.

    `image`: normalised, float32 (3, c, c). `saliency`: float32 (1, c, c) in 0..1; not there without `saliency_root`.
    `label`: float32 (K,), zeros and ones.

    Args:
        images, seed: of `AugmentedImages`.
        saliency_root: folder of `<id>.png`, or None where no saliency is used.
        labels: of `load_labels`, proper ones of all `images` (`labels_of`).
        augmentation: draws its randomness from torch's global CPU generator.
    """

    def __init__(
        self,
        images: Mapping[str, Path],
        *,
        saliency_root: str | Path | None,
        labels: dict[str, np.ndarray],
        augmentation: TrainingAugmentation,
        seed: int,
    ):
        super().__init__(images, seed=seed)
        self.saliency_root = None if saliency_root is None else Path(saliency_root)
        self.labels = torch.from_numpy(np.stack([labels[identifier] for identifier in self.ids]))
        self.augmentation = augmentation

    def read(self, index: int, image: Image.Image) -> tuple[Image.Image | None]:
        return (None if self.saliency_root is None else load_rgb(self.saliency_root / f"{self.ids[index]}.png"),)

    def augment(self, index: int, image: Image.Image, saliency: Image.Image | None) -> dict[str, torch.Tensor]:
        picture, saliency = self.augmentation(image, saliency)
        sample = {"image": picture, "label": self.labels[index]}
        return sample if saliency is None else {**sample, "saliency": saliency}


class LabelMapSet(AugmentedImages):
    """Images with their label maps: `image` and `label`, as `augmentation` makes them.

    Args:
        images, seed: of `AugmentedImages`. label_root: folder of `<id>.png`. data_set: that the labels are of.
        augmentation: of an RGB image (W, H) and labels, uint8 (H, W), to two tensors; draws its randomness from torch's
            global CPU generator.
    """

    def __init__(
        self,
        images: Mapping[str, Path],
        *,
        label_root: Path,
        data_set: DataSet,
        augmentation: Callable[[Image.Image, np.ndarray], tuple[torch.Tensor, torch.Tensor]],
        seed: int,
    ):
        super().__init__(images, seed=seed)
        self.label_root = label_root
        self.data_set = data_set
        self.augmentation = augmentation

    def read(self, index: int, image: Image.Image) -> tuple[np.ndarray]:
        return (load_label_map(self.label_root / f"{self.ids[index]}.png", self.data_set, shape=image.size[::-1]),)

    def augment(self, index: int, image: Image.Image, labels: np.ndarray) -> dict[str, torch.Tensor]:
        picture, label = self.augmentation(image, labels)
        return {"image": picture, "label": label}


def steps_of_epoch(num_samples: int, batch_size: int, *, keep_last: bool = False) -> int:
    """How many batches an epoch has; with `keep_last` the rest that fills none is one."""
    return -(-num_samples // batch_size) if keep_last else num_samples // batch_size


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of keys (epoch, index): an epoch is a permutation that (seed, epoch) decides, less the rest
    that fills no batch, unless it is kept.

    An epoch has `num_samples // batch_size` steps, as the released schedule counts them, or with `keep_last` one more.

    Args:
        num_samples: images there are.
        batch_size: images in a batch over all processes; a multiple of `world_size`, at most `num_samples`.
        seed: not negative.
        shuffle: False keeps the images' order.
        start_step: steps done before, by a run that is resumed.
        num_steps: batches to give, from step `start_step` on.
        rank, world_size: this process, and how many there are; each takes its contiguous share of every batch.
        keep_last: whether an epoch ends with a batch of the rest, whose shares may differ by one image.

    Raises `UserError` for a batch size that does not fit.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = True,
        start_step: int = 0,
        num_steps: int,
        rank: int = 0,
        world_size: int = 1,
        keep_last: bool = False,
    ):
        if batch_size > num_samples:
            raise UserError(f"--batch_size {batch_size}: expected at most the number of images, {num_samples}")
        if batch_size % world_size:
            raise UserError(f"--batch_size {batch_size}: expected a multiple of the number of processes, {world_size}")
        if keep_last and 0 < num_samples % batch_size < world_size:
            raise UserError(
                f"--batch_size {batch_size}: the last batch of {num_samples} images has {num_samples % batch_size},"
                f" fewer than the processes, {world_size}; take another"
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.steps = range(start_step, start_step + num_steps)
        self.steps_per_epoch = steps_of_epoch(num_samples, batch_size, keep_last=keep_last)
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        permutation = None
        for step in self.steps:
            epoch, position = divmod(step, self.steps_per_epoch)
            if permutation is None or position == 0:
                permutation = np.arange(self.num_samples)
                if self.shuffle:
                    np.random.default_rng([self.seed, epoch]).shuffle(permutation)
            batch = permutation[position * self.batch_size :][: self.batch_size]
            start, end = (number * len(batch) // self.world_size for number in (self.rank, self.rank + 1))
            yield [(epoch, int(index)) for index in batch[start:end]]


def training_loader(
    dataset: Dataset,
    batch_size: int,
    *,
    seed: int,
    steps: range,
    num_workers: int,
    pin_memory: bool,
    shuffle: bool = True,
    keep_last: bool = False,
    start_process: Callable[[int], None] = outlive_signals,
    collate: Callable[[Sequence[dict]], dict] | None = None,
) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before and however many read.

    Args:
        dataset: under keys (epoch, index). batch_size, seed, shuffle, keep_last: of `EpochSampler`.
        num_workers: loader processes, of which no more start than there are cores.
        start_process: what each calls first, with its number. collate: makes a batch of samples; None: PyTorch's.
    """
    sampler = EpochSampler(
        len(dataset),
        batch_size,
        seed=seed,
        shuffle=shuffle,
        start_step=steps.start,
        num_steps=len(steps),
        rank=rank(),
        world_size=world_size(),
        keep_last=keep_last,
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        **of_processes(num_workers),
        pin_memory=pin_memory,
        worker_init_fn=start_process,
        collate_fn=collate,
    )
