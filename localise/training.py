"""A run of localisation's training, from its command line and images to its files; what it reads has been checked."""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from data.cub import Cub
from data.training import steps_of_epoch, training_loader
from localise.arguments import SIDE
from localise.evaluation import Recipe, evaluate, line_of, test_loader
from localise.loss import branch_losses, is_consistent
from localise.samples import LocalisationAugmentation, LocalisationSet
from network import PRETRAINED
from network.crt import CNNBranch, load_cnn
from network.localiser import Localiser, LocaliserTransformer
from network.vit import load_vit
from tool.artifact import write_json
from tool.checkpoint import save_checkpoint
from tool.cli import UserError, pace
from tool.device import autocast, place
from tool.distributed import (
    first_alone,
    leave_processes,
    one_over_processes,
    sum_over_processes,
    world_size,
)
from tool.training import Training
from tool.training_run import StartedRun, open_run, start_run

UNDECAYED = ("cls_token", "pos_embed")
HEAD_FACTOR = 10  # of the CNN's rate, for its classifier
# What each epoch's test leaves behind, per cent.
KEPT = ("loc_top1", "loc_top5", "gt_known", "cls_top1", "cls_top5")
# By the file that keeps the best epoch's transformer, what is best: **Q** on the test set.
BEST = {"model_best_top1_loc.pth": "loc_top1", "model_best.pth": "gt_known"}


class History(nn.Module):
    """The tests of a run's epochs so far, per cent, as a part of its state."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.register_buffer("scores", torch.zeros(epochs, len(KEPT), dtype=torch.float64))
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))

    def add(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Of an epoch, from 1."""
        self.scores[epoch - 1] = torch.tensor([scores[name] for name in KEPT], dtype=torch.float64)
        self.done.fill_(epoch)

    def of(self, epoch: int) -> dict[str, float]:
        return dict(zip(KEPT, self.scores[epoch - 1].tolist(), strict=True))

    def best(self, name: str) -> int:
        """The epoch of the highest score so far, the first of equals."""
        return int(self.scores[: int(self.done), KEPT.index(name)].argmax()) + 1


def transformer_groups(branch: LocaliserTransformer, *, weight_decay: float) -> list[dict]:
    """AdamW's two groups: without decay (biases, norms, `cls_token`, `pos_embed`), and with it."""
    parameters = list(branch.named_parameters())
    plain = [p for name, p in parameters if p.ndim == 1 or name in UNDECAYED]
    decayed = [p for name, p in parameters if not (p.ndim == 1 or name in UNDECAYED)]
    return [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]


def cnn_groups(branch: CNNBranch, *, lr: float) -> list[dict]:
    """SGD's two groups of what trains: the ResNet's, and the classifier at ten times the rate."""
    trained = [parameter for parameter in branch.resnet50.parameters() if parameter.requires_grad]
    return [{"params": trained, "lr": lr}, {"params": branch.classifier.parameters(), "lr": HEAD_FACTOR * lr}]


def build_training(
    net: Localiser,
    *,
    lr: float,
    weight_decay: float,
    cnn_lr: float,
    cnn_weight_decay: float,
    rate: Callable[[int], float],
    saved: Mapping[str, Any],
) -> Training:
    """`net`, which is on its device: AdamW for the transformer, its rate times `rate` of the step, from 0; SGD without
    momentum for the CNN, at a constant rate. saved: what a checkpoint holds beside them."""
    optimizer = AdamW(transformer_groups(net.transformer, weight_decay=weight_decay), lr=lr)
    return Training(
        objective=one_over_processes(net),
        saved={"model": net, **saved},
        optimizer=optimizer,
        schedule=LambdaLR(optimizer, rate),
        beside=SGD(cnn_groups(net.cnn, lr=cnn_lr), lr=cnn_lr, weight_decay=cnn_weight_decay),
    )


