"""A run of training, from its command line, ids and labels to its files; what it reads has been checked."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.augmentation import TrainingAugmentation
from data.descriptions import find_data_set
from data.normalisation import Normalisation
from data.training import TrainingSet, training_loader
from method import METHODS
from method.base import NetFlags
from method.engine import build_training, make_step
from method.learner import LabelledImages, Learner
from method.selection import LEAST, Selection
from network import EPS_SEAM, PRETRAINED
from tool.checkpoint import save_weights
from tool.cli import UserError, pace
from tool.distributed import first_alone, leave_processes
from tool.training import Training
from tool.training_run import Run, StartedRun, open_run, start_run


def make_loader(
    args: argparse.Namespace,
    images: Mapping[str, Path],
    labels: dict,
    *,
    steps: range,
    normalisation: Normalisation,
    pin_memory: bool,
) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before and however many read."""
    augmentation = TrainingAugmentation(
        crop_size=args.crop_size,
        resize=tuple(args.resize_size),
        normalisation=normalisation,
        jitter=METHODS[args.method].jitter,
        saliency=METHODS[args.method].saliency_crop(args),
    )
    dataset = TrainingSet(
        images,
        saliency_root=args.saliency_root,
        labels=labels,
        augmentation=augmentation,
        seed=args.seed,
    )
    return training_loader(
        dataset,
        args.batch_size,
        seed=args.seed,
        steps=steps,
        num_workers=args.num_workers,
        pin_memory=pin_memory,
    )


def make_learner(args: argparse.Namespace, device: torch.device) -> Learner:
    """What a run trains, with the random weights of its seed."""
    torch.manual_seed(args.seed)
    method = METHODS[args.method]
    return method.learner(
        method.configure(args),
        NetFlags(args.backbone, args.width, frozen=not args.from_scratch),
        find_data_set(args.data_set),
        device=device,
        amp=args.amp,
        compiled=args.compile,
    )


def make_training(args: argparse.Namespace, learner: Learner, *, num_images: int) -> Training:
    method = METHODS[args.method]
    return build_training(
        learner,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.wt_dec,
        decay_steps=method.steps(args, num_images)[1],
        **method.rates(args)._asdict(),
        max_gradient=args.clip_grad,
    )


