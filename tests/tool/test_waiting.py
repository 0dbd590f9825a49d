"""Every script that computes says how OpenMP's threads wait before torch loads it, and does not overrule its user."""

import os
import subprocess
import sys

import pytest

from tests.scripts.conftest import ROOT

# What each imports once it has looked at its flags and files.
SCRIPTS = {
    "train_voc.py": "method.hsc.training",
    "inference.py": "method.inference",
    "segmentation/experiment/train.py": "segmentation.training",
    "segmentation/experiment/test.py": "segmentation.inference",
}
# Imports a script and what it computes by, with an eye on the first import of torch.
WATCH = """
import importlib, os, runpy, sys

class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
            raise SystemExit

sys.meta_path.insert(0, Watcher())
runpy.run_path(sys.argv[1])
importlib.import_module(sys.argv[2])
"""


@pytest.mark.parametrize(("users", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
@pytest.mark.parametrize("script", SCRIPTS)
def test_threads_do_not_spin_unless_the_user_says_so(script, users, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if users is None else {"OMP_WAIT_POLICY": users}
    words = [sys.executable, "-c", WATCH, script, SCRIPTS[script]]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected}\n"
