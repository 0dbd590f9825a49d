"""CRT: a ResNet and a transformer, each pulled towards the other's class maps (Huo, Su, Wu, 2022); IRN; DeepLab.

    python run.py crt --voc12_root VOC2012

Figures, as published: seeds 57.7 % mIoU on the train list, IRN's masks 71.8; segmentation 71.2 on val, 71.7 on test.
DeepLab starts from deeplabv1_resnet101-coco.pth, which learnt from COCO's masks: more than image labels
(--set deeplab.MODEL_BACKBONE=resnet101 deeplab.MODEL_BACKBONE_WEIGHTS=FILE starts from ImageNet's).
Needs ResNet-152's, DeiT-S's and ResNet-50's ImageNet weights in network/ (docs/from_crt_or_irn.md).
"""

from pathlib import Path

from recipes import common, mini
from recipes.data_sets import OWN, list_file
from tool.recipe import Setup, Stage

WEIGHTS = {
    "weights": "network/resnet152-b121ed2d.pth",
    "transformer_weights": "network/deit_small_patch16_224-cd65a155.pth",
}


def stages(setup: Setup) -> list[Stage]:
    # The CNN, after each epoch, on image labels; photographs of a user's own that have a mask may be without.
    scored = {"eval_every": "none"} if setup.data_set == OWN else {"val_list": list_file(setup, "val")}
    train = common.training(setup, "crt", saliency=False, mini_flags=mini.CRT, **WEIGHTS, **scored)
    # In IRN's form, which walks the maps that were summed at a quarter of the size. Before `infer`, which goes on from
    # these.
    infer_aug = common.inference(
        setup, train, name="infer_aug", ids="train_aug", crf=False, mini_flags=mini.CRT_SEEDS,
        cam_out_dir=train.makes.parent / "cam",
    )  # fmt: skip
    infer = common.inference(setup, train, name="infer", ids="train", mini_flags=mini.CRT_SEEDS)
    irn = common.irn(setup, train, cam_dir=Path(infer_aug.flags["cam_out_dir"]))
    return [
        *mini.data(setup),
        common.prepare(setup, saliency=False),
        train,
        infer_aug,
        *common.scored_seeds(setup, infer),
        *irn,
        *common.deeplab(setup, irn[2].makes, train, **common.DEEPLAB_MSC),
        common.report(setup, train, saliency=False),
    ]
