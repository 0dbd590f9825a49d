"""Training images: what is refused before training, and that a sample depends on (seed, epoch, index) alone."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.augmentation import TrainingAugmentation
from data.images import check_images, check_training_files, image_problems, load_rgb
from data.training import EpochSampler, TrainingSet, steps_of_epoch
from tests.data.places import images_in
from tool.cli import UserError
from voc12.classes import VOC12

SIZE = (40, 30)
IDS = [f"image {number}" for number in range(7)]


def photograph(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def data(tmp_path) -> dict:
    """What `check_training_files` and `TrainingSet` take, of seven sound images."""
    (tmp_path / "images").mkdir()
    (tmp_path / "saliency").mkdir()
    labels = {}
    for number, identifier in enumerate(IDS):
        photograph(number).save(tmp_path / "images" / f"{identifier}.jpg", quality=95)
        photograph(number).getchannel(1).save(tmp_path / "saliency" / f"{identifier}.png")
        labels[identifier] = np.eye(20, dtype=np.float32)[number]
    images = images_in(tmp_path / "images", IDS)
    return {"images": images, "saliency_root": tmp_path / "saliency", "labels": labels}


def training_set(data: dict, seed: int = 5) -> TrainingSet:
    augmentation = TrainingAugmentation(crop_size=24, resize=(20, 48))
    return TrainingSet(**data, augmentation=augmentation, seed=seed)


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_images_of_any_mode_come_as_rgb(tmp_path, mode):
    photograph(0).convert(mode).save(tmp_path / "a.jpg", quality=100)
    image = load_rgb(tmp_path / "a.jpg")
    expected = photograph(0).convert(mode).convert("RGB")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).mean() < 3


def test_the_rotation_flag_of_cameras_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(0).save(tmp_path / "a.jpg", exif=exif)
    assert load_rgb(tmp_path / "a.jpg").size == SIZE


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "cut": content[:-100],
        "cut to its header": content[:20],
        "text": b"<html>not found</html>",
        "a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n",
    }
    path.write_bytes(damaged[how])


@pytest.mark.parametrize("how", ["empty", "cut", "cut to its header", "text", "a program"])
def test_a_damaged_image_is_refused_by_name_when_read_and_when_checked(data, how):
    path = data["images"][IDS[2]]
    damage(path, how)
    with pytest.raises(UserError) as error:
        load_rgb(path)
    assert str(path) in str(error.value)
    for check in (
        lambda: check_images(data["images"], "images"),
        lambda: check_training_files(**data, data_set=VOC12),
    ):
        with pytest.raises(UserError) as error:
            check()
        lines = str(error.value).split("\n")[1:]
        assert len(lines) == 1
        assert str(path) in lines[0]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_an_image_that_is_no_file_is_refused_at_once(data, make):
    path = data["saliency_root"].parent / "odd.jpg"
    make(path)
    with pytest.raises(UserError, match=r"odd\.jpg: expected an image, found a (pipe|folder)"):
        check_images({"odd": path}, "images")


def test_damage_amid_the_pixels_is_found_by_decoding_alone(data):
    image, saliency = data["images"][IDS[0]], data["saliency_root"] / f"{IDS[0]}.png"
    assert image_problems(image, saliency, decode=True) == []
    for path in (image, saliency):
        content = path.read_bytes()
        middle = len(content) * 2 // 3
        path.write_bytes(content[:middle] + b"\xff\x02" + content[middle + 2 :])
    assert image_problems(image, saliency) == []
    found = image_problems(image, saliency, decode=True)
    assert [line.split(": ")[0] for line in found] == [str(image), str(saliency)]


# -- the check before training -----------------------------------------------------------------------------------------


def test_sound_data_pass_with_and_without_saliency(data):
    check_images(data["images"], "images")
    check_training_files(**data, data_set=VOC12)
    check_training_files(**{**data, "saliency_root": None}, data_set=VOC12)


def test_every_fault_of_the_data_is_named_in_one_message(data):
    images, saliency, labels = data["images"][IDS[0]].parent, data["saliency_root"], data["labels"]
    (images / f"{IDS[0]}.jpg").unlink()
    damage(images / f"{IDS[1]}.jpg", "cut")
    (saliency / f"{IDS[1]}.png").unlink()
    damage(saliency / f"{IDS[2]}.png", "cut")
    photograph(3, (30, 40)).save(saliency / f"{IDS[3]}.png")
    labels[IDS[3]] = np.full(20, np.nan, np.float32)
    del labels[IDS[4]]
    labels[IDS[5]] = np.zeros(20, np.float32)
    with pytest.raises(UserError) as error:
        check_training_files(**data, data_set=VOC12)
    lines = str(error.value).split("\n")[1:]
    expected = [
        ("images", IDS[0], "no such file"),
        ("images", IDS[1], "truncated"),
        ("saliency", IDS[1], "no such file"),
        ("saliency", IDS[2], "truncated"),
        ("saliency", IDS[3], "40 x 30 (width x height), found 30 x 40"),
        ("label", IDS[3], "NaN"),
        ("label", IDS[4], "no label"),
        ("label", IDS[5], "without any class"),
    ]
    assert len(lines) == len(expected)
    for line, parts in zip(lines, expected, strict=True):
        assert all(part in line for part in parts)
    assert IDS[6] not in str(error.value)


def test_a_missing_folder_names_every_file(data, tmp_path):
    with pytest.raises(UserError) as error:
        check_training_files(**{**data, "saliency_root": tmp_path / "none"}, data_set=VOC12)
    assert all(str(tmp_path / "none" / f"{identifier}.png") in str(error.value) for identifier in IDS)


def test_without_saliency_the_maps_may_be_missing(data):
    for path in data["saliency_root"].iterdir():
        path.unlink()
    check_training_files(**{**data, "saliency_root": None}, data_set=VOC12)


# Phones put a video behind a photograph; it may hold what starts a JPEG's pixels.
@pytest.mark.parametrize("behind", [b"\0" * 3, b"\0" * 100_000, b"\n", b"\xff" * 7, b"ftypmp42\xff\xda\0\x08\xff"])
@pytest.mark.parametrize("form", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
def test_a_whole_jpeg_with_more_behind_its_end_passes_and_a_cut_one_does_not(data, form, behind):
    path = data["images"][IDS[0]]
    photograph(0).save(path, exif=b"Exif\0\0\xff\xd8\xff\xd9", quality=95, **form)
    content = path.read_bytes()
    path.write_bytes(content + behind)
    check_images(data["images"], "images")
    path.write_bytes(content[:-100] + behind)
    with pytest.raises(UserError, match="truncated"):
        check_images(data["images"], "images")


def test_a_cut_jpeg_is_found_behind_zeros_and_despite_a_whole_thumbnail(data):
    thumbnail_path = data["images"][IDS[0]]
    for identifier, exif in ((IDS[1], b""), (IDS[2], b"Exif\0\0" + thumbnail_path.read_bytes())):
        path = data["images"][IDS[0]].with_name(f"{identifier}.jpg")
        photograph(1).save(path, exif=exif, quality=95)
        check_images({identifier: path}, "images")
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - 100] + b"\0" * 100)
    with pytest.raises(UserError) as error:
        check_images(data["images"], "images")
    lines = str(error.value).split("\n")[1:]
    assert all(identifier in line for identifier, line in zip(IDS[1:3], lines, strict=True))


def test_saliency_of_16_bits_is_refused(data):
    path = data["saliency_root"] / f"{IDS[0]}.png"
    Image.fromarray(np.zeros(SIZE[::-1], np.uint16)).save(path)
    with pytest.raises(UserError, match="8 bits"):
        check_training_files(**data, data_set=VOC12)


# -- samples -----------------------------------------------------------------------------------------------------------


def test_a_sample_has_what_training_takes(data):
    sample = training_set(data)[0, 3]
    assert set(sample) == {"image", "saliency", "label", "id"}
    assert sample["image"].shape == (3, 24, 24)
    assert sample["saliency"].shape == (1, 24, 24)
    assert torch.equal(sample["label"], torch.eye(20)[3])
    assert sample["id"] == IDS[3]
    plain = training_set({**data, "saliency_root": None})[0, 3]
    assert set(plain) == {"image", "label", "id"}
    assert torch.equal(plain["image"], sample["image"])


def test_an_image_that_vanishes_during_training_is_named(data):
    samples = training_set(data)
    (data["images"][IDS[0]]).unlink()
    with pytest.raises(UserError, match=IDS[0]):
        samples[0, 0]


def test_the_same_key_gives_the_same_tensors_in_any_order_and_whatever_ran_before(data):
    first = training_set(data)
    forward = {index: first[1, index] for index in range(len(IDS))}
    torch.manual_seed(999)
    second = training_set(data)
    for index in reversed(range(len(IDS))):
        torch.rand(index)
        again = second[1, index]
        assert torch.equal(again["image"], forward[index]["image"])
        assert torch.equal(again["saliency"], forward[index]["saliency"])


def test_another_epoch_seed_or_index_augments_differently(data):
    path = data["images"][IDS[0]].parent
    for identifier in IDS:  # the same picture under every index
        photograph(0).save(path / f"{identifier}.jpg")
    keys = [(epoch, index) for epoch in range(3) for index in range(3)]
    images = [training_set(data, seed)[key]["image"].numpy().tobytes() for seed in (0, 1) for key in keys]
    assert len(set(images)) == len(images)


def test_reading_a_sample_leaves_the_global_generators_as_they_were(data):
    samples = training_set(data)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    samples[0, 0]
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_workers_and_resuming_change_nothing(data):
    def batches(num_workers: int, start_step: int, num_steps: int) -> list[dict]:
        sampler = EpochSampler(len(IDS), 3, seed=5, start_step=start_step, num_steps=num_steps)
        return list(DataLoader(training_set(data), batch_sampler=sampler, num_workers=num_workers))

    whole = batches(0, 0, 5)
    assert len(whole) == 5
    for part, expected in ((batches(2, 0, 5), whole), (batches(2, 3, 2), whole[3:])):
        for batch, other in zip(part, expected, strict=True):
            assert batch["id"] == other["id"]
            for name in ("image", "saliency", "label"):
                assert torch.equal(batch[name], other[name])


# -- the order ---------------------------------------------------------------------------------------------------------


def test_an_epoch_takes_whole_batches_of_different_images_in_its_own_order():
    steps = list(EpochSampler(10, 3, seed=1, num_steps=9))
    epochs = [steps[0:3], steps[3:6], steps[6:9]]
    orders = []
    for number, epoch in enumerate(epochs):
        assert all(len(batch) == 3 for batch in epoch)
        assert {key[0] for batch in epoch for key in batch} == {number}
        order = [key[1] for batch in epoch for key in batch]
        assert len(set(order)) == 9 and set(order) < set(range(10))
        orders.append(tuple(order))
    assert len(set(orders)) == 3
    assert list(EpochSampler(10, 3, seed=1, num_steps=9)) == steps
    assert list(EpochSampler(10, 3, seed=2, num_steps=9)) != steps


def test_every_image_is_used_over_some_epochs():
    steps = EpochSampler(10, 3, seed=1, num_steps=60)
    assert {index for batch in steps for _, index in batch} == set(range(10))


@pytest.mark.parametrize("start_step", [0, 1, 3, 4, 8])
def test_resuming_gives_exactly_the_rest(start_step):
    whole = list(EpochSampler(10, 3, seed=1, num_steps=9))
    rest = EpochSampler(10, 3, seed=1, start_step=start_step, num_steps=9 - start_step)
    assert len(rest) == 9 - start_step
    assert list(rest) == whole[start_step:]


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_the_shares_of_all_processes_are_the_global_batch_in_order(world_size):
    whole = list(EpochSampler(20, 6, seed=1, num_steps=8))
    shares = [EpochSampler(20, 6, seed=1, num_steps=8, rank=rank, world_size=world_size) for rank in range(world_size)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert all(len(part) == 6 // world_size for part in parts)
        assert [key for part in parts for key in part] == batch


def test_a_batch_that_does_not_fit_the_images_or_the_processes_is_refused():
    with pytest.raises(UserError, match="--batch_size 12"):
        EpochSampler(11, 12, seed=0, num_steps=1)
    with pytest.raises(UserError, match="--batch_size 12"):
        EpochSampler(100, 12, seed=0, num_steps=1, world_size=5)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_rest_of_an_epoch_is_a_smaller_batch_where_it_is_kept_and_its_shares_differ_by_one_at_most(world_size):
    assert steps_of_epoch(10, 8, keep_last=True) == 2 and steps_of_epoch(16, 8, keep_last=True) == 2
    count = {"num_steps": 4, "keep_last": True}
    whole = list(EpochSampler(13, 8, seed=1, **count))
    assert [len(batch) for batch in whole] == [8, 5, 8, 5]
    assert {index for _, index in whole[2] + whole[3]} == set(range(13))
    ranks = range(world_size)
    shares = [EpochSampler(13, 8, seed=1, **count, rank=rank, world_size=world_size) for rank in ranks]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert [key for part in parts for key in part] == batch
        assert max(map(len, parts)) - min(map(len, parts)) <= 1 and all(parts)
    assert list(EpochSampler(13, 8, seed=1, start_step=3, num_steps=1, keep_last=True)) == whole[3:]


def test_a_rest_that_leaves_a_process_without_an_image_is_refused_where_it_is_kept():
    with pytest.raises(UserError, match="the last batch of 13 images has 1, fewer than the processes, 2"):
        EpochSampler(13, 4, seed=0, num_steps=1, world_size=2, keep_last=True)
    EpochSampler(13, 4, seed=0, num_steps=1, world_size=2)
