"""Thresholds swept: scored in one pass over the files, and their label maps and MSA's forms of CAMs written beside."""

import json
import re

import numpy as np
import pytest
import torch

from network.build import build_network
from network.weights import released_state_dict
from tests.scripts.conftest import WIDTH, assert_refused, assert_succeeded, contents, run, truncate
from tests.scripts.eval_inputs import make_images
from tests.scripts.eval_inputs import run as run_eval
from tool.artifact import load_cam, load_label_map
from tool.cam import seed_labels
from tool.metric import SWEEP
from voc12.classes import VOC12

# -- scores ------------------------------------------------------------------------------------------------------------


def scores(folder, cwd, *arguments):
    done = run_eval(cwd, folder, "--type", "npy", *arguments, "--json", "scores.json")
    assert_succeeded(done)
    return json.loads((cwd / "scores.json").read_text()), done.stdout


def test_thresholds_score_as_each_by_itself_and_as_the_curve(tmp_path, golden):
    folder = golden / "eval"
    flags = ("--predict_dir", folder / "npy")
    found, said = scores(folder, tmp_path, *flags, "--thresholds", "0.4", *map(str, SWEEP[:-1]))
    curve, _ = scores(folder, tmp_path, *flags, "--curve")
    assert found["thresholds"] == [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]
    assert found["curve"] == [curve["curve"][round(100 * threshold)] for threshold in SWEEP]
    best = SWEEP[int(np.argmax(found["curve"]))]
    assert (found["best_threshold"], found["best_mIoU"]) == (best, max(found["curve"]))
    alone, _ = scores(folder, tmp_path, *flags, "--t", best)
    assert all(found[name] == alone[name] for name in VOC12.label_names)
    assert f"     0.15 {found['curve'][1]:6.2f}\n" in said
    means = [mean for mean, _ in found["best_first"]]
    assert means == sorted(found["curve"], reverse=True) and found["best_first"][0][1] == [0, best]


