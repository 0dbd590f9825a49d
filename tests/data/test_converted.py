"""PASCAL Context, ADE20K and COCO-Stuff: label maps, labels and lists of each one's own masks, generated; refusals."""

import os
import resource
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ade.classes import ADE
from context.classes import CONTEXT, NUMBERS
from context.prepare import mat_numbers
from data.converted import png_numbers
from data.labels import load_labels
from stuff.classes import STUFF
from tests.scripts.conftest import ROOT, assert_refused, assert_succeeded, contents, forker, truncate
from tool.artifact import load_label_map
from tool.cli import UserError
from tool.dataset import DataSet
from tool.lists import read_ids

VOID = 255
SIZES = [(30, 20), (21, 33), (16, 16), (40, 25)]  # width, height; the last image of each split is void


@dataclass(frozen=True)
class Made:
    """A data set in its own layout below `root`, the labels that each image was drawn with, and its splits' lists."""

    data_set: DataSet
    root: Path
    labels: dict[str, np.ndarray]
    lists: dict[str, list[str]]

    def prepare(self, out: Path):
        name = self.data_set.name
        words = ["-m", f"{name}.prepare", f"--{name}_root", self.root, "--out", out, "--num_workers", 2]
        return forker().run(words, ROOT)


# By data set: of a split and an id, where image, official mask and label map are; the number of each label, and void's.
PLACES = {
    "context": lambda split, name: (
        f"JPEGImages/{name}.jpg", f"trainval/{name}.mat", f"SegmentationClassContext/{name}.png",
    ),
    "ade": lambda split, name: (
        *(f"{kind}/{split}/{name}.{end}" for kind, end in (("images", "jpg"), ("annotations", "png"))),
        f"SegmentationClass/{split}/{name}.png",
    ),
    "stuff": lambda split, name: (
        f"{split}/{name}.jpg", f"stuffthingmaps/{split}/{name}.png", f"SegmentationClassStuff/{split}/{name}.png",
    ),
}  # fmt: skip
SPLITS = {"context": ("train", "val"), "ade": ("training", "validation"), "stuff": ("train2017", "val2017")}


def official(name: str, labels: np.ndarray) -> np.ndarray:
    """Labels as the data set itself numbers them: by the tables in its papers, not by ours."""
    if name == "context":
        return np.where(labels == VOID, 431, np.array([*NUMBERS, 0])[np.minimum(labels, 59)]).astype(np.uint16)
    if name == "ade":
        return np.where(labels == VOID, 0, labels + 1).astype(np.uint8)
    # COCO's ids, from 1, that objects and stuff have; masks hold one less.
    used = [i for i in range(1, 183) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)]
    return np.where(labels == VOID, VOID, np.array([*used, 0])[np.minimum(labels, 171)] - 1).astype(np.uint8)


