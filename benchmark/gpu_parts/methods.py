"""Training steps of the other methods as released, and DHR's with its labels; how long these take by themselves."""

import gc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.step import measured, seconds
from benchmark.gpu_parts.steps import make_batch, make_training
from benchmark.rebalance_times import RECIPE, generated, here
from data.normalisation import IMAGENET
from network.deeplabv3plus import build_deeplabv3plus
from rebalance.average import Average
from rebalance.labels import make_labels
from rebalance.training import build_training, training_step
from tool.crf import resolve_backend
from tool.device import place
from voc12.classes import VOC12

# By method: images and crop, as released.
STEPS = {"eps": (12, 448), "seam": (8, 448), "ppc_eps": (8, 448), "crt": (16, 336), "msa_image": (16, 480)}
QUICK_STEPS = {"eps": (2, 64), "msa_image": (2, 64)}
AMPS = {"TF32": "off", "bf16": "bf16"}


def run(bench: Bench) -> None:
    torch.backends.cudnn.allow_tf32 = True
    for method, (images, crop) in (QUICK_STEPS if bench.quick else STEPS).items():
        for name, amp in AMPS.items():
            training = make_training(
                method,
                bench.device,
                width=1 / 16 if bench.quick else 1.0,
                amp=amp,
                second_view=48 if bench.quick else 128,
                released=not bench.quick,
            )
            figures = measured(bench, training, make_batch(images, crop), method)
            bench.note(f"{method}, batch {images}, crop {crop}, {name}", figures)
            del training
    for name, amp in AMPS.items():
        rebalancing(bench, amp, name)


def rebalancing(bench: Bench, amp: str, name: str) -> None:
    """DHR's step, its labels made beside the decoder, and what the labels take by themselves."""
    backbone, images, crop = ("resnet18", 2, 48) if bench.quick else ("resnet101", 16, 512)
    net = place(
        build_deeplabv3plus(backbone, num_labels=VOC12.num_labels, num_classes=VOC12.num_classes), bench.device, amp
    ).train()
    average = Average(net, decay=0.999)
    training = build_training(net, average, lr=1e-4, momentum=0.9, weight_decay=4e-5, num_steps=10**6, amp=amp)
    scenes, maps = generated(images, crop, bench.device)
    backend = resolve_backend("auto", bench.device)
    make = partial(make_labels, data_set=VOC12, recipe=RECIPE, run_crf=here(backend))
    batch = {
        "image": torch.stack([IMAGENET.of_pixels(scene.picture.permute(2, 0, 1)) for scene in scenes]),
        "tags": make_batch(images, 32)["label"],
        "picture": torch.stack([scene.picture for scene in scenes]),
        "mask": torch.stack([scene.mask for scene in scenes]).byte(),
        "box": [scene.box for scene in scenes],
        "features": [scene.features for scene in scenes],
        "classes": [scene.classes for scene in scenes],
        "id": [str(number) for number in range(images)],
    }
    repeats = 1 if bench.quick else 6
    gc.collect()
    bench.peak_memory()
    with ThreadPoolExecutor(1) as thread:
        step = seconds(bench, lambda: training_step(training, batch, make, thread=thread, amp=amp), steps=repeats)
    memory = bench.peak_memory()
    labels = seconds(bench, lambda: make(scenes, *maps), steps=repeats)
    figures = {"images/s": round(images / step, 2), "ms a step": round(1000 * step, 1)}
    figures |= {"labels alone, ms": round(1000 * labels, 1), **memory}
    bench.note(f"DHR, batch {images}, crop {crop}, {name}", figures)
