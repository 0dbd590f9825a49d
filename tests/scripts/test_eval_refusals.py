"""`eval.py` stops with one clear message on every input that it should not score, and writes nothing then."""

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

from tests.processes import children
from tests.scripts.eval_inputs import ROOT, assert_refused, command, make_images, many_times, run
from tool.artifact import load_label_map, save_cam, save_crf, save_label_map
from tool.colour import voc_palette
from voc12.classes import VOC12


@pytest.fixture
def made(tmp_path):
    return make_images(tmp_path)


@pytest.fixture
def folder(golden):
    return golden / "eval"


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
        save_label_map(made / "gt" / f"{image_id}.png", target, VOC12)
        save_cam(made / "cam" / f"{image_id}.npy", {1: np.ones((4, 6), np.float32)}, VOC12)

    def cam(number):
        return made / "cam" / f"image {number}.npy"

    def truth(number):
        return made / "gt" / f"image {number}.png"

    save_cam(cam(0), {1: np.ones((6, 4), np.float32)}, VOC12)
    save_crf(cam(1), {0: np.full((4, 6), 0.5, np.float32), 5: np.full((4, 6), 0.5, np.float32)}, VOC12)
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
    many_times(tmp_path, folder.resolve(), 40)
    started = subprocess.Popen(
        command(tmp_path, "--predict_dir", "npy", "--type", "npy", "--num_workers", "2"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stopped: set[int] = set()  # as soon as they appear, so that their work is not done before they are killed
    while len(stopped) < 2 and started.poll() is None:
        time.sleep(0.005)
        # The pool's processes are forked from a child of the command's.
        for child in {child for own in children(started.pid) for child in children(own)}:
            os.kill(child, signal.SIGSTOP)
            stopped.add(child)
    for child in stopped:
        os.kill(child, signal.SIGKILL)
    output, errors = started.communicate(timeout=60)
    done = subprocess.CompletedProcess(started.args, started.returncode, output, errors)
    assert_refused(done, tmp_path, "a worker process was killed", "; it was at ", "; nothing was scored")


def test_cam_and_crf_dicts_are_not_taken_for_each_other(made):
    as_cam = run(made, made, "--predict_dir", "crf", "--type", "npy", "--curve")
    assert_refused(as_cam, made, "crf/a.npy", "crf/b.npy", "crf/c.npy", "--type crf")
    as_crf = run(made, made, "--predict_dir", "cam", "--type", "crf")
    assert_refused(as_crf, made, "cam/a.npy", "cam/b.npy", "cam/c.npy", "--type npy")


def test_what_is_no_file_is_named_and_not_waited_for(made):
    for path in (made / "gt" / "b.png", made / "png" / "c.png"):
        path.unlink()
        os.mkfifo(path)
    done = run(made, made, "--predict_dir", "png")
    assert_refused(done, made, "gt/b.png: a pipe or a device", "png/c.png: a pipe or a device", "(2)")


def test_ground_truth_without_any_labelled_pixel_is_refused(made):
    for path in (made / "gt").iterdir():
        save_label_map(path, np.full((4, 6), 255, np.uint8), VOC12)
    assert_refused(run(made, made, "--predict_dir", "png"), made, f"{made / 'gt'}: ", "all are 255")


def test_a_border_label_in_a_prediction_is_refused(made):
    save_label_map(made / "png" / "b.png", np.full((4, 6), 255, np.uint8), VOC12)
    assert_refused(run(made, made, "--predict_dir", "png"), made, "png/b.png: expected labels 0 to 20, found 255")


def test_masks_of_colours_and_with_another_border_are_refused_with_the_command_that_mends_them(made):
    palette, truth = voc_palette(), load_label_map(made / "gt" / "a.png", VOC12)
    Image.fromarray(palette[truth]).save(made / "gt" / "a.png")
    Image.fromarray(np.full((4, 6), 21, np.uint8)).save(made / "gt" / "b.png")
    done = run(made, made, "--predict_dir", "png")
    advice = ("found RGB colours; python -m voc12.relabel makes", "python -m voc12.relabel --border 21 makes it 255")
    assert_refused(done, made, "gt/a.png", "gt/b.png", *advice)
    mend = [sys.executable, "-m", "voc12.relabel", "--masks", made / "gt", "--border", "21", "--out", made / "mended"]
    subprocess.run(mend, cwd=ROOT, check=True, capture_output=True)
    assert run(made, made, "--predict_dir", "png", "--gt_dir", made / "mended").returncode == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--predict_dir", "none"), "--predict_dir none: expected a folder"),
        (("--predict_dir", "png", "--gt_dir", "none"), "--gt_dir none: expected a folder"),
        (("--predict_dir", "png", "--list", "none.txt"), "--list none.txt"),
        (("--predict_dir", "png", "--list", "empty.txt"), "the list is empty"),
        (("--predict_dir", "png", "--classes", "person", "dogg"), "--classes: expected names among background"),
        (("--predict_dir", "png", "--classes", ""), "--classes: expected names among background"),
        (("--predict_dir", "png", "--curve", "True"), "--curve needs CAM dicts (--type npy)"),
        (("--predict_dir", "crf", "--curve", "--type", "crf"), "--curve needs CAM dicts (--type npy)"),
        (("--predict_dir", "png", "--plot", "a.png"), "add --curve"),
        (("--predict_dir", "cam", "--type", "npy", "--wrong_255"), "--wrong_255 is for label maps (--type png)"),
        (("--predict_dir", "cam", "--type", "npy", "--background_255"), "--background_255 is for label maps (--type"),
        (("--predict_dir", "png", "--wrong_255", "--background_255"), "--background_255: --wrong_255 counts 255 in"),
        (("--predict_dir", "cam", "--type", "npy", "--curve", "--plot", "a.txt"), "ends in .png"),
        (("--predict_dir", "cam", "--type", "npy", "--t", "1.5"), "expected a number of 0 to 1, got '1.5'"),
        (("--predict_dir", "cam", "--type", "npy", "--t", "nan"), "expected a number of 0 to 1, got 'nan'"),
        (("--predict_dir", "png", "--logfile", "none/log.txt"), "--logfile none/log.txt: the folder none is not there"),
        (("--predict_dir", "png", "--logfile", "gt"), "--logfile gt: expected a file to write, found a folder"),
        (("--predict_dir", "png", "--json", "none/a.json"), "--json none/a.json: the folder none is not there"),
        (("--predict_dir", "png", "--json", "pipe"), "--json pipe: expected a file to write, found a pipe"),
        (("--predict_dir", "png", "--json", "/dev/null"), "--json /dev/null: expected a file to write, found a pipe"),
        (("--predict_dir", "png", "--json", "x" * 4000), "x: expected a file to write, found a path that cannot be"),
        (("--predict_dir", "png", "--logfile", "x/" * 2500), "found a path that cannot be followed (File name too"),
        (("--predict_dir", "png", "--json", "log.txt"), "--json log.txt: expected a file of its own, found that of"),
        (
            ("--predict_dir", "png", "--json", "link"),
            "--json link: expected a file of its own, found that of --logfile",
        ),
        (("--predict_dir", "png", "--json", "list.txt"), "--json list.txt: expected a file of its own, found that of"),
        (
            ("--predict_dir", "cam", "--type", "npy", "--curve", "--json", "a.png", "--plot", "./a.png"),
            "--plot a.png: expected a file of its own, found that of --json",
        ),
        (("--predict_dir", "png", "--list", "pipe"), "--list pipe: expected a file (a list"),
        (("--predict_dir", os.fsdecode(b"\xff")), r"--predict_dir \udcff: expected a folder"),
        (("--predict_dir", "x" * 4000), "found a path that cannot be followed (File name too long)"),
        (("--predict_dir", ""), "--predict_dir: expected a path, found nothing; the current folder is ."),
    ],
)
def test_flags_that_cannot_be_followed_are_refused(made, flags, message):
    (made / "empty.txt").write_text("\n")
    (made / "link").symlink_to("log.txt")
    os.mkfifo(made / "pipe")
    (made / "gt" / "a.png").write_bytes(b"damaged")  # found only by work that should not have begun
    assert_refused(run(made, made, *flags), made, message)


def test_an_old_log_is_left_alone_by_a_run_that_fails(made):
    (made / "old.txt").write_text("before\n")
    (made / "gt" / "a.png").write_bytes(b"damaged")
    assert_refused(run(made, made, "--predict_dir", "png", "--logfile", "old.txt"), made, "gt/a.png")
    assert (made / "old.txt").read_text() == "before\n"
