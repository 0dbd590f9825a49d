"""EPS: a classifier that learns from saliency maps too (Lee et al., CVPR 2021), then DeepLab on its CRF seeds.

    python run.py eps --voc12_root VOC2012 --saliency_root VOC2012/saliency

Figures, as published: seeds 69.5 % mIoU on the train list, with CRF 71.4; segmentation 71.0 on val, 71.8 on test.
Time: less than hsc's in training, whose steps have two views and a CRF; as long after it.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from typing import Any

from recipes import common, mini
from tool.recipe import Setup, Stage


def training(setup: Setup, *, name: str = "train", **more: Any) -> Stage:
    mini_flags = {**mini.length(300), **mini.VIEW, "weights": "none"}
    return common.training(setup, "eps", name=name, mini_flags=mini_flags, **more)


def stages(setup: Setup) -> list[Stage]:
    train = training(setup)
    seeds = common.seeds(setup, train)
    return [
        *mini.data(setup),
        common.prepare(setup),
        train,
        *seeds,
        *common.deeplab(setup, seeds[-1].makes, train),
        common.report(setup, train),
    ]
