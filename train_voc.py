"""Stage 1: train a CAM classifier from image labels.

    python train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency --session hsc

Released recipe (the defaults): ResNet-38 from the ImageNet `.params`, 20,000 steps of batch 12 at crop 448.
"""

import tool  # noqa: F401  # before torch

# isort: split
import argparse
import hashlib
import math
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from method.hsc.build import ABLATIONS, Training, build_training, configure
from method.hsc.config import METHODS
from method.hsc.engine import classifier_precision, train
from network import build_network, resolve_network
from network.backbones import BACKBONES
from network.weights import load_weights, released_state_dict
from tool.checkpoint import save_checkpoint
from tool.cli import UserError, add_switch, cores, positive, require_folder, run_script
from tool.crf import BACKENDS, resolve_backend
from tool.device import AMP_TYPES, place, resolve_device
from tool.distributed import join_processes, leave_processes, rank, world_size
from tool.log import RunLog
from tool.run import find_checkpoint, hold_folder, make_folder, restore_checkpoint
from voc12.dataset import EpochSampler, TrainingSet, check_training_files
from voc12.labels import load_labels
from voc12.lists import read_ids
from voc12.transforms import TrainingAugmentation

RELEASED_WEIGHTS = "network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
# Flags that may change between a run and its resumption: they do not touch the weights, or what they lead to is known.
FREE_TO_CHANGE = {
    *("resume", "device", "num_workers", "save_every", "log_every", "eval", "val_list", "work_dir"),
    *("train_list", "labels"),
}
MAX_PIXELS, MAX_STEPS = 4096, 10**9
# What numbers may be: rates that float32 holds, heads' too; sizes and steps that anybody could want.
BOUNDS = {
    **dict.fromkeys(("tau", "alpha", "momentum"), (0, 1)),
    **dict.fromkeys(("lr", "wt_dec"), (0, 1e30)),
    **dict.fromkeys(("crop_size", "view2_size"), (1, MAX_PIXELS)),
    "num_workers": (0, 4096),
    "seed": (0, 2**32 - 1),
}
EPILOG = """examples:
  the released recipe      train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency
  another backbone         ... --backbone mobilenet_v2 --weights mobilenet_v2.pth
  an ablation              ... --without psc --session hsc_without_psc
  go on after a stop       the same command with --resume
  four GPUs                torchrun --nproc_per_node 4 train_voc.py ...
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Stage 1: train a CAM classifier from image labels.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data_root", required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")
    data.add_argument("--saliency_root", help="folder of <id>.png saliency maps; all methods but cls need it")
    data.add_argument("--train_list", default="voc12/train_aug.txt", help="ids to train on (%(default)s)")
    data.add_argument("--val_list", default="voc12/val.txt", help="ids that --eval scores (%(default)s)")
    data.add_argument("--labels", default="voc12/cls_labels.npy", help="image labels (%(default)s)")
    data.add_argument("--num_workers", type=int, default=12, help="loader processes (%(default)s)")

    run = parser.add_argument_group("run")
    run.add_argument("--session_name", "--session", dest="session", help="the run's name (default: the method's)")
    run.add_argument("--work_dir", default="./exps", help="runs go to <work_dir>/<session>/ (%(default)s)")
    run.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (%(default)s)")
    run.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    run.add_argument("--amp", choices=AMP_TYPES, default="off", help="the network in half the precision (%(default)s)")
    add_switch(run, "--compile", default=False, help="compile the network, on a GPU (False)")
    run.add_argument("--save_every", type=positive, default=500, metavar="STEPS", help="checkpoint (%(default)s)")
    run.add_argument("--log_every", type=positive, default=20, metavar="STEPS", help="log line (%(default)s)")
    add_switch(run, "--resume", default=False, help="go on from <work_dir>/<session>/last.ckpt where there is one")
    add_switch(run, "--eval", default=False, help="score image labels on --val_list at the end (mean AP)")

    method = parser.add_argument_group("method")
    method.add_argument("--method", choices=METHODS, default="hsc", help="(%(default)s)")
    method.add_argument("--without", nargs="+", choices=ABLATIONS, default=[], help="leave these out of hsc")
    method.add_argument("--network", help="resnet38_hsc, resnet38_cls or a released module path (the method's)")
    method.add_argument("--backbone", choices=BACKBONES, default="resnet38d", help="(%(default)s)")
    method.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    method.add_argument("--weights", default=RELEASED_WEIGHTS, help=".params, .pth, .ckpt, or none (%(default)s)")
    method.add_argument("--tau", type=float, default=0.5, help="salient share that makes foreground (%(default)s)")
    method.add_argument("--alpha", type=float, default=0.5, help="foreground's share in saliency (%(default)s)")
    method.add_argument("--crf_backend", choices=BACKENDS, default="auto", help="auto: torch on a GPU, else pydensecrf")
    add_switch(method, "--from_scratch", default=False, help="train batch norm and first blocks too (False)")

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--batch_size", type=positive, default=12, help="images a step, over all processes (%(default)s)"
    )
    recipe.add_argument("--max_iters", type=positive, default=10000, help="iterations (%(default)s)")
    recipe.add_argument("--iter_size", type=positive, default=2, help="steps an iteration, each its own (%(default)s)")
    recipe.add_argument("--max_epoches", type=positive, default=15, help="epochs the rate decays over (%(default)s)")
    recipe.add_argument("--lr", type=float, default=0.01, help="backbone weights' rate; heads: x 10 (%(default)s)")
    recipe.add_argument("--wt_dec", type=float, default=5e-4, help="weight decay (%(default)s)")
    recipe.add_argument("--momentum", type=float, default=5e-4, help="as released; usual is 0.9 (%(default)s)")
    recipe.add_argument("--crop_size", type=positive, default=448, help="pixels (%(default)s)")
    recipe.add_argument(
        "--resize_size", type=positive, nargs=2, default=[448, 768], metavar=("MIN", "MAX"),
        help="longer side of an image before the crop, pixels (448 768)",
    )  # fmt: skip
    recipe.add_argument("--clip_grad", type=float, metavar="NORM", help="cut a step's gradient to that (never)")
    recipe.add_argument("--view2_size", type=positive, default=128, help="second view's side, pixels (%(default)s)")
    args = parser.parse_args()
    args.session = args.session or args.method
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    for flag, (low, high) in BOUNDS.items():
        if not low <= getattr(args, flag) <= high:  # so written, it refuses nan
            raise UserError(f"--{flag} {getattr(args, flag)}: expected a number from {low} to {high}")
    smaller, larger = args.resize_size
    if not smaller <= larger <= MAX_PIXELS:
        raise UserError(f"--resize_size {smaller} {larger}: expected the smaller number first, at most {MAX_PIXELS}")
    if args.max_iters * args.iter_size > MAX_STEPS:
        raise UserError(f"--max_iters {args.max_iters}: expected at most {MAX_STEPS} steps, --max_iters x --iter_size")
    if args.clip_grad is not None and not 0 < args.clip_grad < math.inf:
        raise UserError(f"--clip_grad {args.clip_grad}: expected a finite norm above 0")
    network = METHODS[args.method].network
    if args.network is not None and resolve_network(args.network) != network:
        raise UserError(f"--network {args.network}: --method {args.method} trains {network}; leave --network out")
    if args.compile and resolve_device(args.device).type == "cpu":
        raise UserError("--compile: expected a GPU, found a CPU, where it gains nothing; leave it out")
    if Path(args.session).name != args.session or args.session in ("", ".", ".."):
        raise UserError(f"--session {args.session}: expected a plain name, it becomes a folder in --work_dir")
    if METHODS[args.method].second_view is None and args.without:
        raise UserError(f"--without {' '.join(args.without)}: --method {args.method} has none of these terms")


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
    """What decides what a run's weights become; images and saliency maps by their folders, ids and labels as such."""
    content = hashlib.sha256()
    for image_id in ids:
        content.update(f"{image_id}\n{labels[image_id].tolist()}\n".encode())
    return {
        **{f"--{name}": value for name, value in vars(args).items() if name not in FREE_TO_CHANGE},
        "the ids of --train_list and their labels (sha256)": content.hexdigest(),
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
    workers = min(args.num_workers, cores())
    return DataLoader(dataset, batch_sampler=sampler, num_workers=workers, pin_memory=pin_memory)


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
    )
    net = build_network(config.network, backbone=args.backbone, width=args.width, frozen=not args.from_scratch)
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
        where = f"{world_size()} x {device.type}"
        log.line(f"{args.method}: {origin}; step {first_step} of {num_steps}, {len(ids)} images, on {where}")

    def save(step: int) -> None:
        if is_first:
            save_checkpoint(folder / "last.ckpt", {**training.state(), "step": step, "settings": settings})

    steps = range(first_step, num_steps)
    train(
        training,
        make_loader(args, ids, labels, steps=steps, pin_memory=device.type == "cuda"),
        device=device,
        steps=steps,
        seed=args.seed,
        log=log,
        log_every=args.log_every,
        save=save,
        save_due=lambda step: step % args.save_every == 0,
    )
    leave_processes()
    if log is None:
        return
    weights = folder / f"{args.session}.pth"
    save_checkpoint(weights, released_state_dict(net))
    log.line(f"weights: {weights}")
    if args.eval:
        precision = classifier_precision(net, val_ids, image_root=Path(args.data_root), labels=labels, device=device)
        log.line(f"image labels of {args.val_list}: mean average precision {100 * precision:.2f} %")
        log.scalars(num_steps, {"val/mean_average_precision": precision})
    log.close()


if __name__ == "__main__":
    run_script(main)
