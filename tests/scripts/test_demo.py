"""The demo's whole chain of commands, with a handful of training steps."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from tests.scripts.conftest import ROOT, environment, run


def test_it_trains_infers_scores_segments_and_prints_where_everything_is(tmp_path):
    done = run("demo.py", {"--out": tmp_path / "demo", "--quick": (), "--methods": "hsc"})
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "demo" / "table.json").read_text())
    assert list(table["seeds"]) == ["eps", "hsc"]  # hsc starts from eps
    for method, row in table["seeds"].items():
        folder = tmp_path / "demo" / method
        assert f"{method:<9} {2:>6} {row['seed']:>10.1f} {row['threshold']:>12.2f} {row['crf']:>10.1f}" in done.stdout
        assert (folder / f"{method}.pth").is_file()
        assert (folder / "curve.png").is_file()
        assert len(list((folder / "crf" / "crf_8_7").glob("*.png"))) == (24 if method == "hsc" else 8)
    for name, text in (("seeds", "trained on hsc CRF seeds"), ("masks", "trained on the true masks")):
        assert f"{text:<26} {table['segmentation'][name]:>6.1f}" in done.stdout
        assert len(list((tmp_path / "demo" / f"deeplab_{name}" / "results").rglob("*.png"))) == 4
    assert str(tmp_path / "demo") in done.stdout
    assert "--comment 'hsc: seeds'" in done.stdout  # its commands can be copied
    stages = [(int(number), int(count)) for number, count in re.findall(r"stage (\d+) of (\d+): ", done.stdout)]
    assert sorted(stages) == [(number, len(stages)) for number in range(1, len(stages) + 1)]


def test_a_demo_that_is_terminated_ends_the_command_that_it_runs(tmp_path):
    demo = subprocess.Popen(
        [sys.executable, str(ROOT / "demo.py"), "--out", str(tmp_path / "demo")],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    unfinished = tmp_path / "demo" / "data" / ".VOC2012.tmp"
    while not unfinished.exists():  # its first command draws images for some seconds
        assert demo.poll() is None
        time.sleep(0.01)
    demo.terminate()
    errors = demo.communicate(timeout=60)[1]
    assert demo.returncode == 143
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
    assert not unfinished.with_name("VOC2012").exists()
