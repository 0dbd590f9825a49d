"""Samples depend on a key alone, whatever reads them; every faulty file is named before training."""

import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.label_maps import check_label_maps
from data.normalisation import IMAGENET
from data.training import EpochSampler, LabelMapSet
from segmentation.data import start_loader_process
from tests.data.places import images_in
from tests.scripts.conftest import truncate
from tests.segmentation.test_augmentation import augmentation, naive_jitter, random_image, random_labels
from tool.artifact import load_label_map, save_label_map
from tool.cli import UserError
from tool.colour import voc_palette
from voc12.classes import VOC12

IDS = [f"image {number}" for number in range(7)]


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    """Seven sound images and their label maps."""
    roots = {"image_root": tmp_path / "images", "label_root": tmp_path / "labels"}
    for root in roots.values():
        root.mkdir()
    for number, identifier in enumerate(IDS):
        shape = 20 + number, 31
        Image.fromarray(random_image(shape, number)).save(roots["image_root"] / f"{identifier}.jpg")
        save_label_map(roots["label_root"] / f"{identifier}.png", random_labels(shape, number), VOC12)
    return roots


def in_folders(folders: dict[str, Path], ids: Sequence[str] = IDS) -> dict:
    """What the set takes of them."""
    return {"images": images_in(folders["image_root"], ids), "label_root": folders["label_root"]}


def to_check(folders: dict[str, Path], ids: Sequence[str] = IDS) -> dict:
    """What the check before training takes of them."""
    root = folders["label_root"]
    labels = {identifier: root / f"{identifier}.png" for identifier in ids}
    return {**in_folders(folders, ids), "labels": labels, "data_set": VOC12, "label_key": "DATA_PSEUDO_GT"}


def pseudo_labels(folders: dict[str, Path], seed: int = 5) -> LabelMapSet:
    augment = augmentation(24, scale=(0.5, 1.5), jitter=(10, 10, 10), mirrored=0.5)
    return LabelMapSet(**in_folders(folders), augmentation=augment, seed=seed, data_set=VOC12)


def assert_same_samples(sample: dict, other: dict) -> None:
    assert sample["id"] == other["id"]
    assert torch.equal(sample["image"], other["image"])
    assert torch.equal(sample["label"], other["label"])


# -- samples -----------------------------------------------------------------------------------------------------------


def test_a_sample_is_the_augmented_image_with_its_own_labels(folders):
    whole = LabelMapSet(**in_folders(folders), augmentation=augmentation(40), seed=0, data_set=VOC12)
    assert len(whole) == len(IDS)
    for index, identifier in enumerate(IDS):
        sample = whole[0, index]
        assert set(sample) == {"image", "label", "id"} and sample["id"] == identifier
        pixels = np.asarray(Image.open(folders["image_root"] / f"{identifier}.jpg"))
        top, left = (sample["image"] != 0).any(0).nonzero().amin(0)
        rows, columns = slice(top, top + 20 + index), slice(left, left + 31)
        np.testing.assert_array_equal(sample["label"][rows, columns], random_labels((20 + index, 31), index))
        torch.testing.assert_close(sample["image"][:, rows, columns], IMAGENET(naive_jitter(pixels, (0, 0, 0))))


def test_a_key_gives_the_same_sample_in_any_order_and_whatever_ran_before(folders):
    first, second = pseudo_labels(folders), pseudo_labels(folders)
    forward = {index: first[1, index] for index in range(len(IDS))}
    torch.manual_seed(999)
    for index in reversed(range(len(IDS))):
        torch.rand(index)
        assert_same_samples(second[1, index], forward[index])


def test_another_seed_epoch_or_index_augments_differently(folders):
    for root in folders.values():  # the same picture under every index
        first, *others = sorted(root.iterdir())
        for file in others:
            file.write_bytes(first.read_bytes())
    keys = list(product(range(3), range(3)))
    images = [pseudo_labels(folders, seed)[key]["image"].numpy().tobytes() for seed in (0, 1) for key in keys]
    assert len(set(images)) == len(images)


