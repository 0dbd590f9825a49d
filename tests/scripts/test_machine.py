"""Limits of the machine that the scripts meet: one line that names the limit and the need, and whose advice works."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data.labels import save_labels
from tests.scripts.conftest import (
    ROOT,
    STEPS_OF_RUN,
    TINY,
    WIDTH,
    assert_refused,
    assert_succeeded,
    environment,
    forker,
    words_of,
)
from tool.artifact import save_label_map
from voc12.classes import VOC12

SEGMENTATION = {
    "MODEL_BACKBONE": "resnet38d",
    "MODEL_BACKBONE_WIDTH": WIDTH,
    "MODEL_BACKBONE_PRETRAIN": False,
    "TRAIN_BATCHES": 16,
    "TRAIN_ITERATION": 1,
    "DATA_RANDOMCROP": 96,
}
# What a command does before its own work.
LIMITED = "import resource; resource.setrlimit(resource.{name}, ({size}, {size}))"
LITTLE_SHARED_MEMORY = """
import ctypes, subprocess
assert ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS: mounts of its own
for words in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"]):
    subprocess.run(["mount", *words], check=True)
"""
THEN_RUN = "\nimport runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def run_under(before, words):
    """Run the words of a script after the code `before`, in the same process."""
    return forker().run(["-c", before + THEN_RUN, *words], ROOT)


def run_anew(words, **changes):
    """Run `python words ...` in a process that imports all anew."""
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment(**changes), capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def with_little_shared_memory():
    """The code before a command that gives it a /dev/shm of 1 MB."""
    if forker().run(["-c", LITTLE_SHARED_MEMORY], ROOT).returncode:
        pytest.skip("NOT TESTED: little shared memory, as no file system can be mounted here")
    return LITTLE_SHARED_MEMORY


@pytest.fixture
def training(data, tmp_path):
    """The words of stage 1's training with loader processes; 24 batches of 16 x 16,384 x 4 bytes are loaded."""
    flags = {**TINY, **data.for_training(), **STEPS_OF_RUN, "--work_dir": tmp_path / "exps", "--crop_size": 128}
    return ["train_voc.py", *words_of({**flags, "--max_iters": 2, "--num_workers": 4})]


def test_shared_memory_too_small_for_training_is_named_before_it_starts(training, with_little_shared_memory, tmp_path):
    done = run_under(with_little_shared_memory, training)
    assert_refused(
        done, "shared memory (/dev/shm) has 1 MB free", "loader processes (--num_workers) fill 2 MB (2 batches of 1 MB)"
    )
    for advice in ("--num_workers 0", "docker run --shm-size=8g", "--ipc=host"):
        assert advice in done.stderr
    assert not (tmp_path / "exps").exists()
    assert_succeeded(run_under(with_little_shared_memory, [*training, "--num_workers", "0"]))


def test_shared_memory_too_small_for_stage_3_is_named_before_it_starts(data, with_little_shared_memory, tmp_path):
    voc = data.root / "VOC2012"
    paths = {
        "DATA_ROOT": voc,
        "DATA_LISTS": data.root,
        "DATA_PSEUDO_GT": voc / "SegmentationClassAug",
        "EXP_ROOT": tmp_path / "exps",
    }
    settings = [f"{key}={value}" for key, value in {**SEGMENTATION, **paths, "EXP_NAME": "new"}.items()]
    words = ["segmentation/experiment/train.py", "--set", *settings]
    done = run_under(with_little_shared_memory, words)
    assert_refused(
        done, "shared memory (/dev/shm) has 1 MB free", "loader processes (DATA_WORKERS) fill 3 MB (1 batches of 3 MB)"
    )
    assert "DATA_WORKERS=0 in stage 3" in done.stderr
    assert not (tmp_path / "exps").exists()
    assert_succeeded(run_under(with_little_shared_memory, [*words, "DATA_WORKERS=0"]))


def test_too_few_open_files_are_named_before_training_starts(training, tmp_path):
    done = run_under(LIMITED.format(name="RLIMIT_NOFILE", size=20), training)
    assert_refused(
        done, "ulimit -n: 20 files may be open at once", "loader processes (--num_workers) need", "--num_workers 0"
    )
    assert not (tmp_path / "exps").exists()


def test_a_folder_for_temporary_files_that_loaders_cannot_use_is_named_before_training_starts(training, tmp_path):
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    done = run_anew(training, TMPDIR=str(folder))  # Python looks at it once
    assert_refused(done, "no folder for temporary files", "set TMPDIR")
    assert not (tmp_path / "exps").exists()


def test_memory_too_small_for_an_image_names_the_image_and_its_size(undisturbed, tmp_path):
    Image.new("RGB", (6500, 6500)).save(tmp_path / "big.jpg")  # eight times as large it has more pixels than memory
    (tmp_path / "list.txt").write_text("big\n")
    save_labels(tmp_path / "labels.npy", {"big": np.eye(20, dtype=np.float32)[0]})
    flags = {
        **{"--weights": undisturbed / "hsc.pth", "--width": WIDTH, "--device": "cpu", "--work_dir": tmp_path / "exps"},
        **{"--infer_list": tmp_path / "list.txt", "--img_root": tmp_path, "--labels": tmp_path / "labels.npy"},
    }
    before = LIMITED.format(name="RLIMIT_AS", size=8 * 10**9)
    done = run_under(before, ["inference.py", *words_of({**flags, "--scales": 8})])
    assert_refused(
        done, f"{tmp_path / 'big.jpg'}, 6500 x 6500 pixels: the memory is too small", "ulimit -v gives a process"
    )
    for advice in ("--scales", "--n_processes_per_gpu", "--crf_workers"):
        assert advice in done.stderr


def test_memory_too_small_for_a_score_names_the_file(tmp_path):
    for folder in ("predicted", "truth"):
        (tmp_path / folder).mkdir()
        save_label_map(tmp_path / folder / "big.png", np.zeros((9000, 9000), np.uint8), VOC12)
    (tmp_path / "list.txt").write_text("big\n")
    flags = {
        "--list": "list.txt",
        "--predict_dir": "predicted",
        "--gt_dir": "truth",
        "--comment": "big",
        "--logfile": "log",
    }
    flags = {flag: tmp_path / value for flag, value in flags.items()}
    words = ["-c", LIMITED.format(name="RLIMIT_AS", size=10**9) + THEN_RUN, "eval.py", *words_of(flags)]
    done = run_anew(words)  # the process that forks takes more by itself
    assert_refused(done, f"{tmp_path / 'predicted' / 'big.png'}: the memory is too small", "--num_workers")
    assert not (tmp_path / "log").exists()
