"""inference.py on photographs, as a user runs it, against the plain loop; with one and with several processes a GPU."""

import os
import time

import torch

from benchmark.generated import run as run_command
from benchmark.gpu_parts.files import Photographs, steady_pace, watched, write_photographs
from benchmark.gpu_parts.record import Bench
from benchmark.infer import equal_share
from network.build import build_network
from network.weights import released_state_dict
from tool.cli import cores


def run(bench: Bench) -> None:
    width, size, count, plain_count = (1 / 16, (48, 64), 4, 2) if bench.quick else (1.0, (375, 500), 64, 10)
    data = write_photographs(bench.folder / "data", count, size)
    weights = bench.folder / "random.pth"
    torch.manual_seed(0)
    torch.save(released_state_dict(build_network("resnet38_hsc", width=width)), weights)
    net = ["--weights", weights, "--width", width, "--device", bench.device]

    plain = plain_loop(bench, data, net, plain_count)
    ways = [("float32 (TF32)", "off", 1)]
    if not bench.quick:
        ways += [("bf16", "bf16", 1), ("bf16, 2 processes", "bf16", 2), ("bf16, 3 processes", "bf16", 3)]
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
    weights.unlink()


def plain_loop(bench: Bench, data: Photographs, net: list, count: int) -> float:
    """Images a second of the loop that public code runs, in float32 proper."""
    out = bench.folder / "plain"
    out.mkdir()
    run_command(
        *["-m", "benchmark.infer", *net, "--plain_into", out, "--images", count, "--data_root", data.images],
        *["--labels", data.labels, "--infer_list", data.first(count)],
        env={**os.environ, "NVIDIA_TF32_OVERRIDE": "0"},
    )
    pace, _, _ = steady_pace([out / "crf" / f"{image_id}.npy" for image_id in data.ids[:count]])
    bench.note(
        "plain loop: one process, float32, an image, a scale and a mirror at a time", {"images/s": round(pace, 2)}
    )
    return pace
