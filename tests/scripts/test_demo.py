"""The demo's whole chain of commands, with a handful of training steps."""

import json
import subprocess
import sys

from tests.scripts.conftest import ROOT, environment


def run_demo(out):
    command = [sys.executable, str(ROOT / "demo.py"), "--out", str(out), "--quick", "--methods", "cls", "hsc"]
    return subprocess.run(command, env=environment(threads=2), capture_output=True, text=True, timeout=600)


def test_it_trains_infers_scores_and_prints_where_everything_is(tmp_path):
    done = run_demo(tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "demo" / "table.json").read_text())
    assert list(table) == ["cls", "eps", "hsc"]  # hsc starts from eps
    for method, row in table.items():
        folder = tmp_path / "demo" / method
        assert f"{method:<9} {row['seed']:>10.1f} {row['threshold']:>12.2f} {row['crf']:>10.1f}" in done.stdout
        assert (folder / f"{method}.pth").is_file()
        assert (folder / "curve.png").is_file()
        assert len(list((folder / "crf" / "crf_8_7").glob("*.png"))) == 8
    assert str(tmp_path / "demo") in done.stdout
