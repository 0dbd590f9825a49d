"""The dense CRF's mean field in PyTorch, of many images at once, on the device of its input."""

import torch
from torch import Tensor

from tool.crf.kernels import CRFKernels
from tool.crf.lattice import GaussianFilter


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
        may_wait: whether the host may wait for the device, to learn how few rows the lattice needs.

    Returns:
        float32 (N, C, H, W), each label's own; over the labels, as often as there are copies, they sum to 1.
    """
    count, labels, height, width = unary.shape
    # A row a pixel, which filters gather and scatter whole.
    energy = -unary.permute(0, 2, 3, 1).reshape(-1, labels).contiguous()
    if copies is None:
        copies = torch.ones(count, labels, device=unary.device)
    pixels = height * width
    weights = copies.to(energy).repeat_interleave(pixels, dim=0)
    log_weights, weights = weights.log(), weights.clamp(min=1)

    def distribution(energy: Tensor) -> Tensor:
        return (energy + log_weights).softmax(dim=1) / weights

    filters = _filters(images, kernels, counted=may_wait)
    posterior = distribution(energy)
    for _ in range(iterations):
        total = energy.clone()
        for compat, kernel in filters:
            total.add_(kernel(posterior), alpha=compat)
        posterior = distribution(total)
    return posterior.view(count, height, width, labels).permute(0, 3, 1, 2).contiguous()


def _filters(images: Tensor, kernels: CRFKernels, *, counted: bool) -> list[tuple[float, GaussianFilter]]:
    """The smoothness and the appearance kernel over the pixels of all images, row by row, each with its weight."""
    count, height, width, _ = images.shape
    device = images.device
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    places = torch.stack([columns, rows], dim=-1).expand(count, -1, -1, -1)
    appearance = torch.cat([places / kernels.bilateral_sxy, images.float() / kernels.bilateral_srgb], dim=-1)
    groups = torch.arange(count, device=device).repeat_interleave(height * width)
    # pydensecrf takes points by fours, and fills up the last four of an image with points at the origin: they have no
    # value, but vertices, through which near-black pixels in a corner see each other.
    has_rest = height * width % 4 != 0
    options = {"groups": groups, "num_groups": count, "counted": counted, "with_origin": has_rest}
    filters = []
    for compat, features, sxy, colours in (
        (kernels.gaussian_compat, places / kernels.gaussian_sxy, kernels.gaussian_sxy, []),
        (kernels.bilateral_compat, appearance, kernels.bilateral_sxy, [255 / kernels.bilateral_srgb] * 3),
    ):
        largest = [width / sxy, height / sxy, *colours]
        kernel = GaussianFilter(features.flatten(0, -2), largest=largest, **options)
        kernel.normalise()
        filters.append((compat, kernel))
    return filters
