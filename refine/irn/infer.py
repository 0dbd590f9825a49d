"""Stage 2, IRN's walk: CAM dicts spread up to the edges that a trained net finds, into label maps and instances.

    python refine/irn/infer.py --weights exps/res50_irn/res50_irn.pth --cam_dir exps/cam_npy \\
        --infer_list voc12/train_aug.txt --img_root VOC2012/JPEGImages --sem_seg_out_dir exps/sem_seg

Runs again from where it stopped: an image is done when its files are there, whole, and of its size.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python infer.py` finds the packages from any folder
from data.cams import own_images
from data.descriptions import add_data_set_flag, find_data_set, require_background
from network import BACKBONE_HELP, backbone_name
from tool.cli import UserError, check_bounds, path_text, path_value, positive, run_script, script_parser
from tool.file_hash import sha256_of
from tool.flags import MAX_PIXELS, add_process_flags
from tool.folder import Claim, claim_folders, made_with
from tool.torchrun import is_first
from tool.weights_file import require_weights

BOUNDS = {
    "crop_size": (1, MAX_PIXELS),
    "beta": (0, 100),
    "exp_times": (0, 16),
    "sem_seg_bg_thres": (0, 1),
    "ins_seg_bg_thres": (0, 1),
}
EXAMPLES = """\
  # walked masks of the CAM dicts of any method
  python refine/irn/infer.py --weights exps/res50_irn/res50_irn.pth --cam_dir exps/cam_npy \\
      --infer_list voc12/train_aug.txt --img_root VOC2012/JPEGImages --sem_seg_out_dir exps/sem_seg
  # instances as well, by a net that was trained with --displacement
  python refine/irn/infer.py --weights exps/res50_irn/res50_irn.pth --cam_dir exps/cam_npy \\
      --img_root VOC2012/JPEGImages --sem_seg_out_dir exps/sem_seg --ins_seg_out_dir exps/ins_seg
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 2: label maps and instances from CAM dicts, by IRN's random walk.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--cam_dir", type=path_value, required=True, help="folder of CAM dicts, <id>.npy (cam_npy)")
    data.add_argument("--infer_list", type=path_text, default="voc12/train.txt", help="ids to infer (%(default)s)")
    data.add_argument(
        "--img_root", "--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)"
    )
    data.add_argument("--sem_seg_out_dir", type=path_value, help="label maps, <id>.png, go there")
    data.add_argument("--ins_seg_out_dir", type=path_value, help="instances, <id>.npy, go there")
    add_data_set_flag(data)

    net = parser.add_argument_group("network")
    net.add_argument(
        "--weights", type=path_text, required=True, help=".pth that train.py wrote (its last.ckpt lacks the mean shift)"
    )
    net.add_argument(
        "--backbone", type=backbone_name, default="resnet50", metavar="NAME", help=f"trained on: {BACKBONE_HELP}"
    )
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    net.add_argument(
        "--crop_size", type=positive, default=512, help="pixels a side that it was trained at (%(default)s)"
    )

    walk = parser.add_argument_group("walk")
    walk.add_argument("--beta", type=float, default=10.0, help="exponent of the affinities (%(default)s)")
    walk.add_argument("--exp_times", type=int, default=8, help="log2 of the steps (%(default)s: 256)")
    walk.add_argument(
        "--sem_seg_bg_thres", type=float, default=0.25, metavar="SCORE", help="background's in label maps (%(default)s)"
    )
    walk.add_argument(
        "--ins_seg_bg_thres", type=float, default=0.25, metavar="SCORE", help="background's of instances (%(default)s)"
    )

    run = parser.add_argument_group("run")
    add_process_flags(run)
    return parser.parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    require_background(find_data_set(args.data_set))
    check_bounds(args, BOUNDS)
    folders = [folder for folder in (args.sem_seg_out_dir, args.ins_seg_out_dir) if folder is not None]
    if not folders:
        raise UserError("--sem_seg_out_dir, --ins_seg_out_dir: expected one of them, or both: where files go")
    if len({folder.resolve() for folder in (args.cam_dir, *folders)}) <= len(folders):
        raise UserError("--cam_dir, --sem_seg_out_dir, --ins_seg_out_dir: expected a folder for each, found one twice")


def open_outputs(args: argparse.Namespace) -> None:
    """Create the folders and keep others out; refuse those with files of another net, walk or CAM dicts."""
    settings = {name: getattr(args, name) for name in ("backbone", "width", "crop_size", "beta", "exp_times", "amp")}
    settings["weights_sha256"] = sha256_of(args.weights)
    settings["settings.json of --cam_dir"] = made_with(args.cam_dir)
    claims = []
    for name in ("sem_seg", "ins_seg"):
        folder, threshold = getattr(args, f"{name}_out_dir"), f"{name}_bg_thres"
        if folder is not None:
            made = {**settings, threshold: getattr(args, threshold)}
            claims.append(Claim(folder, f"--{name}_out_dir", made))
    claim_folders(claims)


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    require_weights(args.weights, "--weights")
    own = own_images(args, [args.cam_dir])
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from refine.irn.inference import infer_missing, load_net
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        _, report = load_net(args)
        if is_first():
            print(report)
            open_outputs(args)
    infer_missing(own, args, processes)
    for folder in (args.sem_seg_out_dir, args.ins_seg_out_dir):
        if folder is not None:
            print(f"  {folder}")


if __name__ == "__main__":
    run_script(main)
