"""Stage 1: train a CAM classifier from image labels.

    python train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency --session hsc

Released recipe (the defaults): ResNet-38 from the ImageNet `.params`, 20,000 steps of batch 12 at crop 448.
"""

import tool  # noqa: F401  # before torch

# isort: split
import argparse
import hashlib
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from method.hsc.arguments import check_arguments, parse_arguments
from method.hsc.build import Training, build_training, configure
from method.hsc.config import METHODS
from method.hsc.engine import classifier_precision, train
from network import build_network
from network.weights import load_weights, released_state_dict
from tool.checkpoint import save_checkpoint
from tool.cli import UserError, pace, require_file, require_folder, run_script
from tool.crf import resolve_backend
from tool.device import place, resolve_device
from tool.distributed import join_processes, leave_processes, own_cores, rank, world_size
from tool.lists import read_ids
from tool.lock import hold_folder
from tool.log import RunLog, curve_name
from tool.reading import outlive_signals
from tool.run import find_checkpoint, make_folder, restore_checkpoint
from voc12.dataset import EpochSampler, TrainingSet, check_training_files, hash_of_sizes
from voc12.labels import load_labels
from voc12.transforms import TrainingAugmentation

# Flags that may change between a run and its resumption: they do not touch the weights, or what they lead to is known.
FREE_TO_CHANGE = {
    *("resume", "device", "compile", "num_workers", "save_every", "log_every", "picture_every", "eval", "val_list"),
    *("work_dir", "train_list", "labels", "data_root", "saliency_root"),
}


def read_data(args: argparse.Namespace) -> tuple[list[str], dict]:
    """The training ids and the labels, after every file that training will read has been looked at."""
    require_folder(args.data_root, "--data_root", "JPEGImages, <id>.jpg")
    if "sal" in METHODS[args.method].terms:
        if args.saliency_root is None:
            raise UserError(f"--saliency_root: --method {args.method} needs a folder of saliency maps, <id>.png")
        require_folder(args.saliency_root, "--saliency_root", "saliency maps, <id>.png")
    else:
        args.saliency_root = None
    ids = read_ids(args.train_list, "--train_list")
    labels = load_labels(args.labels)
    check_training_files(ids, image_root=args.data_root, saliency_root=args.saliency_root, labels=labels)
    if args.batch_size > len(ids):
        raise UserError(f"--batch_size {args.batch_size}: {args.train_list} has {len(ids)} images; take at most that")
    return ids, labels


def read_validation(args: argparse.Namespace, labels: dict) -> list[str]:
    """The ids of `--val_list`, after their images and labels have been looked at."""
    ids = read_ids(args.val_list, "--val_list")
    check_training_files(ids, image_root=args.data_root, saliency_root=None, labels=labels)
    return ids


def settings_of(args: argparse.Namespace, ids: list[str], labels: dict) -> dict:
    """What decides what a run's weights become; ids, labels and saliency maps by themselves, wherever they lie.

    Images are taken to be what their ids say: one that was damaged may be mended.
    """
    content = hashlib.sha256()
    for image_id in ids:
        content.update(f"{image_id}\n{labels[image_id].tolist()}\n".encode())
    return {
        **{f"--{name}": value for name, value in vars(args).items() if name not in FREE_TO_CHANGE},
        "the ids of --train_list and their labels (sha256)": content.hexdigest(),
        "the maps of --saliency_root (sha256 of their sizes)": hash_of_sizes(ids, args.saliency_root),
    }


