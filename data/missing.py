"""What every stage does that makes files of one image after the other, beside a net: find what is missing, make it, and
say of how many images."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tool.checks import run_checks
from tool.cli import pace, raise_problems
from tool.distributed import wait_for_all
from tool.per_image import Job, Work, no_net, process_images


def make_missing(
    images: Mapping[str, Path],
    missing: Callable[[str], list[Job]],
    work: Work,
    *,
    gave: str,
    devices: Sequence[str],
    done: str = "done",
    names: tuple[str, str] = ("net", "crf"),
    load: Callable[[torch.device], Any] = no_net,
    crf_backend: str = "torch",
    crf_workers: int = 1,
) -> None:
    """Make what `images`, by id, lack.

    Args:
        missing: the `Job` of an image of which files are missing or damaged, in a list, which is empty for others.
        gave, done: what the images give and what is done to them, for the messages. The rest: as `process_images` has
            it.

    Ends when all processes have done their shares, so that what follows finds all files, and the first process keeps
    others out of the folders for as long. Raises `UserError` with a line for each image that could not be done, or if a
    process died.
    """
    jobs = run_checks(missing, list(images), "what is there")
    started = time.perf_counter()
    problems = process_images(
        jobs, work, names=names, devices=devices, load=load, crf_backend=crf_backend, crf_workers=crf_workers
    )
    line = f"{len(jobs)} of {len(images)} images {done} {pace(started, len(jobs))}"
    without_net = sum(job.for_net is None for job in jobs)
    if load is not no_net and without_net:  # which explains a pace that no net has
        line += f", {without_net} of them without the net"
    if not jobs:
        line = f"nothing is missing of {len(images)} images"
    wait_for_all()
    raise_problems(f"images that gave no {gave}; the others are done", problems)
    print(line)
