"""Photographs as files with their labels, what a command made of them in how much time, and how busy the GPU was."""

import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.gpu_parts.record import Bench
from benchmark.photographs import photographs
from data.labels import save_labels
from voc12.classes import VOC12


@dataclass(frozen=True)
class Photographs:
    """A folder in VOC's layout, `root`/JPEGImages, with a list and image labels."""

    root: Path
    ids: list[str]

    @property
    def images(self) -> Path:
        return self.root / "JPEGImages"

    @property
    def list(self) -> Path:
        return self.root / "test.txt"

    @property
    def labels(self) -> Path:
        return self.root / "cls_labels.npy"

    def first(self, count: int) -> Path:
        """The list of the first `count`."""
        path = self.root / f"first_{count}.txt"
        path.write_text("".join(f"{image_id}\n" for image_id in self.ids[:count]))
        return path


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> Photographs:
    """`count` photographs of `size` = (H, W), labelled with one to three classes each."""
    generator = np.random.default_rng(2)
    found = Photographs(folder, [f"2007_{number:06d}" for number in range(count)])
    found.images.mkdir(parents=True)
    labels = {}
    for image_id, pixels in zip(found.ids, photographs(count, size), strict=True):
        Image.fromarray(pixels).save(found.images / f"{image_id}.jpg", quality=92)
        labels[image_id] = np.zeros(VOC12.num_classes, np.float32)
        labels[image_id][generator.choice(VOC12.num_classes, generator.integers(1, 4), replace=False)] = 1
    save_labels(found.labels, labels)
    found.list.write_text("".join(f"{image_id}\n" for image_id in found.ids))
    return found


def steady_pace(files: list[Path]) -> tuple[float, float, float]:
    """Files a second once all is under way, and from when to when: after the first half of them was written."""
    times = sorted(path.stat().st_mtime for path in files)
    first = max(len(times) // 2 - 1, 0)
    return (len(times) - 1 - first) / max(times[-1] - times[first], 1e-3), times[first], times[-1]


@dataclass
class Watch:
    """The GPU's busy share, sampled by nvidia-smi five times a second: (time, per cent)."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    def share(self, start: float, end: float) -> dict[str, float]:
        """The mean between two times, as a figure; none where nothing was sampled."""
        within = [busy for moment, busy in self.samples if start <= moment <= end]
        return {"GPU busy, %": round(sum(within) / len(within))} if within else {}


@contextmanager
def watched(bench: Bench):
    """A `Watch` of the block."""
    watch = Watch()
    if not bench.on_gpu:
        yield watch
        return
    command = [
        "stdbuf",
        "-oL",
        "nvidia-smi",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        "-lms",
        "200",
    ]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        yield watch
        return

    def read() -> None:
        for line in process.stdout:
            if line.strip().isdecimal():
                watch.samples.append((time.time(), float(line)))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        process.kill()
        process.wait()
        thread.join()
