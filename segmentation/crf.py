"""From the probabilities of an image's labels to its label map: the test's CRF, and what its processes do.

It imports no network, which the processes of the pool have no use for.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.images import load_rgb, with_size
from tool.artifact import save_label_map
from tool.crf import crf_from_probability, resolve_backend
from tool.crf.process import CRFProcess
from tool.dataset import DataSet
from tool.device import copied_to
from tool.limits import reported_limits
from tool.seed_recipe import MASK_KERNELS

CRF_ITERATIONS = 10


def wrapped(pixels: np.ndarray, mean: Sequence[float]) -> np.ndarray:
    """**Q** What deeplab-pytorch's CRF takes for the image, uint8 (H, W, 3), where `pixels` are an RGB one: the net's
    input, blue first, less `mean` (red, green, blue, 0..1), truncated towards zero, modulo 256. Dark becomes bright."""
    lacking = pixels[..., ::-1] - 255 * np.array(mean[::-1])
    return (np.trunc(lacking).astype(np.int16) % 256).astype(np.uint8)


def seen_by_crf(pixels: np.ndarray, kind: str, mean: Sequence[float]) -> np.ndarray:
    """Of an RGB image, uint8 (H, W, 3), what TEST_CRF_IMAGE `kind` means. Blue first is not the same to the CRF: its
    filter takes the channels one after the other."""
    if kind == "wrapped":
        return wrapped(pixels, mean)
    return pixels[..., ::-1].copy() if kind == "bgr" else pixels


def refine(
    image_id: str,
    path: Path,
    folder: Path,
    data_set: DataSet,
    kind: str,
    mean: Sequence[float],
    probability: Tensor | np.ndarray,
) -> None:
    """The CRF's part of one image, from its probabilities where they are: its label map, written."""
    image = seen_by_crf(np.asarray(load_rgb(path)), kind, mean)
    with reported_limits("the CRF needs some, too: take fewer TEST_CRF_WORKERS, or TEST_CRF=False", at=with_size(path)):
        labels = crf_labels(image, probability, backend=CRFProcess.backend)
    save_label_map(folder / f"{image_id}.png", labels, data_set)


@torch.inference_mode()
def crf_labels(image: np.ndarray, probability: Tensor | np.ndarray, *, backend: str = "auto") -> np.ndarray:
    """The CRF's label map, uint8 (H, W), of an RGB image, uint8 (H, W, 3), and its probabilities, float (L, H, W), on
    whose device it runs; `backend` as `resolve_backend` takes it."""
    probability = torch.as_tensor(probability)
    posterior = crf_from_probability(
        copied_to(torch.tensor(image), probability.device),
        probability,
        kernels=MASK_KERNELS,
        iterations=CRF_ITERATIONS,
        backend=resolve_backend(backend, probability.device),
    )
    return posterior.argmax(dim=0).to(torch.uint8).cpu().numpy()
