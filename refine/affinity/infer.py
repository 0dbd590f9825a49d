"""Stage 2, AffinityNet's walk: CAM dicts spread along a trained net's affinities, into label maps to train on.

    python refine/affinity/infer.py --weights exps/resnet38_aff/resnet38_aff.pth --cam_dir exps/cam_npy \\
        --infer_list voc12/train_aug.txt --img_root VOC2012/JPEGImages --out_rw exps/out_rw

Runs again from where it stopped: an image is done when its label map is there, whole, and of its size.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python infer.py` finds the packages from any folder
from data.cams import own_images
from data.descriptions import add_data_set_flag, find_data_set, require_background
from network import BACKBONE_HELP, backbone_name
from tool.cli import (
    UserError,
    add_switch,
    check_bounds,
    path_text,
    path_value,
    run_script,
    script_parser,
)
from tool.file_hash import sha256_of
from tool.flags import add_crf_backend, add_crf_workers, add_process_flags
from tool.folder import Claim, claim_folders, made_with
from tool.torchrun import is_first
from tool.training_flags import add_sane_flag
from tool.weights_file import require_weights

SANE = ("border_pairs", "padded_background")
BOUNDS = {"beta": (0, 100), "logt": (0, 16), "alpha": (0, 1000)}
EXAMPLES = """\
  # walked masks of the CAM dicts of any method
  python refine/affinity/infer.py --weights exps/resnet38_aff/resnet38_aff.pth \\
      --cam_dir exps/cam_npy --infer_list voc12/train_aug.txt --img_root VOC2012/JPEGImages \\
      --out_rw exps/out_rw
  # the background of SEAM, (1 - max)^6, and a CRF behind the walk
  python refine/affinity/infer.py --weights exps/resnet38_aff/resnet38_aff.pth \\
      --cam_dir exps/cam_npy --img_root VOC2012/JPEGImages --bg none --alpha 6 --crf \\
      --out_rw exps/out_rw_crf
"""


def background(text: str) -> float | None:
    """An argparse type: a score from 0 to 1, or None for none."""
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a score from 0 to 1, or none, got {text!r}")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 2: label maps from CAM dicts, by AffinityNet's random walk.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--cam_dir", type=path_value, required=True, help="folder of CAM dicts, <id>.npy (cam_npy)")
    data.add_argument("--infer_list", type=path_text, default="voc12/val.txt", help="ids to infer (%(default)s)")
    data.add_argument(
        "--img_root", "--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)"
    )
    data.add_argument("--out_rw", type=path_value, default="out_rw", help="folder of the label maps (%(default)s)")
    add_data_set_flag(data)

    net = parser.add_argument_group("network")
    net.add_argument("--weights", type=path_text, required=True, help=".pth or last.ckpt that train.py wrote")
    net.add_argument("--backbone", type=backbone_name, default="resnet38d", metavar="NAME", help=BACKBONE_HELP)
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")

    walk = parser.add_argument_group("walk")
    walk.add_argument("--beta", type=float, default=8.0, help="exponent of the affinities (%(default)s)")
    walk.add_argument("--logt", type=int, default=6, help="log2 of the steps (%(default)s: 64)")
    walk.add_argument(
        "--bg", type=background, default=0.27, metavar="SCORE",
        help="background's score; none: (1 - max)^alpha, as in SEAM (%(default)s)",
    )  # fmt: skip
    walk.add_argument("--alpha", type=float, default=6.0, help="exponent of --bg none (%(default)s)")
    add_switch(walk, "--crf", default=False, help="sharpen the walked maps (False)")
    add_crf_backend(walk)
    add_sane_flag(walk, SANE)

    run = parser.add_argument_group("run")
    add_process_flags(run)
    add_crf_workers(run)
    return parser.parse_args()


def open_output(args: argparse.Namespace) -> None:
    """Create the folder of label maps and keep others out; refuse one with those of another net, walk or CAM dicts."""
    names = ("backbone", "width", "beta", "logt", "bg", "crf", "sane", "amp")
    settings = {name: getattr(args, name) for name in names}
    settings["alpha"] = args.alpha if args.bg is None else None
    settings["weights_sha256"] = sha256_of(args.weights)
    settings["settings.json of --cam_dir"] = made_with(args.cam_dir)
    claim_folders([Claim(args.out_rw, "--out_rw", settings)])


def main() -> None:
    args = parse_arguments()
    require_background(find_data_set(args.data_set))
    check_bounds(args, BOUNDS)
    if args.out_rw.resolve() == args.cam_dir.resolve():
        raise UserError(f"--out_rw {args.out_rw}: expected another folder than --cam_dir")
    require_weights(args.weights, "--weights")
    own = own_images(args, [args.cam_dir])
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from refine.affinity.inference import infer_missing, load_net
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        net, report = load_net(args)
        if is_first():
            print(report)
            open_output(args)
    infer_missing(own, args, processes, normalisation=net.normalisation)
    print(f"  {args.out_rw}")


if __name__ == "__main__":
    run_script(main)
