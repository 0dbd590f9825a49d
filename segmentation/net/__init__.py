"""The segmentation nets: backbones, DeepLab v1 and v2, and their weights."""

from segmentation.net.deeplab import DeepLab, build_net
from segmentation.settings import Config


def net_of(config: Config) -> DeepLab:
    """The net that `config` describes, with random weights. Raises `UserError` for options that do not go together."""
    return build_net(
        name=config.MODEL_NAME,
        backbone=config.MODEL_BACKBONE,
        width=config.MODEL_BACKBONE_WIDTH,
        num_classes=config.MODEL_NUM_CLASSES,
        dilated=config.MODEL_BACKBONE_DILATED,
        multigrid=config.MODEL_BACKBONE_MULTIGRID,
        deep_base=config.MODEL_BACKBONE_DEEPBASE,
        aspp_dim=config.MODEL_ASPP_OUTDIM,
        aspp_global=config.MODEL_ASPP_HASGLOBAL,
        bn_momentum=config.TRAIN_BN_MOM,
        frozen_norms=config.MODEL_FREEZEBN,
    )
