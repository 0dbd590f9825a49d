"""What every training does around its own steps: it goes on from a checkpoint or begins, says so, saves and ends."""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tool.checkpoint import save_checkpoint, save_weights
from tool.cli import pace
from tool.device import resolve_device
from tool.distributed import join_processes, rank, world_size
from tool.folder import make_folder
from tool.log import RunLog, curve_name
from tool.loop import run_steps
from tool.resume import find_checkpoint, restore_checkpoint
from tool.threads import take_threads
from tool.training import Training


@dataclass(frozen=True)
class Run:
    """A run as its command line names it.

    folder: of its files. arguments: all that it was asked, for args.json and TensorBoard. settings: what decides its
    weights, under the names that the user knows; those of the checkpoint that it goes on from must equal them.
    defaults: of settings that came after older runs, which count as having had these. resume: go on where there is a
    checkpoint. folder_flag, name_flag: what leads to the folder and names the run, for messages.
    """

    folder: Path
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any]
    resume: bool
    folder_flag: str
    name_flag: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def find_checkpoint(self) -> dict | None:
        """What the run goes on from, if there is something. Raises `UserError` as `tool.resume.find_checkpoint`."""
        return find_checkpoint(
            self.folder,
            resume=self.resume,
            settings=self.settings,
            name_flag=self.name_flag,
            defaults=self.defaults,
        )


def open_run(
    args: argparse.Namespace, *, settings: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[Run, torch.device, dict | None]:
    """The run that a command line names, this process's device, and the checkpoint to go on from, if there is one. The
    processes are one run from here on, and the seed of a fresh run's random weights is set.

    Args:
        args: with the flags of `tool.training_flags.add_run_flags` and `add_device_flags`.
        settings, defaults: of `Run`.

    Raises `UserError` for a device that is not there and a checkpoint that does not fit.
    """
    device = join_processes(resolve_device(args.device))
    folder = Path(args.work_dir) / args.session
    run = Run(folder, vars(args), settings, args.resume, "--work_dir", "--session", defaults)
    checkpoint = run.find_checkpoint()
    torch.manual_seed(args.seed)
    return run, device, checkpoint


class StartedRun:
    """A run from its first step on.

    training: with its weights. steps: those to take. log: None in processes that say nothing, beside the one that does.
    """

    def __init__(self, run: Run, training: Training, *, steps: range, log: RunLog | None) -> None:
        self.run, self.training, self.steps, self.log = run, training, steps, log
        self.started = time.perf_counter()

    def save(self, step: int) -> None:
        """Write what the run goes on from, in the process that writes."""
        if self.log is not None:
            state = {"step": step, "settings": dict(self.run.settings), "threads": torch.get_num_threads()}
            save_checkpoint(self.run.folder / "last.ckpt", {**self.training.state(), **state})

    def train(
        self,
        take_step: Callable[[dict, int], Mapping[str, Tensor]],
        loader: Iterable[dict],
        *,
        seed: int,
        log_every: int,
        save_every: int,
        epoch: int | None = None,
        write_weights: Callable[[int], None] | None = None,
    ) -> dict[str, float]:
        """Take the run's steps and save where `save_every` divides how many are done; as `tool.loop.run_steps`.

        epoch: of so many steps, whose end is saved, too. write_weights: called with the number of steps done, in the
        process that writes, at the end of each epoch but the last: the file of weights that a run that is stopped
        leaves behind.
        """

        def ends_epoch(step: int) -> bool:
            return epoch is not None and step % epoch == 0

        def save(step: int) -> None:
            if write_weights is not None and self.log is not None and ends_epoch(step) and step < self.steps.stop:
                write_weights(step)
            # After the weights: a run killed between the two goes on from an earlier step, and writes them again.
            self.save(step)

        self.training.objective.train()
        return run_steps(
            take_step,
            loader,
            optimizer=self.training.optimizer,
            steps=self.steps,
            seed=seed,
            log=self.log,
            log_every=log_every,
            save=save,
            save_due=lambda step: step % save_every == 0 or ends_epoch(step),
        )

    def say_trained(self, num_images: int, weights: Path) -> None:
        """The line that the steps are done, `num_images` of them, and where the weights are."""
        self.log.line(f"trained {len(self.steps)} steps {pace(self.started, num_images)}: {weights}")

    def end(self, losses: Mapping[str, float], figures: Sequence[str] = ()) -> None:
        """Enter the run and its last `losses`, and the scalars named `figures`, into TensorBoard, and close the log."""
        self.log.hparams(self.steps.stop, self.run.arguments, [*map(curve_name, losses), *figures])
        self.log.close()

    def end_with(
        self,
        weights: Mapping[str, Tensor],
        args: argparse.Namespace,
        losses: Mapping[str, float],
        figures: Sequence[str] = (),
    ) -> None:
        """Write the run's one file of `weights`, say so, and `end` it; `args` as for `open_run`."""
        path = self.run.folder / f"{args.session}.pth"
        save_weights(path, weights)
        self.say_trained(len(self.steps) * args.batch_size, path)
        self.end(losses, figures)


def start_run(
    run: Run,
    training: Training,
    checkpoint: dict | None,
    *,
    origin: object,
    num_steps: int,
    num_images: int,
    name: str = "",
    curves: bool = True,
) -> StartedRun:
    """Go on from the run's checkpoint, if there is one, and open its folder.

    Args:
        training: with the weights that a fresh run starts from. checkpoint: of `Run.find_checkpoint`.
        origin: where a fresh run's weights are from, for the log.
        num_images: of its list. name: of what it trains, where it may be one of several. curves: TensorBoard's.

    Raises `UserError` for a checkpoint that does not fit and a folder that cannot be made.
    """
    first_step = 0
    if checkpoint is not None:
        first_step = restore_checkpoint(training, checkpoint, folder=run.folder, num_steps=num_steps)
        origin = "resumed"
    threads = take_threads(checkpoint)
    log = None
    if rank() == 0:
        make_folder(run.folder, run.arguments, flag=run.folder_flag)
        log = RunLog(run.folder, first_step=first_step, curves=curves)
        log.line(str(origin))
        where = f"on {world_size()} x {next(training.objective.parameters()).device.type}, {threads}"
        log.line(f"{name and f'{name}: '}step {first_step} of {num_steps}, {num_images} images, {where}")
    return StartedRun(run, training, steps=range(first_step, num_steps), log=log)
