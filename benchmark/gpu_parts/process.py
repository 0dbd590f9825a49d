"""The process of a part of `benchmark.gpu`."""

import tool  # noqa: F401  # before torch

# isort: split
import ctypes
import importlib
import os
import signal
from contextlib import suppress
from pathlib import Path

import torch

from benchmark.gpu_parts import PARTS
from benchmark.gpu_parts.record import Bench
from tool.cli import run_script
from tool.command import PR_SET_PDEATHSIG
from tool.device import resolve_device

# Once, for all that are forked from here. A part that cannot be imported says so when it is run.
for part in PARTS:
    with suppress(Exception):
        importlib.import_module(f"benchmark.gpu_parts.{part}")


def run_part(name: str, *, device: str, quick: bool, folder: Path, threads: int | None) -> None:
    """Run the part `name` in this process, which leads a group of its own from here on, and ends if its parent does.

    Args:
        folder: for its log, its record.json and its scratch files.
        threads: of torch here and in the commands that the part runs; None: as many as they take by themselves.
    """
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    for source, descriptor in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(source, descriptor)
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = importlib.import_module(f"benchmark.gpu_parts.{name}")
    run_script(lambda: module.run(Bench(device=resolve_device(device), quick=quick, folder=folder)))
