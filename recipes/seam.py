"""SEAM: two scales that agree (Wang et al., CVPR 2020), no saliency maps; AffinityNet's masks; then DeepLab v1.

    python run.py seam --voc12_root VOC2012

Figures, as published: seeds 55.4 % mIoU on the train list, with CRF 56.8; segmentation 64.5 on val, 65.7 on test.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, mini
from tool.recipe import Setup, Stage


def training(setup: Setup, *, name: str = "train", steps: int = 400) -> Stage:
    mini_flags = {**mini.length(steps), **mini.VIEW, "weights": "none"}
    return common.training(setup, "seam", name=name, saliency=False, mini_flags=mini_flags)


def stages(setup: Setup) -> list[Stage]:
    train = training(setup)
    crf = train.makes.parent / "crf"  # of both alphas, as AffinityNet takes them
    return [
        *mini.data(setup),
        common.prepare(setup, saliency=False),
        train,
        *common.seeds(setup, train),
        *common.affinity(setup, train, posteriors=(crf / "crf_10_4", crf / "crf_10_24"), bg="none", alpha=6),
        *common.deeplab(setup, train.makes.parent / "out_rw", train, **common.DEEPLABV1_RESNET38),
        common.report(setup, train, saliency=False),
    ]
