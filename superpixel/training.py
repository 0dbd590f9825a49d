"""A run of the superpixel network's training, from its command line and images to its files; what it reads has been
checked."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.descriptions import find_data_set
from data.normalisation import Normalisation
from data.training import training_loader
from network.scn import SCN, load_scn, parameter_groups
from superpixel.loss import reconstruction_losses
from superpixel.samples import SuperpixelAugmentation, SuperpixelSet
from superpixel.validation import validate
from tool.cli import pace
from tool.device import autocast, place
from tool.distributed import leave_processes, means_over_processes, one_over_processes
from tool.optim import polynomial_schedule
from tool.training import Training
from tool.training_flags import steps_of_epochs
from tool.training_run import StartedRun, open_run, start_run


class HeldOut(NamedTuple):
    """Images and their masks, by id."""

    images: Mapping[str, Path]
    masks: Mapping[str, Path]


def build_training(net: SCN, *, lr: float) -> Training:
    """`net`, which is on its device, with Adam at a constant rate; nothing decays."""
    optimizer = torch.optim.Adam([{"params": group} for group in parameter_groups(net)], lr=lr)
    return Training(
        objective=one_over_processes(net),
        saved={"model": net},
        optimizer=optimizer,
        schedule=polynomial_schedule(optimizer, max_step=1, power=0),  # the rate stays
    )


def training_step(training: Training, image: Tensor, lab: Tensor, *, amp: str = "off") -> dict[str, Tensor]:
    """One optimiser step; the losses of all processes' images (`reconstruction_losses`), detached.

    image: float32 (N, 3, H, W), normalised. lab: uint8 (N, 3, H, W). H and W: multiples of 16.
    """
    with autocast(image.device, amp):
        association = training.objective(image)
    losses = reconstruction_losses(association, lab)
    training.step(losses["total"])
    return means_over_processes(losses)


def make_loader(
    args: argparse.Namespace,
    images: Mapping[str, Path],
    *,
    steps: range,
    normalisation: Normalisation,
    pin_memory: bool,
) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before and however many read."""
    augmentation = SuperpixelAugmentation(
        crop_size=args.crop_size,
        resize=(args.min_image_size, args.max_image_size),
        normalisation=normalisation,
        same_resize="resize" in args.sane,
        black_padding="padding" in args.sane,
    )
    return training_loader(
        SuperpixelSet(images, augmentation=augmentation, seed=args.seed),
        args.batch_size,
        seed=args.seed,
        steps=steps,
        num_workers=args.num_workers,
        pin_memory=pin_memory,
        shuffle="order" in args.sane,
    )


def log_validation(args: argparse.Namespace, net: SCN, started: StartedRun, held_out: HeldOut, step: int) -> list[str]:
    """Log what `validate` finds on `held_out` after `step` steps; the names of the curves. In all processes."""
    began = time.perf_counter()
    found = validate(
        net,
        held_out.images,
        held_out.masks,
        data_set=find_data_set(args.data_set),
        crop_size=args.crop_size,
        amp=args.amp,
    )
    curves = {f"val/{name.replace(' ', '_')}": value for name, value in found.items()}
    if started.log is not None:
        said = ", ".join(f"{name} {100 * value:.2f} %" for name, value in found.items())
        started.log.line(f"validated after step {step} {pace(began, len(held_out.images))}: {said}")
        started.log.scalars(step, curves)
    return list(curves)


def train_run(
    args: argparse.Namespace, images: Mapping[str, Path], held_out: HeldOut, *, settings: dict, defaults: dict
) -> None:
    """Train on `images`, by id, from the start or from the run's checkpoint, and write all the run's files.

    Args:
        args: train.py's. held_out: scored after each epoch, if it has images. settings, defaults: of
            `tool.training_run.Run`.

    Raises `UserError` for a device that is not there, a checkpoint or weights that do not fit, and as `run_steps`.
    """
    run, device, checkpoint = open_run(args, settings=settings, defaults=defaults)
    epoch, num_steps = len(images) // args.batch_size, steps_of_epochs(args, len(images))
    net = SCN()
    origin = "random weights"
    if checkpoint is None and args.weights != "none":
        origin = load_scn(net, args.weights)
    net = place(net, device, args.amp).train()
    training = build_training(net, lr=args.lr)
    started = start_run(
        run, training, checkpoint, origin=origin, num_steps=num_steps, num_images=len(images), name="superpixels"
    )
    curves: list[str] = []

    def take_step(batch: dict, step: int) -> dict[str, Tensor]:
        image, lab = (batch[name].to(device, non_blocking=True) for name in ("image", "lab"))
        losses = training_step(training, image, lab, amp=args.amp)
        if held_out.images and (step + 1) % epoch == 0:
            curves[:] = log_validation(args, net, started, held_out, step + 1)
        return losses

    losses = started.train(
        take_step,
        make_loader(
            args, images, steps=started.steps, normalisation=net.normalisation, pin_memory=device.type == "cuda"
        ),
        seed=args.seed,
        log_every=args.log_every,
        save_every=args.save_every,
    )
    leave_processes()
    if started.log is not None:
        started.end_with(net.state_dict(), args, losses, curves)
