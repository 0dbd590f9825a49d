"""The command line of stage 1's training: its flags, what they may be, and which go together."""

import argparse
import math
from pathlib import Path

from method.hsc.config import ABLATIONS, CONTRAST_TERMS, METHODS, RECIPES, SANE, mendable
from network import BACKBONES, resolve_network
from tool.cli import UserError, add_switch, path_text, positive, script_parser
from tool.flags import AMP, CRF_BACKENDS

RELEASED_WEIGHTS = "network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
MAX_PIXELS, MAX_STEPS = 4096, 10**9
# What numbers may be: rates that float32 holds, heads' too; sizes and steps that anybody could want.
BOUNDS = {
    **dict.fromkeys(("tau", "alpha", "momentum"), (0, 1)),
    **dict.fromkeys(("lr", "wt_dec"), (0, 1e30)),
    **dict.fromkeys(("crop_size", "view2_size"), (1, MAX_PIXELS)),
    "num_workers": (0, 4096),
    "seed": (0, 2**32 - 1),
}
EXAMPLES = """\
  # the released recipe
  python train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency
  # go on after a stop: the same command with --resume
  python train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency --resume
  # an ablation, beside it
  python train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency \\
      --without psc --session hsc_without_psc
  # the plain classifier, which needs no saliency
  python train_voc.py --data_root VOC2012/JPEGImages --method cls
  # another backbone
  python train_voc.py --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency \\
      --backbone mobilenet_v2 --weights mobilenet_v2.pth
  # four GPUs
  torchrun --nproc_per_node 4 train_voc.py --data_root VOC2012/JPEGImages \\
      --saliency_root VOC2012/saliency
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 1: train a CAM classifier from image labels.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")
    data.add_argument(
        "--saliency_root", type=path_text, help="folder of <id>.png saliency maps; all methods but cls need it"
    )
    data.add_argument(
        "--train_list", type=path_text, default="voc12/train_aug.txt", help="ids to train on (%(default)s)"
    )
    data.add_argument(
        "--val_list", type=path_text, default="voc12/val.txt", help="ids that --eval scores (%(default)s)"
    )
    data.add_argument("--labels", type=path_text, default="voc12/cls_labels.npy", help="image labels (%(default)s)")
    data.add_argument("--num_workers", type=int, default=12, help="loader processes (%(default)s)")

    run = parser.add_argument_group("run")
    run.add_argument("--session_name", "--session", dest="session", help="the run's name (default: the method's)")
    run.add_argument(
        "--work_dir", type=path_text, default="./exps", help="runs go to <work_dir>/<session>/ (%(default)s)"
    )
    run.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (%(default)s)")
    run.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    run.add_argument("--amp", choices=AMP, default="off", help="the network in half the precision (%(default)s)")
    add_switch(run, "--compile", default=False, help="compile the network, on a GPU (False)")
    run.add_argument("--save_every", type=positive, default=500, metavar="STEPS", help="checkpoint (%(default)s)")
    run.add_argument("--log_every", type=positive, default=20, metavar="STEPS", help="log line (%(default)s)")
    run.add_argument(
        "--picture_every", type=positive, default=500, metavar="STEPS", help="CAM in TensorBoard (%(default)s)"
    )
    add_switch(run, "--resume", default=False, help="go on from <work_dir>/<session>/last.ckpt where there is one")
    add_switch(run, "--eval", default=False, help="score image labels on --val_list at the end (mean AP)")

    method = parser.add_argument_group("method")
    method.add_argument("--method", choices=METHODS, default="hsc", help="(%(default)s)")
    method.add_argument("--without", nargs="+", choices=ABLATIONS, default=[], help="leave these out of hsc")
    method.add_argument(
        "--sane", nargs="+", choices=[*SANE, "all"], default=[], metavar="ODDITY",
        help=f"mend these oddities of the recipe, which paper/deviations.md lists: all, {', '.join(SANE)}",
    )  # fmt: skip
    method.add_argument(
        "--recipe", choices=RECIPES, default="released",
        help="released, or sane: mend those of the oddities that cost most on photographs (%(default)s)",
    )  # fmt: skip
    method.add_argument("--network", help="resnet38_hsc, resnet38_cls or a released module path (the method's)")
    method.add_argument("--backbone", choices=BACKBONES, default="resnet38d", help="(%(default)s)")
    method.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    method.add_argument(
        "--weights",
        type=path_text,
        default=RELEASED_WEIGHTS,
        help=".params, .pth, .ckpt, .safetensors, or none (%(default)s)",
    )
    method.add_argument("--tau", type=float, default=0.5, help="salient share that makes foreground (%(default)s)")
    method.add_argument("--alpha", type=float, default=0.5, help="foreground's share in saliency (%(default)s)")
    method.add_argument(
        "--crf_backend", choices=CRF_BACKENDS, default="auto", help="auto: torch on a GPU, else pydensecrf"
    )
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
    # Names for many oddities mean those that the method has. They are recorded one by one.
    many = {*RECIPES[args.recipe], *(SANE if "all" in args.sane else ())}
    args.sane = sorted(({*args.sane} - {"all"}) | (many & {*mendable(METHODS[args.method])}))
    del args.recipe
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
    if Path(args.session).name != args.session or args.session in ("", ".", ".."):
        raise UserError(f"--session {args.session}: expected a plain name, it becomes a folder in --work_dir")
    method = METHODS[args.method]
    there = {"without": ABLATIONS if CONTRAST_TERMS & method.terms else (), "sane": mendable(method)}
    for flag, known in there.items():
        strange = [name for name in getattr(args, flag) if name not in known]
        if strange:
            raise UserError(f"--{flag} {' '.join(strange)}: --method {args.method} has nothing of that; leave it out")
