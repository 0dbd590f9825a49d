"""The command line of stage 1's inference: its method's recipe has the defaults of the seeds' flags."""

import argparse

from data.descriptions import add_data_set_flag
from method import METHODS
from method.arguments import early_flags
from method.base import Method
from method.seed_flags import add_seed_flags
from network import BACKBONE_HELP, NETWORKS, backbone_name, resolve_network
from tool.cli import UserError, add_switch, path_text, script_parser
from tool.flags import add_crf_workers, add_process_flags
from tool.folder import arguments_of_run

EXAMPLES = """\
  # seeds and CRF seeds
  python inference.py --weights exps/hsc/hsc.pth --infer_list voc12/train.txt \\
      --img_root VOC2012/JPEGImages
  # CAMs and seeds without a CRF
  python inference.py --weights exps/hsc/hsc.pth --img_root VOC2012/JPEGImages --crf_t none
  # the plain classifier, into a folder of its own, with pictures to look at
  python inference.py --weights exps/cls/cls.pth --network resnet38_cls \\
      --img_root VOC2012/JPEGImages --work_dir exps/cls --overlay
  # along the superpixels of a network that superpixel/train.py trained, instead of resized
  python inference.py --weights exps/hsc/hsc.pth --img_root VOC2012/JPEGImages \\
      --scn exps/scn/scn.pth --work_dir exps/hsc_scn
  # four GPUs, two processes each
  python inference.py --weights exps/hsc/hsc.pth --infer_list voc12/train_aug.txt \\
      --img_root VOC2012/JPEGImages --n_gpus 4 --n_processes_per_gpu 2
  # four machines, each its part of the list
  torchrun --nnodes 4 --nproc_per_node 1 --rdzv_backend c10d --rdzv_endpoint HOST:29500 \\
      inference.py --weights exps/hsc/hsc.pth --img_root VOC2012/JPEGImages
"""


def method_of_command() -> Method:
    """The method of --method, or of args.json beside --weights, or the first that trains the net of --network."""
    named = early_flags("method", "network", "weights")
    if named.method is not None or named.network is None:
        name = named.method or _method_of_run(named.weights)
        return METHODS.get(name, METHODS["hsc"])
    try:
        network = resolve_network(named.network)
    except UserError:  # which is said when all flags have been read
        return METHODS["hsc"]
    of_run = METHODS.get(_method_of_run(named.weights))
    trained = [of_run] if of_run is not None else []
    return next(method for method in (*trained, *METHODS.values()) if method.network == network)


def _method_of_run(weights: str | None) -> str | None:
    """The method that the run says whose folder has the weights; None where nothing says so."""
    name = arguments_of_run(weights).get("method")
    return name if isinstance(name, str) else None


def parse_arguments() -> argparse.Namespace:
    """The command line; its method's recipe has the defaults of the seeds' flags."""
    method = method_of_command()
    parser = script_parser("Stage 1: CAMs, seeds and CRF seeds.", examples=EXAMPLES)
    add_data(parser)
    add_net(parser, method)
    add_seeds(parser, method)
    add_run(parser)
    method.add_inference_flags(parser)
    return parser.parse_args()


def add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--infer_list", type=path_text, default="voc12/train.txt", help="ids to infer (%(default)s)")
    data.add_argument(
        "--img_root", "--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)"
    )
    data.add_argument("--labels", type=path_text, default="voc12/cls_labels.npy", help="image labels (%(default)s)")
    add_data_set_flag(data)


def add_net(parser: argparse.ArgumentParser, method: Method) -> None:
    net = parser.add_argument_group("network")
    net.add_argument(
        "--weights",
        type=path_text,
        required=True,
        help=".pth or last.ckpt that train_voc.py wrote, or the released one",
    )
    net.add_argument(
        "--method", choices=METHODS, default=method.name,
        help="that was trained, whose recipe makes the seeds (as args.json beside the weights or --network says: "
        "%(default)s)",
    )  # fmt: skip
    net.add_argument(
        "--network", default=method.network, help=f"{', '.join(NETWORKS)} or a released module path (%(default)s)"
    )
    net.add_argument(
        "--backbone",
        type=backbone_name,
        default=method.defaults.get("backbone", "resnet38d"),
        metavar="NAME",
        help=BACKBONE_HELP,
    )
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")


def add_seeds(parser: argparse.ArgumentParser, method: Method) -> None:
    seeds = parser.add_argument_group("seeds")
    seeds.add_argument(
        "--scales", type=float, nargs="+", default=[*method.seeds.scales],
        help=f"factors on the image's sides ({' '.join(f'{scale:g}' for scale in method.seeds.scales)})",
    )  # fmt: skip
    add_seed_flags(seeds, method)
    seeds.add_argument(
        "--scn", type=path_text, metavar="FILE",
        help="a superpixel network's weights: maps come to pixels along its superpixels (none: they are resized)",
    )  # fmt: skip
    seeds.add_argument(
        "--refine_list", type=int, default=0, metavar="R",
        help="with --scn: steps that maps walk between superpixels before (%(default)s)",
    )  # fmt: skip
    seeds.add_argument(
        "--work_dir", type=path_text, default="./exps", help="CRF seeds go to <work_dir>/crf (%(default)s)"
    )
    add_switch(seeds, "--overlay", default=False, help="pictures to look at in <work_dir>/overlay (False)")
    seeds.add_argument("--cam_npy", type=path_text, help="folder of CAM dicts (<work_dir>/cam_npy)")
    seeds.add_argument(
        "--cam_out_dir",
        type=path_text,
        help="folder of CAMs in IRN's form, at the image's size and a quarter of it (none)",
    )
    seeds.add_argument(
        "--savenpy", type=path_text, metavar="FOLDER", help="write CAMs in MSA's form, (1, K + 1, H, W), there (none)"
    )
    seeds.add_argument("--cam_png", type=path_text, help="folder of label maps (<work_dir>/cam_png); none: none")
    seeds.add_argument(
        "--savepng", type=path_text, metavar="FOLDER",
        help="write label maps at 0.10, 0.15 to 0.40, in <thr>/<refine_list>/ there (none)",
    )  # fmt: skip


def add_run(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("run")
    add_process_flags(run)
    add_crf_workers(run)
