"""The house recipe: EPS, then two that go on from it, EPS and PPC; DeepLab on the CRF seeds of their CAMs' mean.

    python run.py house --voc12_root VOC2012 --saliency_root VOC2012/saliency

Figures: none on all of VOC. On photographs of five classes, with a small net, its CRF seeds were 4.5 ± 1.1 above those
of HSC that starts from EPS, in 1.3 times the time, and the best of as many steps; more of them bring more
(docs/which_method.md).
Time: of three trainings as long as eps's, and of two inferences.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, eps, mini
from recipes.data_sets import has_masks
from tool.recipe import Setup, Stage


def stages(setup: Setup) -> list[Stage]:
    start = eps.training(setup, name="train_eps")
    goes_on = {"weights": start.makes}
    # Its folder is the recipe's: the mean's CAMs and seeds go there, its own CAMs elsewhere.
    train = common.training(setup, "eps", session="house", mini_flags={**mini.length(300), **mini.VIEW}, **goes_on)
    other = common.training(setup, "ppc_eps", name="train_ppc", mini_flags={**mini.length(300), **mini.VIEW}, **goes_on)

    def mean(name: str, ids: str) -> list[Stage]:
        """The CAMs of both for the list `ids`, and their mean, with EPS's seeds."""
        cams = [
            common.inference(
                *(setup, trained), name=f"{name}_{trained.flags['method']}", ids=ids, crf=False,
                work_dir=setup.out / "cams" / trained.flags["method"],
            )
            for trained in (train, other)
        ]  # fmt: skip
        return [*cams, common.merging(setup, train, [stage.makes for stage in cams], name=name, ids=ids)]

    *cams, infer = mean("infer", "train")
    *cams_aug, infer_aug = mean("infer_aug", "train_aug")
    return [
        *mini.data(setup),
        common.prepare(setup),
        start,
        train,
        other,
        *(cams if has_masks(setup, "train") else []),
        *common.scored_seeds(setup, infer),
        *cams_aug,
        infer_aug,
        *common.deeplab(setup, infer_aug.makes, train),
        common.report(setup, train),
    ]
