"""DHR: DeepLabv3+ on HSC's CRF seeds, rebalanced in every step (Jo et al., ECCV 2024). Any other masks do as well.

    python run.py dhr --voc12_root VOC2012 --saliency_root VOC2012/saliency

Figure, as published, on the masks of MARS: 79.8 % mIoU on VOC 2012's val list, with ResNet-101.
Needs, beside what HSC needs, ResNet-101's ImageNet weights in network/, and DINOv2's and CAUSE's in weights/
(docs/from_dhr.md). Label maps of another method: --set prepare.saliency_root= dhr.wss_masks=FOLDER
--stages prepare features dhr dhr_masks eval_dhr.
"""

from recipes import common, hsc
from recipes.rebalance import rebalanced
from tool.recipe import Setup, Stage


def stages(setup: Setup) -> list[Stage]:
    of_hsc = hsc.seeds(setup)
    train = next(stage for stage in of_hsc if stage.name == "train")
    return [*of_hsc, *rebalanced(setup, of_hsc[-1].makes, train), common.report(setup, train)]
