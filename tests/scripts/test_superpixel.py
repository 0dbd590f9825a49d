"""The superpixel network's commands: through a kill, by two processes, to maps and scores, and what they refuse."""

import argparse
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from network.scn import SCN
from superpixel.infer import read_data
from superpixel.maps import load_superpixels
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
from tests.shapes import make_shapes

TRAIN, INFER = "superpixel/train.py", "superpixel/infer.py"
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
    forget_setting(tmp_path / "scn" / "last.ckpt", "--sane")
    done = run(TRAIN, {**flags, "--resume": ()})
    assert_succeeded(done)
    assert "resumed" in done.stdout
    for name in ("scn.pth", "last.ckpt"):
        assert_same(load(tmp_path / "scn" / name), load(trained / name))
    assert validations_of(tmp_path / "scn")[-1] == validations_of(trained)[-1]
    assert_keeps_its_start(TRAIN, flags, tmp_path / "scn" / "last.ckpt")


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
        ({"--crop_size": 16}, "--crop_size 16: expected a multiple of 16 from 32"),
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


# -- infer -------------------------------------------------------------------------------------------------------------


def for_inference(shapes, trained, folder, **changes):
    root = shapes.root
    places = {"--data_set": shapes.data_set.name, "--img_root": root, "--infer_list": root / "val.txt"}
    outputs = {"--out": folder / "maps", "--png": folder / "pictures"}
    return {**places, **outputs, "--weights": trained / "scn.pth", "--device": "cpu", **changes}


@pytest.fixture(scope="module")
def inferred(shapes, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inferred")
    scored = {"--gt_dir": shapes.root / "masks", "--json": folder / "scores.json"}
    done = run(INFER, for_inference(shapes, trained, folder, **scored))
    assert_succeeded(done)
    assert "boundary recall" in done.stdout
    return folder


def test_maps_have_the_images_sizes_and_figures_are_written(inferred):
    maps = sorted((inferred / "maps").glob("*.npy"))
    assert len(maps) == 9
    for path in maps:
        found = load_superpixels(path, (48, 56))  # resized to 48 x 64, of 3 x 4 cells
        assert 1 < len(np.unique(found)) <= 12
        assert Image.open(inferred / "pictures" / f"{path.stem}.png").size == (56, 48)
    scores = json.loads((inferred / "scores.json").read_text())
    assert scores["images"] == 9 and 1 < scores["superpixels an image"] <= 12
    assert 50 < scores["achievable segmentation accuracy"] < 100


def test_again_infer_makes_what_is_missing_and_nothing_else(shapes, trained, inferred, tmp_path):
    copy = shutil.copytree(inferred, tmp_path / "copy")
    maps = sorted((copy / "maps").glob("*.npy"))
    maps[1].unlink()
    maps[3].write_bytes(maps[3].read_bytes()[:-9])
    (copy / "pictures" / f"{maps[5].stem}.png").unlink()
    done = run(INFER, for_inference(shapes, trained, copy))
    assert_succeeded(done)
    assert "3 of 9 images done" in done.stdout
    assert contents(copy) == contents(inferred)
    refused = run(INFER, for_inference(shapes, trained, copy, **{"--amp": "bf16"}))
    assert_refused(refused, "made with other settings", "amp: off then, bf16 now")


def test_two_processes_share_the_list(shapes, trained, inferred, tmp_path):
    scored = {"--gt_dir": shapes.root / "masks", "--json": tmp_path / "scores.json"}
    for done in run_by_two(INFER, *words_of(for_inference(shapes, trained, tmp_path, **scored))):
        assert_succeeded(done)
    assert contents(tmp_path) == contents(inferred)


def test_a_process_without_an_image_of_its_own_has_nothing_to_check(shapes, tmp_path, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "tests", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "list.txt").write_text(shapes.ids[0])
    places = {"data_set": shapes.data_set.name, "img_root": shapes.root, "gt_dir": shapes.root / "masks"}
    own, masks = read_data(argparse.Namespace(infer_list=tmp_path / "list.txt", **places))
    assert not own and [*masks] == [shapes.ids[0]]


def test_images_of_any_size_and_kind(shapes, trained, tmp_path):
    sizes = {"a": (1, 1), "b": (16, 16), "c": (33, 7), "d": (20, 90)}
    for name, size in sizes.items():
        Image.fromarray(np.full(size, 99, np.uint8)).save(tmp_path / f"{name}.png")  # grey
    (tmp_path / "list.txt").write_text("\n".join(sizes))
    places = {"--img_root": tmp_path, "--infer_list": tmp_path / "list.txt"}
    assert_succeeded(run(INFER, for_inference(shapes, trained, tmp_path, **places)))
    for name, size in sizes.items():
        load_superpixels(tmp_path / "maps" / f"{name}.npy", size)


def test_what_does_not_fit_inference_is_named(shapes, trained, tmp_path):
    torch.save({"fc8.weight": torch.zeros(7, 4, 1, 1)}, tmp_path / "cls.pth")
    flags = for_inference(shapes, trained, tmp_path / "out")
    cases = [
        ({"--weights": tmp_path / "cls.pth"}, "expected the weights of a superpixel network", "a classifier's"),
        ({"--weights": "nowhere"}, "--weights nowhere: expected a file"),
        ({"--gt_dir": "nowhere"}, "--gt_dir nowhere: expected a folder"),
        ({"--json": tmp_path / "scores.json"}, "--json: expected --gt_dir"),
        ({"--png": tmp_path / "out" / "maps"}, "expected another folder than --out"),
        ({"--infer_list": "nowhere"}, "--infer_list nowhere: expected a file"),
    ]
    jobs = {str(n): lambda changes=changes: run(INFER, {**flags, **changes}) for n, (changes, *_) in enumerate(cases)}
    for done, (_, *messages) in zip(run_all(jobs).values(), cases, strict=True):
        assert_refused(done, *messages)
    assert not (tmp_path / "out").exists()


def test_scores_may_lie_in_the_folder_that_out_makes_and_in_no_other_that_is_not_there(shapes, trained, tmp_path):
    flags = for_inference(shapes, trained, tmp_path / "out") | {"--gt_dir": shapes.root / "masks"}
    done = run(INFER, {**flags, "--json": "none/a.json"})
    assert_refused(done, "--json none/a.json: the folder none is not there")
    assert not list((tmp_path / "out").rglob("*.npy")), "refused before the work"
    assert_succeeded(run(INFER, {**flags, "--json": tmp_path / "out" / "scores.json"}))
    assert (tmp_path / "out" / "scores.json").is_file()
