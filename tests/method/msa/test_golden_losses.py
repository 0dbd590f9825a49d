"""MSA's losses: the golden numbers of both targets, with gradients, on generated maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from method.msa.config import CONFIGS, MSAConfig
from method.msa.criterion import MSACriterion, patches, rebuilt_target
from network.msa import MSAOutput
from tests.golden_inputs import assert_golden, rnd
from tests.network.test_superpixel import soft
from tool.cam import positive_by_maximum

pytestmark = pytest.mark.golden
CLASSES = ((4, 15), (8,), (1, 15))  # of the images, background being 0


def smooth(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def with_ipc(name: str, **changes) -> MSAConfig:
    return replace(CONFIGS[name], ipc=replace(CONFIGS[name].ipc, **changes))


CASES = {
    "image": CONFIGS["msa_image"],
    "image_high": with_ipc("msa_image", threshold=0.7),
    "image_none": CONFIGS["msa_image"],
    "image_whole": with_ipc("msa_image", patches=1),
    "saliency": CONFIGS["msa_sal"],
    "cam_image": CONFIGS["msa_image"],
    "cam_saliency": CONFIGS["msa_sal"],
}


@pytest.fixture(scope="module")
def numbers(golden, msa_meta, golden_device):
    """The golden arrays, and the inputs by name."""
    expected, seed = np.load(golden / "msa" / "losses.npz"), msa_meta["seed"]
    height, width = expected["image_grad_logits"].shape[2:]
    size = (16 * height, 16 * width)
    image = rnd(seed + 31, 3, 3, *size)
    image[1, :, :, 101:] = 0
    image[2, :, 115:] = 0
    image[2, :, :9] = 0
    label = torch.zeros(3, 20)
    for number, classes in enumerate(CLASSES):
        label[number, [index - 1 for index in classes]] = 1
    grey = (200 * smooth(rnd(seed + 36, 3, 1, 5, 5), size)).clamp(0, 255).floor() / 255
    inputs = {
        "image": image,
        "association": soft(seed + 34, 3, 9, *size),
        "logits": 2 * smooth(rnd(seed + 32, 3, 21, 4, 4), (height, width)) + 0.3 * rnd(seed + 33, 3, 21, height, width),
        "score": 2 * rnd(seed + 35, 3, 21, 1, 1)[:, :, 0, 0],
        "saliency": grey,
        "label": label,
    }
    return expected, {name: value.to(golden_device) for name, value in inputs.items()}


def target_of(case: str, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    saliency = inputs["saliency"] if "saliency" in case else None
    image = inputs["image"].abs() + 1 if case == "image_none" else inputs["image"]
    return rebuilt_target(image, saliency, None if case.startswith("cam") else inputs["association"])


@pytest.mark.parametrize("case", CASES)
def test_golden_losses_and_gradients(numbers, case):
    expected, inputs = numbers
    logits = -inputs["logits"].abs() if case == "image_none" else inputs["logits"]
    logits, score = (value.clone().requires_grad_() for value in (logits, inputs["score"]))
    criterion = MSACriterion(CASES[case])
    losses, kept = criterion(MSAOutput(score, logits), target_of(case, inputs), inputs["label"])
    for name, loss in losses.items():
        assert_golden(loss.detach(), expected[f"{case}_{name}"])
    sum(losses.values()).backward()
    for gradient, name in ((logits.grad, "logits"), (score.grad, "score")):
        golden = expected[f"{case}_grad_{name}"]
        atol = 1e-5 * np.abs(golden).max() + 1e-8
        assert_golden(
            torch.zeros_like(logits) if gradient is None else gradient.reshape(golden.shape), golden, atol=atol
        )
    assert not logits.grad[:, 0].any()  # background is read by no loss
    assert (0 < float(kept) <= 1) == (case != "image_none")


@pytest.mark.parametrize("case", ["image", "saliency", "cam_image", "cam_saliency"])
def test_golden_targets(numbers, case):
    expected, inputs = numbers
    assert_golden(target_of(case, inputs), expected[f"{case}_target"])


def test_golden_maps_and_patches(numbers, golden, msa_meta):
    expected, inputs = numbers
    maps = positive_by_maximum(inputs["logits"][:, 1:]) * inputs["label"][:, :, None, None]
    assert_golden(maps[:, [0, 3, 7, 14]], expected["fg_cam"])
    seed, operators = msa_meta["seed"], np.load(golden / "msa" / "superpixel.npz")
    assert_golden(patches(rnd(seed + 15, 2, 3, 31, 32), 9), operators["tile_9"])
    raw = 2 * rnd(seed + 16, 2, 21, 9, 10)
    raw[:, 4] = -raw[:, 4].abs()
    raw[:, 5] *= 1e-6
    assert_golden(positive_by_maximum(raw), operators["normalised_cam"])
