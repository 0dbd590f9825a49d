"""One part of `benchmark.gpu`, which starts it: python -m benchmark.gpu_parts NAME --device cuda --folder DIR"""

import tool  # noqa: F401  # before torch

# isort: split
import argparse
import importlib

import torch

from benchmark.gpu_parts import PARTS
from benchmark.gpu_parts.record import Bench
from tool.cli import path_value, run_script
from tool.device import resolve_device


def main() -> None:
    parser = argparse.ArgumentParser(description="Run one part of benchmark.gpu.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", required=True)
    parser.add_argument("--folder", type=path_value, required=True, help="for its record.json and its scratch files")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    module = importlib.import_module(f"benchmark.gpu_parts.{args.part}")
    module.run(Bench(device=resolve_device(args.device), quick=args.quick, folder=args.folder))


if __name__ == "__main__":
    run_script(main)
