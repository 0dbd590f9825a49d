"""MSA with images: class maps along superpixels, rebuilt and spread, that rebuild the image (2024); then DeepLab.

    python run.py msa_image --voc12_root VOC2012

Figures: none are published with the code; ours are the first that anyone can repeat. As released, the classifier's best
weights and the seeds' threshold are chosen on masks of train.txt, which is more than image labels
(--set train.select=last infer_aug.thr=0.25 chooses neither). DeepLab starts from deeplabv1_resnet101-coco.pth, which
learnt from COCO's masks (--set deeplab.MODEL_BACKBONE=resnet101 deeplab.MODEL_BACKBONE_WEIGHTS=FILE: ImageNet's).
Needs ResNet-50's ImageNet weights in network/ (docs/from_msa.md).
"""

from argparse import ArgumentTypeError
from contextlib import suppress

from method import METHODS
from recipes import common, mini
from recipes.data_sets import has_masks, image_flags, layout, list_file
from tool.cli import boolean
from tool.metric import SWEEP
from tool.recipe import Setup, Stage


def superpixels(setup: Setup) -> Stage:
    """Training of the superpixel network, which sees images alone, as released."""
    flags = {**image_flags(setup), "train_list": list_file(setup, "train_aug"), "work_dir": setup.out, "session": "scn"}
    makes = setup.out / "scn" / "scn.pth"
    return setup.stage(
        "scn", "superpixel/train.py", {**flags, "resume": True},
        mini=mini.SCN, makes=makes, fixed=["work_dir", "session", "session_name"],
    )  # fmt: skip


def is_baseline(setup: Setup) -> bool:
    """Whether the user's changes ask for the classifier without superpixels (--set train.sp_cam=False)."""
    with suppress(ArgumentTypeError):  # which the stage names
        return not boolean(str(setup.changes.get(("train", "sp_cam"), True)))
    return False


def stages(setup: Setup, method: str = "msa_image", *, saliency: bool = False) -> list[Stage]:
    scn = None if is_baseline(setup) else superpixels(setup)
    scored, threshold = {"select": "last", "eval_every": "none"}, METHODS[method].seeds.threshold
    if has_masks(setup, "train"):
        scored = {"val_list": list_file(setup, "train_first"), "gt_dir": setup.data_root / layout(setup).masks}
        threshold = None
    train = common.training(
        setup,
        method,
        saliency=saliency,
        mini_flags=mini.MSA,
        scn=scn and scn.makes,
        weights=common.RESNET50_WEIGHTS,
        **scored,
    )
    folder = train.makes.parent
    best, masks = threshold or folder / "curve.json", folder / "pseudo"
    of_seeds = {"mini_flags": mini.MSA_SEEDS, "sane": train.flags.get("sane")}
    infer = common.inference(setup, train, name="infer", ids="train", **of_seeds)
    infer_aug = common.inference(
        setup, train, name="infer_aug", ids="train_aug", crf=False, thr=best, cam_png=masks, **of_seeds
    )
    return [
        *mini.data(setup),
        common.prepare(setup, saliency=saliency),
        *([scn] if scn else []),
        train,
        *common.scored_seeds(setup, infer, thresholds=SWEEP, result=folder / "result.txt"),
        infer_aug._replace(makes=masks),
        *common.deeplab(setup, masks, train, **common.DEEPLAB_MSC),
        common.report(setup, train, saliency=saliency),
    ]
