"""`benchmark.gpu` goes through all its parts on a CPU, keeps what each found, and outlives parts that fail or hang."""

import json
import os
import subprocess
import sys

import pytest
import torch

from benchmark.gpu_parts import PARTS
from benchmark.gpu_parts.golden import golden_files
from benchmark.gpu_parts.steps import inputs_of, make_batch, make_training
from method import METHODS
from method.engine import training_step
from method.learner import Moment
from tests.scripts.conftest import ROOT, forker


def run(out, *flags, **changes):
    return forker().run(["-m", "benchmark.gpu", "--out", out, *flags], ROOT, changes=changes)


def run_quickly(out, *flags, **changes):
    return run(out, "--device", "cpu", "--quick", *flags, **changes)


def test_every_part_runs_and_its_figures_are_in_json_and_table(tmp_path):
    done = run_quickly(tmp_path)
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert [part["name"] for part in report["parts"]] == list(PARTS)
    log = (tmp_path / "gpu.log").read_text()
    assert {part["name"]: part["ended"] for part in report["parts"]} == dict.fromkeys(PARTS, "well"), log[-5000:]
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split(":")[0] for line in done.stdout.splitlines()[: len(PARTS)]} == set(PARTS)
    table = (tmp_path / "gpu.md").read_text()
    for part in report["parts"]:
        assert part["entries"], part["name"]
        assert part["name"] == "machine" or f"### {PARTS[part['name']].title}\n" in table
        for entry in part["entries"]:
            assert all(f"| {value}" in table or f" {value}" in table for value in entry["figures"].values()), entry
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.log", "gpu.md"]


@pytest.mark.parametrize("method", METHODS)
def test_the_parts_train_every_method(method):
    device, side = torch.device("cpu"), 224 if method == "crt" else 64
    training = make_training(method, device, width=1 / 16, amp="off", second_view=48, frozen=False)
    losses = training_step(training, inputs_of(make_batch(2, side), method, device), Moment(0))
    assert losses["total"].isfinite()


def test_every_golden_number_that_asks_for_the_device_is_looked_at():
    asking = [path for path in (ROOT / "tests").rglob("test_*.py") if "golden_device" in path.read_text()]
    asking = {str(path.relative_to(ROOT)) for path in asking if path.parent.name != "benchmark"}
    assert len(asking) > 40 and asking <= set(golden_files())


def test_golden_tests_need_no_more_than_a_bare_machine_has(tmp_path):
    missing = ("selenium", "axe_core_python", "ot", "skimage", "pycocotools")
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules |= dict.fromkeys({missing})\n")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *golden_files()]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "error" not in done.stdout, done.stdout[-3000:]


def test_a_part_that_fails_and_one_that_takes_too_long_cost_only_themselves(tmp_path):
    (tmp_path / "empty").mkdir()
    done = run_quickly(tmp_path / "failed", "--only", "golden", "machine", GOLDEN_DIR=str(tmp_path / "empty"))
    golden, machine = json.loads((tmp_path / "failed" / "gpu.json").read_text())["parts"]
    assert done.returncode == 1 and "golden: well" in done.stdout and "NOT: " in done.stdout
    assert any(entry["holds"] is False for entry in golden["entries"])
    assert machine["ended"] == "well"

    done = run_quickly(tmp_path / "slow", "--only", "golden", "machine", "--minutes", "0.02")
    report = json.loads((tmp_path / "slow" / "gpu.json").read_text())
    assert done.returncode == 1
    golden, machine = report["parts"]
    assert golden["ended"] == "over its time"
    # There may be a core for each, and the short part may be quick enough.
    assert machine["ended"] in ("well", "over its time", "not run, no time was left")
    assert "**This part did not end well: over its time.**" in (tmp_path / "slow" / "gpu.md").read_text()


def test_a_cpu_is_refused_at_full_size(tmp_path):
    done = run(tmp_path, "--device", "cpu")
    assert done.returncode == 2 and done.stderr == "error: --device cpu: takes hours at full size; add --quick\n"


def test_a_machine_without_a_gpu_is_told_so_at_once(tmp_path):
    done = run(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: --device cuda: this machine has 0 GPUs; use --device cpu\n"
