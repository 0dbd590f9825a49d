"""The plain classifier, the others' baseline: image labels alone, no saliency maps. Then DeepLab on its CRF seeds.

    python run.py cls --voc12_root VOC2012

Figures: none are published for this net and recipe. Time: eps's.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, mini
from tool.recipe import Setup, Stage


def stages(setup: Setup) -> list[Stage]:
    mini_flags = {**mini.length(300), **mini.VIEW, "weights": "none"}
    train = common.training(setup, "cls", saliency=False, mini_flags=mini_flags)
    seeds = common.seeds(setup, train)
    return [
        *mini.data(setup),
        common.prepare(setup, saliency=False),
        train,
        *seeds,
        *common.deeplab(setup, seeds[-1].makes, train),
        common.report(setup, train, saliency=False),
    ]
