"""The dense CRF by either backend, on the work of each stage, timed."""

import time
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from method.hsc import pseudo
from segmentation.predict import TEST_KERNELS
from tool.crf import SEED_KERNELS, CRFKernels, crf_from_labels, crf_from_probability

ITERATIONS = 10
TRAINING_BATCH = 24  # two views of twelve images


class Work(NamedTuple):
    """A stage's CRFs: size of the images, labels, kernels, and how many run at once in the stage."""

    name: str
    size: tuple[int, int]
    labels: int
    kernels: CRFKernels
    from_labels: bool


WORKS = (
    Work("seeds, 375 x 500, 3 labels", (375, 500), 3, SEED_KERNELS, from_labels=False),
    Work("test, 375 x 500, 21 labels", (375, 500), 21, TEST_KERNELS, from_labels=False),
    Work("training, 16 x 16, 21 labels", (16, 16), 21, pseudo.KERNELS, from_labels=True),
    Work("training, 56 x 56, 21 labels", (56, 56), 21, pseudo.KERNELS, from_labels=True),
)


def make_images(count: int, size: tuple[int, int], labels: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, H, W, 3) of blurred patches with noise, and probabilities (N, C, H, W) that have edges too."""
    generator = np.random.default_rng(0)
    height, width = size

    def blobs(channels: int) -> np.ndarray:
        coarse = generator.random((height // 12 + 2, width // 12 + 2, channels), dtype=np.float32)
        return np.stack([cv2.resize(coarse[..., c], (width, height)) for c in range(channels)])

    noise = generator.normal(0, 6, (count, height, width, 3))
    images = np.stack([255 * blobs(3).transpose(1, 2, 0) for _ in range(count)]) + noise
    scores = np.stack([blobs(labels) ** 8 for _ in range(count)])
    probability = scores / scores.sum(axis=1, keepdims=True)
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8)), torch.from_numpy(probability)


def refine(work: Work, images: Tensor, probability: Tensor, backend: str) -> Tensor:
    """The label maps (N, H, W) of one stage's work, all images at once where the stage has them at once."""
    options = {"kernels": work.kernels, "iterations": ITERATIONS, "backend": backend}
    if work.from_labels:
        # A few labels an image, as the image's classes leave them.
        labels = probability[:, :4].argmax(dim=1)
        return crf_from_labels(images, labels, num_labels=work.labels, gt_prob=pseudo.LABEL_CONFIDENCE, **options)
    pairs = zip(images, probability, strict=True)
    return torch.stack([crf_from_probability(*pair, **options).argmax(dim=0) for pair in pairs])


def timed(work: Work, images: Tensor, probability: Tensor, backend: str) -> tuple[float, Tensor]:
    """Milliseconds an image, after one round to warm up on a GPU, and the label maps on the CPU."""
    if images.is_cuda:
        refine(work, images, probability, backend)
        torch.cuda.synchronize()
    start = time.perf_counter()
    labels = refine(work, images, probability, backend).cpu()
    return 1000 * (time.perf_counter() - start) / len(images), labels
