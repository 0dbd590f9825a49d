"""The nets and backbones by name, which needs no torch; `network.build` makes a net. No losses here."""

import argparse
import re

from tool.cli import UserError, did_you_mean

NETWORKS = ("resnet38_hsc", "resnet38_cls", "resnet38_seam", "resnet38_ppc", "resnet38_ppc_eps", "crt", "msa")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")  # torchvision's
BACKBONES = (*RESNETS, "resnet38d", "mobilenet_v2")
DCR = ("association", "features")  # what says how MSA's maps are rebuilt
# DINOv2's nets by --backbone: their names in timm.
DINOV2 = {
    "ViT-S": "vit_small_patch14_dinov2",
    "ViT-B": "vit_base_patch14_dinov2",
    "ViT-L": "vit_large_patch14_dinov2",
    "ViT-G": "vit_giant_patch14_dinov2",
}
CAFFE_RESNET101 = "caffe_resnet101"  # of stage 3 alone
TIMM = "timm:"  # before the name of any convolutional net of timm
BACKBONE_HELP = f"{', '.join(BACKBONES)}, or {TIMM}NAME (%(default)s)"
PRETRAINED = "pretrained"  # in the place of a file: the weights that torchvision or timm has for the backbone
NO_FILES = ("none", PRETRAINED)  # what may stand in the place of a file of weights

# Whose checkpoints hold the same layers as SEAM's, but score background last.
EPS_SEAM = "network.resnet38_eps_seam"
# Module paths that users of the released scripts type after --network.
RELEASED_MODULES = {
    "network.resnet38_eps_seam_hsc": "resnet38_hsc",
    EPS_SEAM: "resnet38_hsc",
    "network.resnet38_SEAM": "resnet38_seam",
    "network.resnet38_contrast": "resnet38_ppc",
    "network.resnet38_hsc": "resnet38_hsc",
    "network.resnet38_cls": "resnet38_cls",
}


def resolve_network(name: str) -> str:
    """The one of `NETWORKS` that `name`, or a released module path, stands for; `UserError` if there is none."""
    name = RELEASED_MODULES.get(name, name)
    if name not in NETWORKS:
        raise UserError(
            f"--network {name}: expected one of {', '.join(NETWORKS)} (or a released module path: "
            f"{', '.join(RELEASED_MODULES)}){did_you_mean(name, NETWORKS)}"
        )
    return name


def is_backbone(name: str) -> bool:
    """Whether `name` is one of `BACKBONES` or has the form of timm's; whether timm has it is known when it is built."""
    return name in BACKBONES or re.fullmatch(rf"{TIMM}\w+(\.\w+)?", name) is not None


def backbone_name(text: str) -> str:
    """An argparse type: the name of a backbone."""
    if is_backbone(text):
        return text
    known = f"{', '.join(BACKBONES)}, or {TIMM}NAME"
    raise argparse.ArgumentTypeError(f"{text!r}: expected one of {known}{did_you_mean(text, BACKBONES)}")