def test_reading_a_sample_leaves_the_global_generators_as_they_were(folders):
    samples = pseudo_labels(folders)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    samples[0, 0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize(("method", "num_workers"), [("fork", 2), ("spawn", 1)])
def test_loader_processes_and_resuming_change_nothing(folders, method, num_workers):
    def batches(start_step: int, num_steps: int, **loading) -> list[dict]:
        sampler = EpochSampler(len(IDS), 3, seed=5, start_step=start_step, num_steps=num_steps)
        return list(
            DataLoader(pseudo_labels(folders), batch_sampler=sampler, worker_init_fn=start_loader_process, **loading)
        )

    whole = batches(0, 5, num_workers=0)
    resumed = batches(1, 4, num_workers=num_workers, multiprocessing_context=method)
    assert len(whole) == 5
    assert whole[0]["image"].shape == (3, 3, 24, 24) and whole[0]["label"].shape == (3, 24, 24)
    for batch, other in zip(resumed, whole[1:], strict=True):
        assert_same_samples(batch, other)


def test_without_shuffling_every_epoch_has_the_images_in_their_order():
    steps = list(EpochSampler(7, 3, seed=1, shuffle=False, num_steps=5))
    first, second = [0, 1, 2], [3, 4, 5]
    assert [[index for _, index in batch] for batch in steps] == [first, second, first, second, first]
    assert [{epoch for epoch, _ in batch} for batch in steps] == [{0}, {0}, {1}, {1}, {2}]
    assert list(EpochSampler(7, 3, seed=1, shuffle=False, start_step=3, num_steps=2)) == steps[3:]


def test_a_file_that_changes_after_the_check_is_named_when_it_is_read(folders):
    samples = pseudo_labels(folders)
    save_label_map(folders["label_root"] / f"{IDS[0]}.png", random_labels((5, 5)), VOC12)
    (folders["image_root"] / f"{IDS[1]}.jpg").unlink()
    with pytest.raises(UserError, match=rf"{IDS[0]}\.png.* 20 x 31 .*5 x 5"):
        samples[0, 0]
    with pytest.raises(UserError, match=rf"{IDS[1]}\.jpg"):
        samples[0, 1]


# -- the check before training -----------------------------------------------------------------------------------------


def refusal(folders: dict[str, Path], ids: list[str], **arguments) -> list[str]:
    """The lines of the one message that refuses `ids`."""
    with pytest.raises(UserError) as raised:
        check_label_maps(**to_check(folders, ids), **arguments)
    return str(raised.value).split("\n")


def test_sound_files_pass_also_as_grey_pngs(folders):
    Image.fromarray(random_labels((20, 31))).save(folders["label_root"] / f"{IDS[0]}.png")
    check_label_maps(**to_check(folders))


def test_every_faulty_file_is_named_in_one_message(folders):
    ids = [f"id{number}" for number in range(12)]
    images, labels = folders["image_root"], folders["label_root"]
    for number, identifier in enumerate(ids):
        Image.fromarray(random_image((10, 16), number)).save(images / f"{identifier}.jpg")
        save_label_map(labels / f"{identifier}.png", random_labels((10, 16), number), VOC12)

    def labels_of(number: int) -> Path:
        return labels / f"{ids[number]}.png"

    labels_of(0).unlink()
    truncate(labels_of(1), 20)
    labels_of(2).write_bytes(b"")
    save_label_map(labels_of(3), random_labels((16, 10)), VOC12)
    Image.fromarray(np.full((10, 16), 21, np.uint8)).save(labels_of(4))
    Image.fromarray(voc_palette()[random_labels((10, 16))]).save(labels_of(5))
    Image.fromarray(voc_palette()[random_labels((10, 16))]).quantize(22).save(labels_of(6))
    (images / f"{ids[7]}.jpg").unlink()
    truncate(images / f"{ids[8]}.jpg", 20)
    (images / f"{ids[9]}.jpg").unlink()
    Image.fromarray(np.full((10, 16), 254, np.uint8)).save(labels_of(9))
    Image.fromarray(np.zeros((10, 16), np.uint16)).save(labels_of(10))

    summary, *lines = refusal(folders, ids, advice="make them again")
    assert "DATA_PSEUDO_GT" in summary and str(labels) in summary and "make them again (12):" in summary
    expected = [
        (f"{ids[0]}.png", "no such file"),
        (f"{ids[1]}.png", "damaged"),
        (f"{ids[2]}.png", "damaged"),
        (f"{ids[3]}.png", "expected 10 x 16 (height x width), found 16 x 10"),
        (f"{ids[4]}.png", "expected labels 0 to 20 or 255, found 21"),
        (f"{ids[5]}.png", "found RGB colours"),
        (f"{ids[6]}.png", "found colours"),
        (f"{ids[7]}.jpg", "no such file"),
        (f"{ids[8]}.jpg", "truncated"),
        (f"{ids[9]}.jpg", "no such file"),
        (f"{ids[9]}.png", "found 254"),
        (f"{ids[10]}.png", "16-bit"),
    ]
    assert len(lines) == len(expected)
    for line, (name, why) in zip(lines, expected, strict=True):
        assert name in line and why in line, line
    assert ids[11] not in "".join(lines)


def test_a_label_map_that_is_a_folder_or_a_link_to_nothing_is_named_too(folders):
    (folders["label_root"] / "folder.png").mkdir()
    (folders["label_root"] / "link.png").symlink_to("nowhere.png")
    for identifier in ("folder", "link"):
        Image.fromarray(random_image((4, 4))).save(folders["image_root"] / f"{identifier}.jpg")
    _, *lines = refusal(folders, ["folder", IDS[0], "link"])
    assert len(lines) == 2 and "folder.png" in lines[0] and "link.png" in lines[1]


def test_maps_without_a_labelled_pixel_are_refused(folders, tmp_path):
    for index, identifier in enumerate(IDS):
        save_label_map(tmp_path / f"{identifier}.png", np.full((20 + index, 31), 255, np.uint8), VOC12)
    with pytest.raises(UserError, match=f"DATA_PSEUDO_GT {tmp_path}: every pixel of every map is 255"):
        check_label_maps(**to_check({**folders, "label_root": tmp_path}))


def test_a_share_of_a_list_may_be_empty_or_without_a_labelled_pixel_where_the_list_has_one(folders):
    arguments, (first, *_, last) = to_check(folders), IDS

    def clear(identifier: str) -> None:
        path = arguments["labels"][identifier]
        save_label_map(path, np.full_like(load_label_map(path, VOC12), 255), VOC12)

    def check(share: Sequence[str]) -> None:
        check_label_maps(**{**arguments, "images": images_in(folders["image_root"], share)})

    for identifier in IDS[:-1]:
        clear(identifier)
    check([])
    check([first])
    clear(last)
    for share in ([], [first]):
        with pytest.raises(UserError, match="every pixel of every map is 255"):
            check(share)
