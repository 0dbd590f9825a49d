"""run.py looks for the files of weights that its stages start from before it runs any."""

from pathlib import Path

import pytest

from tests.scripts.conftest import forker


def test_weights_that_a_later_stage_lacks_are_named_before_the_first_one_runs(tmp_path):
    (tmp_path / "VOC2012" / "JPEGImages").mkdir(parents=True)
    (tmp_path / "net.pth").write_bytes(b"\x80\x02}q\x00.")
    there = ["train.weights", "train.transformer_weights", "deeplab.MODEL_BACKBONE_WEIGHTS"]
    sets = [f"{flag}={tmp_path / 'net.pth'}" for flag in there]
    words = ["run.py", "crt", "--voc12_root", tmp_path / "VOC2012", "--out", tmp_path / "out"]
    words += ["--set", f"irn_train.weights={tmp_path / 'no.pth'}", *sets]
    done = forker().run(words, tmp_path)
    assert done.returncode == 2 and not (tmp_path / "out").exists(), done.stdout
    head, problem = done.stderr.splitlines()
    assert head.startswith("error: weights that stages start from") and head.endswith("nothing was run (1):")
    assert problem.startswith(f"  stage irn_train: --weights {tmp_path / 'no.pth'}: expected a file")
    # A run that goes on has its own.
    (tmp_path / "out" / "crt" / "irn").mkdir(parents=True)
    (tmp_path / "out" / "crt" / "irn" / "last.ckpt").touch()
    assert "nothing was run" not in forker().run([*words, "--stages", "irn_train"], tmp_path).stderr


def test_weights_that_are_left_out_are_those_of_the_scripts_default(tmp_path):
    (tmp_path / "VOC2012" / "JPEGImages").mkdir(parents=True)
    words = ["run.py", "cls", "--voc12_root", tmp_path / "VOC2012", "--out", tmp_path / "out"]
    done = forker().run([*words, "--set", "train.weights="], tmp_path)
    assert done.returncode == 2 and not (tmp_path / "out").exists(), done.stdout
    assert "stage train: --weights" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["~", "~root"])
def test_weights_in_the_home_folder_are_found_there(name, tmp_path):
    """No shell replaces the `~` of `--set train.weights=~/net.pth`."""
    (tmp_path / "VOC2012" / "JPEGImages").mkdir(parents=True)
    words = ["run.py", "cls", "--voc12_root", tmp_path / "VOC2012", "--out", tmp_path / "out", "--list"]
    words += ["--set", f"train.weights={name}/net.pth", f"deeplab.EXP_ROOT={name}/deeplab"]
    done = forker().run(words, tmp_path, changes={"HOME": str(tmp_path)})
    home = Path(name).expanduser() if name != "~" else tmp_path
    assert done.returncode == 0, done.stderr
    assert f"--weights {home / 'net.pth'}" in done.stdout and f"EXP_ROOT={home / 'deeplab'}" in done.stdout
    assert f"{home / 'deeplab'}" in next(line for line in done.stdout.splitlines() if "TEST_CKPT" in line)


def test_a_home_folder_that_is_not_there_is_one_line(tmp_path):
    done = forker().run(["run.py", "cls", "--mini", "--list", "--set", "train.weights=~nobody_here/net.pth"], tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --set train.weights=~nobody_here/net.pth: ") and "no home folder" in line
