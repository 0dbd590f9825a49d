"""Flags that several scripts have, and what they may be; naming it needs no torch, as computing with it does."""

from collections.abc import Sequence
from typing import Any

from tool.cli import UserError, positive
from tool.torchrun import own_cores

AMP = ("off", "bf16", "fp16")  # what the network's convolutions and products are computed in
CRF_BACKENDS = ("auto", "pydensecrf", "torch")
MAX_PIXELS = 4096  # of a side that anybody could want to train on


def add_process_flags(run: Any, *, amp: Sequence[str] = AMP) -> None:
    """Where a command that makes files of images computes its net, by how many processes, and how precisely."""
    run.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    run.add_argument("--n_gpus", type=int, help="GPUs to use; 0: the CPU (default: 1 where there is one)")
    run.add_argument(
        "--n_processes_per_gpu", type=positive, nargs="+", default=[1],
        help="network processes, one number for all GPUs, or one each (1)",
    )  # fmt: skip
    run.add_argument("--amp", choices=amp, default="off", help="the network in half precision (%(default)s)")


def add_crf_backend(group: Any) -> None:
    group.add_argument(
        "--crf_backend",
        choices=CRF_BACKENDS,
        default="auto",
        help="auto: torch on a GPU, else pydensecrf (%(default)s)",
    )


def add_crf_workers(run: Any) -> None:
    run.add_argument(
        "--crf_workers", type=positive, default=own_cores(), help="CRF processes on a CPU (its cores: %(default)s)"
    )


def check_scales(scales: Sequence[float]) -> None:
    """Raise `UserError` unless all are above 0 and at most 8."""
    if not all(0 < scale <= 8 for scale in scales):
        raise UserError(f"--scales {' '.join(map(str, scales))}: expected factors above 0, at most 8")
