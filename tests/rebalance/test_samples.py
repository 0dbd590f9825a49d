"""DHR's training images: sizes, and that image, mask and features stay together."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from data.augmentation import resized
from data.normalisation import IMAGENET
from rebalance.crf import seen_by_crf
from rebalance.feature_files import load_features, save_features
from rebalance.inputs import images_of
from rebalance.samples import RebalanceAugmentation, RebalanceSet, collate, scenes_of
from tests.golden_inputs import rnd
from tool.artifact import save_label_map
from tool.cli import UserError
from voc12.classes import VOC12


def augmentation(crop_size, resize, **changes):
    return RebalanceAugmentation(
        crop_size=crop_size, resize=resize, jitter=(0, 0, 0, 0), normalisation=IMAGENET, **changes
    )


@pytest.mark.golden
def test_sizes_are_the_golden_ones(golden):
    with np.load(golden / "dhr" / "transforms.npz") as file:
        for width, height, longer_side, *expected in file["sizes"].tolist():
            assert resized((width, height), longer_side) == tuple(expected)


@pytest.fixture
def ramps():
    """An image that says in red how far right a pixel is and in green how far down, a mask of quarters, and features
    that say the same."""
    y, x = np.mgrid[:60, :80]
    image = np.stack([x * 255 // 79, y * 255 // 59, 0 * x], axis=-1).astype(np.uint8)
    mask = (2 * (y >= 30) + (x >= 40)).astype(np.uint8)
    y, x = torch.meshgrid((torch.arange(30) + 0.5) / 30, (torch.arange(40) + 0.5) / 40, indexing="ij")
    return Image.fromarray(image), mask, torch.stack([x, y]).half()


@pytest.mark.parametrize(("crop_size", "resize"), [(64, (40, 48)), (32, (60, 90)), (64, (80, 80))])
def test_image_mask_and_features_are_resized_mirrored_and_cropped_together(ramps, crop_size, resize):
    mirrored, places = set(), set()
    for seed in range(12):
        torch.manual_seed(seed)
        sample = augmentation(crop_size, resize, plain_picture=True)(*ramps)
        box, features = sample["box"], sample["features"]
        places.add(box[:2])
        rows, columns = box.part
        pixels = sample["picture"][rows, columns].permute(2, 0, 1).float() / 255
        assert (sample["picture"].sum(dim=(0, 1)) == (255 * pixels.double()).sum(dim=(1, 2)).round()).all()
        torch.testing.assert_close(
            sample["image"][:, rows, columns], IMAGENET.of_pixels(sample["picture"][rows, columns].permute(2, 0, 1))
        )
        # Features and pixels at the same place say the same, within a pixel or a cell.
        at = torch.nn.functional.interpolate(features[None], box.size, mode="bilinear", align_corners=False)[0]
        assert (at - pixels[:2]).abs().max() < 0.08
        quarters = 2 * (pixels[1] >= 0.5) + (pixels[0] >= 0.5)
        assert (sample["mask"][rows, columns] == quarters).float().mean() > 0.93
        outside = torch.ones(crop_size, crop_size, dtype=torch.bool)
        outside[rows, columns] = False
        assert (sample["mask"][outside] == 255).all() and (sample["image"][:, outside] == 0).all()
        mirrored.add(bool(pixels[0, 0, 0] > pixels[0, 0, -1]))
    assert mirrored == {True, False} and (len(places) > 3 or crop_size == 32)


def test_the_crf_sees_what_the_net_s_input_is_brought_back_to(ramps):
    torch.manual_seed(0)
    plain = augmentation(64, (48, 48), plain_picture=True)(*ramps)["picture"]
    torch.manual_seed(0)
    released = augmentation(64, (48, 48))(*ramps)
    rows, columns = released["box"].part
    assert (released["picture"][rows, columns].numpy() == seen_by_crf(plain[rows, columns].numpy(), IMAGENET)).all()


@pytest.fixture
def folder(tmp_path):
    """Three images of unlike sizes with masks and features."""
    for number, (width, height) in enumerate(((40, 30), (30, 44), (50, 21))):
        Image.fromarray((255 * np.random.default_rng(number).random((height, width, 3))).astype(np.uint8)).save(
            tmp_path / f"{number}.png"
        )
        save_label_map(tmp_path / f"mask_{number}.png", np.full((height, width), number, np.uint8), VOC12)
    for number in range(3):
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / f"mask_{number}.png").rename(tmp_path / "masks" / f"{number}.png")
        save_features(tmp_path / f"{number}.pt", rnd(number, 5, 4 + number, 7))
    return tmp_path


def dataset_in(folder):
    return RebalanceSet(
        {str(number): folder / f"{number}.png" for number in range(3)},
        mask_root=folder / "masks",
        feature_root=folder,
        tags={
            str(number): np.eye(20, dtype=np.float32)[number] + np.eye(20, dtype=np.float32)[7] for number in range(3)
        },
        data_set=VOC12,
        augmentation=RebalanceAugmentation(
            crop_size=32, resize=(24, 48), jitter=(0.3, 0.3, 0.3, 0.1), normalisation=IMAGENET
        ),
        seed=5,
    )


def test_a_key_gives_the_same_sample_whatever_was_read_before_and_a_batch_has_lists(folder):
    dataset = dataset_in(folder)
    first = [dataset[2, number] for number in range(3)]
    torch.rand(5)
    again = [dataset_in(folder)[2, number] for number in (2, 1, 0)][::-1]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("image", "picture", "mask", "features", "tags"))
    batch = collate(first)
    assert batch["image"].shape == (3, 3, 32, 32) and batch["classes"] == [[0, 7], [1, 7], [2, 7]]
    scenes = scenes_of(batch, torch.device("cpu"))
    assert [scene.features.shape for scene in scenes] == [sample["features"].shape for sample in first]
    assert [scene.box for scene in scenes] == batch["box"] and scenes[1].mask.unique().tolist() == [1, 255]


def test_features_that_are_gone_or_damaged_are_named(folder):
    (folder / "1.pt").unlink()
    (folder / "2.pt").write_bytes((folder / "2.pt").read_bytes()[:-40])
    save_features(folder / "0.pt", torch.full((5, 4, 7), torch.nan))
    dataset = dataset_in(folder)
    with pytest.raises(UserError, match=r"0\.pt: features are not finite.*rebalance/features\.py again"):
        dataset[0, 0]
    with pytest.raises(UserError, match=r"1\.pt: no such file"):
        dataset[0, 1]
    with pytest.raises(UserError, match=r"2\.pt: cannot be read as features"):
        dataset[0, 2]


def test_a_pipe_is_no_features_and_a_macs_hidden_files_are_no_images(folder):
    os.mkfifo(folder / "3.pt")
    with pytest.raises(UserError, match=r"3\.pt: expected features, found a pipe"):
        load_features(folder / "3.pt")
    for name in ("0.jpg", "._0.jpg"):
        (folder / name).touch()
    assert [*images_of(folder, VOC12, "--img_root")] == ["0"]
