"""Stage 1: the mean of several runs' CAMs, and its seeds and CRF seeds; of one run, other seeds without its net.

    python merge.py --cam_dir exps/hsc/cam_npy exps/ppc_eps/cam_npy --infer_list voc12/train.txt \\
        --img_root VOC2012/JPEGImages --work_dir exps/merged

The CAM dicts are any methods', of the same images, and so is what is written: AffinityNet, IRN and eval.py take
<work_dir>/cam_npy as they take inference's. Runs again from where it stopped.
"""

import argparse
from typing import Any

from data.cams import own_images
from data.descriptions import add_data_set_flag, find_data_set, require_background
from method import METHODS
from method.arguments import method_named
from method.output_folders import method_setting, open_outputs, require_own_folders
from method.outputs import Outputs
from method.seed_flags import add_seed_flags, check_seed_flags, crf_recipes, threshold_of
from tool.cli import (
    UserError,
    add_switch,
    path_text,
    path_value,
    run_script,
    script_parser,
)
from tool.flags import add_crf_workers
from tool.folder import made_with
from tool.torchrun import is_first

EXAMPLES = """\
  # the mean of two methods
  python merge.py --cam_dir exps/hsc/cam_npy exps/ppc_eps/cam_npy --infer_list voc12/train.txt \\
      --img_root VOC2012/JPEGImages --work_dir exps/merged
  # other seeds of one run: more CRFs, and the threshold that eval.py --curve --json found best
  python merge.py --cam_dir exps/hsc/cam_npy --infer_list voc12/train.txt \\
      --img_root VOC2012/JPEGImages --work_dir exps/hsc_more --thr exps/hsc/curve.json \\
      --crf_t 4 8 12
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; its method's recipe has the defaults of the seeds' flags."""
    parser = script_parser("Stage 1: the mean of several runs' CAMs, and its seeds.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--cam_dir", nargs="+", type=path_value, required=True, metavar="FOLDER",
        help="folders of CAM dicts, <id>.npy (cam_npy)",
    )  # fmt: skip
    data.add_argument("--infer_list", type=path_text, default="voc12/train.txt", help="ids (%(default)s)")
    data.add_argument(
        "--img_root", "--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)"
    )
    add_data_set_flag(data)

    seeds = parser.add_argument_group("seeds")
    seeds.add_argument("--method", choices=METHODS, default="hsc", help="whose recipe makes the seeds (%(default)s)")
    add_seed_flags(seeds, method_named())
    seeds.add_argument(
        "--work_dir", type=path_value, required=True, help="files go to cam_npy, cam_png and crf in this folder"
    )
    add_switch(seeds, "--overlay", default=False, help="pictures to look at in <work_dir>/overlay (False)")

    run = parser.add_argument_group("run")
    run.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    add_crf_workers(run)
    return parser.parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong or do not go together."""
    require_background(find_data_set(args.data_set))
    check_seed_flags(args)
    places = [folder.resolve() for folder in args.cam_dir]
    twice = next((folder for folder in places if places.count(folder) > 1), None)
    if twice is not None:
        raise UserError(f"--cam_dir: expected each folder once, found {twice} more than once")
    if (args.work_dir / "cam_npy").resolve() in places:
        raise UserError(f"--work_dir {args.work_dir}: its cam_npy is one of --cam_dir; name another folder")


def cam_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the mean CAMs are made with."""
    made = {f"settings.json of --cam_dir {number}": made_with(each) for number, each in enumerate(args.cam_dir, 1)}
    return {"data_set": args.data_set, "how many --cam_dir": len(made), **method_setting(args.method), **made}


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    args.thr = threshold_of(args.thr)
    crf = {recipe: args.work_dir / "crf" / recipe.folder for recipe in crf_recipes(args)}
    require_own_folders([], crf, "--crf_t, --crf_alpha")
    folders = (args.work_dir / name for name in ("cam_npy", "cam_png"))
    overlay = args.work_dir / "overlay" if args.overlay else None
    outputs = Outputs(*folders, crf, overlay, args.thr, find_data_set(args.data_set))
    images = own_images(args, args.cam_dir)
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from method.merging import merge_missing
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        if is_first():
            open_outputs(outputs, cam_settings(args), flags={})
    merge_missing(images, args.cam_dir, outputs, processes)
    for folder in outputs.folders:
        print(f"  {folder}")


if __name__ == "__main__":
    run_script(main)
