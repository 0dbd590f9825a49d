"""The augmentation: sizes, padding, and the image and its saliency map moved alike."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from data.augmentation import Crop, Place, TrainingAugmentation, saliency_to_tensor
from data.normalisation import IMAGENET
from data.saliency import SaliencyCrop


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards, and no pixel is black."""
    pixels = np.full((height, width, 3), 60, np.uint8)
    pixels[..., 0] = np.linspace(20, 250, width)[None]
    pixels[..., 1] = np.linspace(20, 250, height)[:, None]
    return Image.fromarray(pixels)


def grey(image: Image.Image, channel: int) -> Image.Image:
    return image.getchannel(channel).convert("RGB")


def without_jitter(**arguments) -> TrainingAugmentation:
    augmentation = TrainingAugmentation(**arguments)
    augmentation.jitter = torch.nn.Identity()
    return augmentation


def unnormalised(image: torch.Tensor) -> torch.Tensor:
    return image * torch.tensor(IMAGENET.std)[:, None, None] + torch.tensor(IMAGENET.mean)[:, None, None]


def test_normalise_is_the_formula_channel_by_channel():
    image = gradient(31, 17)
    expected = (np.asarray(image) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    actual = IMAGENET(image)
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual.permute(1, 2, 0), expected, rtol=1e-5, atol=1e-5)


def test_normalise_gives_torchvisions_bits():
    image = gradient(31, 17)
    pixels = F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)
    assert torch.equal(IMAGENET(image), F.normalize(pixels, IMAGENET.mean, IMAGENET.std))


def test_the_way_back_of_the_recipe_clamps_and_truncates():
    pixels = torch.tensor([-30.0, 0.2, 99.9, 100.1, 254.9, 300.0]).expand(2, 3, 1, 6)
    image = (pixels / 255 - torch.tensor(IMAGENET.mean)[:, None, None]) / torch.tensor(IMAGENET.std)[:, None, None]
    actual = IMAGENET.truncated(image)
    assert actual.dtype == torch.uint8
    assert torch.equal(actual, torch.tensor([0, 0, 99, 100, 254, 255], dtype=torch.uint8).expand(2, 3, 1, 6))


def test_the_outputs_have_the_promised_shapes_types_and_ranges():
    torch.manual_seed(0)
    augmentation = TrainingAugmentation(crop_size=32, resize=(24, 60))
    for width, height in ((50, 30), (30, 50), (7, 400)):
        image, saliency = augmentation(gradient(width, height), gradient(width, height))
        assert image.shape == (3, 32, 32)
        assert saliency.shape == (1, 32, 32)
        assert image.dtype == saliency.dtype == torch.float32
        assert saliency.min() >= 0 and saliency.max() <= 1


def test_a_sharp_saliency_map_stays_within_0_and_1_where_bicubic_overshoots():
    torch.manual_seed(0)
    edges = np.zeros((20, 20, 3), np.uint8)
    edges[5:15, 5:15] = 255
    _, saliency = TrainingAugmentation(crop_size=64, resize=(64, 64))(gradient(20, 20), Image.fromarray(edges))
    assert saliency.min() == 0 and saliency.max() == 1
    assert 0 < ((saliency > 0) & (saliency < 1)).float().mean() < 0.5


def test_saliency_is_the_mean_of_three_channels_not_a_luminance():
    torch.manual_seed(0)
    colours = Image.new("RGB", (8, 8), (30, 90, 240))
    _, saliency = TrainingAugmentation(crop_size=8, resize=(8, 8))(gradient(8, 8), colours)
    torch.testing.assert_close(saliency, torch.full((1, 8, 8), 120 / 255))


def test_sizes_and_the_jitters_ranges_are_the_recipes():
    augmentation = TrainingAugmentation()
    assert (augmentation.crop_size, augmentation.resize) == (448, (448, 768))
    jitter = augmentation.jitter
    for name, reach in {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}.items():
        assert tuple(getattr(jitter, name)) == (1 - reach, 1 + reach), name
    assert tuple(jitter.hue) == (-0.1, 0.1)


def test_images_and_saliency_are_resized_by_pils_bicubic_and_mirrored_half_of_the_time():
    torch.manual_seed(0)
    noise = np.random.default_rng(0).integers(0, 256, (2, 50, 50, 3), np.uint8)
    image, saliency = map(Image.fromarray, noise)
    resized = [picture.resize((30, 30), Image.Resampling.BICUBIC) for picture in (image, saliency)]
    plain = torch.cat([IMAGENET(resized[0]), saliency_to_tensor(resized[1])])
    augmentation = without_jitter(crop_size=30, resize=(30, 30))
    mirrored = 0
    for _ in range(400):
        actual = torch.cat(augmentation(image, saliency))
        if not torch.equal(actual, plain):
            assert torch.equal(actual, plain.flip(2))
            mirrored += 1
    assert 160 < mirrored < 240


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (150, 90)])
def test_image_and_saliency_are_resized_mirrored_cropped_and_padded_alike(size):
    torch.manual_seed(1)
    image = gradient(*size)
    augmentation = without_jitter(crop_size=48, resize=(32, 100))
    mirrored = set()
    for channel in [0, 1] * 10:
        augmented, saliency = augmentation(image, grey(image, channel))
        inside = augmented.ne(0).any(dim=0)
        torch.testing.assert_close(saliency[0][inside], unnormalised(augmented)[channel][inside])
        assert saliency[0][~inside].eq(0).all()
        row = unnormalised(augmented)[0][:, inside.any(dim=0)][inside.any(dim=1)][0]
        mirrored.add(bool(row[0] > row[-1]))
    assert mirrored == {True, False}


