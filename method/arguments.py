"""The command line of stage 1's training: the flags of all methods, then those of the one that is asked for."""

import argparse
from collections.abc import Sequence

from data.descriptions import add_data_set_flag, find_data_set, require_background
from method import METHODS
from method.base import Method
from network import BACKBONE_HELP, EPS_SEAM, PRETRAINED, backbone_name, resolve_network
from tool.cli import UserError, add_switch, check_bounds, path_text, positive, positive_or_none, script_parser
from tool.flags import MAX_PIXELS
from tool.training_flags import RUN_BOUNDS, add_device_flags, add_run_flags, check_run

RELEASED_WEIGHTS = "network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
# The nets that SEAM's layers fit. With one of them `EPS_SEAM` says of the weights alone where they score background.
OF_SEAMS_FORM = ("resnet38_hsc", "resnet38_seam", "resnet38_ppc", "resnet38_ppc_eps")
MAX_STEPS = 10**9
# What numbers may be: rates that float32 holds, heads' too; sizes and steps that anybody could want.
BOUNDS = {
    **RUN_BOUNDS,
    "momentum": (0, 1),
    **dict.fromkeys(("lr", "wt_dec"), (0, 1e30)),
    "crop_size": (1, MAX_PIXELS),
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
  # MSA, beside a superpixel network that superpixel/train.py trained; seeds scored on masks
  python train_voc.py --data_root VOC2012/JPEGImages --method msa_image --scn exps/scn/scn.pth \\
      --gt_dir VOC2012/SegmentationClass
  # four GPUs
  torchrun --nproc_per_node 4 train_voc.py --data_root VOC2012/JPEGImages \\
      --saliency_root VOC2012/saliency
"""


def make_parser(method: Method) -> argparse.ArgumentParser:
    """The flags of all methods and those of `method`, with its defaults."""
    parser = script_parser("Stage 1: train a CAM classifier from image labels.", examples=EXAMPLES)
    add_data(parser)
    add_run(parser)
    add_net(parser)
    add_recipe(parser)
    method.add_flags(parser)
    parser.set_defaults(**method.defaults)
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    salient = [name for name, each in METHODS.items() if "saliency" in each.reads]
    data = parser.add_argument_group("data")
    data.add_argument("--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")
    data.add_argument(
        "--saliency_root",
        type=path_text,
        help=f"folder of <id>.png saliency maps, which {', '.join(salient)} need",
    )
    data.add_argument(
        "--train_list", type=path_text, default="voc12/train_aug.txt", help="ids to train on (%(default)s)"
    )
    data.add_argument(
        "--val_list", type=path_text, default="voc12/val.txt", help="ids that --eval scores (%(default)s)"
    )
    data.add_argument("--labels", type=path_text, default="voc12/cls_labels.npy", help="image labels (%(default)s)")
    add_data_set_flag(data)
    data.add_argument("--num_workers", type=int, default=12, help="loader processes (%(default)s)")


def add_run(parser: argparse.ArgumentParser) -> None:
    run = add_run_flags(parser, session=None)
    add_device_flags(run)
    add_switch(run, "--compile", default=False, help="compile the network, on a GPU (False)")
    run.add_argument(
        "--picture_every",
        type=positive,
        default=500,
        metavar="STEPS",
        help="from one CAM in TensorBoard to the next (%(default)s)",
    )
    add_switch(run, "--eval", default=False, help="score image labels on --val_list at the end (mean AP)")
    run.add_argument(
        "--eval_every", type=positive_or_none, metavar="EPOCHS",
        help="score them after every so many epochs, too; none: never (the method's)",
    )  # fmt: skip


def add_net(parser: argparse.ArgumentParser) -> None:
    net = parser.add_argument_group("method and net")
    net.add_argument("--method", choices=METHODS, default="hsc", help="(%(default)s); its own flags are at the end")
    net.add_argument("--network", help="the method's own, or its released module path (the method's)")
    net.add_argument("--backbone", type=backbone_name, default="resnet38d", metavar="NAME", help=BACKBONE_HELP)
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    net.add_argument(
        "--weights",
        type=path_text,
        default=RELEASED_WEIGHTS,
        help=f".params, .pth, .ckpt, .safetensors, {PRETRAINED} (downloaded), or none (%(default)s)",
    )
    add_switch(net, "--from_scratch", default=False, help="train batch norm and first blocks too (False)")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--batch_size", type=positive, default=12, help="images in a step, over all processes (%(default)s)"
    )
    recipe.add_argument(
        "--max_iters", type=positive_or_none, default=10000,
        help="iterations to train (%(default)s); none: as many as --max_epoches have",
    )  # fmt: skip
    recipe.add_argument(
        "--iter_size", type=positive, default=2, help="steps in an iteration; each updates the weights (%(default)s)"
    )
    recipe.add_argument("--max_epoches", type=positive, default=15, help="epochs the rate decays over (%(default)s)")
    recipe.add_argument(
        "--lr", type=float, default=0.01, help="learning rate of the backbone's weights; heads: x 10 (%(default)s)"
    )
    recipe.add_argument("--wt_dec", type=float, default=5e-4, help="weight decay (%(default)s)")
    recipe.add_argument("--momentum", type=float, default=5e-4, help="as released; usual is 0.9 (%(default)s)")
    recipe.add_argument("--crop_size", type=positive, default=448, help="pixels (%(default)s)")
    recipe.add_argument(
        "--resize_size", type=positive, nargs=2, default=[448, 768], metavar=("MIN", "MAX"),
        help="longer side of an image before the crop, pixels (448 768)",
    )  # fmt: skip
    recipe.add_argument("--clip_grad", type=float, metavar="NORM", help="largest norm of a step's gradient (no limit)")


def parse_arguments() -> argparse.Namespace:
    """The command line; `--method` says which method's flags and defaults it may have."""
    method = method_named()
    parser = make_parser(method)
    args, unknown = parser.parse_known_args()
    refuse_flags_of_others(method, unknown)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.session = args.session or args.method
    method.settle(args)
    return args


def refuse_flags_of_others(method: Method, words: Sequence[str]) -> None:
    """Raise `UserError` where one of the command's words, which `method` does not know, is a flag of other methods."""
    for flag in (word.split("=")[0] for word in words):
        others = [name for name, each in METHODS.items() if flag in own_flags(each)]
        if others:
            having = f"{', '.join(others)} {'have' if len(others) > 1 else 'has'} it"
            raise UserError(f"{flag}: --method {method.name} has no such flag ({having}); leave it out")


def own_flags(method: Method) -> set[str]:
    """The flags that a method has beside those of all."""
    parser = argparse.ArgumentParser(add_help=False)
    method.add_flags(parser)
    return {f"--{name}" for name in vars(parser.parse_args([]))}


def method_named() -> Method:
    """The method of --method, HSC without it or for a name that is none: the parser that follows says what is wrong."""
    return METHODS.get(early_flags("method").method, METHODS["hsc"])


def early_flags(*names: str) -> argparse.Namespace:
    """What the command line says of these flags before the parser of all is made; None of each where it cannot be read,
    which that parser says."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        first.add_argument(f"--{name}")
    try:
        return first.parse_known_args()[0]
    except argparse.ArgumentError:
        return argparse.Namespace(**dict.fromkeys(names))


def network_meant(name: str, method: Method) -> str:
    """The registry name that --network `name` stands for beside `method`. Raises as `resolve_network`."""
    return method.network if name == EPS_SEAM and method.network in OF_SEAMS_FORM else resolve_network(name)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    method = METHODS[args.method]
    if args.network is not None and network_meant(args.network, method) != method.network:
        raise UserError(
            f"--network {args.network}: --method {method.name} trains {method.network}; leave --network out"
        )
    require_background(find_data_set(args.data_set))
    check_bounds(args, BOUNDS)
    smaller, larger = args.resize_size
    if not smaller <= larger <= MAX_PIXELS:
        raise UserError(f"--resize_size {smaller} {larger}: expected the smaller number first, at most {MAX_PIXELS}")
    if (args.max_iters or 1) * args.iter_size > MAX_STEPS:
        raise UserError(f"--max_iters {args.max_iters}: expected at most {MAX_STEPS} steps, --max_iters x --iter_size")
    check_run(args)
    method.check(args)
