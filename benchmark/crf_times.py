"""The dense CRF by either backend, on the work of each stage, timed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

import tool.crf
from method.hsc import pseudo
from tool.crf import crf_from_labels, crf_from_probability
from tool.image import load_image
from tool.seed_recipe import LABEL_KERNELS, MASK_KERNELS, SEED_KERNELS, CRFKernels
from voc12.classes import VOC12

ITERATIONS = 10
TRAINING_BATCH = 24  # two views of twelve images


class Work(NamedTuple):
    """A stage's CRFs: size of generated images, labels, kernels, and whether they run at once, from label maps."""

    name: str
    size: tuple[int, int]
    labels: int
    kernels: CRFKernels
    from_labels: bool


WORKS = (
    Work("seeds", (375, 500), 3, SEED_KERNELS, from_labels=False),
    Work("test", (375, 500), VOC12.num_labels, MASK_KERNELS, from_labels=False),
    Work("training", (16, 16), VOC12.num_labels, LABEL_KERNELS, from_labels=True),
    Work("training", (56, 56), VOC12.num_labels, LABEL_KERNELS, from_labels=True),
)


def blobs(generator: np.random.Generator, size: tuple[int, int], channels: int) -> np.ndarray:
    """float32 (channels, H, W) of 0..1."""
    height, width = size
    coarse = generator.random((height // 12 + 2, width // 12 + 2, channels), dtype=np.float32)
    return np.stack([cv2.resize(coarse[..., c], (width, height)) for c in range(channels)])


def make_probability(generator: np.random.Generator, size: tuple[int, int], labels: int) -> Tensor:
    """float32 (C, H, W), blobs of one label or none."""
    scores = blobs(generator, size, labels) ** 8
    return torch.from_numpy(scores / scores.sum(axis=0))


def make_images(work: Work, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Images uint8 (H, W, 3) of blurred patches with noise, as many as run at once or `count`; and probabilities."""
    generator = np.random.default_rng(0)
    images, probability = [], []
    for _ in range(TRAINING_BATCH if work.from_labels else count):
        noise = generator.normal(0, 6, (*work.size, 3))
        image = 255 * blobs(generator, work.size, 3).transpose(1, 2, 0) + noise
        images.append(torch.from_numpy(image.clip(0, 255).astype(np.uint8)))
        probability.append(make_probability(generator, work.size, work.labels))
    return images, probability


def read_images(work: Work, files: Sequence[Path]) -> tuple[list[Tensor], list[Tensor]]:
    """Photographs of any size, and probabilities that have nothing to do with them."""
    generator = np.random.default_rng(0)
    images = [torch.from_numpy(np.array(load_image(file, "RGB"))) for file in files]
    return images, [make_probability(generator, tuple(image.shape[:2]), work.labels) for image in images]


def refine(work: Work, images: list[Tensor], probability: list[Tensor], backend: str) -> Tensor:
    """The labels of all pixels, one image after the other; computed at once where the stage has them at once."""
    options = {"kernels": work.kernels, "iterations": ITERATIONS, "backend": backend}
    if work.from_labels:
        # A few labels an image, as the image's classes leave them.
        labels = torch.stack(probability)[:, :4].argmax(dim=1)
        options |= {"num_labels": work.labels, "gt_prob": pseudo.LABEL_CONFIDENCE, "recorded": True}
        return crf_from_labels(torch.stack(images), labels, **options).flatten()
    pairs = zip(images, probability, strict=True)
    return torch.cat([crf_from_probability(*pair, **options).argmax(dim=0).flatten() for pair in pairs])


@contextmanager
def lattices_counted() -> Iterator[None]:
    """In the block training's CRFs on a GPU count their lattices, however small."""
    bound = tool.crf.UNCOUNTED_BYTES
    tool.crf.UNCOUNTED_BYTES = 0
    yield
    tool.crf.UNCOUNTED_BYTES = bound


def timed(work: Work, images: list[Tensor], probability: list[Tensor], backend: str) -> tuple[float, Tensor]:
    """Milliseconds an image, after one round to warm up on a GPU, and the labels on the CPU."""
    if images[0].is_cuda:
        refine(work, images, probability, backend)
        torch.cuda.synchronize()
    start = time.perf_counter()
    labels = refine(work, images, probability, backend).cpu()
    return 1000 * (time.perf_counter() - start) / len(images), labels
