"""Stage 3's net, from its settings."""

from dataclasses import replace

from torch import nn

from data.normalisation import Normalisation
from network import CAFFE_RESNET101, RESNETS
from network.backbones import SCALABLE, batch_norms, build_backbone
from network.deeplab import NETS, DeepLab
from network.deeplab_msc import CaffeResNet, DeepLabMSC
from network.resnet import EVEN_STRIDE_8, STRIDE_8, STRIDE_32, ResNet, multigrid
from segmentation.settings import Config
from tool.cli import UserError

# Q: the released trainer calls nothing that would freeze ResNet-38's norms, as stage 1 does, so that they run on the
# batch's statistics, with this momentum. MODEL_FREEZEBN True is the sane value.
RESNET38_MOMENTUM = 3e-4
MSC = "deeplabv2_msc"
ALL_NETS: dict[str, type[DeepLab]] = {**NETS, MSC: DeepLabMSC}


def net_of(config: Config) -> DeepLab:
    """The net that `config` describes, with random weights, in training mode. Raises `UserError` as `backbone_of`."""
    backbone = backbone_of(config)
    momentum = config.MODEL_BACKBONE_BN_MOM
    if momentum is None and config.MODEL_BACKBONE == "resnet38d":
        momentum = RESNET38_MOMENTUM
    if momentum is not None:
        for norm in batch_norms(backbone):
            norm.momentum = momentum
    v1 = {"bn_momentum": config.TRAIN_BN_MOM}
    v2 = {**v1, "aspp_dim": config.MODEL_ASPP_OUTDIM, "aspp_global": config.MODEL_ASPP_HASGLOBAL}
    options = {"deeplabv1": v1, "deeplabv2": v2, MSC: {}}[config.MODEL_NAME]
    shared = {"num_classes": config.MODEL_NUM_CLASSES, "frozen_norms": config.MODEL_FREEZEBN}
    return ALL_NETS[config.MODEL_NAME](backbone, **shared, **options)


def backbone_of(config: Config) -> nn.Module:
    """The backbone that `config` describes, with random weights.

    resnet38d, mobilenet_v2, caffe_resnet101 and timm's nets have stride 8 and one stem: MODEL_BACKBONE_DEEPBASE, which
    is on by default, is ignored there.

    Raises `UserError` for options that the backbone does not have.
    """
    name, width = config.MODEL_BACKBONE, config.MODEL_BACKBONE_WIDTH
    if config.MODEL_BACKBONE_MULTIGRID and not config.MODEL_BACKBONE_DILATED:
        raise UserError(
            "MODEL_BACKBONE_MULTIGRID True: changes dilations, and MODEL_BACKBONE_DILATED is False: set that to True,"
            " or this to False"
        )
    if width != 1 and name not in SCALABLE:
        raise UserError(f"MODEL_BACKBONE_WIDTH {width}: MODEL_BACKBONE {name} has one width only: set it to 1")
    if name in RESNETS:
        is_msc = config.MODEL_NAME == MSC
        stride_8 = EVEN_STRIDE_8 if is_msc else STRIDE_8
        grid = dict(stride_8 if config.MODEL_BACKBONE_DILATED else STRIDE_32)
        if config.MODEL_BACKBONE_MULTIGRID:
            grid["dilations"] = (*grid["dilations"][:2], multigrid(name))
        net = ResNet(name, **grid, deep_stem=config.MODEL_BACKBONE_DEEPBASE)
        net.maxpool.ceil_mode = is_msc
        return net
    if config.MODEL_BACKBONE_MULTIGRID:
        raise UserError(f"MODEL_BACKBONE_MULTIGRID True: MODEL_BACKBONE {name} has no layer4: set it to False")
    if not config.MODEL_BACKBONE_DILATED:
        raise UserError(f"MODEL_BACKBONE_DILATED False: MODEL_BACKBONE {name} comes dilated only: set it to True")
    if name == CAFFE_RESNET101:
        return CaffeResNet()
    return build_backbone(name, width=width, flag="MODEL_BACKBONE")


def normalisation_of(config: Config, net: DeepLab) -> Normalisation:
    """What `net`, made of `config`, expects; DATA_MEAN and DATA_STD stand for the backbone's where they are set."""
    own = net.normalisation
    return replace(own, mean=config.DATA_MEAN or own.mean, std=config.DATA_STD or own.std)
