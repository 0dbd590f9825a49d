"""Run one of the project's scripts with deterministic kernels: two runs that compute the same then agree to the bit.

python -m benchmark.gpu_parts.deterministic train_voc.py FLAGS
"""

import os
import runpy
import sys

import tool  # noqa: F401  # before torch

# isort: split
import torch

os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
torch.use_deterministic_algorithms(True, warn_only=True)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
