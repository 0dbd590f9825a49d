"""What scripts say while they work: bars on a terminal alone, one line a phase with its pace, and no colour."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from tests.scripts.conftest import ROOT, TINY, assert_succeeded, command, environment, forker

PACE = re.compile(r"in (?:[\d.]+ (?:s|min|h) )+\([\d.]+ images/s\)")
MINI = ["-m", "voc12.mini", "--out", "mini", "--train", "2", "--train_aug", "4", "--val", "2", "--test", "1"]


@pytest.fixture(scope="module")
def commands(data):
    """What is run in an empty folder, one after the other."""
    flags = {**TINY, **data.for_training(), "--work_dir": "exps", "--max_iters": 4, "--picture_every": 2}
    weights = {"--weights": "exps/hsc/hsc.pth", "--width": TINY["--width"], "--device": "cpu"}
    scoring = {"--list": data.root / "train.txt", "--gt_dir": data.root / "VOC2012" / "SegmentationClass"}
    return {
        "mini": [sys.executable, *MINI],
        "prepare": [sys.executable, "-m", "voc12.prepare", "--voc12_root", "mini/VOC2012", "--out", "lists"],
        "train": command("train_voc.py", {**flags, "--eval": (), "--val_list": data.root / "val.txt"}),
        "inference": command("inference.py", {**data.for_inference(), **weights}),
        "eval": command("eval.py", {**scoring, "--predict_dir": "exps/cam_png", "--comment": "seeds"}),
        "report": [
            *(sys.executable, "-m", "tool.report", "--run", "exps/hsc", "--data_root", str(data.images)),
            *("--list", str(data.root / "train.txt")),
        ],
    }


@pytest.fixture(scope="module")
def said(commands, tmp_path_factory):
    """What each of the commands writes where no terminal is."""
    folder = tmp_path_factory.mktemp("piped")
    outputs = {}
    for name, words in commands.items():
        done = forker().run(words[1:], folder)
        assert_succeeded(done)
        assert done.stderr == "", name  # no bars
        outputs[name] = done.stdout
    return outputs


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mini", r"wrote mini/VOC2012: 4 training images \(2 in train\), 2 for validation, 1 for test, PACE"),
        ("prepare", r"checked 7 images PACE"),
        ("train", r"trained 4 steps PACE: exps/hsc/hsc\.pth"),
        ("train", r"scored image labels of \S+ PACE: mean average precision [\d.]+ %"),
        ("inference", r"16 of 16 images inferred PACE"),
        ("eval", r"scored 8 images PACE"),
        ("report", r"wrote exps/hsc/report\.html: 8 images, [\d.]+ MB PACE"),
    ],
)
def test_a_phase_ends_with_one_line_of_its_pace(said, name, line):
    found = [text for text in said[name].splitlines() if re.fullmatch(line.replace("PACE", PACE.pattern), text)]
    assert len(found) == 1, said[name]


def test_nothing_but_whole_lines_of_text_goes_to_a_file(said):
    for name, text in said.items():
        assert text.endswith("\n") and all(line.isprintable() for line in text.splitlines()), name


def on_terminal(words, folder):
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))  # rows, columns
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT), TERM="xterm-256color", FORCE_COLOR="1"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 2**16):
            written += part
    except OSError:  # Linux says so where the other end is closed
        pass
    os.close(ours)
    assert process.wait(300) == 0, written.decode()
    return written.decode()


def what_stays(written):
    """The lines of a terminal: what comes after a carriage return is written over the line's beginning."""
    lines = []
    for line in written.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_a_terminal_shows_bars_and_keeps_what_a_file_gets_uncoloured(commands, said, tmp_path):
    for name in ("mini", "train"):
        written = on_terminal(commands[name], tmp_path)
        assert "%|" in written and "\x1b" not in written
        kept, filed = what_stays(written), said[name].split("\n")
        assert [PACE.sub("PACE", line) for line in kept] == [PACE.sub("PACE", line) for line in filed]
