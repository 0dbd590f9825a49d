"""`eval.py` gives the golden scores, and writes them where it is told to."""

import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.scripts.eval_inputs import command, make_images, many_times, run
from tool.artifact import load_cam, load_label_map, save_cam, save_label_map
from voc12.classes import CLASSES, VOC12


def scores(cwd, folder, *arguments):
    """What --json holds after a run that must succeed."""
    done = run(cwd, folder, *arguments, "--json", "scores.json")
    assert done.returncode == 0, done.stderr
    return json.loads((cwd / "scores.json").read_text())


@pytest.fixture
def folder(golden):
    return golden / "eval"


@pytest.fixture
def expected(folder):
    return json.loads((folder / "expected.json").read_text())


def assert_scores(actual, expected):
    assert {name: actual[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-6)


# -- scores ------------------------------------------------------------------------------------------------------------


def test_label_maps_get_the_golden_scores(tmp_path, folder, expected):
    assert_scores(scores(tmp_path, folder, "--predict_dir", folder / "png"), expected["png"])


@pytest.mark.parametrize("flags", [(), ("--t", "0.22")], ids=["default", "explicit"])
def test_cam_dicts_get_the_golden_scores_at_one_threshold(tmp_path, folder, expected, flags):
    actual = scores(tmp_path, folder, "--predict_dir", folder / "npy", "--type", "npy", *flags)
    assert_scores(actual, expected["npy_0.22"])
    assert "curve" not in actual


@pytest.mark.parametrize("flags", [("--curve",), ("--curve", "True", "--num_workers", "1")], ids=["bare", "value"])
def test_cam_dicts_get_the_golden_curve(tmp_path, folder, expected, flags):
    actual = scores(tmp_path, folder, "--predict_dir", folder / "npy", "--type", "npy", *flags)
    best = int(np.argmax(expected["curve"]))
    assert actual["curve"] == pytest.approx(expected["curve"], rel=0, abs=1e-6)
    assert actual["best_threshold"] == best / 100
    assert actual["best_mIoU"] == actual["mIoU"] == pytest.approx(expected["curve"][best], rel=0, abs=1e-6)
    at_best = scores(tmp_path, folder, "--predict_dir", folder / "npy", "--type", "npy", "--t", best / 100)
    assert_scores(actual, {name: at_best[name] for name in (*VOC12.label_names, "mIoU")})


def test_many_processes_give_the_curve_of_one(tmp_path, folder, expected):
    many_times(tmp_path, folder.resolve(), 40)
    actual = scores(tmp_path, tmp_path, "--predict_dir", "npy", "--type", "npy", "--curve", "--num_workers", "2")
    assert actual["curve"] == pytest.approx(expected["curve"], rel=0, abs=1e-6)


def test_named_classes_alone_are_averaged_and_choose_the_threshold(tmp_path, folder):
    arguments = ("--predict_dir", folder / "npy", "--type", "npy", "--curve")
    every = scores(tmp_path, folder, *arguments)
    present = [name for name in CLASSES if every[name] > 0][:2]
    named = scores(tmp_path, folder, *arguments, "--classes", ",".join(present), "background")
    assert named["classes"] == ["background", *present]
    assert named["mIoU"] == pytest.approx(np.mean([named[name] for name in named["classes"]]))
    assert named["best_mIoU"] == max(named["curve"])
    assert abs(named["best_mIoU"] - every["best_mIoU"]) > 1


@pytest.fixture
def made(tmp_path):
    return make_images(tmp_path)


def test_crf_dicts_score_as_the_label_maps_of_their_argmax(made):
    from_crf = scores(made, made, "--predict_dir", "crf", "--type", "crf")
    assert from_crf == scores(made, made, "--predict_dir", "png", "--type", "png")
    assert from_crf["person"] > 0


def test_255_in_a_prediction_is_wrong_or_background_where_that_is_asked_for(made):
    before = scores(made, made, "--predict_dir", "png")
    assert scores(made, made, "--predict_dir", "png", "--wrong_255") == before
    hits = union = 0
    for path in (made / "png").iterdir():
        labels, truth = load_label_map(path, VOC12), load_label_map(made / "gt" / path.name, VOC12)
        labels[0] = 255
        save_label_map(path, labels, VOC12)
        valid = truth != 255
        hits += np.sum((labels == 15) & (truth == 15) & valid)
        union += np.sum(((labels == 15) | (truth == 15)) & valid)
    actual = scores(made, made, "--predict_dir", "png", "--wrong_255")
    assert actual["person"] == pytest.approx(100 * hits / union) and 0 < actual["person"] < before["person"]
    refused = run(made, made, "--predict_dir", "png")
    assert refused.returncode == 2 and "found 255; eval.py: --wrong_255 counts it as wrong" in refused.stderr
    as_background = scores(made, made, "--predict_dir", "png", "--background_255")
    for path in (made / "png").iterdir():
        labels = load_label_map(path, VOC12)
        save_label_map(path, np.where(labels == 255, 0, labels).astype(np.uint8), VOC12)
    assert as_background == scores(made, made, "--predict_dir", "png") != actual


def test_irns_cam_dicts_score_as_ours(made):
    expected = scores(made, made, "--predict_dir", "cam", "--type", "npy", "--curve")
    for path in (made / "cam").iterdir():
        cams = load_cam(path, VOC12)
        maps = np.stack([*cams.values()]) if cams else np.zeros((0, 4, 6), np.float32)
        keys, low = torch.tensor([*cams], dtype=torch.int64), torch.from_numpy(maps[:, ::4, ::4].copy())
        np.save(path, {"keys": keys, "cam": low, "high_res": maps}, allow_pickle=True)
    assert scores(made, made, "--predict_dir", "cam", "--type", "npy", "--curve") == expected
    wrong = run(made, made, "--predict_dir", "cam", "--type", "crf")
    assert wrong.returncode == 2 and "cam/a.npy: expected CRF posteriors, found IRN's CAMs" in wrong.stderr


def test_an_image_without_classes_scores_as_background(made):
    (made / "list.txt").write_text("c\n")
    expected = 100.0 if (load_label_map(made / "gt" / "c.png", VOC12) == 0).any() else 0.0
    for flags in (("--curve",), ("--t", "0")):
        actual = scores(made, made, "--predict_dir", "cam", "--type", "npy", *flags)
        assert actual["background"] == expected
        assert actual["mIoU"] == pytest.approx(expected / 21)


# -- labels that occur nowhere -----------------------------------------------------------------------------------------


def perfect(tmp_path, labels):
    """Predictions that are the ground truth where that is not 255: an image for each of `labels`, with background."""
    for folder, border in {"gt": 255, "png": 0}.items():
        (tmp_path / folder).mkdir()
        for label in labels:
            save_label_map(tmp_path / folder / f"{label}.png", np.array([[0, label, border]], np.uint8), VOC12)
    (tmp_path / "list.txt").write_text("".join(f"{label}\n" for label in labels))


def test_labels_that_occur_nowhere_count_as_0_and_are_said_to(tmp_path):
    perfect(tmp_path, [5])
    done = run(tmp_path, tmp_path, "--predict_dir", "png", "--json", "scores.json")
    note = (
        "19 of 21 labels occur in neither prediction nor ground truth and count as 0; mIoU over the 2 that occur is"
        " 100.00 (eval.py: --classes background bottle)"
    )
    assert done.stdout.endswith(f"mIoU           9.52\nnote: {note}\n")
    assert f"note: {note}\n" in (tmp_path / "log.txt").read_text()
    summary = json.loads((tmp_path / "scores.json").read_text())
    assert summary["mIoU"] == pytest.approx(200 / 21) and summary["mIoU_of_occurring"] == 100
    assert summary["absent"] == [name for name in VOC12.label_names if name not in ("background", "bottle")]
    named = run(tmp_path, tmp_path, "--predict_dir", "png", "--classes", *note[:-1].split("--classes ")[1].split())
    assert named.stdout.endswith("mIoU         100.00\n")  # and no note


def test_a_label_of_the_prediction_or_the_ground_truth_alone_occurs(tmp_path):
    perfect(tmp_path, [5, 7])
    save_label_map(
        tmp_path / "png" / "7.png", np.array([[0, 9, 12]], np.uint8), VOC12
    )  # 12 where the ground truth is 255
    actual = scores(tmp_path, tmp_path, "--predict_dir", "png")
    assert set(VOC12.label_names) - set(actual["absent"]) == {VOC12.label_names[label] for label in (0, 5, 7, 9)}
    assert actual["mIoU_of_occurring"] == pytest.approx((100 + 100) / 4)


def test_nothing_is_said_where_all_labels_occur(tmp_path):
    perfect(tmp_path, range(1, 21))
    done = run(tmp_path, tmp_path, "--predict_dir", "png", "--json", "scores.json")
    assert "note" not in done.stdout and "note" not in (tmp_path / "log.txt").read_text()
    summary = json.loads((tmp_path / "scores.json").read_text())
    assert (summary["absent"], summary["mIoU_of_occurring"]) == ([], summary["mIoU"])


def test_which_labels_a_curve_lacks_is_said_of_its_best_threshold(made):
    """Below 0.3 the second CAM wins pixels, at the best threshold none."""
    (made / "list.txt").write_text("x\n")
    save_label_map(made / "gt" / "x.png", np.array([[1, 1, 0, 0]], np.uint8), VOC12)
    cams = {0: np.array([[0.9, 0.9, 0, 0]], np.float32), 4: np.array([[0, 0, 0.3, 0.3]], np.float32)}
    save_cam(made / "cam" / "x.npy", cams, VOC12)
    actual = scores(made, made, "--predict_dir", "cam", "--type", "npy", "--curve")
    assert actual["best_threshold"] >= 0.3 and len(actual["absent"]) == 19 and actual["mIoU_of_occurring"] == 100
    early = scores(made, made, "--predict_dir", "cam", "--type", "npy", "--t", "0.1")
    assert len(early["absent"]) == 18


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_log_file_is_appended_to_with_comment_and_scores(made):
    first = run(made, made, "--predict_dir", "png", comment="first\nrun \x1b[31m")
    second = run(made, made, "--predict_dir", "cam", "--type", "npy", "--curve", comment="the curve")
    log = (made / "log.txt").read_text()
    tables = [done.stdout.partition("\n")[2] for done in (first, second)]
    assert all(table in log for table in tables)
    assert log.index(r"first\nrun \x1b[31m") < log.index(tables[0]) < log.index("  the curve\n")
    assert re.match(r"scored 3 images in [\d.]+ s \([\d.]+ images/s\)\n", first.stdout)
    assert log.startswith(time.strftime("%Y-"))
    assert all(name in first.stdout for name in (*VOC12.label_names, "mIoU"))
    assert "best threshold" in second.stdout
    assert sum(len(line.split()) == 11 for line in second.stdout.splitlines()) == 7  # six rows of ten, and their head
    assert first.stderr == ""  # no progress bar where nobody watches


def test_the_curve_is_drawn(made):
    scores(made, made, "--predict_dir", "cam", "--type", "npy", "--curve", "--plot", "curve.png")
    with Image.open(made / "curve.png") as image:
        assert len(np.unique(np.array(image.convert("RGB")).reshape(-1, 3), axis=0)) > 3


@pytest.mark.parametrize(("unbuffered", "code"), [("", 0), ("1", 141)])
def test_the_files_are_written_though_nobody_reads_the_output(made, unbuffered, code):
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    flags = ("--predict_dir", "cam", "--type", "npy", "--curve", "--json", "a.json", "--plot", "a.png")
    done = subprocess.run(command(made, *flags), cwd=made, env=env, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, "")
    assert len(json.loads((made / "a.json").read_text())["curve"]) == 60
    assert "best threshold" in (made / "log.txt").read_text()
    assert (made / "a.png").stat().st_size > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_full_disk_is_named_and_the_scores_are_still_shown_and_written(made):
    done = run(made, made, "--predict_dir", "png", "--json", "a.json", "--logfile", "/dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: --logfile /dev/full: cannot be written: No space left on device\n"
    assert f"{json.loads((made / 'a.json').read_text())['mIoU']:.2f}" in done.stdout


def test_a_log_that_does_not_take_the_whole_entry_is_named_and_stays_as_it_was(made):
    (made / "log.txt").write_text("x" * 100)

    def few_bytes_a_file():
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))

    arguments = command(made, "--predict_dir", "png", "--num_workers", "1")
    done = subprocess.run(arguments, cwd=made, preexec_fn=few_bytes_a_file, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --logfile log.txt: cannot be written: ")
    assert (made / "log.txt").read_text() == "x" * 100
    assert "mIoU" in done.stdout


def test_names_that_are_not_utf_8_and_texts_that_the_terminal_lacks_are_written(made):
    name = os.fsdecode(b"\xff.json")
    (made / "list.txt").write_text("a", encoding="utf-8")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    arguments = command(made, "--predict_dir", "png", "--json", name, comment=os.fsdecode(b"\xff \xc3\xa9"))
    done = subprocess.run(arguments, cwd=made, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mIoU" in json.loads((made / name).read_text())
    assert "  \\udcff é\n" in (made / "log.txt").read_text(encoding="utf-8")


def test_a_log_may_go_to_a_device(made):
    assert run(made, made, "--predict_dir", "png", "--logfile", "/dev/null").returncode == 0


def test_classes_that_never_occur_are_scored_as_absent_ones_are(made):
    actual = scores(made, made, "--predict_dir", "png", "--classes", "sheep")
    assert (actual["mIoU"], actual["mIoU_of_occurring"], actual["absent"]) == (0, None, ["sheep"])
    assert (
        (made / "log.txt")
        .read_text()
        .endswith("note: 1 of 1 labels occur in neither prediction nor ground truth and count as 0\n\n")
    )


def test_a_threshold_that_is_not_used_is_said_to_be(made):
    done = run(made, made, "--predict_dir", "cam", "--type", "npy", "--curve", "True", "--t", "0.3")
    assert done.returncode == 0
    assert "--t is not used" in done.stderr
