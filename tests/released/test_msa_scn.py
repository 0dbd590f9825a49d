"""The released command of the superpixel network's training, as given and with its own flags."""

import subprocess
import sys

from released.msa.train_scn import SCRIPT, rows_for
from released.table import ROOT, translate
from tests.scripts.test_help import parse


def arguments_of(words, monkeypatch) -> dict:
    return vars(parse(SCRIPT, translate(rows_for(words), words), monkeypatch))


def test_the_released_defaults_reach_our_script(monkeypatch):
    args = arguments_of([], monkeypatch)
    expected = {
        **{"data_set": "voc12", "crop_size": 512, "min_image_size": 320, "max_image_size": 640, "batch_size": 16},
        **{"max_epoches": 50, "lr": 5e-5, "session": "train_Q_oriimg_lab", "weights": "none", "sane": []},
        **{"train_list": "voc12/train_aug.txt", "val_list": "voc12/train.txt", "seed": 0, "num_workers": 2},
    }
    assert {name: args[name] for name in expected} == expected


def test_coco_has_its_own_folders_and_lists(monkeypatch):
    args = arguments_of(["--dataset", "coco", "--data_root", "elsewhere"], monkeypatch)
    expected = {
        **{"data_set": "coco14", "data_root": "elsewhere", "gt_dir": "../COCO"},
        **{"train_list": "coco14/train.txt", "val_list": "coco14/train_1000.txt"},
    }
    assert {name: args[name] for name in expected} == expected


def test_flags_that_decided_nothing_do_not_here_either(monkeypatch):
    words = ["--wd", "1", "--pretrain", "nowhere.tar", "--downsize", "8", "--th_bg", "0.1", "--curtime", "now"]
    assert arguments_of(words, monkeypatch) == arguments_of([], monkeypatch)


def test_it_runs_as_a_file_from_any_folder(tmp_path):
    words = [
        sys.executable,
        str(ROOT / "released" / "msa" / "train_scn.py"),
        "--max_epoch",
        "1",
        "--data_root",
        "nowhere",
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("python superpixel/train.py --data_set voc12 --data_root nowhere")
    assert done.returncode == 2 and "error: --data_root nowhere: expected a folder" in done.stderr
