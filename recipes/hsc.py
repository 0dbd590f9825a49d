"""HSC: hierarchical semantic contrast on EPS (Wu et al., IJCAI 2023), then DeepLab on its CRF seeds.

    python run.py hsc --voc12_root VOC2012 --saliency_root VOC2012/saliency

Figure: 74.5 % mIoU on VOC 2012's test set, as published. Time on one H100, computed from measured steps: training 65
minutes (33 with --set train.amp=bf16), inference 15, DeepLab 45.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, eps, mini
from tool.recipe import Setup, Stage


def seeds(setup: Setup) -> list[Stage]:
    """From the labels to CRF seeds of train_aug.txt."""
    # At --mini there are no ImageNet weights. It starts from what EPS learnt: from random weights its first pseudo
    # labels would be noise.
    start = [eps.training(setup, name="train_eps")] if setup.mini else []
    train = common.training(setup, "hsc", mini_flags=mini.after(start))
    return [
        *mini.data(setup),
        common.prepare(setup),
        *start,
        train,
        *common.seeds(setup, train),
    ]


def stages(setup: Setup) -> list[Stage]:
    of_seeds = seeds(setup)
    train = next(stage for stage in of_seeds if stage.name == "train")
    return [*of_seeds, *common.deeplab(setup, of_seeds[-1].makes, train), common.report(setup, train)]
