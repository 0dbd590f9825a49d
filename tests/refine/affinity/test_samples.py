"""AffinityNet's training images: the golden items, and what is drawn at random."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.augmentation import Crop
from data.normalisation import IMAGENET
from refine.affinity.samples import AffinityAugmentation, AffinitySet
from refine.pairs import pair_labels
from tests.golden_inputs import assert_golden, uni
from tool.artifact import save_crf
from tool.cli import UserError
from tool.pairs import pairs_of
from voc12.classes import VOC12


def half(seed, height, width):
    """Generated scores of three labels: blocks with noise, nothing in the corner."""
    coarse = uni(seed, 3, -(-height // 8), -(-width // 8))
    scores = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width]
    scores = scores + 0.5 * uni(seed + 1, 3, height, width)
    scores[:, :16, :16] = 0
    return scores.numpy()


@pytest.mark.golden
@pytest.mark.parametrize("number", [0, 1])
def test_items_are_the_golden_ones(golden, ppc_meta, number):
    expected = np.load(golden / "ppc" / "affinity.npz")
    seed = ppc_meta["seed"] + 130 + 10 * number
    image_id = sorted(path.stem for path in (golden / "ppc" / "inference").glob("*.npz"))[number]
    image = np.asarray(Image.open(golden / "inference" / "images" / f"{image_id}.jpg").convert("RGB"))
    height, width = image.shape[:2]
    augmentation = AffinityAugmentation(crop_size=96, normalisation=IMAGENET)
    crop, mirrored = Crop((0, 0, min(width, 96)), (0, 0, min(height, 96))), number == 1
    picture, label = augmentation.at(
        image, half(seed, height, width), half(seed + 2, height, width), crop, mirrored=mirrored
    )
    assert_golden(picture[:, ::8, ::8], expected[f"item{number}_image"], atol=1e-5)
    assert (label.numpy() == expected[f"item{number}_grid"]).all()
    for name, found in zip(("bg", "fg", "neg"), pair_labels(label[None], pairs_of(12, 12)), strict=True):
        assert (found[0].view(34, -1).numpy() == expected[f"item{number}_{name}"]).all()


@pytest.fixture
def white():
    """A white image smaller than the crop, and scores that are sure of one class."""
    scores = np.zeros((2, 24, 40), np.float32)
    scores[1] = 1
    return Image.fromarray(np.full((24, 40, 3), 255, np.uint8)), scores


@pytest.mark.parametrize(("grey", "beside"), [(False, IMAGENET.of_pixels(torch.zeros(3, 1, 1).byte())), (True, 0.0)])
def test_an_image_smaller_than_the_crop_lies_anywhere_in_it_on_black_or_if_sane_on_grey(white, grey, beside):
    augmentation = AffinityAugmentation(crop_size=64, normalisation=IMAGENET, grey_padding=grey)
    augmentation.jitter = lambda image: image
    tops, lefts = set(), set()
    for seed in range(12):
        torch.manual_seed(seed)
        picture, label = augmentation(*white[:1], white[1], white[1])
        inside = picture[0] > 1
        rows, columns = (inside.any(dim=axis).nonzero().flatten() for axis in (1, 0))
        assert (len(rows), len(columns)) == (24, 40) and int(inside.sum()) == 24 * 40
        assert torch.equal(torch.where(inside, 0, picture), torch.where(inside, 0, beside + torch.zeros_like(picture)))
        tops.add(int(rows[0]))
        lefts.add(int(columns[0]))
        assert set(label.unique().tolist()) == {1, 255}
    assert len(tops) > 3 and len(lefts) > 3


def test_image_and_scores_are_cropped_and_mirrored_together():
    generator = np.random.default_rng(0)
    mask = np.kron(generator.integers(0, 2, (12, 12)), np.ones((8, 8), int))  # 96 x 96
    image = Image.fromarray(np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=2))
    scores = np.stack([1 - mask, mask]).astype(np.float32)
    augmentation = AffinityAugmentation(crop_size=40, normalisation=IMAGENET)
    augmentation.jitter = lambda image: image
    for seed in range(8):
        torch.manual_seed(seed)
        picture, label = augmentation(image, scores, scores)
        is_class = torch.nn.functional.avg_pool2d((picture[:1] > 0).float()[None], 8)[0, 0] > 0.5
        assert torch.equal(label == 1, is_class)


@pytest.fixture
def folder(tmp_path):
    """Two images and their posteriors, of which one is of another size."""
    for number in (1, 2):
        Image.fromarray(np.full((24, 32, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
        for half_name in ("low", "high"):
            (tmp_path / half_name).mkdir(exist_ok=True)
            scores = np.random.default_rng(number).random((24, 32)).astype(np.float32)
            save_crf(tmp_path / half_name / f"{number}.npy", {0: 1 - scores, 7: scores}, VOC12)
    save_crf(tmp_path / "high" / "2.npy", {0: np.ones((24, 31), np.float32)}, VOC12)
    return tmp_path


def dataset_in(folder):
    images = {str(number): folder / f"{number}.png" for number in (1, 2)}
    roots = {"low_root": folder / "low", "high_root": folder / "high"}
    augmentation = AffinityAugmentation(crop_size=40, normalisation=IMAGENET)
    return AffinitySet(images, **roots, data_set=VOC12, augmentation=augmentation, seed=3)


def test_a_key_gives_the_same_sample_whatever_was_read_before(folder):
    dataset = dataset_in(folder)
    first = dataset[4, 0]
    torch.rand(3)
    dataset[5, 0]
    again = dataset_in(folder)[4, 0]
    assert torch.equal(first["image"], again["image"]) and torch.equal(first["label"], again["label"])
    assert not torch.equal(first["image"], dataset[5, 0]["image"])
    assert (first["id"], first["image"].shape, first["label"].shape) == ("1", (3, 40, 40), (5, 5))


def test_the_released_arrays_of_all_labels_give_the_same_sample(folder):
    expected = dataset_in(folder)[0, 0]
    for half_name in ("low", "high"):
        path = folder / half_name / "1.npy"
        maps = np.load(path, allow_pickle=True).item()
        array = np.zeros((21, 24, 32), np.float32)
        for label, scores in maps.items():
            array[label] = scores
        np.save(path, array)
    found = dataset_in(folder)[0, 0]
    assert torch.equal(found["image"], expected["image"])
    assert torch.equal(found["label"], torch.where(expected["label"] == 1, 7, expected["label"]))  # row 1 is class 7's


def test_posteriors_of_another_size_are_named(folder):
    with pytest.raises(UserError, match=r"high/2\.npy: expected 24 x 32 \(height x width\).*found 24 x 31"):
        dataset_in(folder)[0, 1]
