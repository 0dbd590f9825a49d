"""DeepLab on the device: training steps through the real loop, and test.py as a user runs it."""

import time
from collections.abc import Iterator

import torch

from benchmark.generated import run as run_command
from benchmark.gpu_parts.files import steady_pace, watched, write_photographs
from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.steps import Batch, make_batch
from data.normalisation import Normalisation
from segmentation.engine import LOG_EVERY, build_training, make_step
from segmentation.experiment.config import config_dict
from segmentation.net import net_of
from segmentation.settings import Config, read_config
from tool.device import place
from tool.loop import run_steps
from voc12.classes import VOC12

WARM_UP = 3  # steps


def run(bench: Bench) -> None:
    settings = settings_of(bench)
    config = read_config(config_dict, settings)
    for amp in ("off",) if bench.quick else ("off", "bf16"):
        training_pace(bench, config, amp)
    test_pace(bench, config, settings)


def settings_of(bench: Bench, *, small: bool = False) -> list[str]:
    """The released settings on the device, as `--set` takes what differs; a small net for the quick form."""
    net = ["MODEL_BACKBONE=resnet18", "MODEL_BACKBONE_DEEPBASE=False", "MODEL_ASPP_OUTDIM=32"]
    return [f"GPUS={int(bench.on_gpu)}", *(net if small or bench.quick else [])]


def training_pace(bench: Bench, config: Config, amp: str) -> None:
    images, crop, steps = (2, 64, 2) if bench.quick else (10, 448, 20)
    net = place(net_of(config), bench.device, amp)
    training = build_training(net, lr=1e-3, momentum=0.9, weight_decay=5e-4, power=0.9, num_steps=100)
    batch = {name: value for name, value in make_batch(images, crop).items() if name in ("image", "id")}
    batch["label"] = torch.randint(0, VOC12.num_labels, (images, crop, crop))
    if bench.on_gpu:
        batch = {name: value if name == "id" else value.pin_memory() for name, value in batch.items()}
    warm_up, moments = 1 if bench.quick else WARM_UP, []

    def batches() -> Iterator[Batch]:
        for step in range(warm_up + steps):
            if step in (warm_up, warm_up + steps - 1):
                bench.synchronize()
                moments.append(time.perf_counter())
            yield batch

    bench.peak_memory()
    training.objective.train()
    run_steps(
        make_step(
            training,
            amp=amp,
            normalisation=Normalisation(config.DATA_MEAN, config.DATA_STD),
            data_set=config.data_set,
            log=None,
        ),
        batches(),
        optimizer=training.optimizer,
        steps=range(warm_up + steps),
        seed=0,
        log=None,
        log_every=LOG_EVERY,
        save=lambda step: None,
        save_due=lambda step: False,
    )
    pace = images * (steps - 1) / (moments[1] - moments[0])
    figures = {"images/s": round(pace, 2), **bench.peak_memory()}
    bench.note(f"training, batch {images}, crop {crop}, {'TF32' if amp == 'off' else amp}", figures)


def test_pace(bench: Bench, config: Config, settings: list[str]) -> None:
    count, size = (2, (48, 64)) if bench.quick else (32, (375, 500))
    data = write_photographs(bench.folder / "data", count, size)
    weights = bench.folder / "random.pth"
    torch.manual_seed(0)
    torch.save(net_of(config).state_dict(), weights)
    for amp in ("off",) if bench.quick else ("off", "bf16"):
        name = f"test_{amp}"
        with watched(bench) as watch:
            run_command(
                *["segmentation/experiment/test.py", "--set", *settings, f"TEST_CKPT={weights}", "TEST_SPLIT=test"],
                *[f"DATA_ROOT={data.root}", f"DATA_LISTS={data.root}", f"EXP_ROOT={bench.folder}", f"EXP_NAME={name}"],
                f"TEST_AMP={amp}",
            )
        files = list((bench.folder / name).rglob("2007_*.png"))
        pace, *window = steady_pace(files)
        figures = {"images/s": round(pace, 2), **watch.share(*window)}
        bench.note(f"test.py, six scales, mirrors, CRF, {'TF32' if amp == 'off' else amp}", figures)
