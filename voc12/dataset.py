"""The training images of stage 1: read, checked, and in an order and augmentation that a seed alone decides."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from tool.cli import FILE, NOTHING, UserError, raise_problems, what_is_at
from tool.image import FORMATS, UNREADABLE, load_image
from tool.randomness import mixed_seed
from tool.reading import Reading
from voc12.labels import label_problems, labels_of
from voc12.transforms import TrainingAugmentation

# What starts the last part of a file's pixel data, and what must come after it.
_JPEG_MARKS = (b"\xff\xda", b"\xff\xd9")
FILE_MARKS = {"JPEG": _JPEG_MARKS, "MPO": _JPEG_MARKS, "PNG": (b"IDAT", b"IEND\xaeB`\x82")}
CHECK_THREADS = 8  # the check waits for the disk more than it computes
Finding = TypeVar("Finding")


def load_rgb(path: str | Path) -> Image.Image:
    """The image at `path` as RGB, uint8; grey, palette and CMYK images are converted. Errors are `load_image`'s."""
    return load_image(path, "RGB")


def is_complete(path: Path, image_format: str | None) -> bool:
    """Whether the image's end is in the file, padding after it allowed; True for formats other than JPEG and PNG."""
    if image_format not in FILE_MARKS:
        return True
    data, end = FILE_MARKS[image_format]
    with open(path, "rb") as file:
        file.seek(-len(end), os.SEEK_END)
        if file.read() == end:
            return True
        file.seek(0)
        content = file.read()
    # A thumbnail in the header ends too, but before the image's own pixels.
    return content.rfind(end) > content.rfind(data)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels from the header of the image at `path`; the pixels are not decoded.

    Raises `UserError` naming the file if it is missing, empty, truncated, no image, or of more than 8 bits a channel.
    """
    found = what_is_at(path)
    if found != FILE:
        raise UserError(f"{path}: " + ("no such file" if found == NOTHING else f"expected an image, found {found}"))
    try:
        with Image.open(path, formats=FORMATS) as image:
            size, mode, image_format = image.size, image.mode, image.format
        complete = is_complete(path, image_format)
    except UNREADABLE as error:
        empty = isinstance(error, UnidentifiedImageError) and path.stat().st_size == 0
        reason = "the file is empty" if empty else getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as an image ({reason})") from error
    if not complete:
        raise UserError(f"{path}: the image is truncated; fetch it again")
    if mode.startswith(("I", "F")):
        raise UserError(f"{path}: expected an image of 8 bits a channel, found mode {mode}")
    return size


def image_problems(image: Path, saliency: Path | None = None, *, decode: bool = False) -> list[str]:
    """One line for each thing wrong with an image and, where given, its saliency map, as far as the headers tell.

    `decode` also reads their pixels, as training does.
    """
    sizes, problems = [], []
    for path in [image] if saliency is None else [image, saliency]:
        try:
            sizes.append(image_size(path))
            if decode:
                load_rgb(path)
        except UserError as error:
            problems.append(str(error))
    if len(set(sizes)) > 1:
        expected, found = (f"{width} x {height}" for width, height in sizes)
        problems.append(f"{saliency}: expected the size of its image, {expected} (width x height), found {found}")
    return problems


def run_checks(check: Callable[[str], list[Finding]], ids: Sequence[str], what: str) -> list[Finding]:
    """What `check` finds with each of `ids`, in their order; by threads, with a bar beyond a second."""
    with ThreadPoolExecutor(CHECK_THREADS) as executor:
        found = executor.map(check, ids)
        bar = tqdm(found, total=len(ids), desc=f"checking {what}", delay=1, disable=None, leave=False)
        return [finding for findings in bar for finding in findings]


def check_images(ids: Sequence[str], image_root: str | Path) -> None:
    """Look at the header and the end of every `<image_root>/<id>.jpg`.

    Raises `UserError` with every image that is missing, empty, truncated or no image.
    """
    image_root = Path(image_root)
    raise_problems(
        f"{image_root}: images of the list that cannot be used",
        run_checks(lambda identifier: image_problems(image_root / f"{identifier}.jpg"), ids, "images"),
    )


def check_training_files(
    ids: Sequence[str],
    *,
    image_root: str | Path,
    saliency_root: str | Path | None,
    labels: dict[str, np.ndarray],
) -> None:
    """Look at everything that training on `ids` will read, before it starts: headers and ends of files, and labels.

    Args:
        image_root: folder of `<id>.jpg`.
        saliency_root: folder of `<id>.png`, or None where no saliency is used.
        labels: of `load_labels`.

    Raises `UserError` with every image and saliency map that is missing, empty, truncated or no image, every saliency
    map of another size than its image, and every id without a proper label.
    """
    image_root = Path(image_root)

    def check(identifier: str) -> list[str]:
        saliency = None if saliency_root is None else Path(saliency_root) / f"{identifier}.png"
        return image_problems(image_root / f"{identifier}.jpg", saliency)

    problems = run_checks(check, ids, "images")
    problems += [f"label of {problem}" for problem in label_problems(ids, labels)]
    raise_problems("the training data cannot be used as it is", problems)


def hash_of_sizes(ids: Sequence[str], root: str | Path | None) -> str | None:
    """SHA-256 of the sizes in bytes of the files `<root>/<id>.png`, which tells one set of maps from another.

    None without `root`. Raises `UserError` for a file that is gone.
    """
    if root is None:
        return None
    try:
        sizes = [(Path(root) / f"{image_id}.png").stat().st_size for image_id in sorted(ids)]
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


class TrainingSet(Dataset):
    """Augmented images with their labels, under keys (epoch, index in `ids`).

    What a key gives depends on (seed, epoch, index) alone: not on workers, nor on what was read before.

    Args:
        ids: of the images.
        image_root: folder of `<id>.jpg`.
        saliency_root: folder of `<id>.png`, or None where no saliency is used.
        labels: of `load_labels`; `UserError` if one of `ids` has no proper one.
        augmentation: draws its randomness from torch's global CPU generator.
        seed: not negative.
    """

    def __init__(
        self,
        ids: Sequence[str],
        *,
        image_root: str | Path,
        saliency_root: str | Path | None,
        labels: dict[str, np.ndarray],
        augmentation: TrainingAugmentation,
        seed: int,
    ):
        self.ids = list(ids)
        self.reading = Reading(self.ids)
        self.image_root = Path(image_root)
        self.saliency_root = None if saliency_root is None else Path(saliency_root)
        self.labels = torch.from_numpy(np.stack(list(labels_of(self.ids, labels, source="--labels").values())))
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor | str]:
        """The sample of (epoch, index).

        Returns:
            image: normalised, float32 (3, c, c).
            saliency: float32 (1, c, c) in 0..1; not there without `saliency_root`.
            label: float32 (20,), zeros and ones.
            id: str.

        Raises `UserError` naming the file if it cannot be read.
        """
        epoch, index = key
        identifier = self.ids[index]
        with self.reading.of(index), torch.random.fork_rng(devices=[]):
            image = load_rgb(self.image_root / f"{identifier}.jpg")
            saliency = None if self.saliency_root is None else load_rgb(self.saliency_root / f"{identifier}.png")
            # Not torch.manual_seed: that reaches the GPUs' generators too, which are not restored here.
            torch.default_generator.manual_seed(mixed_seed(self.seed, epoch, index))
            image, saliency = self.augmentation(image, saliency)
        sample = {"image": image, "label": self.labels[index], "id": identifier}
        return sample if saliency is None else {**sample, "saliency": saliency}


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of keys (epoch, index): an epoch is a permutation that (seed, epoch) decides, less the rest
    that fills no batch.

    An epoch has `num_samples // batch_size` steps, as the released schedule counts them.

    Args:
        num_samples: images there are.
        batch_size: images in a batch over all processes; a multiple of `world_size`, at most `num_samples`.
        seed: not negative.
        shuffle: False keeps the images' order.
        start_step: steps done before, by a run that is resumed.
        num_steps: batches to give, from step `start_step` on.
        rank, world_size: this process, and how many there are; each takes its contiguous share of every batch.

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
    ):
        if batch_size > num_samples:
            raise UserError(f"--batch_size {batch_size}: expected at most the number of images, {num_samples}")
        if batch_size % world_size:
            raise UserError(f"--batch_size {batch_size}: expected a multiple of the number of processes, {world_size}")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.steps = range(start_step, start_step + num_steps)
        share = batch_size // world_size
        self.share = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        steps_per_epoch = self.num_samples // self.batch_size
        permutation = None
        for step in self.steps:
            epoch, position = divmod(step, steps_per_epoch)
            if permutation is None or position == 0:
                permutation = np.arange(self.num_samples)
                if self.shuffle:
                    np.random.default_rng([self.seed, epoch]).shuffle(permutation)
            batch = permutation[position * self.batch_size :][: self.batch_size]
            yield [(epoch, int(index)) for index in batch[self.share]]
