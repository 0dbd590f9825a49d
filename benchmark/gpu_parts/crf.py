"""The tensor CRF on the device against one core: pydensecrf where it is there, else our own on the CPU."""

import importlib.util
import time

import torch

from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.step import note_profile, seconds
from benchmark.photographs import photographs, scores
from tool.crf import crf_from_probability
from tool.crf.mean_field import mean_field
from tool.seed_recipe import MASK_KERNELS, SEED_KERNELS, CRFKernels
from voc12.classes import VOC12

ITERATIONS = 10
# By the number of labels: of a seed, of VOC, of COCO.
KERNELS = {3: SEED_KERNELS, VOC12.num_labels: MASK_KERNELS, 81: MASK_KERNELS}


def run(bench: Bench) -> None:
    torch.set_num_threads(1)  # core against GPU
    size = (48, 64) if bench.quick else (375, 500)
    backend = "pydensecrf" if importlib.util.find_spec("pydensecrf") else "torch"
    for labels, kernels in KERNELS.items():
        one_core = on_one_core(labels, kernels, size, backend)
        for count in (1, 2) if bench.quick else (1, 8, 16):
            work = batch_work(bench, count, labels, kernels, size)
            bench.peak_memory()
            milliseconds = 1000 * seconds(bench, work, steps=1 if bench.quick else 5) / count
            figures = {
                "ms an image": round(milliseconds, 2),
                f"one core ({backend}), ms": round(one_core),
                "times faster": round(one_core / milliseconds, 1),
                **bench.peak_memory(),
            }
            what = f"{labels} labels, {count} at once"
            bench.goal(what, "20 times", figures["times faster"] >= 20, figures)
    if bench.on_gpu:
        for labels, count in ((3, 1), (3, 8), (VOC12.num_labels, 1)):
            work = batch_work(bench, count, labels, KERNELS[labels], size)
            note_profile(bench, work, f"CRF of {labels} labels, {count} at once")


def on_one_core(labels: int, kernels: CRFKernels, size: tuple[int, int], backend: str) -> float:
    """Milliseconds an image."""
    pair = torch.from_numpy(photographs(1, size)[0]), torch.from_numpy(scores(1, labels, size)[0])
    best = float("inf")
    for _ in range(2 if labels < 81 else 1):  # of so many it takes 8 s
        start = time.perf_counter()
        crf_from_probability(*pair, kernels=kernels, iterations=ITERATIONS, backend=backend)
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def batch_work(bench: Bench, count: int, labels: int, kernels: CRFKernels, size: tuple[int, int]):
    """The CRF of `count` images at once, lattice and all, on the device."""
    images = torch.from_numpy(photographs(count, size)).to(bench.device)
    unary = -torch.from_numpy(scores(count, labels, size)).clamp(1e-5, 1).log().to(bench.device)
    return lambda: mean_field(images, unary, kernels=kernels, iterations=ITERATIONS).argmax(dim=1)
