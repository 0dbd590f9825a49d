"""What `--mini` changes in every recipe: generated images of 96 pixels, and nets an eighth as wide from random weights.

Unlike the released recipe these need batch norm and momentum, and gradient clipping, as gradients are hundreds of times
larger than usual.
"""

from collections.abc import Sequence
from typing import Any

from recipes.data_sets import layout
from tool.recipe import Setup, Stage

IMAGE_SIZE = 96
NUM_IMAGES, BATCH_SIZE = 480, 12
NET = {"width": 0.125}
TRAINING = {
    **NET,
    "from_scratch": True,
    "momentum": 0.9,
    "lr": 0.05,
    "clip_grad": 1,
    "iter_size": 1,
    "batch_size": BATCH_SIZE,
    "crop_size": 96,
    "resize_size": [84, 132],
    "save_every": 100,
}
VIEW = {"view2_size": 72}  # of the methods that have HSC's flags
# CRT on timm's smallest plain ViT and a convolutional net as small, from random weights: ResNet-18's part of a step
# takes nine times as long. The windows are of 224 pixels, so that images are seen at twice their size and more.
CRT = {
    "width": None,
    "backbone": "timm:test_byobnet",
    "weights": "none",
    "transformer": "test_vit",
    "transformer_weights": "none",
    "crop_size": 224,
    "resize_size": [196, 308],
    "max_iters": None,
    "max_epoches": 8,
    "lr": 0.02,
}
# Of the CNN: in so few steps the transformer learns too little for seeds.
CRT_SEEDS = {"cam_branch": "cnn", "scales": [2.0, 3.0]}
# MSA's nets on images half as large again, so that there are cells of 16 pixels enough.
SCN = {
    "crop_size": 128,
    "min_image_size": 112,
    "max_image_size": 176,
    "batch_size": BATCH_SIZE,
    "max_epoches": 3,
    "lr": 1e-3,
    "save_every": 100,
}
# With random weights all cells look alike: more than the released AP threshold of 0.6, so every cell would spread to
# every other.
MSA = {
    "width": None,
    "backbone": "resnet18",
    "weights": "none",
    "crop_size": 128,
    "resize_size": [112, 176],
    "max_iters": None,
    "max_epoches": 8,
    "lr": 0.02,
    "th": 0.95,
}
MSA_SEEDS = {"scales": [1.0, 1.5, 2.0]}
# AffinityNet on the classifier's backbone, from its weights.
AFFINITY = {
    **NET,
    "from_scratch": True,
    "momentum": 0.9,
    "lr": 0.05,
    "clip_grad": 1,
    "batch_size": BATCH_SIZE,
    "crop_size": IMAGE_SIZE,
    "max_epoches": 8,
    "save_every": 100,
}
WALK = {"logt": 2}  # 4 steps: on 12 x 12 cells as far, in shares of a side, as 64 on a photograph's 47 x 63
# IRN on the classifier's backbone, from its weights; its cells are half as large as AffinityNet's.
IRN = {
    "momentum": 0.9,
    "lr": 0.05,
    "clip_grad": 1,
    "batch_size": BATCH_SIZE,
    "crop_size": IMAGE_SIZE,
    "max_epoches": 8,
    "save_every": 100,
}
# 16 steps: on 24 x 24 cells as far, in shares of a side, as 256 on 94 x 125. Maps that were learnt in minutes are
# peaks, hence the low score of background.
IRN_WALK = {"exp_times": 4, "sem_seg_bg_thres": 0.05}
# DeepLab, always from the classifier's weights, as there are none of ImageNet's.
DEEPLAB = {
    "MODEL_ASPP_OUTDIM": 64,
    "MODEL_BACKBONE_BN_MOM": 0.1,
    "DATA_RANDOMCROP": IMAGE_SIZE,
    "TRAIN_BN_MOM": 0.1,
    "TRAIN_LR": 0.01,
    "TRAIN_BATCHES": 12,
    "TRAIN_ITER_SIZE": 1,
    "TRAIN_ITERATION": 300,
}
# By MODEL_NAME. Of three scales the released rate: at the one above the loss is not finite, as four are summed and no
# norm follows the head; at 0.001 it first rises. v1 at the one above learns background and one class.
DEEPLAB_OF_NET = {"deeplabv2_msc": {"TRAIN_LR": 2.5e-4}, "deeplabv1": {"TRAIN_LR": 0.002}}


# DHR on the classifier's backbone, from its weights, whose last map, reduced, is in the place of unsupervised features.
FEATURES = {"uss": "Backbone", "uss_weights": None, "uss_dim": 30}
DHR = {
    "crop_size": IMAGE_SIZE,
    "min_image": 84,
    "max_image": 132,
    "batch_size": BATCH_SIZE,
    "max_epoches": 8,
    "lr": 0.01,
    "ema": 0.98,
    "save_every": 100,
}


def backbone_of(trained: Stage) -> dict[str, Any]:
    """The flags of a net on the backbone of `trained`, from its weights."""
    named = {flag: trained.flags.get(flag) for flag in ("backbone", "width")}
    return {**named, "backbone": named["backbone"] or "resnet38d", "weights": trained.makes}


def length(steps: int) -> dict[str, int]:
    """The flags of a training of so many steps, which decays its rate over as many epochs as these are."""
    return {"max_iters": steps, "max_epoches": max(steps * BATCH_SIZE // NUM_IMAGES, 1)}


def after(start: Sequence[Stage]) -> dict[str, Any]:
    """The flags of a training of two views, from the weights of the stage in `start`, which only `--mini` has."""
    return {**length(400), **VIEW, **({"weights": start[0].makes} if start else {})}


def data(setup: Setup) -> list[Stage]:
    """The stage that generates the data, at `--mini`."""
    if not setup.mini:
        return []
    data = layout(setup)
    flags = {"out": setup.out / "data", "seed": 0, "size": IMAGE_SIZE, data.size_flag: NUM_IMAGES}
    return [setup.stage("data", data.generator, flags, makes=setup.data_root / "mini.json", fixed=["out"])]
