"""Released command lines in our flags."""

import doctest
import subprocess
import sys

import pytest

from released import table
from released.table import REQUIRED, Row, translate

ROWS = [
    Row("--weights", REQUIRED, "--weights"),
    Row("--voc12_root", "VOC2012", "--data_root", "{}/JPEGImages"),
    Row("--size", ours="--resize_size", count=2),
    Row("--out", ours="--out_crf"),
    Row("--network", "network.resnet38_aff"),
]


def test_the_example_of_the_docstring_is_true():
    assert doctest.testmod(table).failed == 0


def test_flags_get_our_names_values_and_the_released_defaults():
    assert translate(ROWS, ["--weights", "a b.pth"]) == ["--weights", "a b.pth", "--data_root", "VOC2012/JPEGImages"]
    words = translate(ROWS, ["--size", "48", "64", "--voc12_root=/data/VOC", "--weights", "w", "--network", "other"])
    assert words == ["--weights", "w", "--data_root", "/data/VOC/JPEGImages", "--resize_size", "48", "64"]


def test_our_own_flags_pass_and_no_released_flag_is_guessed_from_a_part():
    words = translate(ROWS, ["--weights", "w", "--amp", "bf16", "--resume", "--voc12", "x"])
    assert words[-5:] == ["--amp", "bf16", "--resume", "--voc12", "x"] and "VOC2012/JPEGImages" in words


def test_a_flag_that_is_missing_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        translate(ROWS, [])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said == "error: the following arguments are required: --weights\n"


def test_help_says_what_each_flag_is_here(capsys):
    with pytest.raises(SystemExit):
        translate(ROWS, ["--help"])
    said = capsys.readouterr().out
    assert "--data_root VALUE/JPEGImages (VOC2012)" in " ".join(said.split()) and "decides nothing here" in said


def test_our_script_runs_with_these_words(tmp_path):
    """From any folder, and says in which words."""
    (tmp_path / "released_eval.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(table.ROOT)!r})\n"
        "from released.table import Row, run_as\n"
        'run_as("eval.py", [Row("--pred", None, "--predict_dir"), Row("--gt", "nowhere", "--gt_dir")])\n'
    )
    words = [sys.executable, "released_eval.py", "--pred", "p", "--list", "missing.txt", "--comment", "a b"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "python eval.py --predict_dir p --gt_dir nowhere --list missing.txt --comment 'a b'\n"
    assert done.returncode == 2 and "error: --list missing.txt: expected a file" in done.stderr
