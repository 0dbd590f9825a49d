"""What the nets are given: augmented to train on, resized to test on."""

import numpy as np
import pytest
import torch
from PIL import Image

from cub import mini
from data.cub import read_cub
from data.normalisation import IMAGENET
from localise.samples import LocalisationAugmentation, LocalisationSet, WholeImages
from tool.cli import UserError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return read_cub(mini.generate(tmp_path_factory.mktemp("cub"), seed=4, train=6, test=2, size=48)).train


def augmentation(resize_size=40, crop_size=32):
    return LocalisationAugmentation(resize_size=resize_size, crop_size=crop_size, normalisation=IMAGENET)


def test_a_crop_lies_anywhere_in_the_square_and_half_of_them_are_mirrored():
    ramp = np.zeros((20, 40, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.linspace(0, 255, 40), np.linspace(0, 255, 20)[:, None]
    torch.manual_seed(0)
    found = [augmentation()(Image.fromarray(ramp)) for _ in range(200)]
    assert {tuple(each.shape) for each in found} == {(3, 32, 32)}
    mirrored = np.array([(each[0, 0, -1] < each[0, 0, 0]).item() for each in found])
    assert 70 < mirrored.sum() < 130
    tops = {round(each[1, 0, 0].item(), 3) for each in found}
    lefts = {round(each[0, 0].min().item(), 3) for each in found}
    assert len(tops) == len(lefts) == 40 - 32 + 1


def test_the_same_key_gives_the_same_sample_and_other_keys_others(images):
    samples = LocalisationSet(images, augmentation=augmentation(), seed=7)
    first = samples[2, 3]
    torch.rand(5)
    again = LocalisationSet(images, augmentation=augmentation(), seed=7)[2, 3]
    assert torch.equal(first["image"], again["image"])
    assert (first["label"], first["id"]) == (3, "4") == (again["label"], again["id"])
    others = [samples[3, 3], LocalisationSet(images, augmentation=augmentation(), seed=8)[2, 3]]
    assert not any(torch.equal(first["image"], other["image"]) for other in others)


def test_a_test_image_is_resized_whatever_its_aspect_and_says_its_size(images):
    found = WholeImages(images, side=32, normalisation=IMAGENET)[1]
    with Image.open(images.paths[1]) as image:
        assert found["size"].tolist() == list(image.size)
        expected = IMAGENET(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    assert torch.equal(found["image"], expected) and found["label"] == 1


def test_an_image_that_vanishes_is_named(images, tmp_path):
    gone = images.part([0])
    gone.paths[0] = str(tmp_path / "gone.jpg")
    with pytest.raises(UserError, match=r"gone\.jpg"):
        LocalisationSet(gone, augmentation=augmentation(), seed=0)[0, 0]