def test_result_txt_has_a_line_a_setting_in_the_order_of_the_sweep(tmp_path):
    made = make_images(tmp_path)
    (made / "cam" / "settings.json").write_text('{"refine_list": 3}')
    flags = ("--predict_dir", "cam", "--thresholds", "0.3", "0.1", "--result", "result.txt", "--plot", "curve.png")
    found, _ = scores(made, made, *flags)
    lines = (made / "result.txt").read_text().split("\n")
    assert lines == [f"{found['curve'][i]:10.2f}       3.00       0.{3 if i else 1}0" for i in (0, 1)] + [""]
    assert (made / "curve.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--thresholds", "0.1", "--curve"), "--thresholds: --curve has its own; leave one of them out"),
        (("--thresholds", "0.1", "0.10"), "--thresholds 0.1 0.1: expected several numbers, each once"),
        (("--thresholds", "0.1"), "--thresholds 0.1: expected several numbers"),
        (("--thresholds", "2"), "argument --thresholds: expected a number of 0 to 1, got '2'"),
        (("--result", "result.txt"), "--result: expected --thresholds"),
        (("--thresholds", "0.1", "--type", "png"), "--thresholds needs CAM dicts (--type npy)"),
    ],
)
def test_flags_that_do_not_go_together_are_named(tmp_path, flags, message):
    made = make_images(tmp_path)
    assert_refused(run_eval(made, made, "--type", "npy", "--predict_dir", "cam", *flags), message)
    assert not (made / "log.txt").exists()


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flags(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    torch.manual_seed(0)
    torch.save(released_state_dict(build_network("resnet38_cls", num_classes=20, width=WIDTH)), folder / "cls.pth")
    (folder / "list.txt").write_text("\n".join(data.ids[:3]))
    common = {"--width": WIDTH, "--device": "cpu", "--crf_t": "none", "--network": "resnet38_cls", "--scales": 1}
    common |= {**data.for_inference(), "--infer_list": folder / "list.txt", "--weights": folder / "cls.pth"}
    return {**common, "--work_dir": folder / "out", "--savenpy": folder / "npy", "--savepng": folder / "png"}


@pytest.fixture(scope="module")
def made(flags):
    """The folder of a run's files."""
    assert_succeeded(run("inference.py", flags))
    return flags["--work_dir"].parent


def test_a_run_writes_the_cams_in_msas_form_and_label_maps_at_all_thresholds(made, data):
    for image_id in data.ids[:3]:
        cams = load_cam(made / "out" / "cam_npy" / f"{image_id}.npy", VOC12)
        array = np.load(made / "npy" / f"{image_id}.npy")
        shape = array.shape[2:]
        assert array.shape[:2] == (1, 21) and not array[0, 0].any()  # this net has no map of background
        for index in range(20):
            np.testing.assert_array_equal(array[0, index + 1], cams.get(index, np.zeros(shape, np.float32)))
        for threshold in SWEEP:
            labels = load_label_map(made / "png" / f"{threshold:.2f}" / "0" / f"{image_id}.png", VOC12, shape=shape)
            np.testing.assert_array_equal(labels, seed_labels(cams, threshold=threshold, shape=shape))
    assert len(list((made / "png").glob("*/0/*.png"))) == 3 * len(SWEEP)
    assert json.loads((made / "png" / "0.35" / "0" / "settings.json").read_text())["thr"] == 0.35


def test_what_is_missing_or_damaged_alone_is_made_again(made, flags, data):
    before = contents(made)
    truncate(made / "npy" / f"{data.ids[0]}.npy", 100)
    (made / "png" / "0.20" / "0" / f"{data.ids[1]}.png").unlink()
    done = run("inference.py", flags)
    assert_succeeded(done)
    assert "2 of 3 images inferred" in done.stdout and contents(made) == before
    assert ", 1 of them without the net\n" in done.stdout


def test_the_best_threshold_of_a_score_makes_the_label_maps(made, flags, data, tmp_path):
    scored = {"--predict_dir": flags["--work_dir"] / "cam_npy", "--type": "npy", "--curve": ()}
    places = {"--list": flags["--infer_list"], "--gt_dir": data.root / "VOC2012" / "SegmentationClass"}
    places |= {"--logfile": tmp_path / "log", "--comment": "x", "--json": tmp_path / "curve.json"}
    assert_succeeded(run("eval.py", {**scored, **places}))
    best = json.loads((tmp_path / "curve.json").read_text())["best_threshold"]
    masks = {"--thr": tmp_path / "curve.json", "--cam_png": tmp_path / "masks", "--savenpy": None, "--savepng": None}
    done = run("inference.py", {**flags, **masks})
    assert_succeeded(done)
    assert re.search(r"^3 of 3 images inferred in .*, 3 of them without the net$", done.stdout, re.MULTILINE)
    for image_id in data.ids[:3]:
        cams = load_cam(flags["--work_dir"] / "cam_npy" / f"{image_id}.npy", VOC12)
        labels = load_label_map(tmp_path / "masks" / f"{image_id}.png", VOC12)
        np.testing.assert_array_equal(labels, seed_labels(cams, threshold=best, shape=labels.shape))
    assert json.loads((tmp_path / "masks" / "settings.json").read_text())["thr"] == best


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--thr FILE: expected a file (a number from 0 to 1, or the JSON file of eval.py --curve)"),
        ("{", "--thr FILE: cannot be read as JSON"),
        ("[0.3]", "--thr FILE: expected best_threshold in it"),
        ('{"best_threshold": "high"}', "--thr FILE: expected best_threshold in it"),
        ('{"best_threshold": 3.0}', "--thr FILE: expected best_threshold from 0 to 1 in it, found 3.0"),
    ],
)
def test_a_file_without_a_threshold_is_named(flags, tmp_path, content, message):
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_text(content)
    done = run("inference.py", {**flags, "--thr": path, "--work_dir": tmp_path / "out"})
    assert_refused(done, message.replace("FILE", str(path)))
    assert not (tmp_path / "out").exists()


def test_one_folder_for_two_kinds_is_refused(flags, tmp_path):
    done = run("inference.py", {**flags, "--work_dir": tmp_path, "--savenpy": tmp_path / "cam_npy"})
    assert_refused(done, "cam_npy: CAM dicts; CAMs in MSA's form", "(1)")
