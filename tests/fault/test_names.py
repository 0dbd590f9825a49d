"""Names in files and of files lead nowhere outside, run nothing, and rule neither terminal nor log."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.images import image_size
from data.labels import save_labels
from network.backbone_weights import BackboneReport, load_deeplab
from network.backbones import build_backbone
from network.deeplab import NETS
from network.weights import LoadReport
from tests.fault.commands import words_of
from tests.fault.conftest import COUNTS, settings
from tests.scripts.conftest import ROOT, TINY, contents
from tool.artifact import save_label_map
from tool.cli import UserError, printable
from tool.folder import Claim, claim_folders
from tool.log import RunLog
from tool.plot import save_curve
from tool.report.figures import loss_charts, setting_rows
from tool.report.run_folder import read_run
from voc12.classes import VOC12

EVIL = "\x1b[2J\x1b]0;owned\x07\nerror: all is well\r\u202e"
OUTSIDE = ["../evil", "../../evil", "/var/evil", "a/../../evil", "..", "\x1b[31mred", "..\\evil"]


def test_an_id_that_leaves_the_folder_is_refused_by_every_script_before_it_writes(
    commands, data, segmentation_keys, training, tmp_path, some
):
    for number, name in enumerate(some(OUTSIDE)):
        (tmp_path / str(number)).mkdir()
        assert_refused_by_all(name, commands, data, segmentation_keys, training, tmp_path / str(number))


def assert_refused_by_all(name, commands, data, segmentation_keys, training, tmp_path):
    (tmp_path / "list.txt").write_text(f"{data.ids[0]}\n{name}\n")
    for split in ("train_aug", "train", "val", "test"):
        (tmp_path / f"{split}.txt").write_text(f"{data.ids[0]}\n{name}\n")
    weights = training.folder / "exps" / "hsc" / "hsc.pth"
    work = tmp_path / "work" / "here"
    work.mkdir(parents=True)
    before = contents(tmp_path)
    keys = settings(segmentation_keys, {"DATA_LISTS": tmp_path, "TEST_CKPT": weights})
    folders = {"--predict_dir": data.images, "--gt_dir": data.images, "--comment": "x"}
    listed, width = tmp_path / "list.txt", {"--width": TINY["--width"]}
    for words in (
        words_of("train_voc.py", {**TINY, **data.for_training(), "--train_list": listed}),
        words_of("inference.py", {**data.for_inference(), **width, "--weights": weights, "--infer_list": listed}),
        words_of("eval.py", {**folders, "--list": listed}),
        words_of("segmentation/experiment/train.py", keys),
        words_of("segmentation/experiment/test.py", keys),
        ["-m", "segmentation.submission", "--results", "here", "--img_root", data.images, "--list", listed],
    ):
        COUNTS["payloads tried"] += 1
        done = commands.run(words, folder=work.parent)
        assert done.returncode == 2 and "line 2" in done.stderr, done.stderr
        assert_no_control(done.stderr + done.stdout)
    assert contents(tmp_path) == before


def assert_no_control(text):
    assert all(printable(line) == line for line in text.split("\n")), repr(text)


def small_deeplab():
    backbone = build_backbone("resnet38d", width=0.0625)
    return NETS["deeplabv1"](backbone, num_classes=2, bn_momentum=0.1, frozen_norms=True)


@pytest.mark.parametrize("report", ["classifier", "backbone", "misfit", "trained"])
def test_names_in_a_checkpoint_do_not_reach_the_terminal_or_the_log(tmp_path, report):
    COUNTS["payloads tried"] += 1
    if report == "classifier":
        text = str(LoadReport("a.pth", ["conv"], [EVIL], [EVIL]))
    elif report == "backbone":
        text = str(BackboneReport("a.pth", ["conv"], [EVIL], [EVIL]))
    else:
        torch.save({EVIL: "text" if report == "misfit" else torch.zeros(1)}, tmp_path / "a.pth")
        with pytest.raises(UserError) as raised:
            load_deeplab(small_deeplab(), tmp_path / "a.pth")
        text = str(raised.value)
    assert_no_control(text)
    assert "error: all" not in [line[:10] for line in text.split("\n")]


def test_a_hostile_record_of_settings_is_shown_on_one_line(tmp_path):
    record = tmp_path / "settings.json"
    record.write_text('{"thr": "\\u001b[2J\\nerror: all is well", "scales": "' + "x" * 10**6 + '"}')
    COUNTS["payloads tried"] += 1
    with pytest.raises(UserError) as raised:
        claim_folders([Claim(tmp_path, "--cam_npy", {"thr": 0.2, "scales": [1]})])
    assert_no_control(str(raised.value))
    assert len(str(raised.value).split("\n")) == 3 and len(str(raised.value)) < 2000


# Lines that a log of a run may have, and what is in the report's curves of each.
LINES = {
    "a step of 5000 digits": f"step {'9' * 5000}/10 cls 0.1234",
    "a loss beyond all numbers": f"step 9/10 cls {'9' * 400}.0000",
    "the largest float32": f"step 9/10 cls {'3' * 39}.0000 sal -{'3' * 39}.0000",
    "HTML as a loss's name": "step 9/10 </script><script>alert(1)</script> 1.0000",
}


@pytest.mark.parametrize("line", LINES)
def test_a_hostile_log_of_a_run_is_charted_as_far_as_it_has_numbers(tmp_path, line):
    (tmp_path / "log").write_text(
        f"2026-01-01 00:00:00 step 1/10 cls 1.0000\n2026-01-01 00:00:00 {LINES[line]}\n", encoding="utf-8"
    )
    COUNTS["payloads tried"] += 1
    for chart in loss_charts([read_run(tmp_path, "--run")]):
        assert "inf" not in str(chart) and "nan" not in str(chart)


def test_settings_nested_a_thousand_times_are_shown_at_a_lines_length(tmp_path):
    (tmp_path / "log").write_text("2026-01-01 00:00:00 step 1/10 cls 1.0000\n")
    for text in ("[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, '"' + "x" * 10**6 + '"'):
        (tmp_path / "args.json").write_text(f'{{"thr": {text}}}')
        COUNTS["payloads tried"] += 1
        assert len(str(setting_rows([read_run(tmp_path, "--run")]))) < 2000


NOT_UTF8 = os.fsdecode(b"a\xff")


def test_a_name_that_is_not_utf8_is_logged_and_drawn_escaped(tmp_path):
    log = RunLog(tmp_path)
    log.line(f"weights: {NOT_UTF8}")
    log.close()
    assert (tmp_path / "log").read_text(encoding="utf-8").endswith("weights: a\\udcff\n")
    save_curve(tmp_path / "curve.svg", {NOT_UTF8: [1.0, 2.0]}, thresholds=[0.0, 0.5])
    COUNTS["payloads tried"] += 2


HTML = "<img src=x onerror=alert(1)>"


def test_ids_of_html_and_format_strings_stay_what_they_are(commands, data, tmp_path):
    ids = [HTML, "{0.__class__}%n%s", "$(touch canary)", "`touch canary`", "=cmd|'", "--resume", "loss\u200btotal"]
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in ids))
    (tmp_path / "images").mkdir()
    (tmp_path / "saliency").mkdir()
    for name in ids:
        Image.open(data.images / f"{data.ids[0]}.jpg").save(tmp_path / "images" / f"{name}.jpg")
        Image.open(data.saliency / f"{data.ids[0]}.png").save(tmp_path / "saliency" / f"{name}.png")
        COUNTS["payloads tried"] += 1
    save_labels(tmp_path / "labels.npy", {name: np.eye(20, dtype=np.float32)[3] for name in ids})
    flags = {
        "--data_root": "images", "--saliency_root": "saliency", "--train_list": "list.txt", "--labels": "labels.npy",
        "--work_dir": "exps", "--max_iters": 2, "--log_every": 1,
    }  # fmt: skip
    done = commands.run(words_of("train_voc.py", {**TINY, **flags}), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    tags = EventAccumulator(str(tmp_path / "exps" / "hsc")).Reload().Tags()["scalars"]
    assert tags and all(re.fullmatch(r"[a-z_/]+", tag) for tag in tags)
    assert_no_control((tmp_path / "exps" / "hsc" / "log").read_text())
    assert not list(tmp_path.rglob("canary"))
    assert {path.name for path in tmp_path.iterdir()} == {"images", "saliency", "list.txt", "labels.npy", "exps"}


def test_a_strange_file_among_the_predictions_is_named_on_one_line(commands, data, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "list.txt").write_text(f"{data.ids[0]}\n")
    width, height = image_size(data.images / f"{data.ids[0]}.jpg")
    save_label_map(tmp_path / "results" / f"{data.ids[0]}.png", np.zeros((height, width), np.uint8), VOC12)
    (tmp_path / "results" / EVIL).touch()
    COUNTS["payloads tried"] += 1
    words = ["--results", "results", "--img_root", data.images, "--list", "list.txt"]
    done = commands.run(["-m", "segmentation.submission", *words], folder=tmp_path)
    assert done.returncode == 2
    assert_no_control(done.stderr)
    assert len(done.stderr.strip().split("\n")) == 2 and not (tmp_path / "results.tgz").exists()


READ_AND_WRITE = """
import locale, sys
from pathlib import Path
import jinja2
from tool.lists import read_ids
from tool.report.page import write_page
assert locale.getpreferredencoding() != "UTF-8"
assert read_ids(sys.argv[1]) == ["\\u56f3"]
try:
    write_page(Path(sys.argv[2]), {}, [])
except jinja2.UndefinedError:  # it came to the page's content
    print("read")
"""


def test_a_report_and_its_list_are_read_as_utf8_whatever_the_terminal_has(tmp_path):
    (tmp_path / "list.txt").write_text("図\n", encoding="utf-8")
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    words = [sys.executable, "-c", READ_AND_WRITE, str(tmp_path / "list.txt"), str(tmp_path / "report.html")]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout == "read\n", done.stderr
