"""deeplab-pytorch's YAML in our settings: its values arrive, and what it may not say is named in a line each."""

import argparse
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from network.deeplab_msc import CAFFE
from released.deeplab import main as command
from released.table import ROOT
from segmentation import weights_of_run
from segmentation.experiment.config import config_dict, configurations
from segmentation.settings import read_config
from tool.cli import UserError

YAML = ROOT / "released" / "deeplab" / "configs" / "voc12_resnet_dplv2.yaml"
PLACES = {"EXP_NAME", "EXP_ROOT", "DATA_ROOT", "DATA_LISTS", "DATA_PSEUDO_GT", "MODEL_BACKBONE_WEIGHTS"}


def arguments(name: str, **changes) -> argparse.Namespace:
    return argparse.Namespace(**{"command": name, "cuda": True, "model_path": None, "n_jobs": None, **changes})


def config_of(keys: dict):
    released = {**config_dict, **configurations[command.CONFIGURATION]}
    return read_config(released, [f"{key}={value}" for key, value in keys.items()])


def test_the_files_values_are_those_of_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = asdict(config_of(command.settings(arguments("train"), command.read_entries(YAML))))
    expected = asdict(config_of({}))
    assert found.pop("DATA_MEAN") == pytest.approx(CAFFE.mean) and expected.pop("DATA_MEAN") is None
    differing = {key for key in expected if found[key] != expected[key]}
    assert differing <= {*PLACES, "TRAIN_SAVE_EVERY", "DATA_WORKERS"}
    assert (found["TRAIN_SAVE_EVERY"], found["DATA_WORKERS"]) == (5000, 0)
    assert found["EXP_ROOT"] == tmp_path / "data/models/voc12_resnet_v2/deeplabv2_resnet101_msc"
    assert (found["EXP_NAME"], found["DATA_LISTS"]) == ("train_aug", tmp_path / "data/datasets/voc12")
    assert found["MODEL_BACKBONE_WEIGHTS"] == tmp_path / "pretrained/deeplabv1_resnet101-coco.pth"


def test_the_weights_that_are_tested_are_those_that_training_leaves():
    trained = weights_of_run({**config_dict, **configurations[command.CONFIGURATION]}, 20000)
    assert command.BASENAME.format(20000) == trained


def test_every_number_of_the_file_decides_what_it_names():
    """A value that is another than the configuration's, so that none is there by chance."""
    changes = {
        "DATASET.SCALES": ([0.25, 2.0], (0.25, 2.0)), "DATALOADER.NUM_WORKERS": (3, 3), "IMAGE.SIZE.TRAIN": (65, 65),
        "SOLVER.BATCH_SIZE.TRAIN": (7, 7), "SOLVER.ITER_MAX": (123, 123), "SOLVER.ITER_SIZE": (3, 3),
        "SOLVER.ITER_SAVE": (11, 11), "SOLVER.LR_DECAY": (4, 4), "SOLVER.LR": ("1e-3", 0.001),
        "SOLVER.MOMENTUM": (0.5, 0.5), "SOLVER.POLY_POWER": (2, 2.0), "SOLVER.WEIGHT_DECAY": (0.25, 0.25),
        "DATASET.SPLIT.VAL": ("train", "train"),
    }  # fmt: skip
    entries = {**command.read_entries(YAML), **{name: value for name, (value, _) in changes.items()}}
    config = config_of(command.settings(arguments("train"), entries))
    for name, (_, expected) in changes.items():
        assert getattr(config, command.ENTRIES[name].ours) == expected, name
    numbers = {name for name, entry in command.ENTRIES.items() if entry.ours is not None}
    assert numbers - set(changes) == {
        *("DATASET.ROOT", "DATASET.N_CLASSES", "MODEL.INIT_MODEL", "SOLVER.BATCH_SIZE.TEST")
    }


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("/JPEGImages/a.jpg /pseudo_seg_labels/a.png\n", "pseudo_seg_labels"),
        ("/JPEGImages/a.jpg /masks/of mine/a.png\n", "pseudo_seg_labels"),
        ("/JPEGImages/a.jpg /masks/mine/a.png\n", "masks/mine"),
        ("a\n", "pseudo_seg_labels"),
        (None, "pseudo_seg_labels"),
    ],
)
def test_the_list_says_where_the_masks_are(tmp_path, monkeypatch, line, folder):
    monkeypatch.chdir(tmp_path)
    if line is not None:
        (tmp_path / command.LISTS).mkdir(parents=True)
        (tmp_path / command.LISTS / "train_aug.txt").write_text(line)
    assert command.mask_folder(command.read_entries(YAML)) == Path("../../VOC2012") / folder


