"""The superpixel network's command: through a kill, by two processes, from other weights, and what it refuses."""

import numpy as np
import pytest
import torch

from network.scn import SCN
from tests.scripts.conftest import (
    assert_refused,
    assert_same,
    assert_succeeded,
    load,
    run,
    run_all,
    run_by_two,
    run_until_killed,
    words_of,
)
from tests.shapes import make_shapes

TRAIN = "superpixel/train.py"
STEPS = 4  # two epochs of eight images in batches of four
TINY = {
    **{"--crop_size": 48, "--min_image_size": 40, "--max_image_size": 64, "--batch_size": 4, "--max_epoches": 2},
    **{"--device": "cpu", "--num_workers": 0, "--log_every": 1, "--save_every": 1, "--lr": 1e-3},
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "data", classes=7)


def for_training(shapes, **changes):
    root = shapes.root
    places = {"--data_set": shapes.data_set.name, "--data_root": root, "--train_list": root / "train_aug.txt"}
    return {**TINY, **places, "--val_list": root / "val.txt", "--gt_dir": root / "masks", **changes}


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    """The folder of a run with a loader process."""
    work_dir = tmp_path_factory.mktemp("trained")
    assert_succeeded(run(TRAIN, for_training(shapes, **{"--work_dir": work_dir, "--num_workers": 1})))
    return work_dir / "scn"


def validations_of(folder):
    """The figures of each epoch, from the log."""
    lines = [line for line in (folder / "log").read_text().splitlines() if "validated after" in line]
    return [line.partition(": mIoU ")[2] for line in lines]


def test_a_run_writes_its_files_and_scores_each_epoch(trained):
    names = sorted(path.name.split(".")[0] for path in trained.iterdir())
    assert names == ["args", "events", "last", "log", "scn"]
    assert [*load(trained / "scn.pth")] == [*SCN().state_dict()]
    log = (trained / "log").read_text()
    assert f"step {STEPS}/{STEPS} total" in log
    first, last = validations_of(trained)
    assert first != last and all(name in first for name in ("accuracy", "error", "recall"))


def test_a_killed_run_goes_on_to_the_same_weights(shapes, trained, tmp_path):
    flags = for_training(shapes, **{"--work_dir": tmp_path})
    log = tmp_path / "scn" / "log"
    run_until_killed(TRAIN, flags, kill_when=lambda: log.exists() and "step 2/" in log.read_text())
    assert not (tmp_path / "scn" / "scn.pth").exists()
    assert_refused(run(TRAIN, flags), "last.ckpt: this run exists; pass --resume")
    assert_refused(run(TRAIN, {**flags, "--resume": (), "--sane": "order"}), "--sane: [] then, ['order'] now")
    done = run(TRAIN, {**flags, "--resume": ()})
    assert_succeeded(done)
    assert "resumed" in done.stdout
    for name in ("scn.pth", "last.ckpt"):
        assert_same(load(tmp_path / "scn" / name), load(trained / name))
    assert validations_of(tmp_path / "scn")[-1] == validations_of(trained)[-1]


def test_two_processes_train_as_one_also_their_norms(shapes, trained, tmp_path):
    for done in run_by_two(TRAIN, *words_of(for_training(shapes, **{"--work_dir": tmp_path}))):
        assert_succeeded(done)
    one, two = (
        np.array([[float(word) for word in line.split()[5::2]] for line in lines])
        for lines in (
            [line for line in (folder / "log").read_text().splitlines() if " total " in line]
            for folder in (trained, tmp_path / "scn")
        )
    )
    assert one.shape == two.shape == (STEPS, 3)
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=2e-3)
    states = [load(folder / "scn.pth") for folder in (trained, tmp_path / "scn")]
    for name in ("conv0a.1.running_mean", "conv4b.1.running_var", "conv0_1.1.running_mean"):
        torch.testing.assert_close(states[1][name], states[0][name], rtol=1e-2, atol=1e-3)


def test_other_weights_and_oddities_have_their_switches(shapes, trained, tmp_path):
    variants = {
        "default": {},
        "resize": {"--sane": "resize"},
        "weights": {"--weights": trained / "scn.pth"},
    }
    one_step = {"--max_epoches": 1, "--batch_size": 8, "--gt_dir": None}
    jobs = {
        name: lambda name=name: run(
            TRAIN, for_training(shapes, **one_step, **{"--work_dir": tmp_path, "--session": name}, **variants[name])
        )
        for name in variants
    }
    for done in run_all(jobs).values():
        assert_succeeded(done)
    assert "tensors loaded" in (tmp_path / "weights" / "log").read_text()
    assert not validations_of(tmp_path / "default")
    moved = {name: load(tmp_path / name / f"{name}.pth")["pred_mask0.weight"].numpy().tobytes() for name in variants}
    assert len({*moved.values()}) == len(variants)


def test_what_does_not_fit_is_named(shapes, tmp_path):
    torch.save({"fc8.weight": torch.zeros(7, 4, 1, 1)}, tmp_path / "cls.pth")
    flags = for_training(shapes, **{"--work_dir": tmp_path / "exps"})
    cases = [
        ({"--crop_size": 60}, "--crop_size 60: expected a multiple of 16"),
        ({"--min_image_size": 80}, "--min_image_size 80: expected at most --max_image_size, 64"),
        ({"--batch_size": 9}, "--batch_size 9: ", "has 8 images"),
        ({"--gt_dir": "nowhere"}, "--gt_dir nowhere: expected a folder"),
        ({"--gt_dir": shapes.root / "train2014"}, "--gt_dir", "found <id>.jpg"),
        ({"--weights": tmp_path / "cls.pth"}, "expected the weights of a superpixel network", "a classifier's"),
        ({"--weights": "nowhere"}, "--weights nowhere: expected a file"),
    ]
    jobs = {str(n): lambda changes=changes: run(TRAIN, {**flags, **changes}) for n, (changes, *_) in enumerate(cases)}
    for done, (_, *messages) in zip(run_all(jobs).values(), cases, strict=True):
        assert_refused(done, *messages)
    assert not (tmp_path / "exps").exists()
