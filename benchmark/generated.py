"""Generated data for the benchmarks, and the project's commands run quietly."""

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tool.cli import UserError
from tool.places import ROOT


class Generated(NamedTuple):
    """Where the parts of a generated set are."""

    images: Path
    saliency: Path
    labels: Path
    train: Path
    train_aug: Path


def run(*command: object, **options: Any) -> None:
    """Run one of the project's commands, without what it prints; `options` are `subprocess.run`'s.

    Raises `UserError` with the end of its messages if it fails.
    """
    words = [sys.executable, *map(str, command)]
    ended = subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
    if ended.returncode:
        raise UserError(f"{command[0]} ended with exit code {ended.returncode}: {ended.stderr.strip()[-500:]}")


def generate(folder: Path, *, size: int, train: int, train_aug: int) -> Generated:
    """Generate images of `size` pixels, with lists of so many, under `folder`."""
    voc, lists = folder / "VOC2012", folder / "lists"
    counts = ["--train", train, "--train_aug", train_aug, "--val", 1, "--test", 1]
    run("-m", "voc12.mini", "--out", folder, "--size", size, *counts)
    run("-m", "voc12.prepare", "--voc12_root", voc, "--saliency_root", voc / "saliency", "--out", lists)
    return Generated(
        voc / "JPEGImages", voc / "saliency", lists / "cls_labels.npy", lists / "train.txt", lists / "train_aug.txt"
    )


def train_eps(data: Generated, folder: Path, *flags: object) -> list[object]:
    """Train eps at an eighth of the width from random weights, by the command, in `folder`; the flags that inference
    takes its net by. flags: of train_voc.py, for how long and on which list."""
    run(
        *["train_voc.py", "--method", "eps", "--work_dir", folder, "--weights", "none", "--from_scratch"],
        *["--data_root", data.images, "--saliency_root", data.saliency, "--labels", data.labels, "--width", 0.125],
        *["--crop_size", 96, "--resize_size", 96, 128, "--lr", 0.05, "--momentum", 0.9, "--clip_grad", 1],
        *["--num_workers", 0, *flags],
    )
    return ["--weights", folder / "eps" / "eps.pth", "--width", 0.125]
