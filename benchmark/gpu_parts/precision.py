"""Every method trains in half precision, and compiled, as it does in float32: its losses over some steps."""

import torch

from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.steps import inputs_of, make_batch, make_training
from method import METHODS
from method.engine import training_step
from method.learner import Moment

TOLERANCE = 0.03


def run(bench: Bench) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    ways = {"float32 again": "off", "bf16": "bf16", "fp16": "fp16"}
    expected = {}
    for method in ("hsc",) if bench.quick else METHODS:
        expected[method] = mean_losses(bench, method, amp="off")
        allowed = TOLERANCE
        for way, amp in ways.items():
            apart = compare(bench, f"{method}, {way}", mean_losses(bench, method, amp=amp), expected[method], allowed)
            if way == "float32 again":  # how far two runs of the same are apart, where kernels are not deterministic
                allowed = max(TOLERANCE, 2 * apart)
    if bench.on_gpu:  # last: it takes longest
        found = mean_losses(bench, "hsc", amp="bf16", compiled=True)
        compare(bench, "hsc, bf16, compiled", found, expected["hsc"], TOLERANCE)


def compare(bench: Bench, what: str, found: dict[str, float], expected: dict[str, float], allowed: float) -> float:
    """Check the total, and keep which term is furthest off; how far the total is, as a share."""
    apart = {name: abs(found[name] - expected[name]) / max(abs(expected[name]), 1e-12) for name in expected}
    worst = max(apart, key=apart.get)
    figures = {
        "total": round(found["total"], 4),
        "apart, %": round(100 * apart["total"], 2),
        "the term most apart": f"{worst}, {100 * apart[worst]:.1f} %",
    }
    bench.check(what, apart["total"] <= allowed, figures, goal=f"within {100 * allowed:.0f} % of float32")
    return apart["total"]


def mean_losses(bench: Bench, method: str, *, amp: str, compiled: bool = False) -> dict[str, float]:
    """The mean of each loss over the steps."""
    width, crop, view, images, steps = (1 / 16, 64, 48, 2, 2) if bench.quick else (0.25, 224, 128, 12, 30)
    training = make_training(
        method, bench.device, width=width, amp=amp, second_view=view, compiled=compiled, frozen=False
    )
    batches = [inputs_of(make_batch(images, crop, seed=seed), method, bench.device) for seed in range(4)]
    losses = [training_step(training, batches[step % len(batches)], Moment(step)) for step in range(steps)]
    names = [name for name in losses[0] if "/" not in name]  # not what is only watched
    return {name: float(torch.stack([each[name] for each in losses]).mean()) for name in names}