def make_loader(
    args: argparse.Namespace, ids: list[str], labels: dict, *, steps: range, pin_memory: bool
) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before and however many read."""
    dataset = TrainingSet(
        ids,
        image_root=args.data_root,
        saliency_root=args.saliency_root,
        labels=labels,
        augmentation=TrainingAugmentation(crop_size=args.crop_size, resize=tuple(args.resize_size)),
        seed=args.seed,
    )
    sampler = EpochSampler(
        len(ids),
        args.batch_size,
        seed=args.seed,
        start_step=steps.start,
        num_steps=len(steps),
        rank=rank(),
        world_size=world_size(),
    )
    workers = min(args.num_workers, own_cores())
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=outlive_signals,
    )


def make_training(args: argparse.Namespace, device: torch.device, crf_backend: str, *, num_images: int) -> Training:
    """What a run trains, with random weights."""
    torch.manual_seed(args.seed)
    config = configure(
        args.method,
        without=args.without,
        overlap=args.tau,
        foreground_share=args.alpha,
        second_view=args.view2_size,
        crf_backend=crf_backend,
        sane=args.sane,
    )
    net = build_network(
        config.network, backbone=args.backbone, width=args.width, frozen=not args.from_scratch, **config.net
    )
    return build_training(
        place(net, device, args.amp),
        config,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.wt_dec,
        max_step=num_images // args.batch_size * args.max_epoches,
        max_gradient=args.clip_grad,
        amp=args.amp,
        compiled=args.compile,
    )


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    device = join_processes(resolve_device(args.device))
    folder = Path(args.work_dir) / args.session
    if args.weights != "none" and not args.resume:  # a run that goes on has its own
        require_file(args.weights, "--weights", "the .params, .pth or .ckpt to start from, or none")
    ids, labels = read_data(args)
    val_ids = read_validation(args, labels) if args.eval else []
    settings = settings_of(args, ids, labels)
    crf_backend = resolve_backend(args.crf_backend, device)
    is_first = rank() == 0  # the others write nothing
    if is_first:
        hold_folder(folder, "--work_dir")
    checkpoint = find_checkpoint(folder, resume=args.resume, settings=settings, name_flag="--session")

    training = make_training(args, device, crf_backend, num_images=len(ids))
    net = training.net
    first_step, num_steps = 0, args.max_iters * args.iter_size
    if checkpoint is not None:
        first_step = restore_checkpoint(training, checkpoint, folder=folder, num_steps=num_steps)
        origin = "resumed"
    else:
        origin = "random weights" if args.weights == "none" else load_weights(net, args.weights)
    log = None
    if is_first:
        make_folder(folder, vars(args), flag="--work_dir")
        log = RunLog(folder, first_step=first_step)
        log.line(str(origin))
        where = f"{len(ids)} images, on {world_size()} x {device.type}"
        log.line(f"{args.method}: step {first_step} of {num_steps}, {where}")

    def save(step: int) -> None:
        if is_first:
            save_checkpoint(folder / "last.ckpt", {**training.state(), "step": step, "settings": settings})

    started, steps = time.perf_counter(), range(first_step, num_steps)
    losses = train(
        training,
        make_loader(args, ids, labels, steps=steps, pin_memory=device.type == "cuda"),
        device=device,
        steps=steps,
        seed=args.seed,
        log=log,
        log_every=args.log_every,
        picture_every=args.picture_every,
        save=save,
        save_due=lambda step: step % args.save_every == 0,
    )
    leave_processes()
    if log is None:
        return
    weights = folder / f"{args.session}.pth"
    save_checkpoint(weights, released_state_dict(net))
    log.line(f"trained {len(steps)} steps {pace(started, len(steps) * args.batch_size)}: {weights}")
    figures = [curve_name(name) for name in losses]
    if args.eval:
        started = time.perf_counter()
        precision = classifier_precision(net, val_ids, image_root=Path(args.data_root), labels=labels, device=device)
        score = f"mean average precision {100 * precision:.2f} %"
        log.line(f"scored image labels of {args.val_list} {pace(started, len(val_ids))}: {score}")
        log.scalars(num_steps, {"val/mean_average_precision": precision})
        figures.append("val/mean_average_precision")
    log.hparams(num_steps, vars(args), figures)
    log.close()


if __name__ == "__main__":
    run_script(main)
