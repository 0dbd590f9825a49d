"""Files that lie one folder off or have another ending, and lists of more than ids: one line says so and what to do."""

import re
import shlex
import shutil
import subprocess

import pytest

from tests.scripts.conftest import ROOT, Data, assert_refused, assert_succeeded, contents, forker, words_of
from tool.cli import MAX_PROBLEMS_SHOWN
from tool.lists import read_ids

TRAIN, TEST = "segmentation/experiment/train.py", "segmentation/experiment/test.py"


@pytest.fixture
def mine(data: Data, tmp_path) -> Data:
    return data.copy(tmp_path / "mine")


def flags_of(name: str, data: Data) -> dict[str, object]:
    """The flags, or `KEY=` of `--set`, that lead to the files a command looks at before it needs a net."""
    voc = data.root / "VOC2012"
    masks, weights = voc / "SegmentationClassAug", data.root / "weights.pth"
    weights.write_bytes(b"\x80\x02")  # as files of torch.save begin
    return {
        "train_voc.py": {**data.for_training(), "--weights": weights, "--work_dir": data.root / "exps"},
        "inference.py": {**data.for_inference(), "--weights": weights, "--work_dir": data.root / "exps"},
        "eval.py": {
            **{"--list": data.root / "train.txt", "--predict_dir": masks, "--gt_dir": voc / "SegmentationClass"},
            **{"--comment": "none", "--logfile": data.root / "log"},
        },
        "segmentation.submission": {
            **{"--results": masks, "--list": data.train_list, "--img_root": data.images},
            **{"--out": data.root.parent / "out.tgz"},
        },
        TRAIN: {"DATA_ROOT=": voc, "DATA_LISTS=": data.root, "DATA_PSEUDO_GT=": masks, "EXP_ROOT=": data.root / "exps"},
        TEST: {
            **{"DATA_ROOT=": voc, "DATA_LISTS=": data.root, "EXP_ROOT=": data.root / "exps"},
            **{"TEST_CKPT=": weights, "TEST_SPLIT=": "train"},
        },
        "voc12.prepare": {
            **{"--voc12_root": voc, "--saliency_root": data.saliency, "--out": data.root / "out"},
        },
    }[name]


def run(name: str, flags: dict[str, object]) -> subprocess.CompletedProcess:
    words = words_of(flags)
    if any(flag.endswith("=") for flag in flags):
        words = ["--set", *map("".join, zip(words[::2], words[1::2], strict=True))]
    return forker().run([*([name] if name.endswith(".py") else ["-m", name]), *words], ROOT)


def assert_one_line(done: subprocess.CompletedProcess, *expected: object) -> str:
    """The line that refuses, which is the only one and names each of `expected`."""
    assert_refused(done, *map(str, expected))
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def nest(folder) -> None:
    """Put what is in `folder` into a folder of its own name in it."""
    folder.rename(folder.parent / "away")
    folder.mkdir()
    (folder.parent / "away").rename(folder / folder.name)


# -- one level off -----------------------------------------------------------------------------------------------------

# Command, flag or key, the folder it leads to; what the flag is set to where that is not the folder itself.
LED_TO = [
    ("train_voc.py", "--data_root", "JPEGImages"),
    ("train_voc.py", "--saliency_root", "saliency"),
    ("inference.py", "--img_root", "JPEGImages"),
    ("eval.py", "--predict_dir", "SegmentationClassAug"),
    ("eval.py", "--gt_dir", "SegmentationClass"),
    ("segmentation.submission", "--img_root", "JPEGImages"),
    ("segmentation.submission", "--results", "SegmentationClassAug"),
    (TRAIN, "DATA_PSEUDO_GT=", "SegmentationClassAug"),
]


@pytest.mark.parametrize(("name", "flag", "folder"), LED_TO)
def test_files_in_a_folder_of_its_own_name_or_above_are_found(mine, name, flag, folder):
    place = mine.root / "VOC2012" / folder
    nest(place)
    flags = {**flags_of(name, mine), flag: place}
    assert_one_line(run(name, flags), flag.rstrip("="), place / folder, "name the right one")
    (place / folder / "empty").mkdir()
    assert_one_line(run(name, {**flags, flag: place / folder / "empty"}), f"there are such in {place / folder}")


@pytest.mark.parametrize(("name", "flag", "folder"), LED_TO)
def test_the_folder_above_all_is_refused_with_the_right_one(mine, name, flag, folder):
    flags = {**flags_of(name, mine), flag: mine.root}
    assert_one_line(run(name, flags), flag.rstrip("="), mine.root / "VOC2012" / folder, "name the right one")


