"""The real lists' sizes: start of training on 10,582 ids, evaluation of 1,464 seeds, inference over a long list.

    python -m benchmark.lists
    python -m benchmark.lists --long_list 10000

A few images of 500 x 375 stand for all, by links; CAM dicts likewise, of one to three classes. Memory is what is
resident of all processes, added up (Linux: /proc).
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.eval_curve import HEIGHT, WIDTH, make_files
from tool.cli import UserError, positive, run_script
from tool.places import ROOT
from voc12.classes import VOC12

TRAINING_IDS, SCORED_IDS = 10582, 1464
FILES = 40  # that stand for all


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += tree(int(child))
    return found


def megabytes(pid: int) -> float:
    """Resident memory of a process and all that it started."""
    pages = 0
    for process in tree(pid):
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:  # it ended
            continue
    return pages * resource.getpagesize() / 2**20


def watch(command: list[object], until: Callable[[], bool] = lambda: False) -> tuple[float, list[float]]:
    """Run a command, to its end or `until`; its seconds, and its memory in MB, a figure every tenth of a second."""
    start, memory = time.perf_counter(), []
    with subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not until():
            memory.append(megabytes(process.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        stopped = process.poll() is None
        process.terminate()
        said = process.stderr.read().decode()
    if not stopped and process.returncode:
        raise UserError(f"{command[0]} ended with exit code {process.returncode}: {said.strip()[-500:]}")
    return seconds, memory


def repeat(source: list[Path], folder: Path, ids: list[str]) -> None:
    """Link the files, over and over, as `ids`."""
    folder.mkdir()
    for number, image_id in enumerate(ids):
        file = source[number % len(source)]
        os.link(file, folder / f"{image_id}{file.suffix}")


def write_list(path: Path, ids: list[str]) -> Path:
    path.write_text("".join(f"{image_id}\n" for image_id in ids))
    return path


def make_images(folder: Path, size: tuple[int, int]) -> tuple[list[Path], list[Path]]:
    """Images and saliency maps of `size` (width, height)."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    images, maps = [], []
    for number in range(FILES):
        pixels = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        images.append(folder / f"{number}.jpg")
        maps.append(folder / f"{number}.png")
        pixels.save(images[-1])
        pixels.convert("L").save(maps[-1])
    return images, maps


def start_of_training(scratch: Path) -> None:
    ids = [f"2007_{number:06d}" for number in range(TRAINING_IDS)]
    images, maps = make_images(scratch / "files", (WIDTH, HEIGHT))
    repeat(images, scratch / "images", ids)
    repeat(maps, scratch / "saliency", ids)
    np.save(scratch / "labels.npy", {image_id: np.eye(VOC12.num_classes, dtype=np.float32)[0] for image_id in ids})
    log = scratch / "start" / "log"
    seconds, memory = watch(
        [
            *["train_voc.py", "--session", "start", "--work_dir", scratch, "--weights", "none", "--width", 0.0625],
            *["--data_root", scratch / "images", "--saliency_root", scratch / "saliency"],
            *["--labels", scratch / "labels.npy", "--train_list", write_list(scratch / "train.txt", ids)],
            *["--batch_size", 2, "--crop_size", 32, "--resize_size", 32, 32, "--num_workers", 0],
        ],
        until=lambda: log.exists() and "step 0 of" in log.read_text(),
    )
    print(f"training, {TRAINING_IDS} ids: all files looked at after {seconds:.1f} s, {max(memory):.0f} MB", flush=True)


def evaluation(scratch: Path) -> None:
    ids = [str(number) for number in range(SCORED_IDS)]
    (scratch / "scored").mkdir()
    pairs = make_files(scratch / "scored", FILES)
    repeat([cams for cams, _ in pairs], scratch / "cams", ids)
    repeat([target for _, target in pairs], scratch / "targets", ids)
    seconds, memory = watch(
        [
            *["eval.py", "--list", write_list(scratch / "scored.txt", ids), "--predict_dir", scratch / "cams"],
            *["--gt_dir", scratch / "targets", "--type", "npy", "--curve", "--comment", "benchmark"],
            *["--logfile", scratch / "evallog.txt"],
        ]
    )
    print(f"eval.py --curve, {SCORED_IDS} seeds: {seconds:.1f} s, {max(memory):.0f} MB", flush=True)


def inference(scratch: Path, count: int) -> None:
    # Not at the top: they import torch, which takes seconds.
    from network.build import build_network
    from network.weights import released_state_dict
    from tool.checkpoint import save_checkpoint

    ids = [f"{number:06d}" for number in range(count)]
    images, _ = make_images(scratch / "small", (40, 32))
    repeat(images, scratch / "small_images", ids)
    np.save(scratch / "small.npy", {image_id: np.eye(VOC12.num_classes, dtype=np.float32)[0] for image_id in ids})
    save_checkpoint(
        scratch / "net.pth",
        released_state_dict(build_network("resnet38_cls", num_classes=VOC12.num_classes, width=0.0625)),
    )
    seconds, memory = watch(
        [
            *["inference.py", "--network", "resnet38_cls", "--width", 0.0625, "--weights", scratch / "net.pth"],
            *["--img_root", scratch / "small_images", "--labels", scratch / "small.npy"],
            *["--infer_list", write_list(scratch / "infer.txt", ids), "--work_dir", scratch / "out"],
        ]
    )
    early, late = (max(part) for part in (memory[: len(memory) // 4], memory[-len(memory) // 4 :]))
    print(
        f"inference.py, {count} ids of 40 x 32: {seconds:.0f} s; memory at most {early:.0f} MB in the first quarter of"
        f" the time, {late:.0f} MB in the last"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory on lists as long as the real ones.")
    parser.add_argument("--long_list", type=positive, default=1000, help="ids of inference (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        start_of_training(scratch)
        evaluation(scratch)
        inference(scratch, args.long_list)


if __name__ == "__main__":
    run_script(main)
