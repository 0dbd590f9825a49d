"""Three whole steps of the superpixel network and the validation after them, against the golden numbers."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data.normalisation import IMAGENET
from network.scn import SCN
from superpixel.samples import to_lab
from superpixel.training import build_training, training_step
from superpixel.validation import validate
from tests.golden_inputs import assert_golden, rnd, uni
from tests.superpixel.golden_net import filled_scn
from tool.artifact import save_label_map
from voc12.classes import VOC12

SIDE = 96
SLICES = {
    "conv4b.0.weight": np.s_[::16, ::16],
    "deconv1.0.weight": np.s_[::4, ::4],
    "pred_mask1.weight": np.s_[::3, ::8],
}


def smooth(values: torch.Tensor) -> torch.Tensor:
    return F.interpolate(values, (SIDE, SIDE), mode="bilinear", align_corners=False)


def pixels_of(seed: int, step: int) -> np.ndarray:
    """uint8 (2, 96, 96, 3), RGB."""
    return (256 * smooth(uni(seed + 130 + step, 2, 3, 12, 12))).floor().permute(0, 2, 3, 1).to(torch.uint8).numpy()


def masks_of(seed: int) -> np.ndarray:
    labels = 3 * smooth(rnd(seed + 140, 4, 7, 6, 6)).argmax(1).numpy().astype(np.uint8)
    labels[0, :, 80:] = 255
    labels[1, :10] = 255
    return labels


@pytest.fixture(scope="module")
def three_steps(msa_meta, golden_device) -> tuple[SCN, np.ndarray, dict]:
    """The net after them, the losses, and what each parameter moved."""
    net = filled_scn(msa_meta["salt"], golden_device).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    training, losses = build_training(net, lr=1e-3), []
    for step in range(3):
        pixels = pixels_of(msa_meta["seed"], step)
        image = torch.stack([IMAGENET(each) for each in pixels]).to(golden_device)
        lab = torch.stack([to_lab(each) for each in pixels]).to(golden_device)
        found = training_step(training, image, lab)
        losses.append([float(found[name]) for name in ("total", "lab", "xy")])
    moved = {name: (value - before[name]).cpu().numpy() for name, value in net.state_dict().items()}
    return net, np.array(losses), moved


@pytest.mark.golden
def test_golden_losses_and_updates(golden, golden_device, three_steps):
    expected, (_, losses, moved) = np.load(golden / "msa" / "scn_steps.npz"), three_steps
    assert [*expected["names"]] == ["loss", "lab", "xy"]
    assert_golden(losses, expected["losses"])
    for key in (key for key in expected.files if key.startswith("update ")):
        name = key.removeprefix("update ")
        update, golden_update = moved[name][SLICES.get(name, ...)], expected[key]
        if not golden_update.any():
            assert not update.any(), name
            continue
        far = np.linalg.norm(update - golden_update) / np.linalg.norm(golden_update)
        # An H200 moved conv4b by 1.04e-1: Adam turns tiny gradients into whole steps.
        leeway = 1.5 if golden_device.type == "cuda" else 1
        assert far <= leeway * (1e-1 if name.startswith("conv4b") else 5e-2), name


@pytest.mark.golden
def test_golden_validation(golden, msa_meta, three_steps, tmp_path):
    net, _, _ = three_steps
    images, masks = {}, {}
    pixels = np.concatenate([pixels_of(msa_meta["seed"], step) for step in (0, 1)])
    for number, (image, mask) in enumerate(zip(pixels, masks_of(msa_meta["seed"]), strict=True)):
        images[str(number)] = tmp_path / f"image {number}.png"
        Image.fromarray(image).save(images[str(number)])
        masks[str(number)] = tmp_path / f"{number}.png"
        save_label_map(masks[str(number)], mask, VOC12)
    found = validate(net, images, masks, data_set=VOC12, crop_size=SIDE)
    assert_golden(100 * found["mIoU"], np.load(golden / "msa" / "scn_steps.npz")["mIoU"][0], atol=0.05)
    assert net.training  # as it was
