"""What every stage does that makes files of one image after the other, beside a net: find what is missing, make it, and
say of how many images."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data.images import run_checks
from tool.cli import pace, raise_problems
from tool.distributed import leave_processes
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
    stay: bool = False,
) -> None:
    """Make what `images`, by id, lack.

    Args:
        missing: the `Job` of an image of which files are missing or damaged, in a list, which is empty for others.
        gave, done: what the images give and what is done to them, for the messages. stay: with the other processes,
            for which something has to wait afterwards. The rest: as `process_images` has it.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """
    jobs = run_checks(missing, list(images), "what is there")
    started = time.perf_counter()
    problems = process_images(
        jobs, work, names=names, devices=devices, load=load, crf_backend=crf_backend, crf_workers=crf_workers
    )
    if not stay:
        leave_processes()
    raise_problems(f"images that gave no {gave}; the others are done", problems)
    made = sum(job.for_net is not None or load is no_net for job in jobs)
    print(f"{made} of {len(images)} images {done} {pace(started, made)}")
