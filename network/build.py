"""A net by its name, on a backbone."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from network import resolve_network
from network.backbones import build_backbone
from network.cls import ClsNet
from network.hsc import REGION_DIM, HSCNet
from network.resnet38d import scaled
from network.seam import PPCNet, SEAMNet

NETS: dict[str, Callable[..., nn.Module]] = {
    "resnet38_hsc": HSCNet,
    "resnet38_cls": ClsNet,
    "resnet38_seam": SEAMNet,
    "resnet38_ppc": PPCNet,
    "resnet38_ppc_eps": partial(HSCNet, region_channels=None),
}


def build_network(
    name: str,
    *,
    num_classes: int,
    backbone: str = "resnet38d",
    width: float = 1.0,
    frozen: bool = True,
    **switches: Any,
) -> nn.Module:
    """The net `name` for `num_classes` classes, background not counted, with random weights, in training mode.

    `backbone` is one of `network.BACKBONES`, `width` the channel multiplier of resnet38d and, with it, of the region
    features, else a third of a narrow net's arithmetic. `frozen` keeps batch norms and stem as they were loaded; a
    backbone trained from scratch wants False, which also switches dropout off. `switches` are the net's own (`HSCNet`).
    `name` is one of `NETS`: other nets are built by their own modules. Raises `UserError` for a name that no net has
    and a width that the backbone does not have.
    """
    net = NETS[resolve_network(name)]
    body = build_backbone(backbone, width=width)  # which looks at the width
    if net is HSCNet:
        switches["region_channels"] = scaled(REGION_DIM, width)
    return net(body, num_classes=num_classes, frozen=frozen, **switches)