def training_step(
    training: Training, image: Tensor, label: Tensor, *, epoch: int, share: float = 1.0, amp: str = "off"
) -> dict[str, Tensor]:
    """One step of both optimisers; the losses of all processes' images (`branch_losses`), detached.

    image: float32 (N, 3, 224, 224), normalised. label: int64 (N). epoch: from 1. share: of the step's images that this
    process has, times the number of processes; 1 where all have as many.
    """
    with autocast(image.device, amp):
        maps = training.objective(image)
    losses = branch_losses(*maps, label, consistent=is_consistent(epoch))
    training.step(share * losses["total"])
    means = sum_over_processes(share * torch.stack(list(losses.values()))) / world_size()
    return dict(zip(losses, means, strict=True))


class Tests:
    """The tests between epochs: entered into the history and the log; the best epochs' transformers are written."""

    def __init__(self, args: argparse.Namespace, cub: Cub, net: Localiser, history: History) -> None:
        self.net, self.history, self.cub = net, history, cub
        self.steps_per_epoch = steps_of_epoch(len(cub.train), args.batch_size, keep_last=True)
        half = "half" in args.sane
        self.recipe = Recipe(args.cam_thr, half, args.test_batch_size, args.num_workers, args.amp)

    def test(self, epoch: int, started: StartedRun) -> None:
        """After `epoch`, from 1, in all processes."""
        began, branch, images = time.perf_counter(), self.net.transformer, self.cub.test
        self.net.eval()
        on_gpu = next(branch.parameters()).is_cuda
        loader = test_loader(images, self.recipe, branch.normalisation, pin_memory=on_gpu)
        found = evaluate(branch, loader, images, self.recipe, show=started.log is not None).summary
        self.net.train()
        self.history.add(epoch, found)
        if started.log is None:
            return
        started.log.line(f"epoch {epoch}, tested {pace(began, len(images))}: {line_of(found)}")
        started.log.scalars(epoch * self.steps_per_epoch, {f"test/{name}": found[name] for name in KEPT})
        for file, name in BEST.items():
            if self.history.best(name) == epoch:
                self.save(started.run.folder / file, epoch)

    def save(self, path: Path, epoch: int) -> None:
        """Write the transformer as the released code does, so that either reads the other's."""
        best = self.history.of(self.history.best("gt_known"))["gt_known"]
        state = {f"module.{name}": value.cpu() for name, value in self.net.transformer.state_dict().items()}
        save_checkpoint(path, {"epoch": epoch, "state_dict": state, "best_map": best})

    def end(self, started: StartedRun, last: int) -> None:
        """Write the last epoch's transformer, and the scores of all epochs; say the best's and the last's.

        Raises `UserError` with the best epochs' files that are gone, which a run that goes on cannot write again.
        """
        self.save(started.run.folder / f"model_epoch{last}.pth", last)
        best = {name: self.history.best(name) for name in BEST.values()}
        kept = {name: {"epoch": epoch, **self.history.of(epoch)} for name, epoch in [*best.items(), ("last", last)]}
        epochs = [self.history.of(epoch) for epoch in range(1, last + 1)]
        write_json(started.run.folder / "scores.json", {**kept, "epochs": epochs})
        for name, epoch in ((f"best Top-1, chosen on the test set: epoch {best['loc_top1']}", best["loc_top1"]),
                            (f"last: epoch {last}", last)):  # fmt: skip
            started.log.line(f"{name}: {line_of(self.history.of(epoch))}")
        folder = started.run.folder
        gone = [f"{file} of epoch {best[name]}" for file, name in BEST.items() if not (folder / file).is_file()]
        if gone:
            raise UserError(
                f"{folder}: gone, and not in last.ckpt: {', '.join(gone)}; take model_epoch{last}.pth, or train again"
                " under another --session"
            )


def make_loader(args: argparse.Namespace, cub: Cub, net: Localiser, *, steps: range, pin_memory: bool) -> Iterable:
    """This process's share of the batches of `steps`, the same whatever was run before and however many read."""
    augmentation = LocalisationAugmentation(
        resize_size=args.resize_size, crop_size=SIDE, normalisation=net.transformer.normalisation
    )
    return training_loader(
        LocalisationSet(cub.train, augmentation=augmentation, seed=args.seed),
        args.batch_size,
        seed=args.seed,
        steps=steps,
        num_workers=args.num_workers,
        pin_memory=pin_memory,
        keep_last=True,
    )


