"""The house recipe for image labels alone: MSA's baseline, without superpixels, whose CRF starts from more background;
DeepLab v2 on its CRF seeds, from its weights.

    python run.py house_labels --voc12_root VOC2012

Background's score has the exponent 1 in the CRF, EPS's 7: maps that are learnt from labels alone are spread wide on
photographs. On generated data 7 is far better. A few masks tell which is right (docs/trouble.md):
--set infer.crf_alpha=2 infer_aug.crf_alpha=2.
Figures: none on all of VOC; those on photographs of five classes, with a small net, stand in docs/which_method.md.
Needs ResNet-50's ImageNet weights in network/ (docs/from_msa.md).
"""

from recipes import common, mini
from recipes.data_sets import has_masks
from tool.recipe import Setup, Stage

EXPONENT = 1  # of background's score


def stages(setup: Setup) -> list[Stage]:
    train = common.training(
        setup, "msa_image", session="house_labels", saliency=False, mini_flags=mini.MSA,
        sp_cam=False, alpha=0, select="last", eval_every="none",
        weights=common.RESNET50_WEIGHTS,
    )  # fmt: skip

    def seeds(name: str, ids: str) -> list[Stage]:
        """The CAMs of the list `ids`, and their seeds, by the plain classifier's CRF."""
        cams = common.inference(
            setup, train, name=f"{name}_cams", ids=ids, crf=False, mini_flags=mini.MSA_SEEDS,
            work_dir=setup.out / "cams",
        )  # fmt: skip
        return [cams, common.merging(setup, train, [cams.makes], name=name, ids=ids, method="cls", crf_alpha=EXPONENT)]

    cams, infer = seeds("infer", "train")
    learnt = seeds("infer_aug", "train_aug")
    return [
        *mini.data(setup),
        common.prepare(setup, saliency=False),
        train,
        *([cams] if has_masks(setup, "train") else []),
        *common.scored_seeds(setup, infer),
        *learnt,
        *common.deeplab(setup, learnt[-1].makes, train, **common.from_classifier(train)),
        common.report(setup, train, saliency=False),
    ]
