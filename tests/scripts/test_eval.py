"""`eval.py` gives the golden scores, and stops with one clear message on every input that it should not score."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tool.artifact import load_label_map, save_cam, save_crf, save_label_map
from voc12.classes import CLASSES, LABEL_NAMES
from voc12.lists import read_ids

ROOT = Path(__file__).resolve().parents[2]


def command(folder, *arguments, comment="a comment"):
    """The command line on a folder that holds list.txt and gt/; its log goes to log.txt there."""
    flags = ["--list", folder / "list.txt", "--gt_dir", folder / "gt", "--comment", comment]
    logfile = [] if "--logfile" in arguments else ["--logfile", "log.txt"]
    return [sys.executable, str(ROOT / "eval.py"), *map(str, flags), *logfile, *map(str, arguments)]


def run(cwd, folder, *arguments, **options):
    return subprocess.run(command(folder, *arguments, **options), cwd=cwd, capture_output=True, text=True)


def scores(cwd, folder, *arguments):
    """What --json holds after a run that must succeed."""
    done = run(cwd, folder, *arguments, "--json", "scores.json")
    assert done.returncode == 0, done.stderr
    return json.loads((cwd / "scores.json").read_text())


def assert_refused(done, cwd, *messages):
    """Exit code 2, one message without traceback, no log file."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    for message in messages:
        assert message in done.stderr
    assert not (cwd / "log.txt").exists()
    assert done.stdout == ""


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
    assert_scores(actual, {name: at_best[name] for name in (*LABEL_NAMES, "mIoU")})


def many_times(tmp_path, folder, times):
    """The golden CAM dicts and ground truths under `times` names each; scores do not change."""
    for name in ("gt", "npy"):
        (tmp_path / name).mkdir()
    ids = []
    for image_id in read_ids(folder / "list.txt"):
        for copy in range(times):
            ids.append(f"{image_id} copy {copy}")
            (tmp_path / "gt" / f"{ids[-1]}.png").symlink_to(folder / "gt" / f"{image_id}.png")
            (tmp_path / "npy" / f"{ids[-1]}.npy").symlink_to(folder / "npy" / f"{image_id}.npy")
    (tmp_path / "list.txt").write_text("\n".join(ids) + "\n")
    return ids


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
    """Three images of 4 x 6 with ground truth, CAM dicts, CRF dicts and label maps; the last one without classes."""
    generator = np.random.default_rng(0)
    for name in ("gt", "cam", "crf", "png"):
        (tmp_path / name).mkdir()
    for image_id, classes in {"a": (0,), "b": (3, 14), "c": ()}.items():
        target = generator.choice([0, *(c + 1 for c in classes), 255], (4, 6)).astype(np.uint8)
        save_label_map(tmp_path / "gt" / f"{image_id}.png", target)
        cams = {c: generator.random((4, 6), dtype=np.float32) for c in classes}
        save_cam(tmp_path / "cam" / f"{image_id}.npy", cams)
        posterior = generator.dirichlet(np.ones(len(classes) + 1), (4, 6)).astype(np.float32)
        labels = [0, *(c + 1 for c in classes)]
        save_crf(tmp_path / "crf" / f"{image_id}.npy", {k: posterior[..., i] for i, k in enumerate(labels)})
        save_label_map(tmp_path / "png" / f"{image_id}.png", np.array(labels, np.uint8)[posterior.argmax(-1)])
    (tmp_path / "list.txt").write_text("a\nb\nc\n")
    return tmp_path


def test_crf_dicts_score_as_the_label_maps_of_their_argmax(made):
    from_crf = scores(made, made, "--predict_dir", "crf", "--type", "crf")
    assert from_crf == scores(made, made, "--predict_dir", "png", "--type", "png")
    assert from_crf["person"] > 0