@pytest.mark.parametrize(
    ("name", "key", "part"),
    [
        (TRAIN, "DATA_ROOT", "JPEGImages"),
        (TEST, "DATA_ROOT", "JPEGImages"),
        (TEST, "DATA_ROOT", "SegmentationClass"),
        ("voc12.prepare", "--voc12_root", "JPEGImages"),
        ("voc12.prepare", "--voc12_root", "SegmentationClass"),
        ("voc12.prepare", "--voc12_root", "Annotations"),
        ("voc12.prepare", "--voc12_root", "SegmentationClassAug"),
    ],
)
def test_a_part_of_voc_in_a_folder_of_its_own_name_is_moved_up_by_the_command_said(mine, name, key, part):
    place = mine.root / "VOC2012" / part
    nest(place)
    before = len(list((place / part).iterdir()))
    said = assert_one_line(run(name, flags_of(name, mine)), key, place / part, "move them")
    subprocess.run(["bash", "-c", re.search(r"mv .*?/(?=;|$)", said, re.MULTILINE)[0]], check=True)
    assert not any((place / part).iterdir()) and len(list(place.iterdir())) == before + 1
    done = run(name, flags_of(name, mine))
    assert str(place / part) not in done.stderr
    if name == "voc12.prepare":
        assert_succeeded(done)


@pytest.mark.parametrize("name", [TRAIN, TEST])
@pytest.mark.parametrize(("key", "part"), [("DATA_ROOT=", "JPEGImages"), ("DATA_LISTS=", "train.txt")])
def test_a_key_that_leads_a_level_too_high_is_told_where_the_rest_is(mine, name, key, part):
    flags = flags_of(name, mine)
    (mine.root / "train_aug.txt").unlink()
    shutil.copy(mine.root / "VOC2012" / "ImageSets" / "Segmentation" / "trainaug.txt", mine.root / "train_aug.txt")
    above = mine.root.parent
    expected = mine.root / ("VOC2012/JPEGImages" if key == "DATA_ROOT=" else "train")
    assert_refused(run(name, {**flags, key: above}), f"did you mean {expected}")


@pytest.mark.parametrize("place", [".", "VOCdevkit", "VOCtrainval_11-May-2012/VOCdevkit"])
@pytest.mark.parametrize("check", [None, ()])
def test_voc_in_its_archives_folders_is_named(mine, place, check):
    above = mine.root / "kit"
    (above / place).mkdir(parents=True)
    (mine.root / "VOC2012").rename(above / place / "VOC2012")
    flags = {"--voc12_root": above, "--out": mine.root / "out", "--check": check}
    done = run("voc12.prepare", flags)
    said = " ".join((done.stdout + done.stderr).replace("\n  ", " ").split())
    assert f"{above}: expected VOC2012 of VOC's development kit, which seems to be {above / place / 'VOC2012'}" in said
    assert done.returncode == (2 if check is None else 1)


@pytest.mark.parametrize("place", ["SegmentationClassAug", "VOC2012/SegmentationClass_aug"])
def test_augmented_masks_beside_voc_or_under_another_name_are_named(mine, place):
    voc = mine.root / "VOC2012"
    (voc / "SegmentationClassAug").rename(mine.root / place)
    said = assert_one_line(run("voc12.prepare", flags_of("voc12.prepare", mine)), mine.root / place)
    assert not (mine.root / "out" / "train_aug.txt").exists()
    subprocess.run(["bash", "-c", re.search("mv .*(?=;)", said)[0]], check=True)
    assert_succeeded(run("voc12.prepare", flags_of("voc12.prepare", mine)))


def test_the_rest_of_the_augmented_masks_a_level_deeper_is_missed(mine):
    place = mine.root / "VOC2012" / "SegmentationClassAug"
    nest(place)
    for name in mine.ids[:4]:
        (place / place.name / f"{name}.png").rename(place / f"{name}.png")
    done = run("voc12.prepare", flags_of("voc12.prepare", mine))
    assert_one_line(done, f"found 4; 16 are in {place / place.name}; move them up")


def test_lists_in_a_folder_of_their_own_name_are_named(mine):
    place = mine.root / "VOC2012" / "ImageSets"
    nest(place)
    expected = f"did you mean {place / 'ImageSets' / 'Segmentation' / 'train.txt'}?"
    assert_refused(run("voc12.prepare", flags_of("voc12.prepare", mine)), "train.txt: no such file", expected)


