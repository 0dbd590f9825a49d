"""Stage 2, AffinityNet's labels: CRF posteriors of CAM dicts with a background of low and of high alpha.

    python refine/affinity/prepare.py --cam_dir exps/cam_npy --infer_list voc12/train_aug.txt \\
        --img_root VOC2012/JPEGImages --out_crf exps/aff_crf

The CAM dicts are any method's. A background of (1 - max)^4 leaves little foreground, all of it sure, one of
(1 - max)^24 little background. The dicts of an alpha go to <out_crf>/<alpha, two decimals>/. Runs again from where it
stopped.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python prepare.py` finds the packages from any folder
from data.cams import own_images
from data.descriptions import add_data_set_flag, find_data_set, require_background
from tool.cli import UserError, path_text, path_value, positive, run_script, script_parser
from tool.flags import add_crf_backend, add_crf_workers
from tool.folder import Claim, claim_folders, made_with
from tool.seed_recipe import CRFRecipe
from tool.torchrun import is_first

CERTAINTY = 0.7  # that a pixel's label is right
MAX_ITERATIONS = 1000
EXAMPLES = """\
  # both alphas, of the CAM dicts of any method
  python refine/affinity/prepare.py --cam_dir exps/cam_npy --infer_list voc12/train_aug.txt \\
      --img_root VOC2012/JPEGImages --out_crf exps/aff_crf
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 2: the CRF posteriors that AffinityNet learns from.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--cam_dir", type=path_value, required=True, help="folder of CAM dicts, <id>.npy (cam_npy)")
    data.add_argument("--infer_list", type=path_text, required=True, help="ids (voc12/train_aug.txt)")
    data.add_argument(
        "--img_root", "--data_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)"
    )
    add_data_set_flag(data)

    crf = parser.add_argument_group("crf")
    crf.add_argument(
        "--out_crf", type=path_value, required=True, help="posteriors go to <out_crf>/<alpha, two decimals>/"
    )
    crf.add_argument(
        "--alpha", type=float, nargs="+", default=[4.0, 24.0], help="exponents of the background score (4 24)"
    )
    crf.add_argument("--crf_iters", type=positive, default=10, help="iterations (%(default)s)")
    add_crf_backend(crf)

    run = parser.add_argument_group("run")
    run.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    add_crf_workers(run)
    return parser.parse_args()


def recipes(args: argparse.Namespace) -> dict[CRFRecipe, Path]:
    """The CRF of each alpha and its folder; `UserError` for flags that are wrong."""
    require_background(find_data_set(args.data_set))
    given = " ".join(f"{alpha:g}" for alpha in args.alpha)
    if not all(0 < alpha < float("inf") for alpha in args.alpha):
        raise UserError(f"--alpha {given}: expected positive exponents")
    if args.crf_iters > MAX_ITERATIONS:
        raise UserError(f"--crf_iters {args.crf_iters}: expected 1 to {MAX_ITERATIONS}")
    folders = {
        CRFRecipe(args.crf_iters, alpha, certainty=CERTAINTY, all_labels=True): args.out_crf / f"{alpha:.2f}"
        for alpha in args.alpha
    }
    if len({*folders.values()}) < len(args.alpha):
        raise UserError(f"--alpha {given}: expected each once, to two decimals")
    return folders


def open_outputs(folders: dict[CRFRecipe, Path], cam_dir: Path) -> None:
    """Create the folders and keep others out; refuse those of other recipes or CAM dicts."""
    cams = made_with(cam_dir)
    settings = {
        folder: {"alpha": each.alpha, "iterations": each.iterations, "settings.json of --cam_dir": cams}
        for each, folder in folders.items()
    }
    claim_folders([Claim(folder, "--out_crf", made) for folder, made in settings.items()])


def main() -> None:
    args = parse_arguments()
    folders = recipes(args)
    own = own_images(args, [args.cam_dir])
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from refine.affinity.preparation import prepare_missing
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        if is_first():
            open_outputs(folders, args.cam_dir)
    prepare_missing(own, args.cam_dir, folders, find_data_set(args.data_set), processes)
    for folder in folders.values():
        print(f"  {folder}")


if __name__ == "__main__":
    run_script(main)
