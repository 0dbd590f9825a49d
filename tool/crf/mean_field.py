"""The dense CRF's mean field in PyTorch, of many images at once, on the device of its input."""

from functools import lru_cache

import torch
from torch import Tensor

from tool.crf.lattice import GaussianFilter
from tool.seed_recipe import CRFKernels

# The softmax of a few labels is faster where a label's pixels follow each other, of many where a pixel's labels do.
FEW_LABELS = 8
# A value a label and pixel of that many bytes keeps a GPU busy; images beyond it wait for their turn.
GROUP_BYTES = 16 * 2**20
# A GPU sums an entry after the other, up to 14,000 for one vertex of a photograph; a CPU loses by pieces.
GPU_LONGEST_SUM = 64
# Larger images' smoothness kernels, 62 bytes a pixel, are not kept.
KEPT_PIXELS = 2**19


@torch.no_grad()
def mean_field(
    images: Tensor,
    unary: Tensor,
    *,
    kernels: CRFKernels,
    iterations: int,
    copies: Tensor | None = None,
    may_wait: bool = True,
) -> Tensor:
    """Posteriors after `iterations`, with Potts weights and symmetrically normalised kernels, as pydensecrf's.

    Args:
        images: uint8 (N, H, W, 3), RGB.
        unary: energies, float32 (N, C, H, W); infinite where a label cannot be.
        copies: integers (N, C), how many labels each of the C stands for, that share its energies everywhere: such
            labels stay equal in every iteration. 0 where the label is none and its energies are infinite. None: 1 each.
        may_wait: whether the host may wait for the device, to learn how few rows the lattice needs and which labels
            each image has. Otherwise all images are computed at once, with all labels.

    Returns:
        float32 (N, C, H, W), each label's own; over the labels, as often as there are copies, they sum to 1.
    """
    options = {"kernels": kernels, "iterations": iterations, "counted": may_wait}
    count, labels, *size = unary.shape
    everything = [(list(range(count)), labels)]
    groups = everything
    if may_wait:
        numbers = [labels] * count if copies is None else (copies > 0).sum(dim=1).tolist()
        groups = _groups(numbers, unary[0, 0].numel())
    if groups == everything:
        return _mean_field(images, unary, copies, **options)
    if copies is None:
        copies = torch.ones(count, labels, dtype=torch.long, device=unary.device)
    # The labels that an image has come first; others are not computed.
    places = (copies > 0).long().argsort(dim=1, descending=True, stable=True)
    posterior = torch.zeros_like(unary)
    for chosen, number in groups:
        there = places[chosen, :number]
        at = there[:, :, None, None].expand(-1, -1, *size)
        found = _mean_field(images[chosen], unary[chosen].gather(1, at), copies[chosen].gather(1, there), **options)
        posterior[chosen] = posterior[chosen].scatter(1, at, found)
    return posterior


