"""What a run says: a log file, TensorBoard events, and losses watched for values that are no numbers."""

import math
import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import summary
from tqdm import tqdm

from tool.artifact import reported_unwritable
from tool.cli import DEVICE, UserError, printable, what_is_at


class RunLog:
    """A run's `log` file in `folder` and, with `curves`, TensorBoard events; lines also go to the console.

    What is logged is in the files when a method returns, so a run that is killed keeps it. Events are written here and
    not by TensorBoard's writer, whose thread would meet a full disk where nobody can report it.

    Raises `UserError`, from the methods too, where the file system refuses.
    """

    def __init__(self, folder: Path, *, first_step: int = 0, curves: bool = True) -> None:
        self.file = _append_to(folder / "log")
        self.events = _append_to(folder / _events_name()) if curves else None
        # Events past the checkpoint that a killed run left are dropped from the curves.
        self._write_events(
            Event(step=first_step + 1, file_version="brain.Event:2"),
            Event(step=first_step + 1, session_log=SessionLog(status=SessionLog.START)),
        )

    def line(self, text: str, *, console: bool = True) -> None:
        """Append `text` with the time; on the console it does not break the progress bar."""
        with reported_unwritable(self.file.name):
            self.file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n".encode(errors="backslashreplace"))
            self.file.flush()
        if console:
            tqdm.write(text, file=sys.stdout)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._write_events(*(Event(step=step, summary=summary.scalar(name, value)) for name, value in values.items()))

    def picture(self, step: int, name: str, pixels: Tensor) -> None:
        """`pixels`: uint8 (3, H, W), RGB."""
        if self.events is not None:
            self._write_events(Event(step=step, summary=summary.image(name, pixels, dataformats="CHW")))

    def hparams(self, step: int, settings: Mapping[str, Any], figures: Iterable[str]) -> None:
        """Enter the run into TensorBoard's HParams tab: its settings, and the last values of its scalars `figures`.

        Numbers stay numbers, all else becomes text on one line.
        """
        plain = {name: value if type(value) in (int, float) else printable(value) for name, value in settings.items()}
        parts = summary.hparams(plain, dict.fromkeys(figures))
        self._write_events(*(Event(step=step, summary=part) for part in parts))

    def _write_events(self, *events: Event) -> None:
        if self.events is None:
            return
        with reported_unwritable(self.events.name):
            for event in events:
                event.wall_time = time.time()
                RecordWriter(self.events).write(event.SerializeToString())
            self.events.flush()

    def close(self) -> None:
        self.file.close()
        if self.events is not None:
            self.events.close()


def _append_to(path: Path) -> BinaryIO:
    if what_is_at(path) == DEVICE:
        raise UserError(f"{path}: expected a file to append to, found {DEVICE}; remove it")
    with reported_unwritable(path):
        return open(path, "ab")


def _events_name() -> str:
    """TensorBoard takes files of such names in their order: a run's later one comes after its earlier one."""
    return f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"


def curve_name(name: str) -> str:
    """TensorBoard's name for the curve of a loss, or of what is watched like one, whose own name has a slash."""
    return name if "/" in name else f"loss/{name}"


class LossHistory:
    """The losses since the last look, left on the device so that no step waits for them."""

    def __init__(self) -> None:
        self.steps: list[tuple[list[str], Sequence[str]]] = []  # names of the losses, ids of the images
        self.values: list[Tensor] = []

    def add(self, losses: Mapping[str, Tensor], images: Sequence[str]) -> None:
        """Keep one step's losses (scalars) and the ids of its images; the terms may differ from step to step."""
        self.steps.append((list(losses), images))
        self.values += [loss.detach().float().reshape(1) for loss in losses.values()]

    def drain(self) -> dict[str, float]:
        """Mean of each term over the steps that had it, and forget them. Waits for the device, once.

        Raises:
            UserError: a loss is not finite; names the first such term and the images of its step.
        """
        values = iter(torch.cat(self.values).tolist())
        terms: dict[str, list[float]] = {}
        for names, images in self.steps:
            for name in names:
                value = next(values)
                if not math.isfinite(value):
                    raise UserError(
                        f"the loss {name} is {value} on the images {', '.join(map(printable, images))}: training stops;"
                        " look at these images and what they are trained on, or lower the learning rate"
                    )
                terms.setdefault(name, []).append(value)
        self.steps, self.values = [], []
        return {name: sum(column) / len(column) for name, column in terms.items()}
