"""Small segmentation nets, and states in which every tensor can be told from the others."""

from collections.abc import Mapping

import torch

from network.backbones import batch_norms
from segmentation.net.deeplab import DeepLab, build_net

DEFAULTS = {
    "name": "deeplabv2", "backbone": "resnet18", "dilated": True, "multigrid": False, "deep_base": True,
    "aspp_dim": 8, "aspp_global": True, "bn_momentum": 3e-4, "frozen_norms": False,
}  # fmt: skip


def net_of(**options) -> DeepLab:
    """A net on a small backbone, but for `options` as the configuration's defaults have it."""
    return build_net(**{**DEFAULTS, **options})


def numbered(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each tensor filled with its own number."""
    return {key: torch.full(value.shape, i, dtype=value.dtype) for i, (key, value) in enumerate(state.items())}


def with_statistics_of_noise(net: DeepLab) -> DeepLab:
    """`net` in evaluation mode, its norms' statistics those of noise, so that its logits differ from pixel to pixel."""
    for norm in batch_norms(net):
        norm.momentum = None  # the mean over all
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(2, 3, 33, 33))
    return net.eval()


def with_many_labels(net: DeepLab, image: torch.Tensor) -> DeepLab:
    """`net` in evaluation mode, to which no label is likelier than the others over `image` (N, 3, H, W)."""
    with torch.no_grad():
        logits = with_statistics_of_noise(net)(image)
        net.cls_conv.bias -= logits.mean(dim=(0, 2, 3))
    return net
