"""The released commands of AffinityNet, each by its file, with no more than they require."""

import importlib
import subprocess
import sys

import pytest

from released.table import ROOT, translate
from tests.scripts.test_help import parse

REQUIRED = {
    "aff_prepare": ["--cam_dir", "cam", "--out_crf", "crf", "--infer_list", "voc12/train_aug.txt"],
    "aff_train": ["--weights", "net.params", "--la_crf_dir", "crf/4.00", "--ha_crf_dir", "crf/24.00"],
    "aff_infer": ["--weights", "aff.pth", "--cam_dir", "cam"],
}
# What our script makes of it, flags that were given left out.
EXPECTED = {
    "aff_prepare": {"img_root": "VOC2012/JPEGImages", "alpha": [4, 24], "crf_iters": 10},
    "aff_train": {
        **{"data_root": "VOC2012/JPEGImages", "session": "resnet38_aff", "batch_size": 8, "max_epoches": 8, "lr": 0.01},
        **{"wt_dec": 5e-4, "momentum": 5e-4, "crop_size": 448, "train_list": "voc12/train_aug.txt", "sane": []},
    },
    "aff_infer": {
        **{"infer_list": "voc12/val.txt", "img_root": "VOC2012/JPEGImages", "beta": 8, "logt": 6, "alpha": 6},
        **{"crf": False, "bg": 0.27, "sane": []},
    },
}


@pytest.mark.parametrize("system", ["ppc", "seam"])
@pytest.mark.parametrize("name", REQUIRED)
def test_the_released_defaults_reach_our_script(system, name, monkeypatch):
    command = importlib.import_module(f"released.{system}.{name}")
    args = vars(parse(command.SCRIPT, translate(command.ROWS, REQUIRED[name]), monkeypatch))
    expected = EXPECTED[name]
    if (system, name) == ("seam", "aff_infer"):
        expected = {**expected, "bg": None}
    assert {flag: args[flag] for flag in expected} == expected


@pytest.mark.parametrize("system", ["ppc", "seam"])
@pytest.mark.parametrize(
    ("name", "words", "flag", "value"),
    [
        ("aff_infer", ["--crf", "--beta", "4"], "crf", True),
        ("aff_infer", ["--crf", "True"], "crf", True),
        ("aff_infer", ["--crf=False"], "crf", False),
        ("aff_prepare", ["--num_workers", "0"], "crf_workers", 1),
        ("aff_prepare", ["--num_workers=3"], "crf_workers", 3),
    ],
)
def test_values_that_are_not_ours_are_understood(system, name, words, flag, value, monkeypatch):
    command = importlib.import_module(f"released.{system}.{name}")
    translated = getattr(command, "in_our_words", translate)(command.ROWS, [*REQUIRED[name], *words])
    assert vars(parse(command.SCRIPT, translated, monkeypatch))[flag] == value


@pytest.mark.parametrize("system", ["ppc", "seam"])
def test_each_runs_as_a_file_from_any_folder(system, tmp_path):
    for name, words in REQUIRED.items():
        command = [sys.executable, str(ROOT / "released" / system / f"{name}.py"), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and done.stdout.startswith("python refine/affinity/"), done.stderr
        assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr, done.stderr
