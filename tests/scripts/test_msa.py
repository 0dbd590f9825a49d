"""MSA's classifier from its command: a run beside a frozen superpixel network that scores seeds on masks, keeps the
best weights, and ends alike after a kill; what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.labels import save_labels
from network.scn import SCN
from tests.scripts.conftest import (
    Data,
    assert_refused,
    assert_same,
    assert_succeeded,
    contents,
    load,
    run,
    run_until_killed,
)
from tool.lists import read_ids

THINGS = {"names": ["background", "thing"]}


@pytest.fixture(scope="module")
def things(data, tmp_path_factory) -> Data:
    """The small data with one class, whatever is an object, so that seeds of a net that knows little score."""
    made = data.copy(tmp_path_factory.mktemp("msa") / "data")
    (made.root / "things.json").write_text(json.dumps(THINGS))
    (made.root / "masks").mkdir()
    scored = read_ids(made.root / "train.txt")
    for image_id in scored:
        mask = np.asarray(Image.open(made.root / "VOC2012" / "SegmentationClass" / f"{image_id}.png"))
        Image.fromarray(((mask > 0) & (mask < 255)).astype(np.uint8)).save(made.root / "masks" / f"{image_id}.png")
    save_labels(made.labels, dict.fromkeys({*made.ids, *scored}, np.ones(1, np.float32)))
    made.train_list.write_text("\n".join(made.ids[:8]))
    torch.manual_seed(0)
    torch.save({f"module.{name}": value for name, value in SCN().state_dict().items()}, made.root / "scn.pth")
    return made


def flags_of(things: Data, work: Path, **changes) -> dict:
    flags = {
        **{"--method": "msa_sal", "--backbone": "timm:test_resnet", "--weights": "none", "--from_scratch": ()},
        **{"--crop_size": 64, "--resize_size": (40, 80), "--batch_size": 4, "--max_epoches": 3, "--lr": 0.01},
        **{"--device": "cpu", "--num_workers": 0, "--log_every": 1, "--save_every": 1, "--work_dir": work},
        **{**things.for_training(), "--data_set": things.root / "things.json", "--scn": things.root / "scn.pth"},
        **{"--val_list": things.root / "train.txt", "--gt_dir": things.root / "masks"},
    }
    return {**flags, **{f"--{name}": value for name, value in changes.items()}}


@pytest.fixture(scope="module")
def trained(things, tmp_path_factory) -> Path:
    work = tmp_path_factory.mktemp("run")
    assert_succeeded(run("train_voc.py", flags_of(things, work)))
    return work / "msa_sal"


def scores_in(log: str) -> list[float]:
    return [float(line.split("mIoU ")[1].removesuffix(" %")) for line in log.splitlines() if "scored seeds of" in line]


def test_a_run_ends_with_the_weights_that_scored_best_and_holds_no_superpixel_network(trained):
    log = (trained / "log").read_text()
    scores = scores_in(log)
    assert len(scores) == 3 and max(scores) > 22
    assert all(f"{name} " in log for name in ("cls", "ipc", "patches/kept"))
    last, weights = load(trained / "last.ckpt"), load(trained / "msa_sal.pth")
    assert_same(weights, load(trained / "best.pth"))
    assert 100 * last["selection"]["best"] == pytest.approx(max(scores[:-1]), abs=0.01) or scores[-1] == max(scores)
    is_last = torch.equal(weights["classifier.0.weight"], last["model"]["classifier.0.weight"])
    assert is_last == (scores[-1] > max(scores[:-1]))
    assert not any("deconv" in name for state in (weights, last["model"]) for name in state)


def test_a_killed_run_goes_on_to_the_same_weights_scores_and_choice(trained, things, tmp_path):
    flags = flags_of(things, tmp_path)
    log = tmp_path / "msa_sal" / "log"
    run_until_killed("train_voc.py", flags, kill_when=lambda: log.exists() and "step 3/6" in log.read_text())
    shutil.copy(things.root / "scn.pth", tmp_path / "moved.pth")
    assert_succeeded(run("train_voc.py", {**flags, "--scn": tmp_path / "moved.pth", "--resume": ()}))
    assert_same(load(tmp_path / "msa_sal" / "msa_sal.pth"), load(trained / "msa_sal.pth"))
    assert_same(load(tmp_path / "msa_sal" / "last.ckpt")["model"], load(trained / "last.ckpt")["model"])
    assert scores_in(log.read_text())[-2:] == scores_in((trained / "log").read_text())[-2:]


def test_the_last_weights_where_that_is_asked_for_and_no_masks_are_needed_for_them(trained, things, tmp_path):
    done = run("train_voc.py", flags_of(things, tmp_path, select="last", max_epoches=1, method="msa_image"))
    assert_succeeded(done)
    folder = tmp_path / "msa_image"
    weights, last = load(folder / "msa_image.pth"), load(folder / "last.ckpt")["model"]
    assert all(
        torch.equal(value, weights[f"model.{name}" if f"model.{name}" in weights else name])
        for name, value in last.items()
    )
    assert not (folder / "best.pth").exists() and len(scores_in((folder / "log").read_text())) == 1


MISTAKES = {
    "no superpixel network": ({"--scn": None}, ["--scn: --method msa_sal needs a superpixel network's weights"]),
    "its file is not there": ({"--scn": "nowhere.pth"}, ["--scn nowhere.pth: expected"]),
    "no masks there": ({"--gt_dir": "elsewhere"}, ["--gt_dir elsewhere: expected a folder"]),
    "best of what nobody scores": ({"--gt_dir": None, "--select": "miou"}, ["--select miou: needs --gt_dir"]),
    "patches of no square": ({"--patch_number": 5}, ["--patch_number 5: expected a square number"]),
    "half a step": ({"--beta": 8.5}, ["--beta: expected a whole number of steps, got '8.5'"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_before_anything_is_written(case, things, tmp_path, monkeypatch):
    changes, messages = MISTAKES[case]
    done = run("train_voc.py", {**flags_of(things, tmp_path / "exps"), **changes})
    assert_refused(done, *messages)
    assert not contents(tmp_path)


def test_another_superpixel_network_is_another_run(trained, things, tmp_path):
    shutil.copytree(trained, tmp_path / "msa_sal")
    torch.save({**SCN().state_dict()}, tmp_path / "other.pth")
    done = run("train_voc.py", {**flags_of(things, tmp_path), "--scn": tmp_path / "other.pth", "--resume": ()})
    assert_refused(done, "--resume", "the weights of --scn (sha256)")


def test_weights_that_scored_best_are_chosen_on_one_list(trained, things, tmp_path):
    shutil.copytree(trained, tmp_path / "msa_sal")
    ids = read_ids(things.root / "train.txt")
    (tmp_path / "fewer.txt").write_text("\n".join(ids[:-1]))
    done = run("train_voc.py", {**flags_of(things, tmp_path), "--val_list": tmp_path / "fewer.txt", "--resume": ()})
    assert_refused(done, "--resume", "the ids of --val_list (sha256)")


def test_saliency_of_0_and_1_is_refused_with_what_to_do(things, tmp_path):
    flat = things.copy(tmp_path / "data")
    for path in flat.saliency.iterdir():
        Image.fromarray((np.asarray(Image.open(path).convert("L")) > 127).astype(np.uint8)).save(path)
    done = run("train_voc.py", flags_of(flat, tmp_path / "exps"))
    assert_refused(done, "--saliency_root", "at most 1", "save them times 255")
