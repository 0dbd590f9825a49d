"""The released commands of MSA's classifier, as given, with their own flags, on both data sets."""

import subprocess
import sys

import pytest

from released.msa import train_cls_image, train_cls_sal
from released.msa.train_cls_image import SCRIPT, words_for
from released.table import ROOT
from tests.scripts.test_help import parse

COMMANDS = {"msa_image": train_cls_image, "msa_sal": train_cls_sal}
VOC = "../VOCtrainval_11-May-2012/VOCdevkit/VOC2012"


def arguments_of(method: str, words: list[str], monkeypatch) -> dict:
    return vars(parse(SCRIPT, words_for(words, method, **COMMANDS[method].DEFAULTS), monkeypatch))


@pytest.mark.parametrize("method", COMMANDS)
def test_the_released_defaults_reach_our_script(method, monkeypatch):
    args = arguments_of(method, [], monkeypatch)
    of_image = method == "msa_image"
    expected = {
        **{"method": method, "data_set": "voc12", "backbone": "resnet50", "weights": "pretrained"},
        **{"batch_size": 16, "max_epoches": 12, "max_iters": None, "iter_size": 1, "crop_size": 480},
        **{"resize_size": [320, 640], "lr": 0.1, "wt_dec": 4e-5, "momentum": 4e-5, "nesterov": True, "clip_grad": 1.0},
        **{"alpha": 0.3, "ig_th": 0.1 if of_image else 0.01, "patch_number": 9 if of_image else 1},
        **{"beta": 8, "th": 0.6, "sp_cam": True, "dcr": "association", "sane": [], "seed": 0, "num_workers": 8},
        **{
            "scn": "./models_ckpt/Q_model_final.pth",
            "eval_every": 1,
            "select": "miou",
            "labels": "voc12/cls_labels.npy",
        },
        **{"train_list": "voc12/train_aug.txt", "val_list": "voc12/train_600.txt", "data_root": f"{VOC}/JPEGImages"},
        **{"gt_dir": f"{VOC}/SegmentationClassAug", "saliency_root": None if of_image else f"{VOC}/saliency_map"},
        "session": "train_MSA_VOC_image" if of_image else "train_MSA_VOC_sal",
    }
    assert {name: args[name] for name in expected} == expected


def test_coco_has_its_own_folders_and_lists(monkeypatch):
    args = arguments_of("msa_sal", ["--dataset", "coco"], monkeypatch)
    expected = {
        **{"data_set": "coco14", "data_root": "../COCO", "gt_dir": "../COCO"},
        **{"saliency_root": "../COCO/saliency_maps_poolnet", "labels": "coco14/cls_labels.npy"},
        **{"train_list": "coco14/train.txt", "val_list": "coco14/train_1000.txt"},
    }
    assert {name: args[name] for name in expected} == expected


def test_flags_reach_what_they_mean_and_ours_may_stand_among_them(monkeypatch):
    words = [
        "--min_image_size",
        "100",
        "--max_image_size",
        "200",
        "--wd",
        "1e-3",
        "--beta",
        "6.0",
        "--patch_number",
        "4",
    ]
    args = arguments_of("msa_image", [*words, "--data_root", "photos", "--select", "last"], monkeypatch)
    assert (args["resize_size"], args["beta"], args["patch_number"]) == ([100, 200], 6, 4)
    assert args["wt_dec"] == args["momentum"] == 1e-3
    assert (args["data_root"], args["select"]) == ("photos", "last")
    assert arguments_of("msa_image", ["--wd", "1e-3", "--momentum", "0.9"], monkeypatch)["momentum"] == 0.9


@pytest.mark.parametrize("text", ["False", "false", "0"])
def test_the_baseline_asks_no_superpixel_network(text, monkeypatch):
    args = arguments_of("msa_image", ["--SP_CAM", text, "--Qmodelpath", "nowhere.pth"], monkeypatch)
    assert (args["sp_cam"], args["scn"]) == (False, None)


def test_flags_that_decided_nothing_do_not_here_either(monkeypatch):
    words = ["--print_ratio", "0.5", "--clamp_rate", "3"]
    assert arguments_of("msa_image", words, monkeypatch) == arguments_of("msa_image", [], monkeypatch)


def test_help_says_what_becomes_of_flags_that_are_not_one_of_ours(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        arguments_of("msa_image", ["--help"], monkeypatch)
    said = " ".join(capsys.readouterr().out.split())
    assert "--min_image_size MIN_IMAGE_SIZE --resize_size, the first number (320)" in said
    assert "--clamp_rate CLAMP_RATE decides nothing here" in said


@pytest.mark.parametrize("name", ["train_cls_image", "train_cls_sal"])
def test_each_runs_as_a_file_from_any_folder_and_says_mistakes_in_one_line(name, tmp_path):
    def said(*words: str) -> str:
        command = [sys.executable, str(ROOT / "released" / "msa" / f"{name}.py"), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("error: ") == 1
        return done.stderr

    assert "--beta: expected a whole number of steps, got '8.5'" in said("--beta", "8.5")
    assert "--scn ./models_ckpt/Q_model_final.pth: expected" in said("--beta", "8.0")
    assert "--dataset: invalid choice: 'context'" in said("--dataset", "context")
