"""CRT's localisation commands as tables onto ours: the YAML, the pairs behind it, and what is refused."""

import shlex

import pytest

from tests.scripts.conftest import forker

YAML = """\
BASIC: {SEED: 26, NUM_WORKERS: 2}
DATA: {DATASET: CUB, DATADIR: nowhere, RESIZE_SIZE: 256, CROP_SIZE: 224}
MODEL: {ARCH: deit_tscam_small_patch16_224, CAM_THR: 0.3}
SOLVER: {START_LR: 0.001, LR_STEPS: [30, 50], NUM_EPOCHS: 60, WEIGHT_DECAY: 5.0e-4}
TRAIN: {BATCH_SIZE: 64}
TEST: {BATCH_SIZE: 128}
"""
# Nine lines that stand for ten to the power of eight entries.
BOMB = "".join(
    f"{c}: &{c} {{{', '.join(f'k{n}: {v}' for n in range(10))}}}\n"
    for c, v in zip("abcdefghi", ["1", *(f"*{c}" for c in "abcdefgh")], strict=True)
)
FILES = ["--transformer_weights", "none", "--weights", "none"]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "crt.yaml").write_text(YAML)

    def started(name, *words):
        done = forker().run([f"released/crt_cub/{name}.py", "--config_file", tmp_path / "crt.yaml", *words], tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        return done

    return started


def flags(done):
    """Of the command that is printed, and that misses its data."""
    (line,) = done.stdout.splitlines()
    return shlex.split(line)[1:]


def test_training_takes_the_yaml_and_what_stands_behind_it(run):
    done = run("train_cam", "--lr", "1e-4", *FILES, "MODEL.CAM_THR", "0.1", "SOLVER.LR_STEPS", "[20,40]")
    script, *words = flags(done)
    assert script == "localise/train.py" and "--cub_root nowhere: expected a folder" in done.stderr
    text = " ".join(words)
    for part in ("--lr 1e-4", "--seed 26", "--cub_root nowhere", "--transformer deit_small_patch16_224"):
        assert part in text
    for part in ("--cam_thr 0.1", "--lr_epochs 20 40", "--batch_size 64", "--test_batch_size 128", "--weights none"):
        assert part in text
    assert "0.001" not in text and "5e-4" not in text and "0.0005" not in text


def test_test_takes_the_file_as_resume(run, tmp_path):
    (tmp_path / "net.pth").write_bytes(b"\x80\x02")
    done = run("test_cam", "--resume", "net.pth", "MODEL.CAM_THR", "0.1")
    script, *words = flags(done)
    assert script == "localise/test.py" and "--cub_root nowhere: expected a folder" in done.stderr
    text = " ".join(words)
    assert "--weights net.pth" in text and "--batch_size 128" in text and "--cam_thr 0.1" in text
    assert "--resume" not in text and "--seed" not in text
    assert "required: --resume" in run("test_cam").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["MODEL.CAMTHR", "0.1"], "MODEL.CAMTHR: unknown key; did you mean MODEL.CAM_THR?"),
        (["DATA.CROP_SIZE", "448"], "DATA.CROP_SIZE: expected 224, found '448'"),
        (["DATA.DATASET", "ILSVRC"], "DATA.DATASET: expected CUB, found 'ILSVRC'"),
    ],
)
def test_a_key_that_means_nothing_here_is_refused(run, words, said):
    done = run("train_cam", *words)
    assert said in done.stderr and not done.stdout


@pytest.mark.parametrize("content", ["- 1\n", "a: [1\n", "SOLVER: {LR: 1}\n", "a: &a {b: *a}\n", BOMB])
def test_a_yaml_with_other_content_is_refused(run, tmp_path, content):
    (tmp_path / "crt.yaml").write_text(content)
    done = run("train_cam")
    assert done.stderr.startswith("error: ") and not done.stdout
