"""A run of AffinityNet's training, from its command line and images to its files; what it reads has been checked."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.amp import GradScaler
from torch.utils.data import DataLoader

from data.descriptions import find_data_set
from data.normalisation import Normalisation
from data.training import training_loader
from network import PRETRAINED
from network.affinity import AffNet, build_affinity_net, load_first_weights
from network.backbone_weights import load_pretrained, start_from
from network.weights import released_state_dict
from refine.affinity.labels import STRIDE
from refine.affinity.samples import AffinityAugmentation, AffinitySet
from refine.pairs import pair_labels, pair_losses
from refine.training import take_steps
from tool.device import autocast, place
from tool.distributed import leave_processes, means_over_processes, one_over_processes
from tool.optim import PortableSGD, parameter_groups, polynomial_schedule
from tool.pairs import Pairs, pairs_of
from tool.training import Training
from tool.training_flags import steps_of_epochs
from tool.training_run import open_run, start_run


def build_training(
    net: AffNet,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    num_steps: int,
    amp: str = "off",
    max_gradient: float | None = None,
) -> Training:
    """`net`, which is on its device, with SGD and the polynomial schedule over all its steps."""
    groups = parameter_groups(net, head_layers=net.head_layers, lr=lr, weight_decay=weight_decay)
    optimizer = PortableSGD(groups, lr=lr, momentum=momentum)
    return Training(
        objective=one_over_processes(net),
        saved={"model": net},
        optimizer=optimizer,
        schedule=polynomial_schedule(optimizer, max_step=num_steps),
        scaler=GradScaler(next(net.parameters()).device.type, enabled=amp == "fp16"),
        max_gradient=max_gradient,
    )


def training_step(
    training: Training, image: Tensor, label: Tensor, pairs: Pairs, *, amp: str = "off"
) -> dict[str, Tensor]:
    """One optimiser step; the losses of all processes' images and the numbers of their pairs (`pair_losses`), detached.

    image: float32 (N, 3, H, W), normalised. label: int64 (N, H / 8, W / 8), of `grid_labels`.
    """
    with autocast(image.device, amp):
        affinities = training.objective(image, pairs)
    losses = pair_losses(affinities, pair_labels(label, pairs))
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
    augmentation = AffinityAugmentation(
        crop_size=args.crop_size, normalisation=normalisation, grey_padding="padding" in args.sane
    )
    dataset = AffinitySet(
        images,
        low_root=Path(args.la_crf_dir),
        high_root=Path(args.ha_crf_dir),
        data_set=find_data_set(args.data_set),
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


def first_weights(args: argparse.Namespace, net: AffNet) -> object:
    """Put the weights that a fresh run starts from into `net`; a line on them."""

    def load() -> object:
        downloads = args.weights == PRETRAINED
        return load_pretrained(net, args.backbone) if downloads else load_first_weights(net, args.weights)

    return start_from(args.weights, load)


def train_run(args: argparse.Namespace, images: Mapping[str, Path], *, settings: dict, defaults: dict) -> None:
    """Train on `images`, by id, from the start or from the run's checkpoint, and write all the run's files.

    Args:
        args: train.py's. settings, defaults: of `tool.training_run.Run`.

    Raises `UserError` for a device that is not there, a checkpoint or weights that do not fit, and as `run_steps`.
    """
    run, device, checkpoint = open_run(args, settings=settings, defaults=defaults)
    num_steps = steps_of_epochs(args, len(images))
    net = build_affinity_net(backbone=args.backbone, width=args.width, frozen=not args.from_scratch)
    net = place(net, device, args.amp)
    origin = first_weights(args, net) if checkpoint is None else None
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
        run, training, checkpoint, origin=origin, num_steps=num_steps, num_images=len(images), name="AffinityNet"
    )
    cells = args.crop_size // STRIDE
    pairs = pairs_of(cells, cells, everywhere="border_pairs" in args.sane)
    loader = make_loader(
        args, images, steps=started.steps, normalisation=net.normalisation, pin_memory=device.type == "cuda"
    )
    source = "the posteriors of --la_crf_dir and --ha_crf_dir"
    losses = take_steps(args, started, loader, training_step, pairs, source=source)
    leave_processes()
    if started.log is not None:
        started.end_with(released_state_dict(net), args, losses)