def _groups(numbers: list[int], pixels: int) -> list[tuple[list[int], int]]:
    """Images with equal `numbers` of labels, in groups that GROUP_BYTES hold, and that number."""
    groups = []
    for number in sorted(set(numbers)):
        alike = [image for image, other in enumerate(numbers) if other == number]
        at_once = max(1, GROUP_BYTES // (4 * pixels * number))
        groups += [(alike[i : i + at_once], number) for i in range(0, len(alike), at_once)]
    return groups


def _mean_field(
    images: Tensor, unary: Tensor, copies: Tensor | None, *, kernels: CRFKernels, iterations: int, counted: bool
) -> Tensor:
    """`mean_field` of all images at once, with all labels."""
    count, labels, height, width = unary.shape
    # Rows of labels, a row a pixel, which filters gather whole; in memory label by label where these are few.
    energy = -unary if copies is None else copies.to(unary).log()[:, :, None, None] - unary
    energy = energy.transpose(0, 1).reshape(labels, -1).T
    if labels > FEW_LABELS:
        energy = energy.contiguous()

    def distribution(energy: Tensor) -> Tensor:
        rows = energy.T.softmax(dim=0).T.contiguous() if labels <= FEW_LABELS else energy.softmax(dim=1)
        if copies is not None:
            rows.view(count, -1, labels).div_(copies.clamp(min=1)[:, None])
        return rows

    smoothness = _smoothness_kernel(images, kernels.gaussian_sxy, counted)
    appearance = _appearance_kernel(images, kernels, counted)
    posterior = distribution(energy)
    for _ in range(iterations):
        # The kernel of one image serves all, side by side.
        beside = posterior.view(count, -1, labels).transpose(0, 1)
        smooth = smoothness(beside.reshape(len(beside), -1)).view(beside.shape).transpose(0, 1)
        total = torch.add(energy, smooth.reshape(-1, labels), alpha=kernels.gaussian_compat)
        posterior = distribution(total.add_(appearance(posterior), alpha=kernels.bilateral_compat))
    return posterior.view(count, height, width, labels).permute(0, 3, 1, 2).contiguous()


def _smoothness_kernel(images: Tensor, sxy: float, counted: bool) -> GaussianFilter:
    """Over the pixels of one image; kept for images of the same size."""
    height, width = images.shape[1:3]
    on_gpu = images.is_cuda and torch.cuda.is_initialized()
    # What one stream of a GPU has made another may not take as made, and what a recording reads it has to make.
    stream = torch.cuda.current_stream(images.device) if on_gpu else None
    kept = height * width <= KEPT_PIXELS and not (on_gpu and torch.cuda.is_current_stream_capturing())
    build = _build_smoothness_kernel if kept else _build_smoothness_kernel.__wrapped__
    return build(height, width, sxy, images.device, counted, stream)


def forget_kernels() -> None:
    """Let go of the memory of kept kernels; no thread may be at work with them."""
    _build_smoothness_kernel.cache_clear()


@lru_cache(maxsize=32)
def _build_smoothness_kernel(
    height: int, width: int, sxy: float, device: torch.device, counted: bool, stream: torch.cuda.Stream | None
) -> GaussianFilter:
    # Tensors made in inference mode could not be used outside it.
    with torch.inference_mode(False), torch.no_grad():
        places = pixel_places(height, width, device).flatten(1) / sxy
        return _kernel(places, [width / sxy, height / sxy], 1, counted)


def _appearance_kernel(images: Tensor, kernels: CRFKernels, counted: bool) -> GaussianFilter:
    """Over the pixels of all images, one after the other."""
    count, height, width, _ = images.shape
    places = pixel_places(height, width, images.device)[:, None].expand(-1, count, -1, -1)
    colours = images.permute(3, 0, 1, 2).float()
    features = torch.cat([places / kernels.bilateral_sxy, colours / kernels.bilateral_srgb]).flatten(1)
    largest = [width / kernels.bilateral_sxy, height / kernels.bilateral_sxy, *[255 / kernels.bilateral_srgb] * 3]
    return _kernel(features, largest, count, counted)


def pixel_places(height: int, width: int, device: torch.device) -> Tensor:
    """Columns and rows, float32 (2, H, W)."""
    rows, columns = (torch.arange(size, dtype=torch.float32, device=device) for size in (height, width))
    return torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)])


def _kernel(features: Tensor, largest: list[float], count: int, counted: bool) -> GaussianFilter:
    kernel = GaussianFilter(
        features,
        largest=largest,
        num_groups=count,
        counted=counted,
        # pydensecrf takes points by fours, and fills up the last four of an image with points at the origin: they have
        # no value, but vertices, through which near-black pixels in a corner see each other.
        with_origin=features.shape[1] // count % 4 != 0,
        longest_sum=GPU_LONGEST_SUM if features.is_cuda else None,
    )
    kernel.normalise()
    return kernel
