"""`python -m voc12.prepare --check`: what is there of how much, at VOC's real size, and the next step.

The files of images, masks and annotations are empty here: whoever opens one would fail.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.labels import save_labels
from method.arguments import RELEASED_WEIGHTS
from tests.scripts.conftest import ROOT, forker
from voc12.state import WEIGHTS, WIDTH, show_state

COMMAND = ["-m", "voc12.prepare"]
IDS = [f"2007_{number:06}" for number in range(17_125)]
TRAIN, VAL = IDS[:1_464], IDS[1_464:2_913]
TRAIN_AUG = [*TRAIN, *IDS[2_913:12_031]]
TEST = [f"2008_{number:06}" for number in range(1_456)]
MASKED, AUGMENTED = TRAIN + VAL, TRAIN_AUG + VAL


def touch(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))


def write_list(path: Path, ids: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(ids))


def link(clone: Path, folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).symlink_to(clone / name)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder in which all that training needs is in its place; nothing of the test set."""
    folder = tmp_path_factory.mktemp("clone")
    voc = folder / "VOC2012"
    touch(voc / "JPEGImages", [f"{name}.jpg" for name in IDS])
    touch(voc / "Annotations", [f"{name}.xml" for name in IDS])
    touch(voc / "SegmentationClass", [f"{name}.png" for name in MASKED])
    touch(voc / "SegmentationClassAug", [f"{name}.png" for name in AUGMENTED])
    touch(voc / "saliency", [f"{name}.png" for name in IDS])  # for more images than are needed
    touch((folder / WEIGHTS).parent, [WEIGHTS.name])
    for name, ids in {"train": TRAIN, "val": VAL}.items():
        write_list(voc / "ImageSets" / "Segmentation" / f"{name}.txt", ids)
    for name, ids in {"train": TRAIN, "val": VAL, "train_aug": TRAIN_AUG}.items():
        write_list(folder / "voc12" / f"{name}.txt", ids)
    save_labels(folder / "voc12" / "cls_labels.npy", dict.fromkeys(AUGMENTED, np.ones(20, np.float32)))
    yield folder
    shutil.rmtree(folder)  # pytest would keep these many files for some runs


def check(folder: Path, *, root: str = "VOC2012") -> subprocess.CompletedProcess:
    return forker().run([*COMMAND, "--voc12_root", root, "--check"], folder)


def counts_in(text: str) -> dict[str, tuple[str, ...]]:
    """{the part's name: (there, expected, missing)}; of two parts of one name the last."""
    rows = re.findall(r"^  (\S.*?) +([\d,]+) +([\d,]+) +([\d,]+|-)$", text, re.MULTILINE)
    return {name: numbers for name, *numbers in rows}


def next_step(text: str) -> str:
    return " ".join(text.partition("\nnext: ")[2].split())


@pytest.fixture
def look(monkeypatch, capsys):
    """From a folder and the places in it to whether all is there, and what is printed."""

    def ask(folder: Path, root: str = "VOC2012", saliency: str = "VOC2012/saliency", out: str = "voc12"):
        monkeypatch.chdir(folder)
        complete = show_state(Path(root), Path(saliency), Path(out))
        return complete, capsys.readouterr().out

    return ask


# -- the command -------------------------------------------------------------------------------------------------------


