"""PPC on EPS: saliency maps, and pixels against prototypes (Du et al., CVPR 2022); then DeepLab on its CRF seeds.

    python run.py ppc_eps --voc12_root VOC2012 --saliency_root VOC2012/saliency

Figures, as published: seeds 70.5 % mIoU on the train list, with CRF 73.3; segmentation 72.6 on val, 73.6 on test. With
DeepLab v1 (--set deeplab.MODEL_NAME=deeplabv1) 72.3 and 73.5.
AffinityNet's masks are made and scored beside the CRF seeds, on which DeepLab learns.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, eps, mini
from tool.recipe import Setup, Stage


def stages(setup: Setup) -> list[Stage]:
    # At --mini there are no ImageNet weights: from random ones the first pseudo labels would be noise.
    start = [eps.training(setup, name="train_eps")] if setup.mini else []
    train = common.training(setup, "ppc_eps", mini_flags=mini.after(start))
    seeds = common.seeds(setup, train)
    return [
        *mini.data(setup),
        common.prepare(setup),
        *start,
        train,
        *seeds,
        *common.affinity(setup, train),
        *common.deeplab(setup, seeds[-1].makes, train),
        common.report(setup, train),
    ]
