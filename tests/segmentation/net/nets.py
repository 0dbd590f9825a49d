"""Small segmentation nets, and states in which every tensor can be told from the others."""

from collections.abc import Mapping

import torch

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
