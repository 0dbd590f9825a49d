"""Stage 1: multi-scale CAMs, seeds and CRF seeds from a trained classifier.

    python inference.py --weights exps/hsc/hsc.pth --infer_list voc12/train.txt --img_root VOC2012/JPEGImages

Runs again from where it stopped: an image is done when every file asked of it is there, whole, and of its labels and
size. Each folder's settings.json says what its files were made with.
"""

import argparse
import filecmp
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.descriptions import add_data_set_flag, find_data_set, require_background
from data.images import check_images
from data.labels import labels_of, load_labels
from method import METHODS
from method.arguments import early_flags, network_meant
from method.base import Method
from method.output_folders import ADVICE, cam_settings, flags_of, open_outputs, plan_outputs
from method.outputs import Outputs
from method.seed_flags import add_seed_flags, check_seed_flags, crf_recipes, threshold_of
from network import BACKBONE_HELP, EPS_SEAM, NETWORKS, backbone_name, resolve_network
from tool.cli import (
    UserError,
    add_switch,
    brief,
    check_bounds,
    path_text,
    positive,
    printable,
    require_folder,
    run_script,
    script_parser,
)
from tool.flags import add_process_flags, check_scales
from tool.folder import arguments_of_run
from tool.lists import Source, find_images, read_ids
from tool.seed_recipe import SeedRecipe
from tool.torchrun import is_first, own_cores, own_share
from tool.weights_file import require_weights

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
MAX_WALK = 1000  # steps


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
    run.add_argument(
        "--crf_workers", type=positive, default=own_cores(),
        help="CRF processes on a CPU (its cores: %(default)s)",
    )  # fmt: skip


def seed_recipe(args: argparse.Namespace) -> SeedRecipe:
    return replace(METHODS[args.method].seeds, scales=tuple(args.scales), threshold=args.thr)


def compare_with_run(args: argparse.Namespace) -> None:
    """Say how the net differs, on purpose or not, from that of the run in whose folder --weights lie.

    Raises `UserError` for another backbone, whose weights would not fit.
    """
    run = arguments_of_run(args.weights)
    for name in ("backbone", "width"):
        ours = getattr(args, name)
        if (theirs := run.get(name, ours)) != ours:
            raise UserError(
                f"--{name} {ours}: the net of {args.weights} was trained with --{name} {brief(theirs)}, as args.json"
                " beside it says; take that"
            )
    for name in ("method", *METHODS[args.method].net_flags):
        ours = getattr(args, name)
        theirs = run.get(name, ours)
        if not alike(theirs, ours) and is_first():
            note = f"note: --{name} {ours}, where the net was trained with --{name} {brief(theirs)}"
            print(printable(note), file=sys.stderr)


def alike(theirs: Any, ours: Any) -> bool:
    """Whether two values of a flag mean the same; two files do that have the same content."""
    if theirs != ours and isinstance(theirs, str) and isinstance(ours, str):
        with suppress(OSError, ValueError):
            return filecmp.cmp(theirs, ours, shallow=False)
    return theirs == ours


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong; put the network's registry name in place."""
    args.background_last = args.network == EPS_SEAM
    args.network = network_meant(args.network, METHODS[args.method])
    if args.network != METHODS[args.method].network:
        raise UserError(
            f"--network {args.network}: --method {args.method} trains {METHODS[args.method].network}; leave one of them"
            " out"
        )
    METHODS[args.method].check_inference(args)
    require_background(find_data_set(args.data_set))
    check_scales(args.scales)
    check_bounds(args, {"refine_list": (0, MAX_WALK)})
    if args.refine_list and args.scn is None:
        raise UserError(f"--refine_list {args.refine_list}: maps walk between superpixels; give their network, --scn")
    check_seed_flags(args)
    compare_with_run(args)


def read_data(args: argparse.Namespace) -> tuple[dict[str, Path], dict[str, list[int]]]:
    """This process's images and their classes, by id, after a look at every file."""
    image_root = require_folder(args.img_root, "--img_root", "JPEGImages, <id>.jpg")
    ids = own_share(read_ids(args.infer_list, "--infer_list"))
    data_set, source = find_data_set(args.data_set), Source("--infer_list", args.infer_list)
    images = find_images(ids, image_root, data_set, flag="--img_root", source=source)
    labels = load_labels(args.labels, data_set)
    labels = labels_of(ids, labels, data_set, source=f"--labels {args.labels}", may_be_empty=True)
    classes = {image_id: np.flatnonzero(label).tolist() for image_id, label in labels.items()}
    check_images(images, image_root)
    return images, classes


def infer(args: argparse.Namespace, images: dict[str, Path], classes: dict[str, list[int]], outputs: Outputs) -> None:
    """Load the net, open the folders of `outputs` and make the files in them that are not there."""
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    import torch

    from method.inference import infer_missing, load_learner
    from network.scn import SCN, load_scn
    from tool.crf import resolve_backend
    from tool.device import process_devices
    from tool.distributed import join_processes, rank, wait_for_all

    devices = process_devices(args.device, args.n_gpus, args.n_processes_per_gpu)
    crf_backend = resolve_backend(args.crf_backend, torch.device(devices[0]))
    join_processes(torch.device("cpu"))  # GPUs are for the processes of the pools
    # A wrong checkpoint is reported here and once, not by every process.
    _, report = load_learner(args)
    superpixels = None if args.scn is None else load_scn(SCN(), args.scn, "--scn")
    if rank() == 0:
        print(report if superpixels is None else f"{report}\n{superpixels}")
        cam = cam_settings(args, report.background)
        open_outputs(outputs, cam, flags=flags_of(args, outputs), advice=ADVICE)
    wait_for_all()
    infer_missing(
        images,
        classes,
        args=args,
        recipe=seed_recipe(args),
        outputs=outputs,
        devices=devices,
        crf_backend=crf_backend,
    )


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    args.thr = threshold_of(args.thr)
    outputs = plan_outputs(args, crf_recipes(args))
    require_weights(args.weights, "--weights")
    if args.scn is not None:
        require_weights(args.scn, "--scn", "weights of a superpixel network")
    images, classes = read_data(args)
    infer(args, images, classes, outputs)
    for folder in outputs.folders:
        print(f"  {folder}")


if __name__ == "__main__":
    run_script(main)
