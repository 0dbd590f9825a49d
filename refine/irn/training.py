"""A run of IRN's training, from its command line and images to its files; what it reads has been checked."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.utils.data import DataLoader

from data.descriptions import find_data_set
from data.normalisation import Normalisation
from data.training import LabelMapSet, training_loader
from network.backbone_weights import start_from
from network.irn import STRIDE, IRNet, edge_affinities, load_first_weights, with_aliases
from refine.irn.loss import WEIGHT, displacement_losses
from refine.irn.samples import IRNAugmentation, TopLeftSet
from refine.pairs import pair_labels, pair_losses
from refine.training import take_steps
from tool.device import autocast, place
from tool.distributed import (
    leave_processes,
    means_over_processes,
    one_over_processes,
    sum_over_processes,
    wait_for_all,
    world_size,
)
from tool.loop import reported_end_of_others
from tool.optim import PortableSGD, polynomial_schedule
from tool.pairs import Pairs, pairs_of
from tool.reading import none_left_behind
from tool.reading import started as started_loader
from tool.training import Training
from tool.training_flags import steps_of_epochs
from tool.training_run import open_run, start_run

RADIUS = 10  # cells: pairs are nearer


class Objective(nn.Module):
    """A net's affinities of the pairs of a grid and, where it has them, its displacements."""

    def __init__(self, net: IRNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, pairs: Pairs, amp: str) -> tuple[Tensor, Tensor | None]:
        with autocast(image.device, amp):
            logits, displacement = self.net(image)
        return edge_affinities(logits, pairs), displacement


def build_training(
    net: IRNet,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    num_steps: int,
    amp: str = "off",
    max_gradient: float | None = None,
) -> Training:
    """`net`, which is on its device, with SGD and the polynomial schedule over all its steps."""
    groups = [
        {"params": [value for name, value in net.named_parameters() if name.startswith(beginning)], "lr": lr * factor}
        for beginning, factor in IRNet.RATES.items()
    ]
    groups = [{**group, "weight_decay": weight_decay} for group in groups if group["params"]]
    optimizer = PortableSGD(groups, lr=lr, momentum=momentum)
    return Training(
        objective=one_over_processes(Objective(net)),
        saved={"model": net},
        optimizer=optimizer,
        schedule=polynomial_schedule(optimizer, max_step=num_steps),
        scaler=GradScaler(next(net.parameters()).device.type, enabled=amp == "fp16"),
        max_gradient=max_gradient,
    )


def irn_losses(affinities: Tensor, displacement: Tensor | None, label: Tensor, pairs: Pairs) -> dict[str, Tensor]:
    """Those of `pair_losses` and, with displacements, of `displacement_losses`; `total` is what trains.

    label: int64 (N, h, w), a quarter of the image's; 0 background, 255 unknown.
    """
    labels = pair_labels(label, pairs)
    losses = pair_losses(affinities, labels)
    if displacement is None:
        return losses
    more = displacement_losses(displacement, labels, pairs)
    return {**losses, **more, "total": losses["total"] + WEIGHT * sum(more.values())}


def training_step(
    training: Training, image: Tensor, label: Tensor, pairs: Pairs, *, amp: str = "off"
) -> dict[str, Tensor]:
    """One optimiser step; the losses of all processes' images and the numbers of their pairs, detached.

    image: float32 (N, 3, H, W), normalised. label: of `irn_losses`.
    """
    losses = irn_losses(*training.objective(image, pairs, amp), label, pairs)
    training.step(losses["total"])
    return means_over_processes(losses)


@torch.no_grad()
def mean_displacement(net: IRNet, loader: Iterable[dict], device: torch.device, amp: str) -> Tensor:
    """The mean displacement, (2), over all batches of all processes, by `net` with the mean shift that it has."""
    net.eval()
    total, batches = torch.zeros(2, device=device), 0
    for batch in loader:
        with autocast(device, amp):
            _, displacement = net(batch["image"].to(device, non_blocking=True))
        total += displacement.mean(dim=(0, 2, 3))
        batches += 1
    wait_for_all()
    return sum_over_processes(total) / (batches * world_size())


def set_mean_shift(args: argparse.Namespace, net: IRNet, images: Mapping[str, Path], device: torch.device) -> None:
    """Put into `net` the mean displacement over full batches of `images`, by id."""
    loader = training_loader(
        TopLeftSet(images, crop_size=args.crop_size, normalisation=net.normalisation),
        args.batch_size,
        seed=args.seed,
        steps=range(len(images) // args.batch_size),
        num_workers=args.num_workers,
        pin_memory=device.type == "cuda",
        shuffle=False,
    )
    with none_left_behind(), reported_end_of_others():
        net.mean_shift.running_mean.copy_(mean_displacement(net, started_loader(loader), device, args.amp))


def make_loader(
    args: argparse.Namespace,
    images: Mapping[str, Path],
    *,
    steps: range,
    normalisation: Normalisation,
    pin_memory: bool,
) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before and however many read."""
    dataset = LabelMapSet(
        images,
        label_root=Path(args.ir_label_out_dir),
        data_set=find_data_set(args.data_set),
        augmentation=IRNAugmentation(crop_size=args.crop_size, normalisation=normalisation),
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


def train_run(
    args: argparse.Namespace,
    images: Mapping[str, Path],
    shift_images: Mapping[str, Path],
    *,
    settings: dict,
    defaults: dict,
) -> None:
    """Train on `images`, by id, from the start or from the run's checkpoint, and write all the run's files.

    Args:
        args: train.py's. shift_images: that the mean shift is of, where there are displacements. settings, defaults: of
            `tool.training_run.Run`.

    Raises `UserError` for a device that is not there, a checkpoint or weights that do not fit, and as `run_steps`.
    """
    run, device, checkpoint = open_run(args, settings=settings, defaults=defaults)
    num_steps = steps_of_epochs(args, len(images))
    net = place(IRNet(args.backbone, width=args.width, displacement=args.displacement), device, args.amp)
    origin = None
    if checkpoint is None:
        origin = start_from(args.weights, lambda: load_first_weights(net, args.weights, args.backbone))
    training = build_training(
        net,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.wt_dec,
        num_steps=num_steps,
        amp=args.amp,
        max_gradient=args.clip_grad,
    )
    started = start_run(
        run, training, checkpoint, origin=origin, num_steps=num_steps, num_images=len(images), name="IRN"
    )
    cells = args.crop_size // STRIDE
    pairs = pairs_of(cells, cells, radius=RADIUS)
    loader = make_loader(
        args, images, steps=started.steps, normalisation=net.normalisation, pin_memory=device.type == "cuda"
    )
    source = "the label maps of --ir_label_out_dir"
    losses = take_steps(args, started, loader, training_step, pairs, source=source)
    if args.displacement:
        set_mean_shift(args, net, shift_images, device)
    leave_processes()
    if started.log is not None:
        state = {name: value.cpu() for name, value in net.state_dict().items()}
        started.end_with(with_aliases(state), args, losses)
