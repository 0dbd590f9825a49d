"""Stage 2, IRN's labels: what is surely background or a class in CAM dicts, and 255 elsewhere.

    python refine/irn/labels.py --cam_dir exps/cam_npy --infer_list voc12/train_aug.txt \\
        --img_root VOC2012/JPEGImages --ir_label_out_dir exps/ir_label

The CAM dicts are any method's. A high threshold leaves little foreground, all of it sure, a low one little background;
a CRF sharpens both. Runs again from where it stopped.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python labels.py` finds the packages from any folder
from data.cams import own_images
from data.descriptions import add_data_set_flag, find_data_set, require_background
from tool.cli import UserError, check_bounds, path_text, path_value, run_script, script_parser
from tool.flags import add_crf_backend, add_crf_workers
from tool.folder import Claim, claim_folders, made_with
from tool.torchrun import is_first

BOUNDS = {"conf_fg_thres": (0, 1), "conf_bg_thres": (0, 1)}
EXAMPLES = """\
  # of the CAM dicts of any method
  python refine/irn/labels.py --cam_dir exps/cam_npy --infer_list voc12/train_aug.txt \\
      --img_root VOC2012/JPEGImages --ir_label_out_dir exps/ir_label
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 2: the label maps that IRN learns from.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--cam_dir", type=path_value, required=True, help="folder of CAM dicts, <id>.npy (cam_npy)")
    data.add_argument("--infer_list", type=path_text, required=True, help="ids (voc12/train_aug.txt)")
    data.add_argument(
        "--img_root", "--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)"
    )
    data.add_argument("--ir_label_out_dir", type=path_value, required=True, help="folder of the label maps, <id>.png")
    add_data_set_flag(data)

    crf = parser.add_argument_group("crf")
    crf.add_argument(
        "--conf_fg_thres", type=float, default=0.35, metavar="SCORE", help="sure is a class above that (%(default)s)"
    )
    crf.add_argument(
        "--conf_bg_thres", type=float, default=0.15, metavar="SCORE", help="sure is background below (%(default)s)"
    )
    add_crf_backend(crf)

    run = parser.add_argument_group("run")
    run.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    add_crf_workers(run)
    return parser.parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    require_background(find_data_set(args.data_set))
    check_bounds(args, BOUNDS)
    if args.conf_fg_thres < args.conf_bg_thres:
        raise UserError(
            f"--conf_fg_thres {args.conf_fg_thres}: expected at least --conf_bg_thres, {args.conf_bg_thres}; exchange"
            " them"
        )
    if args.ir_label_out_dir.resolve() == args.cam_dir.resolve():
        raise UserError(f"--ir_label_out_dir {args.ir_label_out_dir}: expected another folder than --cam_dir")


def open_output(args: argparse.Namespace) -> None:
    """Create the folder of label maps and keep others out; refuse one of other thresholds or CAM dicts."""
    settings = {"conf_fg_thres": args.conf_fg_thres, "conf_bg_thres": args.conf_bg_thres}
    settings["settings.json of --cam_dir"] = made_with(args.cam_dir)
    claim_folders([Claim(args.ir_label_out_dir, "--ir_label_out_dir", settings)])


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    own = own_images(args, [args.cam_dir])
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from refine.irn.labelling import label_missing
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        if is_first():
            open_output(args)
    label_missing(own, args, processes)
    print(f"  {args.ir_label_out_dir}")


if __name__ == "__main__":
    run_script(main)