def test_check_names_masks_one_level_deeper(mine):
    nest(mine.root / "VOC2012" / "SegmentationClassAug")
    done = run("voc12.prepare", {"--voc12_root": mine.root / "VOC2012", "--check": ()})
    said = " ".join(done.stdout.split())
    assert done.returncode == 1 and "SegmentationClassAug/SegmentationClassAug; move them up: mv" in said


def test_masks_to_convert_are_found_a_level_deeper(mine):
    flags = {"--masks": mine.root / "VOC2012", "--out": mine.root / "converted"}
    assert_one_line(run("voc12.relabel", flags), mine.root / "VOC2012" / "SegmentationClass", "name that folder")


def test_a_report_names_folders_that_are_a_level_off(mine):
    voc, run_folder = mine.root / "VOC2012", mine.root / "exps" / "run"
    shutil.copytree(voc / "SegmentationClass", run_folder / "cam_png")
    flags = {"--run": run_folder, "--data_root": voc}
    assert_one_line(run("tool.report", {**flags, "--run": mine.root}), f"as {run_folder}")
    assert_one_line(run("tool.report", {**flags, "--data_root": mine.root}), f"{voc / 'JPEGImages'}; name that")
    nest(voc / "SegmentationClass")
    assert_one_line(run("tool.report", flags), "--gt_dir", voc / "SegmentationClass" / "SegmentationClass")


def test_nothing_near_leaves_every_missing_file_named(mine):
    (mine.root / "empty").mkdir()
    shutil.move(mine.images, mine.root.parent / "far" / "away")
    done = run("inference.py", {**flags_of("inference.py", mine), "--img_root": mine.root / "empty"})
    assert_refused(done, f"{mine.ids[0]}.jpg: no such file", f"({len(mine.ids)})")
    assert len(mine.ids) <= MAX_PROBLEMS_SHOWN
    assert all(f"{name}.jpg: no such file" in done.stderr for name in mine.ids)


# -- endings -----------------------------------------------------------------------------------------------------------


def end_in(folder, old: str, new: str, number: int | None = None) -> None:
    for path in sorted(folder.glob(f"*{old}"))[:number]:
        path.rename(folder / (path.name.removesuffix(old) + new))


@pytest.mark.parametrize(
    ("name", "flag", "folder", "tail"),
    [
        ("train_voc.py", "--data_root", "JPEGImages", ".JPG"),
        ("train_voc.py", "--saliency_root", "saliency", ".jpg"),
        ("train_voc.py", "--saliency_root", "saliency", "_saliency.png"),
        ("inference.py", "--img_root", "JPEGImages", ".jpeg"),
        ("inference.py", "--img_root", "JPEGImages", ".png"),
        ("eval.py", "--gt_dir", "SegmentationClass", ".PNG"),
        ("segmentation.submission", "--img_root", "JPEGImages", ".JPEG"),
        (TRAIN, "DATA_ROOT", "JPEGImages", ".JPG"),
        (TRAIN, "DATA_PSEUDO_GT", "SegmentationClassAug", ".PNG"),
        (TEST, "DATA_ROOT", "SegmentationClass", ".PNG"),
        ("voc12.prepare", "--voc12_root", "JPEGImages", ".JPG"),
        ("voc12.prepare", "--voc12_root", "SegmentationClassAug", ".PNG"),
        ("voc12.prepare", "--saliency_root", "saliency", ".jpg"),
    ],
)
def test_files_of_another_ending_are_renamed_by_the_command_said(mine, name, flag, folder, tail):
    place = mine.root / "VOC2012" / folder
    before = contents(place)
    end_in(place, ".jpg" if folder == "JPEGImages" else ".png", tail)
    said = assert_one_line(run(name, flags_of(name, mine)), flag, f"found <id>{tail}; ")
    subprocess.run(["bash", "-c", re.search("for f in .*; done", said)[0]], check=True)
    assert contents(place) == before


@pytest.mark.parametrize(
    ("name", "folder", "old", "new"),
    [
        ("train_voc.py", "JPEGImages", ".jpg", ".JPG"),
        ("train_voc.py", "saliency", ".png", ".jpg"),
        ("inference.py", "JPEGImages", ".jpg", ".jpeg"),
        ("eval.py", "SegmentationClassAug", ".png", ".PNG"),
        (TRAIN, "SegmentationClassAug", ".png", ".PNG"),
    ],
)
def test_a_few_files_of_another_ending_are_named_each(mine, name, folder, old, new):
    end_in(mine.root / "VOC2012" / folder, old, new, number=2)
    first, second, third, *_ = sorted(mine.ids)
    done = run(name, flags_of(name, mine))
    assert_refused(done, f"but {first}{new} is there; rename it", f"but {second}{new} is there")
    assert f"{third}{new}" not in done.stderr


