"""PPC on SEAM: pixels against prototypes (Du et al., CVPR 2022), no saliency maps; AffinityNet's masks; DeepLab v1.

    python run.py ppc --voc12_root VOC2012

Figures, as published: seeds 61.5 % mIoU on the train list, with CRF 64.0, walked masks 69.2; segmentation 67.7 on val,
67.4 on test. Seeds that others report go from 54.6 to 61.5.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, mini, seam
from tool.recipe import Setup, Stage


def stages(setup: Setup) -> list[Stage]:
    # At --mini there are no ImageNet weights: from random ones the first pseudo labels would be noise.
    start = [seam.training(setup, name="train_seam", steps=300)] if setup.mini else []
    train = common.training(setup, "ppc", saliency=False, mini_flags=mini.after(start))
    return [
        *mini.data(setup),
        common.prepare(setup, saliency=False),
        *start,
        train,
        *common.seeds(setup, train, crf=False),  # AffinityNet has its own CRF
        *common.affinity(setup, train),
        *common.deeplab(setup, train.makes.parent / "out_rw", train, **common.DEEPLABV1_RESNET38),
        common.report(setup, train, saliency=False),
    ]