def test_colour_jitter_changes_the_image_and_not_the_saliency():
    image = gradient(40, 40)
    sizes = {"crop_size": 40, "resize": (40, 40)}
    for seed in range(8):
        torch.manual_seed(seed)
        jittered, saliency = TrainingAugmentation(**sizes)(image, image)
        torch.manual_seed(seed)
        plain, plain_saliency = without_jitter(**sizes)(image, image)
        assert not torch.allclose(jittered, plain, atol=0.05)
        assert torch.equal(saliency, plain_saliency)


def test_an_image_smaller_than_the_crop_is_padded_with_exact_zeros_after_normalisation():
    torch.manual_seed(0)
    augmentation = TrainingAugmentation(crop_size=64, resize=(40, 40))
    corners = set()
    for _ in range(40):
        image, saliency = augmentation(gradient(80, 60), Image.new("RGB", (80, 60), (255, 255, 255)))
        inside = saliency[0].eq(1)
        rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
        top, left = int(rows[0]), int(columns[0])
        assert inside.sum() == 30 * 40
        assert inside[top : top + 30, left : left + 40].all()
        assert saliency[0][~inside].eq(0).all()
        assert image[:, ~inside].eq(0).all()
        assert image[:, inside].ne(0).any(dim=0).all()
        corners.add((top, left))
    assert len(corners) > 20
    assert max(top for top, _ in corners) > 25 and max(left for _, left in corners) > 18


def test_a_crop_of_a_larger_image_comes_from_anywhere_in_it_without_padding():
    torch.manual_seed(0)
    augmentation = without_jitter(crop_size=16, resize=(100, 100))
    image = gradient(200, 100)
    centres = []
    for _ in range(60):
        crop = unnormalised(augmentation(image)[0])
        assert crop[2].min() > 0.2
        centres.append(crop.mean(dim=(1, 2)))
    red, green, _ = torch.stack(centres).T
    for channel in (red, green):
        assert channel.min() < 0.35 and channel.max() > 0.7


def test_the_longer_side_is_uniform_over_both_bounds_and_the_aspect_is_kept():
    torch.manual_seed(0)
    augmentation = TrainingAugmentation(crop_size=64, resize=(20, 23))
    longer_sides = []
    for _ in range(200):
        _, saliency = augmentation(gradient(60, 120), Image.new("RGB", (60, 120), (255, 255, 255)))
        height, width = saliency[0].any(dim=1).sum().item(), saliency[0].any(dim=0).sum().item()
        assert width == round(height / 2)
        longer_sides.append(height)
    counts = np.bincount(longer_sides, minlength=24)
    assert counts[:20].sum() == 0 and len(counts) == 24
    assert counts[20:].min() > 25


def test_without_saliency_the_image_is_the_same():
    image = gradient(50, 40)
    augmentation = TrainingAugmentation(crop_size=32, resize=(24, 60))
    torch.manual_seed(3)
    alone, nothing = augmentation(image)
    torch.manual_seed(3)
    together, _ = augmentation(image, image)
    assert nothing is None
    assert torch.equal(alone, together)


@pytest.mark.parametrize(("brightest", "dark", "beside"), [(101, 100, 0), (100, 100, 1), (100, None, 0)])
def test_saliency_beside_a_dark_map_is_as_its_rule_says_and_only_the_first_channel_is_read(brightest, dark, beside):
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[3, 4] = (brightest, 255, 255)
    rule = SaliencyCrop(nearest=True, first_channel=True, dark=dark)
    augmentation = TrainingAugmentation(crop_size=32, jitter=False, saliency=rule)
    place = Place(20, True, Crop((0, 7, 20), (0, 2, 20)))
    _, saliency = augmentation.at(gradient(20, 20), Image.fromarray(pixels), place)
    assert saliency[0, 0, 0] == beside == saliency[0, 2 + 20, 7]
    assert saliency[0, 2 + 3, 7 + 20 - 1 - 4] == np.float32(brightest / 255) and saliency[0, 2:22, 7:27].sum() < 1


def test_saliency_is_resized_to_the_nearest_pixel_where_its_rule_says_so():
    checks = Image.fromarray((np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    place = Place(24, False, Crop((0, 0, 24), (0, 0, 24)))
    for nearest in (True, False):
        augmentation = TrainingAugmentation(crop_size=24, jitter=False, saliency=SaliencyCrop(nearest=nearest))
        _, saliency = augmentation.at(checks, checks, place)
        assert (set(saliency.unique().tolist()) == {0.0, 1.0}) == nearest
