"""Every method trains in half precision, and compiled, as it does in float32: its losses over some steps."""

import torch

from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.steps import inputs_of, make_batch, make_training, method_config
from method.hsc.config import METHODS
from method.hsc.engine import training_step

TOLERANCE = 0.03


def run(bench: Bench) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    ways = {"float32": ("off", False), "bf16": ("bf16", False), "fp16": ("fp16", False)}
    if bench.on_gpu:
        ways["bf16, compiled"] = ("bf16", True)
    for method in ("hsc",) if bench.quick else METHODS:
        expected = None
        for way, (amp, compiled) in ways.items():
            found = mean_losses(bench, method, amp=amp, compiled=compiled)
            expected = expected or found
            apart = abs(found["total"] / expected["total"] - 1)
            worst = max(found, key=lambda name: abs(found[name] / expected[name] - 1))
            figures = {
                "total": round(found["total"], 4),
                "apart, %": round(100 * apart, 2),
                "the term most apart": f"{worst}, {100 * abs(found[worst] / expected[worst] - 1):.1f} %",
            }
            bench.check(f"{method}, {way}", apart <= TOLERANCE, figures, goal="within 3 % of float32")


def mean_losses(bench: Bench, method: str, *, amp: str, compiled: bool) -> dict[str, float]:
    """The mean of each loss over the steps."""
    width, crop, view, images, steps = (1 / 16, 64, 48, 2, 2) if bench.quick else (0.25, 224, 128, 12, 30)
    config = method_config(method, second_view=view)
    training = make_training(config, bench.device, width=width, amp=amp, compiled=compiled, frozen=False)
    batches = [inputs_of(make_batch(images, crop, seed=seed), config, bench.device) for seed in range(4)]
    losses = [training_step(training, **batches[step % len(batches)]) for step in range(steps)]
    names = [name for name in losses[0] if "/" not in name]  # not what is only watched
    return {name: float(torch.stack([each[name] for each in losses]).mean()) for name in names}
