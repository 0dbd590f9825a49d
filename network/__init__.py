"""The nets by name. No losses here."""

from torch import nn

from network.backbones import build_backbone
from network.resnet38_cls import ClsNet
from network.resnet38_hsc import HSCNet
from tool.cli import UserError

NETWORKS: dict[str, type[nn.Module]] = {"resnet38_hsc": HSCNet, "resnet38_cls": ClsNet}

# Module paths that users of the released scripts type after --network.
RELEASED_MODULES = {
    "network.resnet38_eps_seam_hsc": "resnet38_hsc",
    "network.resnet38_eps_seam": "resnet38_hsc",
    "network.resnet38_hsc": "resnet38_hsc",
    "network.resnet38_cls": "resnet38_cls",
}


def resolve_network(name: str) -> str:
    """The key in `NETWORKS` that `name`, or a released module path, stands for; `UserError` if there is none."""
    name = RELEASED_MODULES.get(name, name)
    if name not in NETWORKS:
        raise UserError(
            f"--network {name}: expected one of {', '.join(NETWORKS)} (or a released module path: "
            f"{', '.join(RELEASED_MODULES)})"
        )
    return name


def build_network(
    name: str, *, backbone: str = "resnet38d", width: float = 1.0, frozen: bool = True, **switches: bool
) -> nn.Module:
    """The net `name` with random weights, in training mode.

    `backbone` is a key of `network.backbones.BACKBONES`, `width` the channel multiplier of resnet38d. `frozen` keeps
    batch norms and stem as they were loaded; a backbone trained from scratch wants False, which also switches dropout
    off. `switches` are the net's own (`HSCNet`). Raises `UserError` for an unknown name or a width that the backbone
    does not have.
    """
    return NETWORKS[resolve_network(name)](build_backbone(backbone, width=width), frozen=frozen, **switches)