def test_an_image_without_classes_scores_as_background(made):
    (made / "list.txt").write_text("c\n")
    expected = 100.0 if (load_label_map(made / "gt" / "c.png") == 0).any() else 0.0
    for flags in (("--curve",), ("--t", "0")):
        actual = scores(made, made, "--predict_dir", "cam", "--type", "npy", *flags)
        assert actual["background"] == expected
        assert actual["mIoU"] == pytest.approx(expected / 21)


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_log_file_is_appended_to_with_comment_and_scores(made):
    first = run(made, made, "--predict_dir", "png", comment="first\nrun \x1b[31m")
    second = run(made, made, "--predict_dir", "cam", "--type", "npy", "--curve", comment="the curve")
    log = (made / "log.txt").read_text()
    assert first.stdout in log and second.stdout in log
    assert log.index(r"first\nrun \x1b[31m") < log.index(first.stdout) < log.index("  the curve\n")
    assert log.startswith(time.strftime("%Y-"))
    assert all(name in first.stdout for name in (*LABEL_NAMES, "mIoU"))
    assert "best threshold" in second.stdout
    assert sum(len(line.split()) == 11 for line in second.stdout.splitlines()) == 7  # six rows of ten, and their head
    assert first.stderr == ""  # no progress bar where nobody watches


def test_the_curve_is_drawn(made):
    scores(made, made, "--predict_dir", "cam", "--type", "npy", "--curve", "--plot", "curve.png")
    with Image.open(made / "curve.png") as image:
        assert len(np.unique(np.array(image.convert("RGB")).reshape(-1, 3), axis=0)) > 3


def test_a_threshold_that_is_not_used_is_said_to_be(made):
    done = run(made, made, "--predict_dir", "cam", "--type", "npy", "--curve", "True", "--t", "0.3")
    assert done.returncode == 0
    assert "--t is not used" in done.stderr


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_missing_files_are_all_named_and_nothing_is_scored(made):
    (made / "png" / "a.png").unlink()
    (made / "png" / "c.png").unlink()
    (made / "gt" / "b.png").unlink()
    done = run(made, made, "--predict_dir", "png")
    assert_refused(done, made, "--predict_dir: png/a.png", "png/c.png", "--gt_dir: ", "gt/b.png", "(3)")


