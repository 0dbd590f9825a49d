"""Small segmentation nets, and states in which every tensor can be told from the others."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from network.backbones import batch_norms
from network.deeplab import DeepLab
from segmentation import net
from segmentation.experiment.config import config_dict
from segmentation.settings import read_config

KEYS = {
    "backbone": "MODEL_BACKBONE", "width": "MODEL_BACKBONE_WIDTH", "dilated": "MODEL_BACKBONE_DILATED",
    "multigrid": "MODEL_BACKBONE_MULTIGRID", "deep_base": "MODEL_BACKBONE_DEEPBASE",
}  # fmt: skip


def backbone_of(**options: object) -> nn.Module:
    """A small backbone of stage 3, but for `options` as the configuration's defaults have it."""
    config = read_config(config_dict, ["MODEL_BACKBONE=resnet18"])
    return net.backbone_of(replace(config, **{KEYS[name]: value for name, value in options.items()}))


def net_of(
    name: str = "deeplabv2",
    *,
    num_classes: int = 21,
    aspp_dim: int = 8,
    aspp_global: bool = True,
    bn_momentum: float = 3e-4,
    frozen_norms: bool = False,
    **options: object,
) -> DeepLab:
    """A segmentation net on a small backbone, see `backbone_of`."""
    v1 = {"bn_momentum": bn_momentum}
    own = {"deeplabv2": {**v1, "aspp_dim": aspp_dim, "aspp_global": aspp_global}, "deeplabv1": v1}.get(name, {})
    return net.ALL_NETS[name](backbone_of(**options), num_classes=num_classes, frozen_norms=frozen_norms, **own)


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
