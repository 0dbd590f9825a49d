"""`python -m voc12.prepare`: what it makes of a development kit, and what it says of a broken one."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.labels import load_labels
from tests.scripts.conftest import ROOT, forker
from tool.artifact import save_label_map
from tool.lists import read_ids
from voc12.classes import NUM_CLASSES, VOC12

SIZE = (12, 9)
TRAIN, VAL, EXTRA, TEST = ["a", "b c"], ["v"], ["x1", "é"], ["t1", "t2"]


def write_image(root: Path, identifier: str) -> None:
    Image.new("RGB", SIZE, (90, 120, 30)).save(root / "JPEGImages" / f"{identifier}.jpg")


def write_mask(root: Path, folder: str, identifier: str) -> None:
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[2:5, 3:6], labels[5:] = 15, 255
    save_label_map(root / folder / f"{identifier}.png", labels, VOC12)


def write_list(root: Path, name: str, ids: list[str]) -> None:
    (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")


@pytest.fixture
def kit(tmp_path) -> Path:
    """A sound kit with augmented masks and saliency maps, without test list."""
    root = tmp_path / "VOC 2012"
    for folder in (
        "JPEGImages", "Annotations", "ImageSets/Segmentation", "SegmentationClass", "SegmentationClassAug", "saliency"
    ):  # fmt: skip
        (root / folder).mkdir(parents=True)
    for identifier in TRAIN + VAL + EXTRA:
        write_image(root, identifier)
        write_mask(root, "SegmentationClassAug", identifier)
        (root / "Annotations" / f"{identifier}.xml").write_text(
            "<annotation><object><name>person</name><difficult>1</difficult></object></annotation>"
        )
        Image.new("L", SIZE, 255).save(root / "saliency" / f"{identifier}.png")
    for identifier in TRAIN + VAL:
        write_mask(root, "SegmentationClass", identifier)
    write_list(root, "train", TRAIN)
    write_list(root, "val", VAL)
    return root


def prepare(root: Path, out: Path, saliency_root: Path | str | None = None) -> subprocess.CompletedProcess:
    arguments = ["--voc12_root", str(root), "--out", str(out)]
    if saliency_root is not None:
        arguments += ["--saliency_root", str(saliency_root)]
    return forker().run(["-m", "voc12.prepare", *arguments], ROOT)


def test_a_sound_kit_gives_labels_and_lists_and_the_augmented_one_is_without_val(kit, tmp_path):
    out = tmp_path / "new" / "lists"
    result = prepare(kit, out, kit / "saliency")
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        *("cls_labels.npy", "train.txt", "train_600.txt", "train_aug.txt", "val.txt")
    ]
    assert read_ids(out / "train.txt") == TRAIN
    assert read_ids(out / "val.txt") == VAL
    assert read_ids(out / "train_aug.txt") == sorted(TRAIN + EXTRA)
    labels = load_labels(out / "cls_labels.npy", VOC12)
    assert set(labels) == set(TRAIN + VAL + EXTRA)
    person = np.eye(NUM_CLASSES, dtype=np.float32)[14]
    assert all(np.array_equal(vector, person) for vector in labels.values())
    assert "no test list" in result.stdout
    assert "train_aug: 4 images" in result.stdout


def test_the_test_list_is_written_where_its_images_are_and_needs_no_annotations(kit, tmp_path):
    write_list(kit, "test", TEST)
    write_image(kit, TEST[0])
    result = prepare(kit, tmp_path / "out")
    assert result.returncode == 2
    assert f"{TEST[1]}.jpg: no such file" in result.stdout

    write_image(kit, TEST[1])
    assert prepare(kit, tmp_path / "out").returncode == 0
    assert read_ids(tmp_path / "out" / "test.txt") == TEST
    assert not set(TEST) & set(load_labels(tmp_path / "out" / "cls_labels.npy", VOC12))


@pytest.mark.parametrize(("trainaug", "expected"), [(["x1", "v", "a"], ["x1", "a"]), (None, TRAIN)])
def test_without_augmented_masks_the_list_falls_back_and_says_what_to_get(kit, tmp_path, trainaug, expected):
    for path in (kit / "SegmentationClassAug").iterdir():
        path.unlink()
    (kit / "SegmentationClassAug").rmdir()
    if trainaug:
        write_list(kit, "trainaug", trainaug)
    write_list(kit, "test", TEST)  # its images are not there
    result = prepare(kit, tmp_path / "out")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "get SegmentationClassAug" in result.stdout
    assert ("trainaug.txt" if trainaug else "train.txt") in result.stdout
    assert read_ids(tmp_path / "out" / "train_aug.txt") == expected
    assert "no test image" in result.stdout
    assert not (tmp_path / "out" / "test.txt").exists()


def test_every_fault_is_reported_and_earlier_files_stay_as_they_were(kit, tmp_path):
    (kit / "JPEGImages" / "x1.jpg").unlink()
    image = kit / "JPEGImages" / "v.jpg"
    image.write_bytes(image.read_bytes()[:-4])
    image = kit / "JPEGImages" / "a.jpg"
    header, mark, pixels = image.read_bytes().rpartition(b"\xff\xda")
    image.write_bytes(header + mark + pixels[:12] + b"\xff\x02" + pixels[14:])  # header and end stay as they are
    Image.new("P", (9, 12)).save(kit / "SegmentationClassAug" / "a.png")
    above = np.zeros(SIZE[::-1], np.uint8)
    above[0, :2] = 21, 254
    Image.fromarray(above).save(kit / "SegmentationClass" / "a.png")
    (kit / "SegmentationClass" / "b c.png").unlink()
    Image.new("L", (6, 9)).save(kit / "saliency" / "b c.png")
    (kit / "saliency" / "é.png").unlink()
    (kit / "saliency" / "v.png").unlink()  # not needed: no stage trains on val
    (kit / "Annotations" / "é.xml").unlink()
    (kit / "SegmentationClassAug" / "b c.png").unlink()
    (kit / "SegmentationClassAug" / "b c.png").symlink_to("nowhere.png")
    for path in (kit / "SegmentationClassAug" / "é.png", kit / "SegmentationClass" / "v.png"):
        path.unlink()
        os.mkfifo(path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.txt").write_text("earlier\n")

    result = prepare(kit, tmp_path / "out", kit / "saliency")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "nothing written" in result.stderr
    problems = [line for line in result.stdout.split("\n") if line.startswith("problem: ")]
    expected = [
        ("JPEGImages/x1.jpg", "no such file"),
        ("JPEGImages/v.jpg", "truncated"),
        ("JPEGImages/a.jpg", "damaged"),
        ("SegmentationClassAug/é.png", "a pipe"),
        ("SegmentationClass/v.png", "a pipe"),
        ("SegmentationClassAug/a.png", "9 x 12"),
        ("SegmentationClassAug/b c.png", "No such file"),
        ("SegmentationClass/a.png", "21, 254"),
        ("SegmentationClass/b c.png", ""),
        ("saliency/b c.png", "6 x 9"),
        ("saliency/é.png", "no such file"),
        ("Annotations/é.xml", "No such file"),
    ]
    for path, fault in expected:
        assert any(path in problem and fault in problem for problem in problems), path
    assert len(problems) == len(expected)
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"train.txt": "earlier\n"}


def test_saliency_of_0_and_1_where_0_to_255_is_meant_is_noticed(kit, tmp_path):
    for path in (kit / "saliency").iterdir():
        Image.new("L", SIZE, 1).save(path)
    result = prepare(kit, tmp_path / "out", kit / "saliency")
    assert result.returncode == 2
    (problem,) = (line for line in result.stdout.split("\n") if line.startswith("problem: "))
    assert "saliency: expected grey values from 0 to 255" in problem and "found at most 1 in 4 maps" in problem


def test_without_any_image_to_train_on_nothing_is_written(kit, tmp_path):
    for identifier in TRAIN + EXTRA:
        (kit / "SegmentationClassAug" / f"{identifier}.png").unlink()
    result = prepare(kit, tmp_path / "out")
    assert result.returncode == 2
    assert "nothing to train on, every id of SegmentationClassAug is in val.txt too" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_data_set_that_brings_its_labels_is_told_so(kit, tmp_path):
    for path in (kit / "Annotations").iterdir():
        path.unlink()
    (kit / "Annotations").rmdir()
    (kit / "cls_labels.npy").write_bytes(b"")
    result = prepare(kit, tmp_path / "out")
    assert result.returncode == 2
    assert "Annotations: no such folder" in result.stderr
    assert "brings its labels along" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_that_is_no_kit_is_refused_with_all_it_lacks(tmp_path):
    result = prepare(tmp_path, tmp_path / "out")
    assert result.returncode == 2
    assert "--voc12_root" in result.stderr
    for name in ("JPEGImages", "SegmentationClass", "Annotations", "train.txt", "val.txt"):
        assert name in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "path"),
    [("--voc12_root", "file"), ("--saliency_root", "file"), ("--saliency_root", ""), ("--out", "x" * 4000)],
)
def test_a_path_that_is_no_folder_is_refused_with_its_flag(kit, tmp_path, flag, path):
    (tmp_path / "file").write_bytes(b"")
    paths = {"--voc12_root": kit, "--saliency_root": kit / "saliency", "--out": tmp_path / "out"}
    paths[flag] = path and tmp_path / path
    result = prepare(paths["--voc12_root"], paths["--out"], paths["--saliency_root"])
    assert result.returncode == 2
    assert flag in result.stderr
    assert "Traceback" not in result.stderr
