"""A training step of HSC: the plain way against ours in each precision, what HSC's terms take, the loader's pace."""

import gc
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark import plain
from benchmark.generated import generate
from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.steps import Batch, inputs_of, make_batch, make_training
from benchmark.loader_times import load
from benchmark.timing import mean_seconds
from data.augmentation import TrainingAugmentation
from data.labels import load_labels
from data.training import TrainingSet
from method.engine import training_step
from method.hsc.criterion import HSCCriterion
from tool.lists import read_ids
from tool.torchrun import own_cores
from tool.training import Training
from voc12.classes import VOC12

KERNELS_SHOWN = 12


class PlainCriterion(HSCCriterion):
    """The same losses with the contrast's terms by loops, and pseudo labels made on the CPU, as public code does."""

    def pseudo_labels(self, cam, label, image):
        return super().pseudo_labels(cam.cpu(), label.cpu(), image.cpu()).to(cam.device)

    def contrast_terms(self, feat_pixel, feat_region, cam, score, pseudo, label):
        banks = [self.banks.region_bank, self.banks.class_bank, self.banks.pixel_bank]
        return plain.contrast_terms(feat_pixel, feat_region, cam, score, pseudo, label, banks)


def run(bench: Bench) -> None:
    width, crop, view, images = (1 / 16, 64, 48, 2) if bench.quick else (1.0, 448, 128, 12)
    batch = make_batch(images, crop)

    def measure(
        what: str,
        *,
        amp: str = "off",
        plainly: bool = False,
        compiled: bool = False,
        without: tuple[str, ...] = (),
    ) -> dict:
        training = make_training(
            "hsc", bench.device, width=width, amp=amp, second_view=view, without=without, compiled=compiled
        )
        if plainly:
            learner = training.objective
            plainly_made = PlainCriterion(
                learner.criterion.config, num_classes=VOC12.num_classes, region_channels=learner.net.region_channels
            )
            learner.criterion = plainly_made.to(bench.device)
            learner.net.to(memory_format=torch.contiguous_format)
        figures = measured(bench, training, batch)
        bench.note(what, figures)
        return figures

    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default; its matrix products are in float32
    slow = measure("plain way: loops over classes, CRF on the CPU, channels first, TF32", plainly=True)
    ours = measure("ours, TF32 (the default)")
    measure("ours, fp16", amp="fp16")
    half = measure("ours, bf16", amp="bf16")
    rest = measure("ours, bf16, without HSC's terms", amp="bf16", without=("rsc", "csc", "psc"))
    times = slow["ms a step"] / half["ms a step"]
    bench.goal("ours in bf16 against the plain way", "2.5 times", times >= 2.5, {"times faster": round(times, 2)})
    times = slow["ms a step"] / ours["ms a step"]
    bench.note("ours in TF32 against the plain way", {"times faster": round(times, 2)})
    share = round(100 * (1 - rest["ms a step"] / half["ms a step"]), 1)
    bench.goal("HSC's terms in a bf16 step", "under 10 %", share < 10, {"HSC's terms, %": share})
    limit = count_tflop(bench, batch, width, view) / product_tflops(bench, torch.bfloat16) * 1000
    best = half["ms a step"]
    figures = {"ms a step": best, "the card's limit, ms": round(limit, 1), "times the limit": round(best / limit, 2)}
    bench.goal("the card's limit in bf16", "within 3 times", best <= 3 * limit, figures)
    profile(bench, batch, width, view)
    loader_pace(bench)
    if bench.on_gpu:  # last: compiling takes a minute
        measure("ours, bf16, compiled", amp="bf16", compiled=True)


def measured(bench: Bench, training: Training, batch: Batch, method: str = "hsc") -> dict:
    """Pace and peak memory of whole steps, and how long the host takes to start one's work."""
    inputs = inputs_of(batch, method, bench.device)
    gc.collect()  # what an earlier net left
    bench.peak_memory()
    step = seconds(bench, lambda: training_step(training, inputs), steps=1 if bench.quick else 12)
    start = time.perf_counter()
    training_step(training, inputs)
    host = time.perf_counter() - start
    return {
        "images/s": round(len(batch["id"]) / step, 2),
        "ms a step": round(1000 * step, 1),
        "of the host alone, ms": round(1000 * host, 1),
        **bench.peak_memory(),
    }


def seconds(bench: Bench, work, *, steps: int) -> float:
    """Seconds of `work`, the mean of `steps`, after as many as a compiled net and cuDNN need to settle."""
    return mean_seconds(work, bench.device, times=steps, settling=0 if bench.quick else 3)


def product_tflops(bench: Bench, dtype: torch.dtype) -> float:
    """TFLOP/s of the product of two large matrices, the most that a card does."""
    side = product_side(bench)
    a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    return 2 * side**3 / seconds(bench, lambda: a @ b, steps=10) / 1e12


def product_side(bench: Bench) -> int:
    return 8192 if bench.on_gpu and not bench.quick else 256


def count_tflop(bench: Bench, batch: Batch, width: float, view: int) -> float:
    """The arithmetic of a step, counted as it runs."""
    training = make_training("hsc", bench.device, width=width, amp="bf16", second_view=view)
    inputs = inputs_of(batch, "hsc", bench.device)
    with FlopCounterMode(display=False) as counter:
        training_step(training, inputs)
    tflop = counter.get_total_flops() / 1e12
    bench.note("arithmetic of a step, counted", {"TFLOP": round(tflop, 2)})
    return tflop


def profile(bench: Bench, batch: Batch, width: float, view: int) -> None:
    """What takes the time of a bf16 step on the GPU."""
    if not bench.on_gpu:
        return
    training = make_training("hsc", bench.device, width=width, amp="bf16", second_view=view)
    inputs = inputs_of(batch, "hsc", bench.device)
    note_profile(bench, lambda: training_step(training, inputs), "bf16 step")


def note_profile(bench: Bench, work, what: str, *, repeats: int = 3) -> None:
    """The kernels that take the most time of `work` on the GPU, and how long the GPU is busy at all."""
    work()
    bench.synchronize()
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities()), acc_events=True) as profiler:
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        bench.synchronize()
        elapsed = time.perf_counter() - start
    events = [event for event in profiler.key_averages() if not event.is_user_annotation]
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.self_device_time_total for event in kernels) / 1e6
    bench.note(
        f"profile of a {what}: the GPU computes",
        {"ms": round(1000 * busy / repeats, 2), "%": round(100 * busy / elapsed, 1)},
    )
    for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:KERNELS_SHOWN]:
        milliseconds = event.self_device_time_total / 1000 / repeats
        figures = {"ms": round(milliseconds, 2), "calls": round(event.count / repeats, 1)}
        bench.note(f"  `{event.key[:160].replace('`', ' ')}`", figures)


def loader_pace(bench: Bench) -> None:
    """Images a second that the loader's processes give, beside what a step takes."""
    count, size, workers = (4, 96, 1) if bench.quick else (48, 500, min(12, own_cores()))
    data = generate(bench.folder / "loader", size=size, train=1, train_aug=count)
    dataset = TrainingSet(
        {name: data.images / f"{name}.jpg" for name in read_ids(data.train_aug, "--train_list")},
        saliency_root=data.saliency,
        labels=load_labels(data.labels, VOC12),
        augmentation=TrainingAugmentation(crop_size=64 if bench.quick else 448),
        seed=0,
    )
    pace, _ = load(dataset, batch_size=4 if bench.quick else 12, steps=2 if bench.quick else 30, num_workers=workers)
    bench.note(f"the loader alone, {workers} processes", {"images/s": round(pace, 1)})
