"""Where misplaced files are looked for, and that this stays cheap whatever the place."""

import subprocess
from pathlib import Path

import pytest

from tool.places import (
    MAX_FOLDERS,
    elsewhere,
    folders_near,
    folders_with,
    hint,
    is_file,
    is_folder,
    other_ending,
    renaming,
    sample,
)


def test_folders_above_and_three_levels_below_are_near_hidden_ones_are_not(tmp_path):
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    (tmp_path / "a" / ".hidden").mkdir()
    (tmp_path / "a" / "file").touch()
    near = list(folders_near(tmp_path / "a"))
    assert near == [tmp_path, tmp_path / "a" / "b", tmp_path / "a" / "b" / "c", tmp_path / "a" / "b" / "c" / "d"]


def test_a_tree_of_any_size_costs_no_more_than_a_hundred_folders(tmp_path):
    for number in range(MAX_FOLDERS + 50):
        (tmp_path / f"{number:03}" / "deeper").mkdir(parents=True)
    (tmp_path / "circle").symlink_to(tmp_path)
    assert len(list(folders_near(tmp_path))) == MAX_FOLDERS + 1


@pytest.mark.parametrize("start", ["", "..", "a/.."])
def test_the_folder_above_the_current_one_is_another(tmp_path, monkeypatch, start):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    above = next(folders_near(Path(start)))
    assert above.resolve() == Path(start).resolve().parent


def test_the_folder_with_most_of_the_files_comes_first(tmp_path):
    for name in ("few/1", "most/1", "most/2", "none/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert folders_with(["1", "2"], tmp_path) == [tmp_path / "most", tmp_path / "few"]


def test_what_has_the_name_is_found_and_of_its_kind(tmp_path):
    (tmp_path / "VOCdevkit" / "VOC2012" / "list").mkdir(parents=True)
    assert elsewhere(tmp_path / "VOC2012" / "list", is_folder) == tmp_path / "VOCdevkit" / "VOC2012" / "list"
    assert elsewhere(tmp_path / "VOCdevkit" / "VOC2012" / "list" / "list", is_folder) == (
        tmp_path / "VOCdevkit" / "VOC2012" / "list"
    )
    assert elsewhere(tmp_path / "VOC2012" / "list", is_file) is None


def test_what_makes_a_list_or_labels_is_named_where_they_are_not_there_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("voc12").mkdir()
    assert hint(Path("voc12/train_aug.txt"), is_file) == "; python -m voc12.prepare makes it"
    assert hint(Path("voc12/train_aug.pth"), is_file) == hint(Path("lists/train_aug.txt"), is_file) == ""
    Path("voc12/2012").mkdir()
    Path("voc12/2012/train_aug.txt").touch()
    assert hint(Path("voc12/train_aug.txt"), is_file) == "; did you mean voc12/2012/train_aug.txt?"


def test_the_root_of_all_files_is_not_looked_around_in():
    assert elsewhere(Path("/nowhere/etc"), is_folder) is None
    assert elsewhere(Path(), is_folder) is None


def test_the_file_with_another_ending_is_named(tmp_path):
    (tmp_path / "a.b.JPG").touch()
    assert "but a.b.JPG is there" in other_ending(tmp_path / "a.b.jpg")
    assert other_ending(tmp_path / "a.jpg") == other_ending(tmp_path / "a.b.png", (".PNG",)) == ""


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("tail", [".JPG", "_mask (1).png", "_[12]*.png", "_it's; $HOME.png", '_"a"&`b`.png'])
def test_the_command_that_renames_does_so_whatever_the_files_end_in(tmp_path, tail, shell):
    folder = tmp_path / "the masks"
    folder.mkdir()
    for name in (f"2007_000032{tail}", f"a b{tail}", "other.png"):
        (folder / name).touch()
    subprocess.run([shell, "-c", renaming(folder, tail, ".png")], check=True)
    assert {path.name for path in folder.iterdir()} == {"2007_000032.png", "a b.png", "other.png"}


@pytest.mark.parametrize("length", [0, 1, 19, 20, 21, 1464])
def test_a_sample_is_spread_over_all(length):
    found = sample(range(length), 20)
    assert len(found) == min(length, len(found)) <= 20
    assert length == 0 or (found[0] == 0 and found[-1] >= length * 0.9 - 1)
