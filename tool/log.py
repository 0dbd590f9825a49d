"""What a run says: a log file, TensorBoard scalars, and losses watched for values that are no numbers."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from tool.cli import UserError, printable


class RunLog:
    """A run's `log` file in `folder` and, with `curves`, TensorBoard events; lines also go to the console."""

    def __init__(self, folder: Path, *, first_step: int = 0, curves: bool = True) -> None:
        self.file = open(folder / "log", "a", encoding="utf-8")  # noqa: SIM115, open as long as the run
        # Events past the checkpoint that a killed run left are dropped from the curves.
        self.tensorboard = SummaryWriter(str(folder), purge_step=first_step + 1) if curves else None

    def line(self, text: str, *, console: bool = True) -> None:
        """Append `text` with the time; on the console it does not break the progress bar."""
        self.file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self.file.flush()
        if console:
            tqdm.write(text, file=sys.stdout)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.tensorboard is None:
            return
        for name, value in values.items():
            self.tensorboard.add_scalar(name, value, step)
        self.tensorboard.flush()  # a run that is killed keeps its curves

    def picture(self, step: int, name: str, pixels: Tensor) -> None:
        """`pixels`: uint8 (3, H, W), RGB."""
        if self.tensorboard is not None:
            self.tensorboard.add_image(name, pixels, step)

    def close(self) -> None:
        if self.tensorboard is not None:
            self.tensorboard.close()
        self.file.close()


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
