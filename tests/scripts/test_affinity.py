"""Stage 2's commands: from CAM dicts to walked masks, through kills, by two processes, and what they refuse."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from data.normalisation import IMAGENET
from network.affinity import build_affinity_net
from network.build import build_network
from network.weights import released_state_dict
from refine.affinity.infer import parse_arguments
from refine.affinity.inference import infer_missing
from tests.refine.affinity.stage import INFER, PREPARE, STEPS, TRAIN, WIDTH, make_stage
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
from tests.shapes import EMPTY
from tool.artifact import load_cam, load_crf, load_label_map, save_cam, save_crf
from tool.per_image import Processes

SESSION = "resnet38_aff"


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return make_stage(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def crf(stage, tmp_path_factory):
    """The posteriors of both alphas."""
    folder = tmp_path_factory.mktemp("crf")
    assert_succeeded(run(PREPARE, stage.flags(**{"--out_crf": folder})))
    return folder


@pytest.fixture(scope="module")
def trained(stage, crf, tmp_path_factory):
    """The folder of a run of training."""
    work_dir = tmp_path_factory.mktemp("trained")
    assert_succeeded(run(TRAIN, stage.for_training(crf, **{"--work_dir": work_dir, "--num_workers": 1})))
    return work_dir / SESSION


def for_inference(stage, trained, out, **changes):
    net = {"--weights": trained / f"{SESSION}.pth", "--width": WIDTH}
    return stage.flags(**net, **{"--out_rw": out, **changes})


@pytest.fixture(scope="module")
def walked(stage, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("walked")
    assert_succeeded(run(INFER, for_inference(stage, trained, folder)))
    return folder


# -- prepare -----------------------------------------------------------------------------------------------------------


def test_posteriors_are_of_the_images_labels_and_a_low_alpha_leaves_more_background(stage, crf):
    shares = []
    for image_id in stage.ids:
        labels = [0, *(index + 1 for index in stage.classes(image_id))]
        found = [load_crf(crf / name / f"{image_id}.npy", stage.data_set) for name in ("4.00", "24.00")]
        assert all(list(scores) == labels for scores in found)
        shares.append([(np.stack(list(scores.values())).argmax(0) == 0).mean() for scores in found])
    assert (found[0][0] == 1).all() and len(found[0]) == 1  # of the last image, which has no class
    low, high = np.mean(shares, axis=0)
    assert low > high


def test_again_prepare_makes_what_is_missing_and_nothing_else(stage, crf, tmp_path):
    copy = shutil.copytree(crf, tmp_path / "crf")
    (copy / "4.00" / f"{stage.ids[2]}.npy").unlink()
    (copy / "24.00" / f"{stage.ids[3]}.npy").write_bytes(b"half")
    of_other_classes = copy / "24.00" / f"{stage.ids[4]}.npy"  # as before image labels were corrected
    save_crf(of_other_classes, {0: load_crf(of_other_classes, stage.data_set)[0] * 0 + 1}, stage.data_set)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.npy")}
    done = run(PREPARE, stage.flags(**{"--out_crf": copy}))
    assert_succeeded(done)
    assert "3 of 9 images done" in done.stdout
    assert contents(copy) == contents(crf)
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {f"{image_id}.npy" for image_id in stage.ids[3:5]}


# -- train -------------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_files_and_learns(stage, trained):
    names = sorted(path.name.split(".")[0] for path in trained.iterdir())
    assert names == ["args", "events", "last", "log", SESSION]
    expected = released_state_dict(build_affinity_net(width=WIDTH))
    state = load(trained / f"{SESSION}.pth")
    assert {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in expected.items()}
    log = (trained / "log").read_text()
    assert f"step {STEPS}/{STEPS}" in log and all(f" {term} " in log for term in ("bg", "fg", "neg", "pairs/neg"))
    assert json.loads((trained / "args.json").read_text())["lr"] == 0.01


def test_a_killed_run_goes_on_to_the_same_weights(stage, crf, trained, tmp_path):
    flags = stage.for_training(crf, **{"--work_dir": tmp_path})
    log = tmp_path / SESSION / "log"
    run_until_killed(TRAIN, flags, kill_when=lambda: log.exists() and "step 3/" in log.read_text())
    assert not (tmp_path / SESSION / f"{SESSION}.pth").exists()
    assert_refused(run(TRAIN, flags), "last.ckpt: this run exists; pass --resume")
    changed = {**flags, "--resume": (), "--sane": "padding"}
    assert_refused(run(TRAIN, changed), "--sane: [] then, ['padding'] now")
    forget_setting(tmp_path / SESSION / "last.ckpt", "--sane")
    done = run(TRAIN, {**flags, "--resume": ()})
    assert_succeeded(done)
    assert "resumed" in done.stdout
    for name in (f"{SESSION}.pth", "last.ckpt"):
        assert_same(load(tmp_path / SESSION / name), load(trained / name))
    assert_keeps_its_start(TRAIN, flags, tmp_path / SESSION / "last.ckpt")


def losses_of(folder):
    """The terms of each step, from the log."""
    lines = [line.split() for line in (folder / SESSION / "log").read_text().splitlines() if " total " in line]
    return np.array([[float(word) for word in line if word.replace(".", "").isdigit()] for line in lines])


def test_two_processes_train_as_one(stage, crf, tmp_path):
    # At the recipe's rate the rounding of another order of sums grows twenty times in a step.
    flags = stage.for_training(crf, **{"--max_epoches": 2, "--lr": 0.002})
    assert_succeeded(run(TRAIN, {**flags, "--work_dir": tmp_path / "one"}))
    for done in run_by_two(TRAIN, *words_of({**flags, "--work_dir": tmp_path / "two"})):
        assert_succeeded(done)
    one, two = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert one.shape == two.shape and len(one) == 4
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=2e-3)
    states = [load(tmp_path / name / SESSION / f"{SESSION}.pth") for name in ("one", "two")]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name].double(), value.double(), rtol=1e-2, atol=1e-3, msg=name)


def test_a_run_that_goes_on_says_nothing_of_the_pairs_that_its_first_steps_met(stage, crf, tmp_path):
    """Here no step meets any but of background, as a run that saw all steps says."""
    background = shutil.copytree(crf, tmp_path / "crf")
    for path in background.rglob("*.npy"):
        scores = load_crf(path, stage.data_set)
        save_crf(path, {label: np.full_like(values, not label) for label, values in scores.items()}, stage.data_set)
    flags = stage.for_training(background, **{"--crop_size": 40, "--max_epoches": 4})
    for name in ("whole", "stopped"):
        log = tmp_path / name / SESSION / "log"
        if name == "stopped":
            killed = {**flags, "--work_dir": tmp_path / name}
            run_until_killed(TRAIN, killed, kill_when=lambda log=log: log.exists() and "step 3/" in log.read_text())
        assert_succeeded(run(TRAIN, {**flags, "--work_dir": tmp_path / name, "--resume": ()}))
        assert log.read_text().count("note: none of ") == (2 if name == "whole" else 0)
    assert "resumed" in log.read_text()


# -- infer -------------------------------------------------------------------------------------------------------------


def test_walked_masks_have_the_images_labels_and_one_without_a_class_is_background(stage, walked):
    for image_id in stage.ids:
        shape = load_label_map(stage.shapes.mask(image_id), stage.data_set).shape
        found = load_label_map(walked / f"{image_id}.png", stage.data_set, shape=shape, ignore=False)
        assert {*np.unique(found).tolist()} <= {0, *(index + 1 for index in stage.classes(image_id))}
        assert (found == 0).all() == (image_id == EMPTY)


def test_again_infer_makes_what_is_missing_and_nothing_else(stage, trained, walked, tmp_path):
    copy = shutil.copytree(walked, tmp_path / "walked")
    (copy / f"{stage.ids[1]}.png").write_bytes((copy / f"{stage.ids[1]}.png").read_bytes()[:-9])
    (copy / f"{stage.ids[5]}.png").unlink()
    stage.relabel(copy / f"{stage.ids[2]}.png")
    done = run(INFER, for_inference(stage, trained, copy))
    assert_succeeded(done)
    assert "3 of 9 images walked" in done.stdout
    assert contents(copy) == contents(walked)
    refused = run(INFER, for_inference(stage, trained, copy, **{"--beta": 4}))
    assert_refused(refused, "made with other settings", "beta: 8.0 then, 4.0 now")


def test_the_weights_are_not_read_again_to_see_what_is_missing(stage, trained, walked, monkeypatch, capsys):
    flags = for_inference(stage, trained, walked)
    monkeypatch.setattr(sys, "argv", [INFER, *words_of(flags)])
    args = parse_arguments()
    args.weights = "nowhere"
    infer_missing(stage.images, args, Processes(["cpu"], "torch", 1), normalisation=IMAGENET)
    assert "nothing is missing of 9 images" in capsys.readouterr().out


def test_backgrounds_crf_and_oddities_have_their_switches(stage, trained, walked, tmp_path):
    variants = {
        "seam": {"--bg": "none", "--alpha": 6},
        "steep": {"--bg": "none", "--alpha": 1},
        "crf": {"--crf": ()},
        "border": {"--sane": "border_pairs"},
        "short": {"--logt": 0},
    }
    jobs = {
        name: lambda name=name: run(INFER, for_inference(stage, trained, tmp_path / name, **variants[name]))
        for name in variants
    }
    for done in run_all(jobs).values():
        assert_succeeded(done)
    maps = {
        name: [(folder / f"{image_id}.png").read_bytes() for image_id in stage.ids]
        for name, folder in {"default": walked, **{name: tmp_path / name for name in variants}}.items()
    }
    assert len({tuple(files) for files in maps.values()}) == len(maps)
    assert all((load_label_map(tmp_path / name / f"{EMPTY}.png", stage.data_set) == 0).all() for name in variants)


def test_images_smaller_than_the_radius_and_sides_that_8_does_not_divide(stage, trained, tmp_path):
    sizes = {"a": (1, 1), "b": (8, 8), "c": (33, 7), "d": (20, 90)}
    cams = tmp_path / "cams"
    cams.mkdir()
    for name, (height, width) in sizes.items():
        Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(tmp_path / f"{name}.png")
        save_cam(cams / f"{name}.npy", {2: np.full((height, width), 0.8, np.float32)}, stage.data_set)
    (tmp_path / "list.txt").write_text("\n".join(sizes))
    places = {"--cam_dir": cams, "--img_root": tmp_path, "--infer_list": tmp_path / "list.txt"}
    assert_succeeded(run(INFER, for_inference(stage, trained, tmp_path / "out", **places)))
    for name, shape in sizes.items():
        assert (load_label_map(tmp_path / "out" / f"{name}.png", stage.data_set, shape=shape) == 3).all()
    assert_succeeded(run(PREPARE, stage.flags(**places, **{"--out_crf": tmp_path / "crf"})))


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named(stage, crf, trained, tmp_path):
    torch.save(released_state_dict(build_network("resnet38_hsc", num_classes=7, width=WIDTH)), tmp_path / "hsc.pth")
    for name in ("empty", "other size", "some"):
        (tmp_path / name).mkdir()
    for image_id in stage.ids:
        save_cam(tmp_path / "empty" / f"{image_id}.npy", {}, stage.data_set)
        cams = load_cam(stage.cams / f"{image_id}.npy", stage.data_set)
        save_cam(tmp_path / "some" / f"{image_id}.npy", cams, stage.data_set)
        cut = {index: scores[:-1] for index, scores in cams.items()}
        save_cam(tmp_path / "other size" / f"{image_id}.npy", cut, stage.data_set)
    (tmp_path / "some" / f"{stage.ids[4]}.npy").unlink()
    (tmp_path / "no class.txt").write_text(EMPTY)
    infer = for_inference(stage, trained, tmp_path / "out")
    prepare = stage.flags(**{"--out_crf": tmp_path / "crf"})
    train = stage.for_training(crf, **{"--work_dir": tmp_path / "exps"})
    swapped = {"--la_crf_dir": crf / "24.00", "--ha_crf_dir": crf / "4.00"}
    cases = [
        (INFER, {**infer, "--weights": tmp_path / "hsc.pth"}, "expected the weights of AffinityNet", "a classifier's"),
        (INFER, {**infer, "--width": 0.125}, "made with --width 0.0625"),
        (INFER, {**infer, "--cam_dir": tmp_path / "empty"}, "--cam_dir", "every CAM dict of the list is empty"),
        (INFER, {**infer, "--cam_dir": crf / "4.00"}, "holds CRF posteriors", "not CAMs"),
        (INFER, {**infer, "--bg": "2"}, "argument --bg: expected a score from 0 to 1, or none"),
        (INFER, {**infer, "--out_rw": stage.cams}, "expected another folder than --cam_dir"),
        (PREPARE, {**prepare, "--cam_dir": tmp_path / "some"}, "missing", f"{stage.ids[4]}.npy"),
        (PREPARE, {**prepare, "--cam_dir": tmp_path / "other size"}, "expected 48 x 56 (height x width)", "found 47 x"),
        (PREPARE, {**prepare, "--cam_dir": tmp_path / "empty"}, "every CAM dict of the list is empty"),
        (PREPARE, {**prepare, "--alpha": (4, 4)}, "--alpha 4 4: expected each once"),
        (PREPARE, {**prepare, "--cam_dir": "nowhere"}, "--cam_dir nowhere: expected a folder"),
        (TRAIN, {**train, **swapped}, "swapped? The low alpha's has more background; found", "exchange them"),
        (TRAIN, {**train, "--la_crf_dir": stage.cams}, "expected CRF posteriors by label"),
        (TRAIN, {**train, "--ha_crf_dir": crf / "4.00"}, "expected two folders, found", "twice"),
        (TRAIN, {**train, "--crop_size": 60}, "--crop_size 60: expected a multiple of 8"),
        (TRAIN, {**train, "--train_list": tmp_path / "no class.txt"}, "no image of the list has a class"),
        (TRAIN, {**train, "--weights": "nowhere"}, "--weights nowhere: expected a file"),
        (TRAIN, {**train, "--batch_size": 10}, "--batch_size 10: ", "has 9 images"),
    ]
    jobs = {
        str(n): lambda script=script, flags=flags: run(script, flags) for n, (script, flags, *_) in enumerate(cases)
    }
    for done, (_, _, *messages) in zip(run_all(jobs).values(), cases, strict=True):
        assert_refused(done, *messages)
    assert not [path for name in ("out", "crf", "exps") if (path := tmp_path / name).exists()]
