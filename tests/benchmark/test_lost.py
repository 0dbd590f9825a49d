"""What label maps lost, against a plain count; the command on files."""

import subprocess
import sys

import numpy as np

from benchmark.lost import count_lost
from context.classes import CONTEXT
from tool.artifact import save_label_map
from voc12.classes import VOC12


def test_an_object_is_back_newly_lost_or_invented():
    truth, masks, predicted = np.random.default_rng(0).random((3, 9, 4)) > 0.5
    back = newly = invented = 0
    for image in range(9):
        for label in range(4):
            is_there, had, has = truth[image, label], masks[image, label], predicted[image, label]
            back += is_there and not had and has
            newly += is_there and had and not has
            invented += has and not is_there
    assert min(back, newly, invented) > 0
    assert list(count_lost(truth, masks, predicted).values()) == [back, newly, invented]


def test_the_command_counts_files_and_leaves_out_background_void_and_other_classes(tmp_path):
    """A cat (8) that the maps lost is back; a dog (12) is not, a person (15) is invented; 255 is no object."""
    for name, labels in {"gt": [0, 8, 12, 255], "masks": [12, 12, 12, 3], "dhr": [8, 15, 3, 3]}.items():
        (tmp_path / name).mkdir()
        save_label_map(tmp_path / name / "one.png", np.array([labels], np.uint8), VOC12)
    (tmp_path / "list.txt").write_text("one\n")
    folders = ["--gt_dir", tmp_path / "gt", "--masks", tmp_path / "masks", "--pred_dir", tmp_path / "dhr"]
    words = [*folders, "--list", tmp_path / "list.txt", "--classes", "background", "cat", "dog", "person"]
    command = [sys.executable, "-m", "benchmark.lost", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert "2 objects of 1 images; the label maps have lost 1 of them" in done.stdout
    assert f"| {tmp_path / 'dhr'} | 1 | 1 | 1 |" in done.stdout


def test_the_first_label_of_a_data_set_without_background_is_an_object(tmp_path):
    labels = np.zeros((2, 2), np.uint8)
    for name, value in {"gt": labels, "masks": labels + 1, "dhr": labels}.items():
        (tmp_path / name).mkdir()
        save_label_map(tmp_path / name / "one.png", value, CONTEXT)
    (tmp_path / "list.txt").write_text("one\n")
    folders = ["--gt_dir", tmp_path / "gt", "--masks", tmp_path / "masks", "--pred_dir", tmp_path / "dhr"]
    words = [*folders, "--list", tmp_path / "list.txt", "--data_set", "context"]
    command = [sys.executable, "-m", "benchmark.lost", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert f"| {tmp_path / 'dhr'} | 1 | 0 | 0 |" in done.stdout
