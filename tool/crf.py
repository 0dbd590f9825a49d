"""Dense CRF (Krähenbühl and Koltun, NeurIPS 2011), by pydensecrf: a smoothness and an appearance kernel on an image."""

from dataclasses import dataclass

import numpy as np
import pydensecrf.densecrf
import pydensecrf.utils


@dataclass(frozen=True, kw_only=True)
class CRFKernels:
    """Standard deviations of both kernels, in pixels (sxy) and colour levels of 0..255 (srgb), and their weights."""

    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float


# Refining seeds at the image's full size (spec, "Seeds").
SEED_KERNELS = CRFKernels(gaussian_sxy=3, gaussian_compat=3, bilateral_sxy=80, bilateral_srgb=13, bilateral_compat=10)


def crf_from_probability(
    image: np.ndarray, probability: np.ndarray, *, kernels: CRFKernels, iterations: int
) -> np.ndarray:
    """Posteriors, float32 (C, H, W) that sum to 1, after mean-field `iterations` from the scores of C labels.

    image: uint8 (H, W, 3), RGB. probability: float (C, H, W) of 0..1; need not sum to 1, below 1e-5 is taken as 1e-5.
    Raises `ValueError` for other shapes.
    """
    if probability.ndim != 3:
        raise ValueError(f"expected probabilities (C, H, W), got {probability.shape}")
    unary = pydensecrf.utils.unary_from_softmax(np.ascontiguousarray(probability, np.float32))
    return _mean_field(image, unary, probability.shape[1:], kernels, iterations)


def crf_from_labels(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    num_labels: int,
    gt_prob: float,
    kernels: CRFKernels,
    iterations: int,
) -> np.ndarray:
    """Refined labels, int64 (H, W): the argmax after mean-field `iterations`, `labels` being right with `gt_prob`.

    image: uint8 (H, W, 3), RGB. labels: integers (H, W), 0 to `num_labels` - 1, of which none means "unsure".
    Raises `ValueError` for other shapes or labels.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_labels:
        raise ValueError(f"expected integer labels (H, W) of 0 to {num_labels - 1}, got {labels.dtype} {labels.shape}")
    unary = pydensecrf.utils.unary_from_labels(labels, num_labels, gt_prob, zero_unsure=False)
    return _mean_field(image, unary, labels.shape, kernels, iterations).argmax(axis=0)


def crf_seed(image: np.ndarray, cams: dict[int, np.ndarray], *, alpha: float, iterations: int) -> dict[int, np.ndarray]:
    """CRF posteriors of an image's CAMs, {label: float32 (H, W)} with 0 = background, class c under c + 1.

    image: uint8 (H, W, 3), RGB. cams: {class: float32 (H, W) of 0..1}. The background's score is (1 - max)^alpha over
    the classes (spec, "Seeds"); an image without classes is background throughout.
    """
    if not cams:
        return {0: np.ones(image.shape[:2], np.float32)}
    classes = sorted(cams)
    scores = np.stack([cams[c] for c in classes])
    background = np.maximum(1 - scores.max(axis=0, keepdims=True), 0) ** alpha
    posterior = crf_from_probability(
        image, np.concatenate([background, scores]), kernels=SEED_KERNELS, iterations=iterations
    )
    return {label: posterior[row] for row, label in enumerate([0, *(c + 1 for c in classes)])}


def _mean_field(
    image: np.ndarray, unary: np.ndarray, shape: tuple[int, int], kernels: CRFKernels, iterations: int
) -> np.ndarray:
    """Posteriors, float32 (C, H, W), from unary energies, float32 (C, H * W)."""
    height, width = shape
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise ValueError(f"expected an image uint8 {(height, width, 3)}, got {image.dtype} {image.shape}")
    crf = pydensecrf.densecrf.DenseCRF2D(width, height, len(unary))
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=kernels.gaussian_sxy, compat=kernels.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=kernels.bilateral_sxy,
        srgb=kernels.bilateral_srgb,
        rgbim=np.require(image, requirements=("C", "W")),  # it takes no read-only array, as Pillow's are
        compat=kernels.bilateral_compat,
    )
    return np.array(crf.inference(iterations), np.float32).reshape(len(unary), height, width)