def write_mask(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        savemat(path, {"LabelMap": numbers})
    else:
        Image.fromarray(numbers).save(path)


def make(data_set: DataSet, root: Path) -> Made:
    name, draw = data_set.name, np.random.default_rng(0)
    labels, lists = {}, {}
    for split, listed in zip(SPLITS[name], ("train", "val"), strict=True):
        lists[listed] = []
        for number, (width, height) in enumerate(SIZES):
            image_id = f"{split}_{number}"
            found = draw.integers(0, data_set.num_labels + 5, (height, width))  # some beyond are void
            found[found >= data_set.num_labels] = VOID
            found = found.repeat(3, axis=1)[:, :width]
            labels[image_id] = np.full_like(found, VOID) if number == len(SIZES) - 1 else found
            image, mask, _ = (root / place for place in PLACES[name](split, image_id))
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(image)
            write_mask(mask, official(name, labels[image_id]))
            lists[listed].append(image_id)
        if name == "context":
            (root / f"{listed}.txt").write_text("".join(f"{image_id}\n" for image_id in lists[listed]))
    return Made(data_set, root, labels, lists)


@pytest.fixture(params=[CONTEXT, ADE, STUFF], ids=lambda data_set: data_set.name)
def made(request, tmp_path) -> Made:
    return make(request.param, tmp_path / "set")


def label_map(made: Made, image_id: str) -> Path:
    split = image_id.rsplit("_", 1)[0]
    return made.root / PLACES[made.data_set.name](split, image_id)[2]


def test_label_maps_labels_and_lists_are_those_that_were_drawn_and_what_is_there_is_kept(made, tmp_path):
    done = made.prepare(tmp_path / "lists")
    assert_succeeded(done)
    labels = load_labels(tmp_path / "lists" / "cls_labels.npy", made.data_set)
    for image_id, drawn in made.labels.items():
        np.testing.assert_array_equal(load_label_map(label_map(made, image_id), made.data_set), drawn)
        assert {*np.flatnonzero(labels[image_id]).tolist()} == {*np.unique(drawn[drawn != VOID]).tolist()}
    for name, ids in made.lists.items():
        assert read_ids(tmp_path / "lists" / f"{name}.txt") == ids[:-1]  # the last has no label
    before, kept = contents(made.root), label_map(made, made.lists["val"][0])
    old = kept.stat().st_ino
    truncate(label_map(made, made.lists["train"][0]), 20)
    label_map(made, made.lists["train"][1]).unlink()
    assert_succeeded(made.prepare(tmp_path / "lists"))
    assert contents(made.root) == before and kept.stat().st_ino == old


@pytest.mark.parametrize("stored", [np.float64, np.float32])
def test_whole_numbers_in_matlabs_own_class_are_read_and_others_refused(tmp_path, stored):
    numbers = official("context", np.array([[0, 1, 58, VOID]]))
    write_mask(tmp_path / "a.mat", numbers.astype(stored))
    found = mat_numbers(tmp_path / "a.mat")
    np.testing.assert_array_equal(found, numbers)
    assert found.dtype.kind == "i"
    for wrong in (0.5, np.nan, np.inf, 1e30):
        write_mask(tmp_path / "a.mat", np.array([[1, wrong]], stored))
        with pytest.raises(UserError, match=r"a\.mat: expected whole numbers"):
            mat_numbers(tmp_path / "a.mat")


def test_masks_that_cannot_be_used_are_all_named_and_the_others_made(made, tmp_path):
    split = SPLITS[made.data_set.name][0]
    first, second, third, _ = made.lists["train"]
    masks = [made.root / PLACES[made.data_set.name](split, image_id)[1] for image_id in (first, second, third)]
    numbers = official(made.data_set.name, made.labels[second])
    write_mask(masks[0], official(made.data_set.name, made.labels[first])[:-1])
    truncate(masks[1], 40)
    said = [f"{masks[0]}: expected its image's size, 20 x 30", f"{masks[1]}: cannot be read"]
    if made.data_set is not CONTEXT:  # whose other numbers are void
        numbers = official(made.data_set.name, made.labels[third])
        numbers[0, 0] = 151 if made.data_set is ADE else 11
        write_mask(masks[2], numbers)
        said.append(f"{masks[2]}: expected numbers of {made.data_set.title}, found {numbers[0, 0]}")
    done = made.prepare(tmp_path / "lists")
    assert_refused(done, f"({len(said)}):", *said)
    assert label_map(made, made.lists["val"][0]).exists() and not (tmp_path / "lists" / "cls_labels.npy").exists()


def test_what_is_missing_is_named_and_nothing_written(made, tmp_path):
    split = SPLITS[made.data_set.name][1]
    images = [made.root / PLACES[made.data_set.name](split, image_id)[0] for image_id in made.lists["val"]]
    images[0].unlink()
    truncate(images[1], 9)
    assert_refused(
        made.prepare(tmp_path / "lists"), f"{images[0]}: no such file", f"{images[1]}: the image is truncated"
    )
    folder = made.root / PLACES[made.data_set.name](split, "a")[1]
    folder.parent.rename(made.root / "elsewhere")
    assert_refused(made.prepare(tmp_path / "lists"), f"{folder.parent}: expected a folder")
    assert not label_map(made, made.lists["train"][0]).exists() and not (tmp_path / "lists").exists()


@pytest.mark.parametrize("name", ["a\nb", os.fsdecode(b"\xff")], ids=["two lines", "no UTF-8"])
def test_file_names_that_no_list_can_hold_are_refused_before_anything_is_made(tmp_path, name):
    made = make(ADE, tmp_path / "set")
    for place in PLACES["ade"]("training", "training_0")[:2]:
        path = made.root / place
        path.rename(path.with_name(f"{name}{path.suffix}"))
    done = made.prepare(tmp_path / "lists")
    assert_refused(done, "annotations/training: file names that are no ids; rename them (1):", "a control character")
    assert not label_map(made, "training_1").exists()


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("read", [png_numbers, lambda path: load_label_map(path, ADE)], ids=["numbers", "labels"])
def test_grey_of_fewer_bits_whose_values_pillow_scales_is_refused(tmp_path, bits, read):
    path = tmp_path / "a.png"
    image = Image.fromarray(np.array([[0, 1, 1, 0]], np.uint8))
    image.putpalette(bytes(3 << bits))
    image.save(path, bits=bits)
    assert read(path).tolist() == [[0, 1, 1, 0]]  # a palette's are not scaled
    content = bytearray(path.read_bytes())
    content[25] = 0  # in the header, the kind of colours, now grey; then its check sum
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.png: .*8-bit grey.* found {bits}-bit grey"):
        read(path)


@pytest.mark.parametrize(("read", "name"), [(png_numbers, "a.png"), (mat_numbers, "a.mat")])
def test_a_mask_that_cannot_be_opened_for_too_many_open_files_is_not_called_damaged(tmp_path, read, name):
    write_mask(tmp_path / name, np.zeros((2, 3), np.uint8))
    read(tmp_path / name)  # with all that is imported on the way
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            read(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
