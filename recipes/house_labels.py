"""The house recipe for image labels alone: the plain classifier and MSA's baseline, whose CAMs' mean has the seeds.

    python run.py house_labels --voc12_root VOC2012

No saliency maps, no superpixels. The CRF starts from more background than EPS's (--crf_alpha 1), as such maps need on
photographs; a few masks tell (docs/trouble.md).
Figures: none on all of VOC; those on photographs of five classes, with a small net, stand in docs/which_method.md.
Time: of cls's training and of MSA's, and of two inferences.
Needs ResNet-38's and ResNet-50's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, mini
from recipes.data_sets import has_masks
from tool.recipe import Setup, Stage

EXPONENT = 1  # of background's score


def stages(setup: Setup) -> list[Stage]:
    mini_flags = {**mini.length(300), **mini.VIEW, "weights": "none"}
    # Its folder is the recipe's: the mean's CAMs and seeds go there, its own CAMs elsewhere.
    train = common.training(setup, "cls", session="house_labels", saliency=False, mini_flags=mini_flags)
    other = common.training(
        *(setup, "msa_image"), name="train_msa", saliency=False, mini_flags=mini.MSA,
        **{"sp_cam": False, "alpha": 0, "select": "last", "eval_every": "none"},
        weights=common.RESNET50_WEIGHTS,
    )  # fmt: skip

    def mean(name: str, ids: str) -> list[Stage]:
        """The CAMs of both for the list `ids`, and their mean, with CRF seeds."""
        cams = [
            common.inference(
                *(setup, trained), name=f"{name}_{trained.flags['method']}", ids=ids, crf=False, mini_flags=seeds,
                work_dir=setup.out / "cams" / trained.flags["method"],
            )
            for trained, seeds in ((train, None), (other, mini.MSA_SEEDS))
        ]  # fmt: skip
        folders = [stage.makes for stage in cams]
        return [*cams, common.merging(setup, train, folders, name=name, ids=ids, crf_alpha=EXPONENT)]

    *cams, infer = mean("infer", "train")
    *cams_aug, infer_aug = mean("infer_aug", "train_aug")
    return [
        *mini.data(setup),
        common.prepare(setup, saliency=False),
        train,
        other,
        *(cams if has_masks(setup, "train") else []),
        *common.scored_seeds(setup, infer),
        *cams_aug,
        infer_aug,
        *common.deeplab(setup, infer_aug.makes, train),
        common.report(setup, train, saliency=False),
    ]
