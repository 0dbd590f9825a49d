"""The superpixel network's training images: the golden augmentation, what is drawn at random, and their order."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data.augmentation import Crop, Place
from data.normalisation import IMAGENET
from superpixel.samples import SuperpixelAugmentation, SuperpixelSet, to_lab
from superpixel.training import make_loader
from tests.golden_inputs import assert_golden, uni


def augmentation_of(**options) -> SuperpixelAugmentation:
    return SuperpixelAugmentation(crop_size=64, resize=(40, 80), normalisation=IMAGENET, **options)


@pytest.mark.golden
def test_golden_images_and_colours(golden, msa_meta):
    expected = np.load(golden / "msa" / "augment.npz")
    for number, kind, longer, mirrored, *places in expected["draws"].tolist():
        if kind != 2:  # the classifier's
            continue
        paste_x, paste_y, source_x, source_y, copied_width, copied_height = places
        width, height = msa_meta["augment_sizes"][number]
        coarse = uni(msa_meta["seed"] + 150 + number, 1, 3, 9, 9)
        pixels = (256 * F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)).floor()
        image = Image.fromarray(pixels[0].permute(1, 2, 0).to(torch.uint8).numpy())
        spans = (source_x, paste_x, copied_width), (source_y, paste_y, copied_height)
        picture, lab = augmentation_of().at(image, Place(longer, bool(mirrored), Crop(*spans)))
        assert_golden(picture[:, ::2, ::2], expected[f"scn_image_{number}"], atol=0.02)
        away = lab.permute(1, 2, 0)[::2, ::2].numpy().astype(int) - expected[f"scn_lab_{number}"]
        assert np.abs(away).max() <= 1


def test_the_copy_is_resized_to_the_nearest_pixel_or_if_sane_as_the_image():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    place = Place(32, False, Crop((0, 16, 32), (0, 20, 24)))
    _, nearest = augmentation_of().at(image, place)
    _, bicubic = augmentation_of(same_resize=True).at(image, place)
    inside = np.s_[:, 20:44, 16:48]
    sizes = {Image.Resampling.NEAREST: nearest, Image.Resampling.BICUBIC: bicubic}
    for how, lab in sizes.items():
        assert torch.equal(lab[inside], to_lab(np.asarray(image.resize((32, 24), how))))
    assert not torch.equal(nearest, bicubic)


@pytest.mark.parametrize(("brightest", "sane", "beside"), [(101, False, 0), (100, False, 255), (100, True, 0)])
def test_colours_are_black_beside_a_bright_image_and_white_beside_a_dark_one_unless_sane(brightest, sane, beside):
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[3, 4, 1] = brightest
    place = Place(40, True, Crop((0, 10, 40), (0, 0, 40)))
    picture, lab = augmentation_of(black_padding=sane).at(Image.fromarray(pixels), place)
    assert lab[0, :, :10].unique().tolist() == [beside] and not picture[:, :, :10].any()
    assert lab[0, 3, 10 + 40 - 1 - 4] > 50  # mirrored


def test_a_sample_follows_from_seed_epoch_and_index_alone(tmp_path):
    rng = np.random.default_rng(1)
    images = {}
    for number, mode in enumerate(("RGB", "L")):
        images[str(number)] = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)).convert(mode).save(images[str(number)])
    one, other = (SuperpixelSet(images, augmentation=augmentation_of(), seed=5) for _ in range(2))
    torch.manual_seed(1)
    found = [one[key] for key in ((0, 0), (0, 1), (1, 0))]
    torch.manual_seed(2)
    for key, expected in zip(((1, 0), (0, 1), (0, 0)), reversed(found), strict=True):
        sample = other[key]
        assert torch.equal(sample["image"], expected["image"]) and torch.equal(sample["lab"], expected["lab"])
        assert sample["image"].shape == (3, 64, 64) and sample["lab"].dtype == torch.uint8
    assert not torch.equal(found[0]["image"], found[2]["image"])


@pytest.mark.parametrize("sane", [[], ["order"]])
def test_each_epoch_has_the_images_in_their_order_or_if_sane_in_another(tmp_path, sane):
    images = {str(number): tmp_path / "image.png" for number in range(5)}
    Image.new("RGB", (20, 30), "red").save(tmp_path / "image.png")
    args = Namespace(crop_size=16, min_image_size=16, max_image_size=32, sane=sane, seed=0, batch_size=2, num_workers=0)
    loader = make_loader(args, images, steps=range(6), normalisation=IMAGENET, pin_memory=False)
    epochs = [image_id for batch in loader for image_id in batch["id"]]
    in_order = epochs == ["0", "1", "2", "3"] * 3
    assert in_order == (not sane)