@pytest.mark.parametrize("name", ["test", "crf"])
def test_a_list_of_other_true_masks_than_are_scored_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / command.LISTS).mkdir(parents=True)
    (tmp_path / command.LISTS / "val.txt").write_text("/JPEGImages/a.jpg /my/masks/a.png\n")
    monkeypatch.setattr(sys, "argv", ["main.py", name, "-c", str(YAML)])
    with pytest.raises(UserError, match=r"val\.txt: expected masks in /SegmentationClass or .*, found /my/masks; "):
        command.main()


def test_test_and_crf_share_logits_and_write_the_released_files():
    entries = command.read_entries(YAML)
    test, crf = (command.settings(arguments(name, n_jobs="3"), entries) for name in ("test", "crf"))
    folder = Path("data/scores/voc12_resnet_v2/deeplabv2_resnet101_msc/val")
    assert (test["TEST_SCORES"], crf["TEST_SCORES"]) == (folder / "scores.json", folder / "scores_crf.json")
    assert (
        test["TEST_LOGITS"]
        == crf["TEST_LOGITS"]
        == Path("data/features/voc12_resnet_v2/deeplabv2_resnet101_msc/val/logit")
    )
    assert (test["TEST_CRF"], crf["TEST_CRF"], crf["TEST_CRF_WORKERS"]) == (False, True, "3")
    assert test["EXP_NAME"] != crf["EXP_NAME"]
    assert command.settings(arguments("test", model_path="x.pth"), entries)["TEST_CKPT"] == "x.pth"


def changed(**changes) -> dict:
    """The file's content with entries changed, SOLVER__LR for SOLVER's LR; None leaves one out."""
    content = yaml.safe_load(YAML.read_text())
    for path, value in changes.items():
        *names, last = path.split("__")
        place = content
        for name in names:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return content


REFUSED = {
    "a typing mistake": (
        changed(SOLVER__ITER_MAXX=3), ["SOLVER.ITER_MAXX: unknown entry; did you mean SOLVER.ITER_MAX?"]
    ),
    "another section": (changed(MODEL__AUX={"LOSS": 1}), ["MODEL.AUX.LOSS: unknown entry; "]),
    "one missing": (changed(IMAGE__MEAN__G=None), ["IMAGE.MEAN.G: expected this entry, found none"]),
    "another optimiser": (changed(SOLVER__OPTIMIZER="adam"), ["SOLVER.OPTIMIZER: expected 'sgd', found 'adam'"]),
    "another net": (changed(MODEL__NAME="DeepLabV3"), ["MODEL.NAME: expected 'DeepLabV2_ResNet101_MSC', found"]),
    "another CRF": (changed(CRF__BI_W=5), ["CRF.BI_W: expected 4, found 5"]),
    "images resized": (changed(IMAGE__SIZE__BASE=513), ["IMAGE.SIZE.BASE: expected nothing, found 513"]),
    "no number": (changed(IMAGE__MEAN__R="red"), ["IMAGE.MEAN.R: expected a number, found 'red'"]),
    "two at once": (changed(EXP__IDD="x", CRF__POS_W=1), ["EXP.IDD: unknown", "CRF.POS_W: expected 3, found 1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_file_may_not_say_is_named_in_a_line_each(tmp_path, name):
    content, messages = REFUSED[name]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as refused:
        command.read_entries(tmp_path / "c.yaml")
    head, *lines = str(refused.value).splitlines()
    assert head == f"-c {tmp_path / 'c.yaml'}: entries to correct ({len(messages)}):"
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(f"  {message}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "cannot be read as YAML"),
        ("\x00", "cannot be read as YAML"),
        ("!!python/object/apply:os.system ['touch attacked']", "cannot be read as YAML"),
        ("- 1", "expected entries as DATA: {ROOT: ...}, found list"),
        (None, "expected a file (the released command's YAML), found nothing there"),
    ],
)
def test_what_is_no_such_yaml_is_named_and_nothing_in_it_is_run(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("c.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        command.read_entries(Path("c.yaml"))
    assert str(refused.value).startswith(f"-c c.yaml: {said}") and not Path("attacked").exists()


@pytest.mark.parametrize("name", ["train", "test", "crf"])
def test_each_runs_as_a_file_from_any_folder(tmp_path, name):
    words = [sys.executable, str(ROOT / "released" / "deeplab" / "main.py"), name, "-c", str(YAML), "--cpu"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout.startswith("python segmentation/experiment/"), done.stderr
    assert "GPUS=0" in done.stdout
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr, done.stderr
