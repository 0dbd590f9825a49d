"""Localisation's commands on generated data: a run, a kill, two processes, the test's files, and what is refused."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cub import mini
from localise.scores import KINDS
from network.localiser import LocaliserTransformer
from tests.scripts.conftest import (
    assert_keeps_its_start,
    assert_refused,
    assert_same,
    assert_succeeded,
    contents,
    forget_setting,
    load,
    run,
    run_all,
    run_by_two,
    run_until_killed,
    words_of,
)

TRAIN, TEST = "localise/train.py", "localise/test.py"
EPOCHS, STEPS = 2, 4  # of seven images in batches of four
# timm's smallest plain ViT; the input is 224 pixels whatever the net.
NET = {"--transformer": "test_vit"}
SMALL = {
    **NET,
    **{"--transformer_weights": "none", "--backbone": "resnet18", "--weights": "none", "--device": "cpu"},
    **{"--batch_size": 4, "--max_epoches": EPOCHS, "--lr_epochs": 2, "--num_workers": 0, "--log_every": 1},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return mini.generate(tmp_path_factory.mktemp("cub"), seed=2, train=7, test=4, size=40)


@pytest.fixture(scope="module")
def flags(root):
    return {**SMALL, "--cub_root": root}


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    """The folder of a run."""
    work_dir = tmp_path_factory.mktemp("trained")
    assert_succeeded(run(TRAIN, {**flags, "--work_dir": work_dir, "--num_workers": 1}))
    return work_dir / "crt_cub"


@pytest.fixture(scope="module")
def tested(root, trained, tmp_path_factory):
    """The folder of a test, and what it said."""
    folder = tmp_path_factory.mktemp("tested")
    flags = {**NET, "--cub_root": root, "--weights": trained / "model_epoch2.pth", "--out": folder, "--pictures": 3}
    done = run(TEST, {**flags, "--device": "cpu", "--num_workers": 0})
    assert_succeeded(done)
    return SimpleNamespace(folder=folder, flags=flags, stdout=done.stdout)


def test_a_run_tests_each_epoch_and_reports_the_best_and_the_last(trained):
    log = (trained / "log").read_text()
    assert f"step {STEPS}/{STEPS} transformer" in log and " consistency " in log
    assert "epoch 1, tested" in log and "epoch 2, tested" in log
    assert "best Top-1, chosen on the test set: epoch" in log and "last: epoch 2" in log
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["last"]["epoch"] == 2 and len(scores["epochs"]) == EPOCHS
    for name in ("loc_top1", "gt_known"):
        best = scores[name]["epoch"]
        assert scores[name][name] == max(epoch[name] for epoch in scores["epochs"])
        assert best == 1 + [epoch[name] for epoch in scores["epochs"]].index(scores[name][name])


def test_weights_are_written_in_the_released_form(trained):
    expected = LocaliserTransformer("test_vit", num_classes=len(mini.LOOKS)).state_dict()
    for name in ("model_epoch2.pth", "model_best_top1_loc.pth", "model_best.pth"):
        content = load(trained / name)
        assert list(content) == ["epoch", "state_dict", "best_map"]
        assert list(content["state_dict"]) == [f"module.{key}" for key in expected]
    scores = json.loads((trained / "scores.json").read_text())
    assert load(trained / "model_best_top1_loc.pth")["epoch"] == scores["loc_top1"]["epoch"]
    assert load(trained / "model_epoch2.pth")["best_map"] == scores["gt_known"]["gt_known"]


def test_a_killed_run_goes_on_to_the_same_weights(flags, trained, tmp_path):
    flags = {**flags, "--work_dir": tmp_path, "--save_every": 1}
    log = tmp_path / "crt_cub" / "log"
    run_until_killed(TRAIN, flags, kill_when=lambda: log.exists() and "step 3/" in log.read_text())
    assert_refused(run(TRAIN, flags), "last.ckpt: this run exists; pass --resume")
    assert_refused(run(TRAIN, {**flags, "--resume": (), "--lr": 1}), "--lr: 5e-05 then, 1.0 now")
    forget_setting(tmp_path / "crt_cub" / "last.ckpt", "--lr_factor")
    done = run(TRAIN, {**flags, "--resume": ()})
    assert_succeeded(done)
    assert "resumed" in done.stdout
    state, expected = (load(folder / "last.ckpt") for folder in (tmp_path / "crt_cub", trained))
    assert_same(state, expected)
    for path in trained.glob("*.pth"):
        assert_same(load(tmp_path / "crt_cub" / path.name), load(path))
    assert_keeps_its_start(TRAIN, flags, tmp_path / "crt_cub" / "last.ckpt", "--transformer_weights")
    assert (tmp_path / "crt_cub" / "scores.json").read_bytes() == (trained / "scores.json").read_bytes()


def test_a_finished_run_writes_its_last_weights_again_and_names_the_best_that_are_gone(flags, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "crt_cub")
    for name in ("model_epoch2.pth", "model_best.pth"):
        (folder / name).unlink()
    refused = run(TRAIN, {**flags, "--work_dir": tmp_path, "--resume": ()})
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    best = json.loads((trained / "scores.json").read_text())["gt_known"]["epoch"]
    assert f"{folder}: gone, and not in last.ckpt: model_best.pth of epoch {best}; take" in refused.stderr
    assert_same(load(folder / "model_epoch2.pth"), load(trained / "model_epoch2.pth"))


def losses_of(folder):
    lines = [line.split() for line in (folder / "log").read_text().splitlines() if " total " in line]
    return np.array([[float(word) for word in line if word.replace(".", "").isdigit()] for line in lines])


def test_two_processes_train_as_one_also_where_their_shares_differ(flags, tmp_path):
    flags = {**flags, "--drop_path": 0, "--lr": 1e-3}
    assert_succeeded(run(TRAIN, {**flags, "--work_dir": tmp_path / "one"}))
    for done in run_by_two(TRAIN, *words_of({**flags, "--work_dir": tmp_path / "two"})):
        assert_succeeded(done)
    one, two = (tmp_path / name / "crt_cub" for name in ("one", "two"))
    np.testing.assert_allclose(losses_of(two), losses_of(one), rtol=1e-3, atol=2e-3)
    assert len(losses_of(one)) == STEPS
    states = [load(folder / "model_epoch2.pth")["state_dict"] for folder in (one, two)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-2, atol=1e-3, msg=name)
    refused = run_by_two(TRAIN, *words_of({**flags, "--batch_size": 6, "--work_dir": tmp_path / "none"}))
    assert any("the last batch of 7 images has 1, fewer than the processes, 2" in done.stderr for done in refused)


def test_the_test_says_and_writes_what_it_found(root, tested):
    scores = json.loads((tested.folder / "scores.json").read_text())
    assert scores["images"] == 4 == sum(scores[kind] for kind in KINDS)
    assert f"GT-known {scores['gt_known']:5.1f} %" in tested.stdout and "the class is wrong" in tested.stdout
    rows = list(csv.DictReader((tested.folder / "boxes.csv").open()))
    assert [row["image"] for row in rows] == ["8", "9", "10", "11"]
    assert rows[0]["class"] == "002.yellow_square" and rows[0]["file"] == "002.yellow_square/000008.jpg"
    assert 100 * np.mean([float(row["iou"]) >= 0.5 for row in rows]) == pytest.approx(scores["gt_known"])
    with Image.open(tested.folder / "pictures.png") as sheet:
        assert sheet.size == (3 * 224, 224 + 14)


def test_what_is_tested_is_not_tested_again_and_no_other_test_takes_its_folder(tested):
    before = {path: path.stat().st_mtime_ns for path in tested.folder.iterdir()}
    again = run(TEST, {**tested.flags, "--device": "cpu"})
    assert_succeeded(again)
    assert "tested before" in again.stdout
    assert again.stdout.partition("localisation")[2] == tested.stdout.partition("localisation")[2]
    assert_refused(run(TEST, {**tested.flags, "--cam_thr": 0.2}), "take another --out", "cam_thr: 0.1 then, 0.2 now")
    assert {path: path.stat().st_mtime_ns for path in tested.folder.iterdir()} == before


def test_two_processes_share_the_test_and_the_epochs_own_test_agrees(tested, trained, tmp_path):
    last = json.loads((trained / "scores.json").read_text())["last"]
    scores = json.loads((tested.folder / "scores.json").read_text())
    assert all(scores[name] == value for name, value in last.items() if name != "epoch")
    flags = {**tested.flags, "--out": tmp_path, "--device": "cpu", "--num_workers": 0, "--batch_size": 1}
    for done in run_by_two(TEST, *words_of(flags)):
        assert_succeeded(done)
    assert (tmp_path / "scores.json").read_bytes() == (tested.folder / "scores.json").read_bytes()
    boxes, expected = ((folder / "boxes.csv").read_text().splitlines() for folder in (tmp_path, tested.folder))
    assert len(boxes) == len(expected)


def test_what_does_not_fit_is_named(root, flags, trained, tested, tmp_path):
    outside = shutil.copytree(root, tmp_path / "outside")
    lines = (outside / "bounding_boxes.txt").read_text().splitlines()
    (outside / "bounding_boxes.txt").write_text("\n".join(["1 300 0 5 5", *lines[1:]]))
    fewer = shutil.copytree(root, tmp_path / "fewer")
    (fewer / "classes.txt").write_text("".join(f"{n} kind_{n}\n" for n in range(1, 8)))
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    train, test = {**flags, "--work_dir": tmp_path / "exps"}, {**tested.flags, "--out": tmp_path / "out"}
    cases = [
        (TRAIN, {**train, "--cub_root": outside}, "image 1: the box 300 0 5 5", "lies outside its image"),
        (TRAIN, {**train, "--cub_root": tmp_path}, "--cub_root", "images.txt: expected a file"),
        (TRAIN, {**train, "--transformer": "resnet50"}, "--transformer resnet50: expected a plain vision transformer"),
        (TRAIN, {**train, "--transformer_weights": tmp_path / "other.pth"}, "other.pth", "does not fit the net"),
        (TRAIN, {**train, "--weights": tmp_path / "other.pth"}, "expected weights of resnet18"),
        (TRAIN, {**train, "--batch_size": 8}, "--batch_size 8: there are 7 images to train on"),
        (TRAIN, {**train, "--resize_size": 200}, "--resize_size 200: expected 224"),
        (TRAIN, {**train, "--backbone": "resnet38d"}, "argument --backbone: invalid choice"),
        (TEST, {**test, "--cub_root": fewer}, "expected what localise/train.py writes", "head.weight"),
        (TEST, {**test, "--transformer": "vit_tiny_patch16_224"}, "another --transformer"),
        (TEST, {**test, "--weights": trained / "last.ckpt"}, "localise/train.py"),
    ]
    jobs = {
        str(n): lambda script=script, flags=flags: run(script, {**flags, "--device": "cpu"})
        for n, (script, flags, *_) in enumerate(cases)
    }
    for done, (_, _, *messages) in zip(run_all(jobs).values(), cases, strict=True):
        assert_refused(done, *messages)
    assert not (tmp_path / "exps").exists() and not contents(tmp_path / "out")