def train_run(
    args: argparse.Namespace,
    images: Mapping[str, Path],
    labels: dict,
    held_out: Mapping[str, Path],
    masks: Mapping[str, Path],
    *,
    settings: dict,
    defaults: dict,
) -> None:
    """Train on `images`, whose `labels` there are, from the start or from the run's checkpoint, and write all the run's
    files.

    Args:
        args: train_voc.py's. images: to train on, by id. held_out: what --eval and --eval_every score. masks: of
            `held_out`, by id; empty where there are none.
        settings, defaults: of `tool.training_run.Run`.

    Raises `UserError` for a device that is not there, a checkpoint or weights that do not fit, and as `run_steps`.
    """
    run, device, checkpoint = open_run(args, settings=settings, defaults=defaults)
    if args.compile and device.type == "cpu":
        raise UserError("--compile: expected a GPU, found a CPU, where it gains nothing; leave it out")
    selection = Selection(run.folder) if masks and args.select == "miou" else None
    learner, started = begin_run(args, run, checkpoint, device, selection, num_images=len(images))
    loader = make_loader(
        args,
        images,
        labels,
        steps=started.steps,
        normalisation=learner.net.normalisation,
        pin_memory=device.type == "cuda",
    )
    scored_run = ScoredRun(args, learner, started, LabelledImages(held_out, labels, masks), selection)
    losses = scored_run.train(loader, steps_per_epoch=len(images) // args.batch_size)
    scored_run.end(losses)


def begin_run(
    args: argparse.Namespace,
    run: Run,
    checkpoint: dict | None,
    device: torch.device,
    selection: Selection | None,
    *,
    num_images: int,
) -> tuple[Learner, StartedRun]:
    """What `run` trains on `device`, with the weights of its checkpoint, where there is one, or those that it starts
    from."""
    method = METHODS[args.method]
    learner = make_learner(args, device)
    origin = first_weights(args, learner) if checkpoint is None else None
    training = make_training(args, learner, num_images=num_images)
    if selection is not None:
        training = training._replace(saved={**training.saved, "selection": selection})
    num_steps, _ = method.steps(args, num_images)
    started = start_run(
        run,
        training,
        checkpoint,
        origin=origin,
        num_steps=num_steps,
        num_images=num_images,
        name=args.method,
    )
    note = method.decay_note(args, num_images)
    if started.log is not None and note is not None:
        started.log.line(note)
    return learner, started


def first_weights(args: argparse.Namespace, learner: Learner) -> object:
    """Put the weights that a fresh run starts from into the net; lines on them."""
    flags = METHODS[args.method].weight_flags
    return "\n".join(str(_load_first(args, learner, flag, getattr(args, flag))) for flag in flags)


def _load_first(args: argparse.Namespace, learner: Learner, flag: str, path: str) -> object:
    if path == "none":
        return "random weights" if flag == "weights" else f"random weights (--{flag} none)"
    with first_alone(path == PRETRAINED):
        return learner.load_first(flag, path, backbone=args.backbone, background_last=args.network == EPS_SEAM)


class ScoredRun:
    """A run whose weights are scored on `images` between epochs and at its end, where that is asked for.

    selection: what keeps the best of the scored weights; None: the last are the run's.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        learner: Learner,
        started: StartedRun,
        images: LabelledImages,
        selection: Selection | None,
    ) -> None:
        self.args, self.learner, self.started = args, learner, started
        self.images, self.selection = images, selection

    def train(self, loader: DataLoader, *, steps_per_epoch: int) -> Mapping[str, float]:
        """Train on the batches of `loader`; the last losses."""
        args, started = self.args, self.started
        score_every = args.eval_every and args.eval_every * steps_per_epoch  # steps
        plain_step = make_step(
            started.training,
            steps_per_epoch=steps_per_epoch,
            seed=args.seed,
            log=started.log,
            picture_every=args.picture_every,
        )

        def take_step(batch: dict, step: int) -> dict[str, Tensor]:
            losses, done = plain_step(batch, step), step + 1
            if score_every and done % score_every == 0 and done < started.steps.stop:  # the last one's: `end`
                self.validate(done)
                self.learner.train()
            return losses

        return started.train(
            take_step,
            loader,
            seed=args.seed,
            log_every=args.log_every,
            save_every=args.save_every,
            epoch=score_every,  # whose score may have kept weights: the checkpoint has to know of them
        )

    def end(self, losses: Mapping[str, float]) -> None:
        """Score the run whose steps are done, where it is to be scored, by all processes; the first one writes the
        weights that it keeps."""
        started, selection = self.started, self.selection
        if selection is None and started.log is not None:  # there before scoring takes its time
            self.write_weights()
        figures = self.validate(started.steps.stop) if self.args.eval or self.args.eval_every else []
        leave_processes()
        if started.log is None:
            return
        if selection is not None:
            best = selection.take(self.learner)
            none = f"no epoch scored above {100 * LEAST:g} %, so the last weights are kept"
            started.log.line(none if best is None else str(best))
            self.write_weights()
        started.end(losses, figures)

    def write_weights(self) -> None:
        """Write the files of weights that other stages and programs read."""
        for ending, state in self.learner.released().items():
            path = self.started.run.folder / f"{self.args.session}{ending}.pth"
            save_weights(path, state)
            self.started.say_trained(len(self.started.steps) * self.args.batch_size, path)

    def validate(self, step: int) -> list[str]:
        """The names of the curves of what `Learner.validate` finds after `step` steps; of all processes the first one
        logs it, and offers it to the selection. It draws nothing."""
        began, learner, log = time.perf_counter(), self.learner, self.started.log
        found = learner.validate(self.images, next(learner.parameters()).device)
        curves = {f"val/{name}": value for name, value in found.items()}
        if log is None:
            return list(curves)
        said = [
            f"{name.replace('_', ' ')} " + (f"{100 * value:.2f} %" if learner.measures_shares else f"{value:.4f}")
            for name, value in found.items()
        ]
        what = "seeds" if self.images.masks else "image labels"
        log.line(f"scored {what} of {self.args.val_list} {pace(began, len(self.images.paths))}: {', '.join(said)}")
        if self.selection is not None:
            self.selection.offer(learner, found["mIoU"])
        log.scalars(step, curves)
        return list(curves)