def first_weights(args: argparse.Namespace, net: Localiser) -> str:
    """Put the weights that a fresh run starts from into `net`; lines on them."""
    branches = (
        (load_vit, net.transformer, args.transformer, "transformer_weights"),
        (load_cnn, net.cnn, args.backbone, "weights"),
    )
    lines = []
    with first_alone(PRETRAINED in (args.transformer_weights, args.weights)):
        for load, branch, name, flag in branches:
            path, random = getattr(args, flag), f"{name}: random weights"
            lines.append(random if path == "none" else str(load(branch, name, path, flag=f"--{flag}")))
    return "\n".join(lines)


def make_step(
    args: argparse.Namespace, cub: Cub, started: StartedRun, tests: Tests
) -> Callable[[dict, int], dict[str, Tensor]]:
    """From a loader's batch and the number of steps done before it to the losses of the step that it makes; after the
    last step of an epoch the epoch is tested."""
    training, steps_per_epoch = started.training, tests.steps_per_epoch
    device = next(training.objective.parameters()).device

    def take_step(batch: dict, step: int) -> dict[str, Tensor]:
        image, label = (batch[name].to(device, non_blocking=True) for name in ("image", "label"))
        position = step % steps_per_epoch
        together = min(args.batch_size, len(cub.train) - position * args.batch_size)
        share = len(image) * world_size() / together
        losses = training_step(training, image, label, epoch=step // steps_per_epoch + 1, share=share, amp=args.amp)
        if position == steps_per_epoch - 1:
            tests.test(step // steps_per_epoch + 1, started)
        return losses

    return take_step


def train_run(args: argparse.Namespace, cub: Cub, *, settings: dict, defaults: dict) -> None:
    """Train on `cub`, from the start or from the run's checkpoint, test after each epoch, and write all the files.

    Args:
        args: train.py's. settings, defaults: of `tool.training_run.Run`.

    Raises `UserError` for a device that is not there, a checkpoint or weights that do not fit, and as `run_steps`.
    """
    run, device, checkpoint = open_run(args, settings=settings, defaults=defaults)
    steps_per_epoch = steps_of_epoch(len(cub.train), args.batch_size, keep_last=True)
    num_steps = steps_per_epoch * args.max_epoches
    net = Localiser(
        args.transformer,
        args.backbone,
        num_classes=cub.data_set.num_classes,
        drop_path=args.drop_path,
        frozen=not args.from_scratch,
    )
    net = place(net, device, args.amp)
    origin = first_weights(args, net) if checkpoint is None else None
    history = History(args.max_epoches)
    training = build_training(
        net,
        lr=args.lr,
        weight_decay=args.wt_dec,
        cnn_lr=args.cnn_lr,
        cnn_weight_decay=args.cnn_wt_dec,
        rate=lambda step: args.lr_factor ** sum(step // steps_per_epoch + 1 >= epoch for epoch in args.lr_epochs),
        saved={"history": history},
    )
    started = start_run(
        run, training, checkpoint, origin=origin, num_steps=num_steps, num_images=len(cub.train), name="localisation"
    )
    tests = Tests(args, cub, net, history)
    losses = started.train(
        make_step(args, cub, started, tests),
        make_loader(args, cub, net, steps=started.steps, pin_memory=device.type == "cuda"),
        seed=args.seed,
        log_every=args.log_every,
        save_every=args.save_every,
        epoch=steps_per_epoch,  # whose test may have written the best weights: the history has to know of them
    )
    leave_processes()
    if started.log is not None:
        tests.end(started, args.max_epoches)
        best = run.folder / next(iter(BEST))
        started.say_trained(len(cub.train) * len(started.steps) // steps_per_epoch, best)
        started.end(losses)
