"""The plain classifier, the others' baseline: image labels alone, no saliency maps. Then DeepLab on its CRF seeds.

    python run.py cls --voc12_root VOC2012

Figures: none are published for this net and recipe. Time: eps's.
"""

from recipes import common, mini
from tool.recipe import Setup, Stage


def stages(setup: Setup) -> list[Stage]:
    out = setup.out / "cls"
    train = common.training(setup, "cls", saliency=False, mini_flags={**mini.length(300), "weights": "none"})
    return [
        *mini.data(setup),
        common.prepare(setup, saliency=False),
        train,
        common.inference(setup, train, "resnet38_cls", name="infer", ids="train"),
        *common.scores(setup, out),
        common.inference(setup, train, "resnet38_cls", name="infer_aug", ids="train_aug"),
        *common.deeplab(setup, out / "crf" / "crf_8_7", train),
        common.report(setup, out, saliency=False),
    ]
