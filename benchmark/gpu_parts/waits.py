"""Training through the real loops with PyTorch told to raise an error wherever the host would wait for the GPU."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.segment import settings_of
from benchmark.gpu_parts.steps import Batch, make_batch, make_training
from method import METHODS, engine
from segmentation import engine as segmentation_engine
from segmentation.experiment.config import config_dict
from segmentation.net import net_of, normalisation_of
from segmentation.settings import read_config
from tool.cli import UserError
from tool.device import place
from tool.loop import run_steps
from tool.training import Training
from voc12.classes import VOC12

STEPS, QUICK_STEPS = 6, 3
# The precision, and whether norms are fixed, as released.
WAYS = (("off", False), ("bf16", False), ("fp16", False), ("bf16", True))
DEEPLABS = {
    "segmentation": [],
    "segmentation of three scales": ["MODEL_NAME=deeplabv2_msc", "MODEL_FREEZEBN=True", "TRAIN_ITER_SIZE=2"],
}
# Of the loop, which reads its losses at the last step alone.
QUIET = {"seed": 0, "log": None, "log_every": 10**6, "save": lambda step: None, "save_due": lambda step: False}


def run(bench: Bench) -> None:
    crop = 64 if bench.quick else 224
    for method in ("hsc",) if bench.quick else METHODS:
        for amp, frozen in WAYS[:1] if bench.quick else WAYS:
            batch = make_batch(4, crop)
            if "saliency" not in METHODS[method].reads:
                del batch["saliency"]
            training = make_training(method, bench.device, width=1 / 16, amp=amp, second_view=crop // 2, frozen=frozen)
            take_step = engine.make_step(training, steps_per_epoch=STEPS, seed=0, log=None, picture_every=10**6)
            what = f"{method}, {amp}{', norms fixed' if frozen else ''}"
            report(bench, what, partial(take_steps, bench, training, take_step, batch))
    for amp in ("off",) if bench.quick else ("off", "bf16"):
        for name, keys in DEEPLABS.items():
            report(bench, f"{name}, {amp}", partial(train_deeplab, bench, amp, crop, keys))


def report(bench: Bench, what: str, train) -> None:
    try:
        train()
        said = "no wait"
    except (RuntimeError, UserError) as error:
        said = str(error).split("\n")[0][:200]
    finally:
        if bench.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    bench.check(what, said == "no wait", {"said": said})


def steps_of(bench: Bench) -> int:
    return QUICK_STEPS if bench.quick else STEPS


def batches(bench: Bench, batch: Batch) -> Iterator[Batch]:
    """The batch, as a loader gives it, at every step; waiting is an error from the second step to the one before last,
    after which the loop reads its losses."""
    if bench.on_gpu:
        batch = {name: value if name == "id" else value.pin_memory() for name, value in batch.items()}
    steps = steps_of(bench)
    for step in range(steps):
        if bench.on_gpu:
            torch.cuda.set_sync_debug_mode("error" if 0 < step < steps - 1 else "default")
        yield batch


def take_steps(bench: Bench, training: Training, take_step: Callable, batch: Batch) -> None:
    training.objective.train()
    steps = range(steps_of(bench))
    run_steps(take_step, batches(bench, batch), optimizer=training.optimizer, steps=steps, **QUIET)


def train_deeplab(bench: Bench, amp: str, crop: int, keys: list[str]) -> None:
    # Small: a deep net of random weights whose norms are fixed overflows.
    config = read_config(config_dict, [*settings_of(bench, small=True), *keys])
    net = place(net_of(config), bench.device, amp)
    training = segmentation_engine.build_training(
        net, lr=1e-3, momentum=0.9, weight_decay=5e-4, power=0.9, num_steps=STEPS
    )
    batch = {name: value for name, value in make_batch(4, crop).items() if name in ("image", "id")}
    batch["label"] = torch.randint(0, VOC12.num_labels, (4, crop, crop))
    take_step = segmentation_engine.make_step(
        training,
        amp=amp,
        normalisation=normalisation_of(config, net),
        data_set=VOC12,
        log=None,
        iter_size=config.TRAIN_ITER_SIZE,
    )
    take_steps(bench, training, take_step, batch)
