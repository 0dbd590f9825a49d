"""docs/add_a_method.md, followed to the letter in a copy of the clone, adds a method that keeps the contract."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from method import METHODS
from tests.scripts.conftest import ROOT, assert_succeeded, environment

PAGE = ROOT / "docs" / "add_a_method.md"
# `file`: on a line of its own, or at the end of a sentence, then the block that the file becomes.
FILES = re.compile(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clone")
    for name in (
        "benchmark",
        "method",
        "network",
        "data",
        "voc12",
        "coco14",
        "context",
        "ade",
        "stuff",
        "tool",
        "recipes",
        "tests",
        "segmentation",
    ):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    for name in ("train_voc.py", "inference.py", "eval.py", "run.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    written = dict(FILES.findall(PAGE.read_text()))
    assert len(written) == 5
    for name, content in written.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)
    return root


def run(clone: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=clone, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert_succeeded(done)
    return done.stdout


def test_the_method_keeps_the_contract(clone):
    said = run(clone, "-m", "pytest", "tests/method/test_contract.py", "-k", "compact and not processes")
    assert re.search(r"\b4 passed\b", said), said


def test_it_has_its_flags_and_its_recipe(clone):
    assert "--area_weight" in run(clone, "train_voc.py", "--method", "compact", "--help")
    assert "--area_weight" not in run(clone, "train_voc.py", "--help")
    listed = run(clone, "run.py", "compact", "--mini", "--out", "made", "--list")
    assert "train_voc.py --method compact" in listed
    # What is scored and learnt from is what inference makes.
    assert "--predict_dir made/compact/cam_npy" in listed and "--predict_dir made/compact/crf/crf_8_7" in listed
    assert "DATA_PSEUDO_GT=made/compact/crf/crf_8_7" in listed


def test_the_bench_runs_it_with_flags_that_it_has(clone):
    (clone / "training_command.py").write_text(
        """import sys
from benchmark import systems
from benchmark.system_runs import RUNS, trained
from method.arguments import parse_arguments

sys.argv = ["systems", "--voc12_root", "VOC2012", "--weights", "weights.pth", "--runs", "compact"]
args = systems.parse_arguments()
sys.argv = trained(args, "compact", 0, {}).train.words
print(parse_arguments().method, *(name for name in RUNS if name.startswith("compact_") and "super" not in name))
"""
    )
    # Its net is cls's, which has no place for eps's weights.
    assert run(clone, "training_command.py").split() == ["compact", "compact_twice", "compact_four_times"]


def test_the_other_methods_stay(clone):
    known = run(clone, "-c", "from method import METHODS; print(*METHODS)").split()
    assert known == [*METHODS, "compact"]