def test_files_that_renaming_would_not_mend_are_not_to_be_renamed(mine):
    masks = mine.root / "VOC2012" / "SegmentationClassAug"
    done = run("eval.py", {**flags_of("eval.py", mine), "--predict_dir": masks, "--type": "npy"})
    assert "mv" not in assert_one_line(done, "--predict_dir", "expected <id>.npy", "found <id>.png", "name the folder")
    done = run("eval.py", {**flags_of("eval.py", mine), "--gt_dir": mine.images})
    assert "mv" not in assert_one_line(done, "--gt_dir", "expected <id>.png", "found <id>.jpg", "name the folder")


# -- lists -------------------------------------------------------------------------------------------------------------

LINES = {
    "classes, as OAA and L2G have them": "{id} 1 12 ",
    "a class, or none": "{id} {some}",
    "marks, as ImageSets/Main has them": "{id} -1",
    "marks in columns": "{id}  1",
    "a tab": "{id}\t3",
    "commas": "{id},0,1",
    "names of classes": "{id} person dog",
    "classes in some lines only": "{id}{rest}",
    "numbers of file names": "{id}.jpg 7",
    "classes behind paths": "/JPEGImages/{id}.jpg 0 14",
}
LISTED = [
    ("train_voc.py", "--train_list", "train_aug.txt"),
    ("inference.py", "--infer_list", "train_aug.txt"),
    ("eval.py", "--list", "train.txt"),
    ("segmentation.submission", "--list", "train_aug.txt"),
    (TRAIN, "DATA_LISTS", "train_aug.txt"),
    (TEST, "DATA_LISTS", "train.txt"),
]


def write_lines(path, ids: list[str], line: str) -> None:
    path.write_text(
        "".join(line.format(id=name, some="2 " * (i % 2 + 1), rest=" 3" * (i % 2)) + "\n" for i, name in enumerate(ids))
    )


@pytest.mark.parametrize("line", LINES)
def test_a_list_of_more_than_ids_is_refused_and_cut_by_the_command_said(mine, line):
    name, flag, file = LISTED[2]
    path = mine.root / file
    ids = path.read_text().split()
    write_lines(path, ids, LINES[line])
    said = assert_one_line(run(name, flags_of(name, mine)), f"{flag} {path}", "expected one id a line, found more")
    cut = re.search("cut .* > ids.txt", said)[0]
    subprocess.run(["bash", "-c", cut], cwd=mine.root, check=True)
    assert shlex.split(cut)[-3] == str(path)
    assert read_ids(mine.root / "ids.txt") == ids


@pytest.mark.parametrize(("name", "flag", "file"), LISTED)
def test_every_commands_list_is_looked_at(mine, name, flag, file):
    path = mine.root / file
    write_lines(path, path.read_text().split(), "{id} 1 12")
    assert_one_line(run(name, flags_of(name, mine)), f"{flag} {path}", "expected one id a line, found more")


def test_the_validation_list_and_the_reports_list_are_looked_at_too(mine):
    write_lines(mine.root / "val.txt", (mine.root / "val.txt").read_text().split(), "{id} 4")
    flags = {**flags_of("train_voc.py", mine), "--eval": (), "--val_list": mine.root / "val.txt"}
    assert_one_line(run("train_voc.py", flags), f"--val_list {mine.root / 'val.txt'}", "found more")
    run_folder = mine.root / "exps" / "run"
    shutil.copytree(mine.root / "VOC2012" / "SegmentationClass", run_folder / "cam_png")
    flags = {"--run": run_folder, "--data_root": mine.images, "--list": mine.root / "val.txt"}
    assert_one_line(run("tool.report", flags), f"--list {mine.root / 'val.txt'}", "found more")


def test_ids_of_several_words_and_lists_of_paths_are_read(mine):
    for folder, ending in ((mine.images, ".jpg"), (mine.saliency, ".png")):
        for name in mine.ids:
            (folder / f"{name}{ending}").rename(folder / f"{name} 1{ending}")
    write_lines(mine.train_list, mine.ids, "/JPEGImages/{id} 1.jpg /SegmentationClassAug/{id} 1.png")
    done = run("train_voc.py", flags_of("train_voc.py", mine))
    assert "label" in done.stderr and "found more" not in done.stderr and "no such file" not in done.stderr
