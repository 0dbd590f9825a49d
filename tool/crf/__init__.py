"""Dense CRF (Krähenbühl and Koltun, NeurIPS 2011): a smoothness and an appearance kernel on an image.

Two backends that agree: pydensecrf, one image at a time on one core, and `torch`, many images at once on a GPU.
"""

import importlib.util
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tool.cam import labels_of_scores
from tool.cli import UserError
from tool.crf.mean_field import mean_field
from tool.crf.unequal import mean_field_of_each
from tool.device import numbers_on
from tool.replay import Replay
from tool.seed_recipe import CRFKernels, CRFRecipe

# Below that a probability is taken as that.
MIN_PROBABILITY = 1e-5

# A pixel's simplex in the appearance kernel has 6 vertices, of which few are its own: a photograph of 500 x 375 has 0.3
# to 34 % as many. Training on a GPU takes rows for all, without a wait, up to that many bytes of them: ten rounds then
# move about 40 GB, by estimate 13 ms of an H100. 24 images of 56 x 56 and 21 labels take 38 MB, 16 of 512 x 512 2.1 GB.
SIMPLEX_VERTICES = 6
UNCOUNTED_BYTES = 128 * 2**20


def resolve_backend(name: str, device: torch.device) -> str:
    """The backend that `name` means for data on `device`: auto is torch on a GPU and where pydensecrf is not installed.

    Raises `UserError`, naming --crf_backend, for pydensecrf where it is not installed.
    """
    installed = importlib.util.find_spec("pydensecrf") is not None
    if name == "auto":
        return "pydensecrf" if installed and device.type == "cpu" else "torch"
    if name == "pydensecrf" and not installed:
        advice = "pip install pydensecrf2 (it builds up to Python 3.12), or choose torch"
        raise UserError(f"--crf_backend pydensecrf: it is not installed; {advice}")
    return name


def crf_from_probability(
    image: Tensor, probability: Tensor, *, kernels: CRFKernels, iterations: int, backend: str
) -> Tensor:
    """Posteriors, float32 (C, H, W) that sum to 1, after mean-field `iterations` from the scores of C labels.

    image: uint8 (H, W, 3), RGB. probability: float (C, H, W) of 0..1 on the same device; need not sum to 1, below 1e-5
    is taken as 1e-5. backend: pydensecrf or torch. Raises `ValueError` for other shapes.
    """
    if probability.ndim != 3:
        raise ValueError(f"expected probabilities (C, H, W), got {tuple(probability.shape)}")
    _check_images(image, probability.shape[1:])
    probability = probability.float().clamp(MIN_PROBABILITY, 1)
    if backend == "pydensecrf":
        return _pydensecrf(image, -probability.log(), kernels, iterations)
    # Labels that score the least everywhere stay equal throughout: one stands for all of them, exactly.
    idle = probability.flatten(1).amax(dim=1) <= probability.amin()
    kept = torch.cat([(~idle).nonzero(), idle.nonzero()[:1]]).flatten()
    copies = torch.where(idle[kept], idle.sum(), 1)[None] if len(kept) < len(probability) else None
    (posterior,) = mean_field(
        image[None], -probability[kept].log()[None], kernels=kernels, iterations=iterations, copies=copies
    )
    row_of = torch.where(idle, len(kept) - 1, (~idle).cumsum(0) - 1)
    return posterior[row_of]


def crf_from_probabilities(
    images: Sequence[Tensor],
    probabilities: Sequence[Tensor],
    *,
    kernels: CRFKernels,
    iterations: int,
    backend: str,
) -> list[Tensor]:
    """`crf_from_probability` of several images, of any sizes and numbers of labels; by torch at once."""
    if backend == "pydensecrf":
        options = {"kernels": kernels, "iterations": iterations, "backend": backend}
        return [crf_from_probability(*pair, **options) for pair in zip(images, probabilities, strict=True)]
    for image, probability in zip(images, probabilities, strict=True):
        _check_images(image, probability.shape[1:])
    unaries = [-probability.float().clamp(MIN_PROBABILITY, 1).log() for probability in probabilities]
    return mean_field_of_each(images, unaries, kernels=kernels, iterations=iterations)


def crf_from_labels(
    images: Tensor,
    labels: Tensor,
    *,
    num_labels: int,
    gt_prob: float,
    kernels: CRFKernels,
    iterations: int,
    backend: str,
    recorded: bool = False,
) -> Tensor:
    """Refined labels, int64 (N, H, W): the argmax after mean-field `iterations`, `labels` being right with `gt_prob`.

    images: uint8 (N, H, W, 3), RGB. labels: integers (N, H, W), 0 to `num_labels` - 1, of which none means "unsure".
    backend: pydensecrf or torch. recorded: for a step of training, with images of one shape each time: a GPU records
    the first call's work and replays it in the others, without a wait; not for several threads. Raises `ValueError` for
    other shapes or labels.
    """
    if labels.ndim != 3 or labels.is_floating_point():
        raise ValueError(f"expected integer labels (N, H, W), got {labels.dtype} {tuple(labels.shape)}")
    _check_images(images, labels.shape)
    labels = labels.long()
    right, wrong = -math.log(gt_prob), -math.log((1 - gt_prob) / (num_labels - 1))
    if backend == "pydensecrf":
        unary = torch.full((len(labels), num_labels, *labels.shape[1:]), wrong, device=labels.device)
        unary.scatter_(1, labels[:, None], right)
        refined = [_pydensecrf(*pair, kernels, iterations).argmax(dim=0) for pair in zip(images, unary, strict=True)]
        return torch.stack(refined)
    # Without a wait the rows of large images would be up to 300 times too many.
    may_wait = not (recorded and images.is_cuda) or 4 * SIMPLEX_VERTICES * num_labels * labels.numel() > UNCOUNTED_BYTES
    refinement = _Refinement(num_labels, right, wrong, kernels, iterations, may_wait)
    if may_wait:
        return refinement.refined(images, labels)
    return _replay(refinement, images.shape, images.device)(images, labels)


