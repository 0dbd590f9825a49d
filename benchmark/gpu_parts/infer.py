"""inference.py on photographs, as a user runs it, against the plain loop; with one and with two processes a GPU."""

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark.generated import run as run_command
from benchmark.gpu_parts.files import Photographs, steady_pace, watched, write_photographs
from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.step import seconds
from benchmark.infer import equal_share
from benchmark.plain_loop import SCALES
from data.images import load_rgb
from data.labels import load_labels
from data.normalisation import IMAGENET
from network.build import build_network
from network.fold import fold_norms
from network.weights import load_weights, released_state_dict
from tool.artifact import save_cam, save_crf
from tool.cli import cores
from tool.crf import crf_seed, resolve_backend
from tool.device import autocast, place
from tool.seed_recipe import CRFRecipe
from voc12.classes import VOC12


def run(bench: Bench) -> None:
    width, size, count, plain_count = (1 / 16, (48, 64), 4, 2) if bench.quick else (1.0, (375, 500), 128, 10)
    data = write_photographs(bench.folder / "data", count, size)
    weights = bench.folder / "random.pth"
    torch.manual_seed(0)
    torch.save(released_state_dict(build_network("resnet38_hsc", num_classes=VOC12.num_classes, width=width)), weights)
    net = ["--weights", weights, "--width", width, "--device", bench.device]

    plain = plain_loop(bench, data, net, plain_count)
    ways = [("float32 (TF32)", "off", 1)]
    if not bench.quick:
        ways += [("bf16", "bf16", 1), ("bf16, 2 processes", "bf16", 2)]
    paces = {}
    for way, amp, processes in ways:
        out = bench.folder / way.replace(" ", "_")
        flags = ["--amp", amp, "--n_processes_per_gpu", processes, "--work_dir", out]
        with watched(bench) as watch:
            began = time.perf_counter()
            run_command(
                *["inference.py", *net, *flags, "--img_root", data.images, "--labels", data.labels],
                *["--infer_list", data.list, "--crf_workers", cores()],
            )
            seconds = time.perf_counter() - began
        files = [out / "crf" / "crf_8_7" / f"{image_id}.npy" for image_id in data.ids]
        pace, *window = steady_pace(files)
        equal = equal_share(data.ids[:plain_count], bench.folder / "plain" / "cam_png", out / "cam_png")
        paces[way] = pace
        figures = {
            "images/s": round(pace, 2),
            "times the plain loop": round(pace / plain, 1),
            **watch.share(*window),
            "seeds equal to the plain loop's, %": round(100 * equal, 2),
            f"all {count} with the start, s": round(seconds, 1),
        }
        bench.note(f"inference.py, {way}", figures)
    best = max(paces, key=paces.get)
    times = paces[best] / plain
    bench.goal(f"best: {best}", "8 times the plain loop", times >= 8, {"times the plain loop": round(times, 1)})
    for amp in ("off",) if bench.quick else ("off", "bf16"):
        one_image(bench, data, weights, width, amp)
    weights.unlink()


def one_image(bench: Bench, data: Photographs, weights: Path, width: float, amp: str) -> None:
    """What an image costs in one process that does nothing else, step by step: what could bound inference."""
    net = build_network("resnet38_hsc", num_classes=VOC12.num_classes, width=width)
    load_weights(net, weights)
    net = place(fold_norms(net.eval()), bench.device, amp)
    image = load_rgb(data.images / f"{data.ids[0]}.jpg")
    classes = np.flatnonzero(load_labels(data.labels, VOC12)[data.ids[0]]).tolist()
    sizes = [(round(image.width * scale), round(image.height * scale)) for scale in SCALES]
    inputs = [IMAGENET(image.resize(size, Image.Resampling.BICUBIC))[None].to(bench.device) for size in sizes]
    pairs = [torch.cat([batch, batch.flip(-1)]) for batch in inputs]

    @torch.inference_mode()
    def passes() -> None:
        with autocast(bench.device, amp):
            for pair in pairs:
                net.foreground_cam(pair)

    rest = {"backend": resolve_backend("auto", bench.device), "device": bench.device}
    generator = np.random.default_rng(3)
    cams = {c: generator.random((image.height, image.width), dtype=np.float32) ** 4 for c in classes}
    posteriors = crf_seed(np.asarray(image), cams, recipe=CRFRecipe(8, 7), num_classes=VOC12.num_classes, **rest)
    works = {
        "decode": lambda: load_rgb(data.images / f"{data.ids[0]}.jpg"),
        "resize, normalise": lambda: [IMAGENET(image.resize(size, Image.Resampling.BICUBIC)) for size in sizes],
        "net": passes,
        "CRF": lambda: crf_seed(np.asarray(image), cams, recipe=CRFRecipe(8, 7), num_classes=VOC12.num_classes, **rest),
        "files": lambda: (
            save_cam(bench.folder / "cam.npy", cams, VOC12),
            save_crf(bench.folder / "crf.npy", posteriors, VOC12),
        ),
    }
    steps = 1 if bench.quick else 5
    figures = {f"{name}, ms": round(1000 * seconds(bench, work, steps=steps), 1) for name, work in works.items()}
    bench.note(f"one image of {len(classes)} classes alone, {'float32 (TF32)' if amp == 'off' else amp}", figures)


def plain_loop(bench: Bench, data: Photographs, net: list, count: int) -> float:
    """Images a second of the loop that public code runs, with PyTorch's own TF32."""
    out = bench.folder / "plain"
    out.mkdir()
    run_command(
        *["-m", "benchmark.infer", *net, "--plain_into", out, "--images", count, "--data_root", data.images],
        *["--labels", data.labels, "--infer_list", data.first(count)],
    )
    pace, _, _ = steady_pace([out / "crf" / f"{image_id}.npy" for image_id in data.ids[:count]])
    bench.note("plain loop: one process, TF32, an image, a scale and a mirror at a time", {"images/s": round(pace, 2)})
    return pace
