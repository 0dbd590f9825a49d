"""What a data set's `prepare` looks at, and what it leaves for the stages: a file of image labels, and lists."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.images import image_size
from data.labels import save_labels
from tool.artifact import atomic_file, load_label_map
from tool.cli import UserError, pace, printable
from tool.dataset import DataSet


def make_folder(out: Path) -> None:
    """Make the folder `out`, which --out names, unless it is there. Raises `UserError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: expected a folder to write to ({error.strerror})") from error
    if not os.access(out, os.W_OK):
        raise UserError(f"--out {out}: the folder cannot be written to; check its permissions")


def mask_problems(masks: Sequence[Path], image: Path, data_set: DataSet) -> list[str]:
    """One line for each mask that is missing, damaged, not as large as its image or with labels that are not the data
    set's."""
    try:
        shape = image_size(image)[::-1]
    except UserError:
        shape = None  # reported with the image
    problems = []
    for mask in masks:
        try:
            load_label_map(mask, data_set, shape=shape)
        except UserError as error:
            problems.append(str(error))
    return problems


def report_checked(number: int, started: float, problems: Sequence[str], where: str) -> None:
    """Print that so many images were checked since `started` and each of the problems, for which it raises `UserError`.

    where: the flag and the folder that were checked.
    """
    print(f"checked {number} images {pace(started, number)}")
    for problem in problems:
        print(f"problem: {printable(problem)}")
    if problems:
        raise UserError(f"{where}: nothing written; first repair what is listed above ({len(problems)})")


def write_prepared(out: Path, labels: dict[str, np.ndarray], lists: dict[str, list[str]]) -> None:
    """Write the labels and lists, and print what they hold."""
    save_labels(out / "cls_labels.npy", labels)
    print(f"wrote {out / 'cls_labels.npy'}: labels of {len(labels)} images")
    for name, ids in lists.items():
        with atomic_file(out / f"{name}.txt") as file:
            file.write("".join(f"{identifier}\n" for identifier in ids).encode())
        print(f"wrote {out / name}.txt: {len(ids)} images")
