"""The released commands of PPC's and SEAM's stage 1, with no more than they require, and with a CRF."""

import argparse
import importlib
import subprocess
import sys

import pytest

from method.output_folders import plan_outputs
from method.seed_flags import crf_recipes
from released.ppc.contrast_infer import in_our_words
from released.table import ROOT, last_of_each, translate
from tests.scripts.test_help import parse

TRAINING = {
    **{"data_root": "VOC2012/JPEGImages", "batch_size": 8, "max_epoches": 8, "max_iters": None, "lr": 0.01},
    **{"wt_dec": 5e-4, "momentum": 5e-4, "crop_size": 448, "train_list": "voc12/train_aug.txt", "sane": []},
}
INFERENCE = {"infer_list": "voc12/train.txt", "img_root": "VOC2012/JPEGImages", "thr": 0.26, "crf_t": ["none"]}
EXPECTED = {
    "ppc.contrast_train": {**TRAINING, "method": "ppc", "view2_size": 128, "bg_threshold": 0.2},
    "seam.train_SEAM": {**TRAINING, "method": "seam", "view2_size": 134, "session": "resnet38_SEAM"},
    "ppc.contrast_infer": {**INFERENCE, "method": "ppc"},
    "seam.infer_SEAM": {**INFERENCE, "method": "seam"},
}


def arguments_of(name: str, words: list[str], monkeypatch) -> dict:
    command = importlib.import_module(f"released.{name}")
    words = ["--weights", "net.pth", *words]
    translated = (in_our_words if "infer" in name else translate)(command.ROWS, words)
    return vars(parse(command.SCRIPT, last_of_each(translated), monkeypatch))


@pytest.mark.parametrize("name", EXPECTED)
def test_the_released_defaults_reach_our_script(name, monkeypatch):
    args = arguments_of(name, [], monkeypatch)
    assert {flag: args[flag] for flag in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize(
    ("name", "words", "rounds"), [("ppc.contrast_infer", ["--crf_iters", "4"], ["4"]), ("seam.infer_SEAM", [], ["10"])]
)
def test_a_crf_is_made_where_its_folder_is_named(name, words, rounds, monkeypatch):
    args = arguments_of(name, ["--out_crf", "crf", "--out_cam=cams", *words], monkeypatch)
    assert (args["crf_t"], args["work_dir"], args["cam_npy"], args["cam_png"]) == (rounds, "crf", "cams", "none")


@pytest.mark.parametrize("name", ["ppc.contrast_infer", "seam.infer_SEAM"])
def test_only_what_is_asked_for_is_made_in_folders_of_its_own(name, monkeypatch):
    for words, folders in (
        (["--out_cam", "cams"], {"cams"}),
        (["--out_cam_pred=maps"], {"maps", "maps_cam"}),  # label maps are made from CAM dicts
        (["--out_cam", "cams", "--out_cam_pred", "maps"], {"cams", "maps"}),
    ):
        args = argparse.Namespace(**arguments_of(name, words, monkeypatch))
        assert {str(folder) for folder in plan_outputs(args, crf_recipes(args)).folders} == folders
    assert arguments_of(name, ["--crf_t", "3"], monkeypatch)["crf_t"] == ["3"]  # ours comes first


@pytest.mark.parametrize("name", EXPECTED)
def test_each_runs_as_a_file_from_any_folder(name, tmp_path):
    command = [sys.executable, str(ROOT / "released" / f"{name.replace('.', '/')}.py"), "--weights", "net.pth"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout.startswith("python "), done.stderr
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr, done.stderr
