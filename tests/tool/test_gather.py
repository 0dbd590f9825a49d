"""Sums of rows: the GPU's kernel gives what PyTorch gives, and where it cannot be compiled PyTorch computes."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from tool.crf.gather import gather_kernel
from tool.places import ROOT


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="this PyTorch comes without Triton")
def test_the_kernel_sums_what_pytorch_sums():
    done = subprocess.run(
        [sys.executable, "-m", "tests.tool.interpreted_gather"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without a GPU")
def test_without_a_gpu_there_is_no_kernel():
    assert gather_kernel(torch.device("cuda", 1)) is None