class _Refinement(NamedTuple):
    """What `crf_from_labels` computes with, its energies included, in PyTorch."""

    num_labels: int
    right: float
    wrong: float
    kernels: CRFKernels
    iterations: int
    may_wait: bool

    def refined(self, images: Tensor, labels: Tensor) -> Tensor:
        label_of, place_of, copies = _representatives(labels, self.num_labels, self.may_wait)
        unary = torch.full((*copies.shape, *labels.shape[1:]), self.wrong, device=labels.device)
        unary.masked_fill_((copies == 0)[:, :, None, None], math.inf)
        places = place_of.gather(1, labels.flatten(1)).view_as(labels)
        unary.scatter_(1, places[:, None], self.right)
        options = {"kernels": self.kernels, "iterations": self.iterations, "may_wait": self.may_wait}
        best = mean_field(images, unary, copies=copies, **options)
        return label_of.gather(1, best.argmax(dim=1).flatten(1)).view_as(labels)


@lru_cache(maxsize=4)
def _replay(refinement: _Refinement, shape: torch.Size, device: torch.device) -> Replay:
    """For a step's images: hundreds of small kernels, that a host takes four times as long to start as a GPU to run."""
    return Replay(refinement.refined)


def crf_seed(
    image: np.ndarray,
    cams: dict[int, np.ndarray],
    *,
    recipe: CRFRecipe,
    num_classes: int,
    backend: str = "torch",
    device: torch.device | str = "cpu",
) -> dict[int, np.ndarray]:
    """CRF posteriors of an image's CAMs, {label: float32 (H, W)} with 0 = background, class c under c + 1.

    image: uint8 (H, W, 3), RGB. cams: {class: float32 (H, W) of 0..1}; an image without classes is background
    throughout. num_classes: of the data set.
    """
    if not cams:
        return {0: np.ones(image.shape[:2], np.float32)}
    classes = sorted(cams)
    scores = torch.from_numpy(np.stack([cams[c] for c in classes])).to(device)
    best = scores.amax(dim=0, keepdim=True)
    if recipe.threshold is None:
        background = (1 - best).clamp(min=0) ** recipe.alpha
    else:
        background = torch.full_like(best, recipe.threshold)
    scores = torch.cat([background, scores])
    labels = labels_of_scores(classes)
    count = 1 + (num_classes if recipe.all_labels else len(classes))
    rows = numbers_on(labels if recipe.all_labels else range(len(labels)), scores.device)
    if recipe.certainty is None:
        probability = scores.new_zeros(count, *scores.shape[1:]).index_copy_(0, rows, scores)
    else:
        probability = scores.new_full((count, *scores.shape[1:]), (1 - recipe.certainty) / max(count - 1, 1))
        probability.scatter_(0, rows[scores.argmax(dim=0, keepdim=True)], recipe.certainty)
    posterior = crf_from_probability(
        torch.from_numpy(np.require(image, requirements=("C", "W"))).to(device),
        probability,
        kernels=recipe.kernels,
        iterations=recipe.iterations,
        backend=backend,
    )
    if recipe.all_labels:  # what little the others got is shared out: posteriors sum to 1
        posterior = posterior[rows] / posterior[rows].sum(dim=0)
    return dict(zip(labels, posterior.cpu().numpy(), strict=True))


def _check_images(images: Tensor, shape: torch.Size) -> None:
    if images.shape != (*shape, 3) or images.dtype != torch.uint8:
        raise ValueError(f"expected an image uint8 {(*shape, 3)}, got {images.dtype} {tuple(images.shape)}")


def _representatives(labels: Tensor, num_labels: int, may_wait: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The labels that each image has, and one for those that it has not, which stay equal throughout.

    Returns:
        label_of: (N, K), the label at each of K places: as many as the image with the most labels needs, or more.
        place_of: (N, num_labels), the other way round.
        copies: (N, K), how many labels stand at each place.
    """
    there = torch.zeros(len(labels), num_labels, device=labels.device).scatter_(1, labels.flatten(1), 1)
    label_of = there.argsort(dim=1, descending=True, stable=True)
    number = there.sum(dim=1, keepdim=True).long()
    most = min(int(number.max()) + 1, num_labels) if may_wait else num_labels
    places = torch.arange(most, device=labels.device)
    copies = torch.where(places == number, num_labels - number, (places < number).long())
    return label_of[:, : len(places)], label_of.argsort(dim=1), copies


def _pydensecrf(image: Tensor, unary: Tensor, kernels: CRFKernels, iterations: int) -> Tensor:
    """Posteriors, float32 (C, H, W), from an image uint8 (H, W, 3) and energies (C, H, W), on their device."""
    import pydensecrf.densecrf  # here, since all else works without it

    count, height, width = unary.shape
    crf = pydensecrf.densecrf.DenseCRF2D(width, height, count)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.cpu().numpy().reshape(count, -1), np.float32))
    crf.addPairwiseGaussian(sxy=kernels.gaussian_sxy, compat=kernels.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=kernels.bilateral_sxy,
        srgb=kernels.bilateral_srgb,
        rgbim=np.require(image.cpu().numpy(), requirements=("C", "W")),  # it takes no read-only array
        compat=kernels.bilateral_compat,
    )
    posterior = np.array(crf.inference(iterations), np.float32).reshape(count, height, width)
    return torch.from_numpy(posterior).to(unary.device)
