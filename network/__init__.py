"""The nets and backbones by name, which needs no torch; `network.build` makes a net. No losses here."""

from tool.cli import UserError

NETWORKS = ("resnet38_hsc", "resnet38_cls")
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet38d", "mobilenet_v2")

# Whose checkpoints hold the same layers as SEAM's, but score background last.
EPS_SEAM = "network.resnet38_eps_seam"
# Module paths that users of the released scripts type after --network.
RELEASED_MODULES = {
    "network.resnet38_eps_seam_hsc": "resnet38_hsc",
    EPS_SEAM: "resnet38_hsc",
    "network.resnet38_hsc": "resnet38_hsc",
    "network.resnet38_cls": "resnet38_cls",
}


def resolve_network(name: str) -> str:
    """The one of `NETWORKS` that `name`, or a released module path, stands for; `UserError` if there is none."""
    name = RELEASED_MODULES.get(name, name)
    if name not in NETWORKS:
        raise UserError(
            f"--network {name}: expected one of {', '.join(NETWORKS)} (or a released module path: "
            f"{', '.join(RELEASED_MODULES)})"
        )
    return name
