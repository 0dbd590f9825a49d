"""The card and what it can do: the limits that the other parts are held against."""

import os
import platform
import subprocess

import torch
import torchvision

from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.step import product_side, product_tflops
from benchmark.gpu_parts.step import seconds as seconds_of
from tool.cli import cores


def run(bench: Bench) -> None:
    bench.note("machine", {**describe(bench), "cores": cores(), "Python": platform.python_version(), **versions()})
    side = product_side(bench)
    for name, dtype, tf32 in (
        ("product of two matrices, bf16", torch.bfloat16, False),
        ("the same, TF32", torch.float32, True),
        ("the same, float32", torch.float32, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        bench.note(f"{name}, {side} squared", {"TFLOP/s": round(product_tflops(bench, dtype), 1)})
    values = torch.empty(side * side, device=bench.device)
    seconds = seconds_of(bench, lambda: torch.empty_like(values).copy_(values), steps=10)
    bench.note("copy on the card, bytes read and written", {"GB/s": round(8 * values.numel() / seconds / 1e9)})
    host = torch.empty(side * side, pin_memory=bench.on_gpu)
    seconds = seconds_of(bench, lambda: values.copy_(host, non_blocking=True), steps=10)
    bench.note("copy to the card, pinned", {"GB/s": round(4 * values.numel() / seconds / 1e9, 1)})


def describe(bench: Bench) -> dict[str, str]:
    if not bench.on_gpu:
        return {"card": "CPU"}
    properties = torch.cuda.get_device_properties(bench.device)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.split("\n")[0].strip()
    except (OSError, subprocess.TimeoutExpired):
        driver = "unknown"
    return {"card": properties.name, "memory": f"{properties.total_memory / 2**30:.0f} GiB", "driver": driver}


def versions() -> dict[str, str]:
    cuda = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    threads = f"{torch.get_num_threads()}" + (" (OMP_NUM_THREADS)" if "OMP_NUM_THREADS" in os.environ else "")
    return {"torch": f"{torch.__version__}{cuda}", "torchvision": torchvision.__version__, "torch's threads": threads}