def test_with_all_that_training_needs_the_next_step_is_training_and_nothing_is_written(clone):
    before = {path: path.stat().st_mtime_ns for path in clone.rglob("*") if path.is_dir()}
    words = [sys.executable, *COMMAND, "--voc12_root", "VOC2012", "--check"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=clone, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    counts = counts_in(done.stdout)
    expected = {
        "JPEGImages": "17,125", "Annotations": "17,125", "SegmentationClass": "2,913",
        "SegmentationClassAug": "12,031", "<id>.png": "10,582", "cls_labels.npy": "12,031", "train_aug.txt": "10,582",
        "ImageSets/Segmentation/train.txt": "1,464", "ImageSets/Segmentation/val.txt": "1,449", WEIGHTS.name: "1",
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == {name: [n, n, "-"] for name, n in expected.items()}
    assert counts["JPEGImages of that list"] == ["0", "1,456", "1,456"]  # the test set is for the server alone
    training = "python train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency"
    assert next_step(done.stdout).endswith(training)
    assert {path: path.stat().st_mtime_ns for path in clone.rglob("*") if path.is_dir()} == before


def test_without_anything_the_first_step_is_vocs_archive(tmp_path):
    done = check(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert all(there == "0" and missing == expected for there, expected, missing in counts_in(done.stdout).values())
    assert "VOCtrainval_11-May-2012" in next_step(done.stdout)
    assert not list(tmp_path.iterdir())


def test_a_root_that_is_a_file_is_a_wrong_flag(tmp_path):
    (tmp_path / "file").touch()
    done = check(tmp_path, root="file")
    assert done.returncode == 2 and "--voc12_root file: expected a folder" in done.stderr
    assert done.stdout == ""


def test_the_exit_code_is_documented():
    done = forker().run([*COMMAND, "--help"], ROOT)
    assert done.returncode == 0 and "exit code 0 if training has all it needs, or 1" in done.stdout


def test_the_weights_are_those_that_training_starts_from():
    assert str(WEIGHTS) == RELEASED_WEIGHTS


# -- what is missing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "part", "step"),
    [
        ("VOC2012/JPEGImages", "JPEGImages", "get VOCtrainval_11-May-2012 from the PASCAL VOC server"),
        ("VOC2012/Annotations", "Annotations", "get VOCtrainval_11-May-2012"),
        ("VOC2012/ImageSets", "ImageSets/Segmentation/val.txt", "get VOCtrainval_11-May-2012"),
        ("VOC2012/SegmentationClass", "SegmentationClass", "get VOCtrainval_11-May-2012"),
        ("VOC2012/SegmentationClassAug", "SegmentationClassAug", "get SegmentationClassAug, VOC's masks with those of"),
        ("VOC2012/saliency", "<id>.png", "get saliency maps as EPS uses them"),
        ("voc12/cls_labels.npy", "cls_labels.npy", "python -m voc12.prepare --voc12_root VOC2012 --saliency_root"),
        ("voc12/train_aug.txt", "train_aug.txt", "python -m voc12.prepare"),
        ("network", WEIGHTS.name, f"get ResNet-38's ImageNet weights, {WEIGHTS.name}, and put them into network"),
    ],
)
def test_the_next_step_brings_what_is_missing(clone, look, tmp_path, path, part, step):
    (clone / path).rename(tmp_path / "away")
    try:
        complete, text = look(clone)
    finally:
        (tmp_path / "away").rename(clone / path)
    there, expected, missing = counts_in(text)[part]
    assert not complete and there == "0" and missing == expected
    assert step in next_step(text)


def test_of_several_that_are_missing_the_first_is_next_and_a_part_of_a_folder_counts(clone, look, tmp_path):
    away = [clone / "VOC2012" / "saliency" / f"{TRAIN[0]}.png", clone / "voc12" / "cls_labels.npy"]
    for path in away:
        path.rename(tmp_path / path.name)
    try:
        complete, text = look(clone)
    finally:
        for path in away:
            (tmp_path / path.name).rename(path)
    assert not complete
    assert counts_in(text)["<id>.png"] == ["10,581", "10,582", "1"]  # maps of other images do not stand in for it
    assert "saliency" in next_step(text) and "prepare" not in next_step(text)


def test_images_of_the_test_set_stand_in_for_no_other_and_are_counted(clone, look, tmp_path):
    voc = clone / "VOC2012"
    away = [voc / "JPEGImages" / f"{name}.jpg" for name in IDS[:3]]
    for path in away:
        path.rename(tmp_path / path.name)
    write_list(voc / "ImageSets" / "Segmentation" / "test.txt", TEST)
    made = [voc / "JPEGImages" / f"{name}.jpg" for name in TEST]
    for path in made:
        path.touch()
    try:
        complete, text = look(clone)
    finally:
        for path in [*made, voc / "ImageSets" / "Segmentation" / "test.txt"]:
            path.unlink()
        for path in away:
            (tmp_path / path.name).rename(path)
    assert not complete
    counts = counts_in(text)
    assert counts["JPEGImages"] == ["17,122", "17,125", "3"]
    assert counts["JPEGImages of that list"] == ["1,456", "1,456", "-"]


def test_what_cannot_be_read_counts_as_missing_and_is_to_be_mended_first(look, tmp_path):
    write_list(tmp_path / "VOC2012" / "ImageSets" / "Segmentation" / "train.txt", ["a", "b", "a"])
    (tmp_path / "VOC2012" / "JPEGImages").write_text("a file")
    touch(tmp_path / "voc12", ["cls_labels.npy"])
    complete, text = look(tmp_path)
    assert not complete
    problems = [line for line in text.splitlines() if line.startswith("problem: ")]
    for words in ("VOC2012/JPEGImages", "ImageSets/Segmentation/train.txt", "voc12/cls_labels.npy"):
        assert sum(words in line for line in problems) == 1
    assert next_step(text).startswith("repair")
    assert counts_in(text)["ImageSets/Segmentation/train.txt"][0] == "0"


def test_ids_of_other_data_in_lists_and_labels_stand_in_for_none(clone, look, tmp_path):
    link(clone, tmp_path, "VOC2012", "network")
    foreign = [f"2010_{number:06}" for number in range(12_031)]
    write_list(tmp_path / "voc12" / "train_aug.txt", TRAIN_AUG[:5] + foreign)
    labels = dict.fromkeys(AUGMENTED[:7] + foreign, np.ones(20, np.float32))
    save_labels(tmp_path / "voc12" / "cls_labels.npy", labels)
    complete, text = look(tmp_path)
    assert not complete
    counts = counts_in(text)
    assert counts["train_aug.txt"] == ["5", "10,582", "10,577"]
    assert counts["cls_labels.npy"] == ["7", "12,031", "12,024"]


def test_a_problem_of_several_lines_is_told_with_its_first_instance(look, tmp_path):
    write_list(tmp_path / "VOC2012" / "ImageSets" / "Segmentation" / "train.txt", ["a", "../b", "c/d"])
    complete, text = look(tmp_path)
    problem = " ".join(text.partition("problem: ")[2].partition("\nnext: ")[0].split())
    assert not complete and "train.txt" in problem and "'../b'" in problem and "c/d" not in problem
    assert problem in next_step(text)


def test_hidden_files_and_other_endings_count_for_nothing(look, tmp_path):
    touch(tmp_path / "VOC2012" / "JPEGImages", ["a.jpg", "._a.jpg", "a.png", "Thumbs.db"])
    assert counts_in(look(tmp_path)[1])["JPEGImages"][0] == "1"


# -- how it looks ------------------------------------------------------------------------------------------------------


def test_lines_fit_and_names_stay_on_them(clone, look, tmp_path):
    for folder in (clone, tmp_path):
        lines = look(folder)[1].splitlines()
        assert max(map(len, lines)) <= WIDTH and all(line.isprintable() for line in lines)
    hostile = "VOC\x1b[2J\u202e2012"
    text = look(tmp_path, root=hostile, saliency=f"{hostile}/saliency")[1]
    assert all(line.isprintable() for line in text.splitlines()) and r"VOC\x1b[2J" in text


def test_a_command_with_names_that_do_not_show_shows_them_escaped(clone, look, tmp_path):
    link(clone, tmp_path, "VOC2012", "network")
    out = "lists\x1b[2J\u202ehere"
    complete, text = look(tmp_path, out=out)
    assert not complete and "make labels and lists:" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert r"lists\x1b[2J\u202ehere" in text.partition("\nnext: ")[2]


def test_the_commands_lead_to_where_the_data_is_and_are_broken_where_they_are_long(clone, look, tmp_path):
    link(clone, tmp_path, "VOC2012", "network", "voc12")
    (tmp_path / "lists of mine, with a name that needs room").symlink_to(clone / "voc12")
    complete, text = look(tmp_path, out="lists of mine, with a name that needs room")
    assert complete and max(map(len, text.splitlines())) <= WIDTH
    words = shlex.split(text.partition("train:\n")[2].replace("\\\n", " "))
    assert words[:2] == ["python", "train_voc.py"]
    flags = dict(zip(words[2::2], words[3::2], strict=True))
    assert flags["--labels"] == "lists of mine, with a name that needs room/cls_labels.npy"
    assert set(flags) == {"--data_root", "--saliency_root", "--train_list", "--labels"}