def test_faulty_files_are_all_named_in_one_go(made):
    ids = [f"image {number}" for number in range(9)]
    (made / "list.txt").write_text("\n".join(["a", *ids]))
    target = np.zeros((4, 6), np.uint8)
    for image_id in ids:
        save_label_map(made / "gt" / f"{image_id}.png", target)
        save_cam(made / "cam" / f"{image_id}.npy", {1: np.ones((4, 6), np.float32)})

    def cam(number):
        return made / "cam" / f"image {number}.npy"

    def truth(number):
        return made / "gt" / f"image {number}.png"

    save_cam(cam(0), {1: np.ones((6, 4), np.float32)})
    save_crf(cam(1), {0: np.full((4, 6), 0.5, np.float32), 5: np.full((4, 6), 0.5, np.float32)})
    cam(2).write_bytes(cam(3).read_bytes()[:200])
    Image.fromarray(target + 21).save(truth(3))
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(truth(4))
    truth(5).write_bytes(truth(6).read_bytes()[:60])
    np.save(cam(5), np.zeros((4, 6), np.float32))  # both files of image 5 are faulty
    np.save(cam(7), {1: np.full((4, 6), np.nan, np.float32)}, allow_pickle=True)
    with open(cam(8), "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(print, file)
    done = run(made, made, "--predict_dir", "cam", "--type", "npy")
    assert_refused(done, made, "(9)")
    named = {
        "cam/image 0.npy": "expected 4 x 6 (height x width) under key 1, found 6 x 4",
        "cam/image 1.npy": "--type crf",
        "cam/image 2.npy": "damaged",
        "gt/image 3.png": "found 21",
        "gt/image 4.png": "RGB colours",
        "gt/image 5.png": "damaged",
        "cam/image 5.npy": "found an array of float32",
        "cam/image 7.npy": "not finite",
        "cam/image 8.npy": "can run code",
    }
    for name, found in named.items():
        (line,) = [line for line in done.stderr.splitlines() if f"{name}: " in line]
        assert found in line


def test_faulty_files_are_named_from_every_process(tmp_path, folder):
    ids = many_times(tmp_path, folder.resolve(), 40)
    for image_id in (ids[0], ids[-1]):
        (tmp_path / "npy" / f"{image_id}.npy").unlink()
        (tmp_path / "npy" / f"{image_id}.npy").write_bytes(b"damaged")
    done = run(tmp_path, tmp_path, "--predict_dir", "npy", "--type", "npy", "--curve", "--num_workers", "2")
    assert_refused(done, tmp_path, "(2)", f"{ids[0]}.npy", f"{ids[-1]}.npy")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes through /proc")
def test_a_killed_process_ends_the_run_with_a_message(tmp_path, folder):
    ids = many_times(tmp_path, folder.resolve(), 40)
    # A pipe that nobody writes to holds one process for as long as it takes to find and kill it.
    (tmp_path / "npy" / f"{ids[-1]}.npy").unlink()
    os.mkfifo(tmp_path / "npy" / f"{ids[-1]}.npy")
    started = subprocess.Popen(
        command(tmp_path, "--predict_dir", "npy", "--type", "npy", "--num_workers", "2"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    workers: list[str] = []
    while len(workers) < 2 and started.poll() is None:
        time.sleep(0.05)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        workers = [child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    output, errors = started.communicate(timeout=60)
    done = subprocess.CompletedProcess(started.args, started.returncode, output, errors)
    assert_refused(done, tmp_path, "a worker process was killed")


def test_cam_and_crf_dicts_are_not_taken_for_each_other(made):
    as_cam = run(made, made, "--predict_dir", "crf", "--type", "npy", "--curve")
    assert_refused(as_cam, made, "crf/a.npy", "crf/b.npy", "crf/c.npy", "use --type crf")
    as_crf = run(made, made, "--predict_dir", "cam", "--type", "crf")
    assert_refused(as_crf, made, "cam/a.npy", "cam/b.npy", "cam/c.npy", "use --type npy")


def test_a_border_label_in_a_prediction_is_refused(made):
    save_label_map(made / "png" / "b.png", np.full((4, 6), 255, np.uint8))
    assert_refused(run(made, made, "--predict_dir", "png"), made, "png/b.png: expected labels 0 to 20, found 255")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--predict_dir", "none"), "--predict_dir none: expected a folder"),
        (("--predict_dir", "png", "--gt_dir", "none"), "--gt_dir none: expected a folder"),
        (("--predict_dir", "png", "--list", "none.txt"), "--list none.txt"),
        (("--predict_dir", "png", "--list", "empty.txt"), "the list is empty"),
        (("--predict_dir", "png", "--classes", "person", "dogg"), "--classes: expected names among background"),
        (("--predict_dir", "png", "--curve", "True"), "--curve needs CAM dicts (--type npy)"),
        (("--predict_dir", "crf", "--curve", "--type", "crf"), "--curve needs CAM dicts (--type npy)"),
        (("--predict_dir", "png", "--plot", "a.png"), "add --curve"),
        (("--predict_dir", "cam", "--type", "npy", "--curve", "--plot", "a.txt"), "ends in .png"),
        (("--predict_dir", "cam", "--type", "npy", "--t", "1.5"), "expected a number of 0 to 1, got '1.5'"),
        (("--predict_dir", "cam", "--type", "npy", "--t", "nan"), "expected a number of 0 to 1, got 'nan'"),
        (("--predict_dir", "png", "--logfile", "none/log.txt"), "--logfile none/log.txt: the folder none is not there"),
        (("--predict_dir", "png", "--logfile", "gt"), "--logfile gt: expected a file to write, found a folder"),
        (("--predict_dir", "png", "--json", "none/a.json"), "--json none/a.json: the folder none is not there"),
    ],
)
def test_flags_that_cannot_be_followed_are_refused(made, flags, message):
    (made / "empty.txt").write_text("\n")
    (made / "gt" / "a.png").write_bytes(b"damaged")  # found only by work that should not have begun
    assert_refused(run(made, made, *flags), made, message)


def test_an_old_log_is_left_alone_by_a_run_that_fails(made):
    (made / "old.txt").write_text("before\n")
    (made / "gt" / "a.png").write_bytes(b"damaged")
    assert_refused(run(made, made, "--predict_dir", "png", "--logfile", "old.txt"), made, "gt/a.png")
    assert (made / "old.txt").read_text() == "before\n"
