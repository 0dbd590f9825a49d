"""CRT's scores between epochs, its oddities of seeds, and its augmentation."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.augmentation import TrainingAugmentation
from method import METHODS
from method.crt.config import CRTConfig
from method.crt.criterion import label_loss
from method.crt.learner import CRTLearner
from method.learner import LabelledImages
from tests.network.test_crt import small
from tool.cam import mirrored_pair
from voc12.classes import VOC12

CPU = torch.device("cpu")


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(("batch_size", "counted"), [(2, 4), (3, 3), (9, 5)])
def test_an_epochs_score_is_the_cnns_loss_on_full_batches_of_top_left_crops(batch_size, counted, tmp_path):
    config = CRTConfig(side=48, batch_size=batch_size)
    learner = CRTLearner(small(), config, VOC12)
    paths, labels, losses = {}, {}, []
    for number, size in enumerate([(60, 50), (30, 70), (48, 48), (13, 9), (64, 20)]):
        paths[f"image {number}"] = tmp_path / f"{number}.png"
        picture(*size, seed=number).save(paths[f"image {number}"])
        labels[f"image {number}"] = np.eye(20, dtype=np.float32)[number]
    found = learner.validate(LabelledImages(paths, labels), CPU)
    assert list(found) == ["cnn_loss"] and not learner.net.training
    with torch.no_grad():
        for name in list(paths)[:counted]:
            crop = torch.zeros(1, 3, 48, 48)
            pixels = learner.net.normalisation(Image.open(paths[name]))[:, :48, :48]
            crop[0, :, : pixels.shape[1], : pixels.shape[2]] = pixels
            losses.append(float(label_loss(learner.net.cnn(crop), torch.from_numpy(labels[name])[None])))
    assert found["cnn_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("branch", ["transformer", "cnn"])
def test_a_mirror_is_padded_at_its_own_right_unless_that_is_mended(branch):
    image = picture(37, 20)  # 2.3 cells wide
    learner = CRTLearner(small(branch=branch), CRTConfig(), VOC12).eval()
    plain, mirrored = mirrored_pair(image, 1.0, normalise=learner.net.normalisation.of_pixels, device=CPU).split(1)
    released = learner.net.foreground_cam(plain) + learner.net.foreground_cam(mirrored).flip(-1)
    torch.testing.assert_close(learner.maps(image, 1.0, torch.arange(20), CPU), released[0], rtol=1e-4, atol=1e-5)
    learner.config = CRTConfig(pad_mirror=False)
    padded = torch.zeros(1, 3, 20, 48)
    padded[..., :37] = plain
    sane = learner.net.foreground_cam(padded) + learner.net.foreground_cam(padded.flip(-1)).flip(-1)
    torch.testing.assert_close(learner.maps(image, 1.0, torch.arange(20), CPU), sane[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(sane, released, rtol=1e-2)


def test_its_augmentation_leaves_colours_alone():
    assert not METHODS["crt"].jitter
    torch.manual_seed(0)
    grey = Image.new("RGB", (300, 200), (200, 100, 50))
    image, _ = TrainingAugmentation(crop_size=336, resize=(210, 420), jitter=False)(grey)
    pixels = (image * torch.tensor([0.229, 0.224, 0.225])[:, None, None]) + torch.tensor([0.485, 0.456, 0.406])[
        :, None, None
    ]
    inside = (image != 0).any(0)
    torch.testing.assert_close(pixels[:, inside].mean(1) * 255, torch.tensor([200.0, 100.0, 50.0]), rtol=0, atol=0.5)
    assert 210 / 3 * 2 <= inside.any(1).sum() <= 280 and 210 <= inside.any(0).sum() <= 336
