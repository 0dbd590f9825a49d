"""What MSA's two evaluators share: their flags said in those of inference.py, which makes the maps, and of eval.py,
which sweeps the thresholds."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from released.msa.layout import LAYOUTS
from released.table import run_words
from tool.artifact import atomic_file
from tool.cli import UserError, add_switch, path_text, require_folder, run_script, script_parser

THRESHOLDS = ("0.10", "0.15", "0.20", "0.25", "0.30", "0.35", "0.40")


def make_parser(tag: str) -> argparse.ArgumentParser:
    parser = script_parser(
        "The released command, run by inference.py, whose other flags may stand here too, and eval.py.",
    )
    parser.add_argument("--dataset", choices=LAYOUTS, default="voc12", help="(%(default)s)")
    parser.add_argument("--domain", default="train", help="the list <domain>.txt (%(default)s)")
    parser.add_argument("--Cmodel_path", type=path_text, required=True, help="--weights of inference.py")
    parser.add_argument("--Qmodel_path", type=path_text, help="--scn there, needed unless --sp_cam False")
    add_switch(parser, "--savepng", default=False, help="label maps, pseudo/<threshold>/<refine>/<id>.png (False)")
    add_switch(parser, "--savenpy", default=False, help="arrays, camnpy/<id>.npy (False)")
    add_switch(parser, "--sp_cam", default=True, help="--sp_cam there (True)")
    parser.add_argument("--beta", default="8", help="--beta there (%(default)s)")
    parser.add_argument("--gama", default="0.6", help="--gama there (%(default)s)")
    parser.add_argument(
        "--refine_list", type=int, nargs="+", default=[0], help="--refine_list there; of several, a pass for each (0)"
    )
    parser.add_argument("--tag", default=tag, help="a folder of ./experiments/predictions (%(default)s)")
    parser.add_argument("--tagA", default="DCR_AP_IPC_Q", help="a folder there, with _AP_<beta> behind (%(default)s)")
    parser.add_argument("--curtime", default=time.strftime("%Y-%m-%d %H_%M_%S"), help="and one there (now)")
    ours = parser.add_argument_group("where the release has no flag")
    ours.add_argument("--img_root", type=path_text, help="--img_root there (as dataset_root.py has it)")
    ours.add_argument("--gt_dir", type=path_text, help="--gt_dir of eval.py (as dataset_root.py has it)")
    ours.add_argument("--infer_list", type=path_text, help="ids (as our prepare.py makes it)")
    ours.add_argument("--labels", type=path_text, help="image labels (as our prepare.py makes them)")
    return parser


def commands(method: str, tag: str, words: Sequence[str]) -> list[list[str]]:
    """Our command lines, each with its script in front, for the released one's `words`: two for each --refine_list.
    Words that are none of its flags go to inference.py.

    Raises `UserError` for flags that do not go together.
    """
    args, others = make_parser(tag).parse_known_args(words)
    if args.sp_cam and args.Qmodel_path is None:
        raise UserError("--Qmodel_path: expected the superpixel network's weights, or --sp_cam False")
    if min(args.refine_list) < 0 or len({*args.refine_list}) < len(args.refine_list):
        given = " ".join(map(str, args.refine_list))
        raise UserError(f"--refine_list {given}: expected numbers of steps, 0 or more, each once")
    every = args.refine_list if args.sp_cam else [0]
    whole = Path("experiments/predictions", args.tag, f"{args.tagA}_AP_{args.beta}", args.curtime)
    found = []
    for steps in every:
        folder = whole / f"refine_{steps}" if len(every) > 1 else whole
        found += commands_of(method, args, others, steps, folder, pseudo=whole / "pseudo")
    return found


def commands_of(
    method: str, args: argparse.Namespace, others: Sequence[str], steps: int, folder: Path, *, pseudo: Path
) -> list[list[str]]:
    """Those for one --refine_list, `steps`, with files in `folder`, and label maps in <threshold>/<steps>/ of `pseudo`,
    where they are asked for."""
    layout = LAYOUTS[args.dataset]
    images, masks = args.img_root or layout.images, args.gt_dir or layout.masks
    ids = args.infer_list or f"{layout.name}/{args.domain}.txt"
    maps = ["inference.py", "--method", method, "--data_set", layout.name, "--img_root", images]
    maps += ["--infer_list", ids, "--labels", args.labels or layout.labels, "--weights", args.Cmodel_path]
    maps += ["--sp_cam", str(args.sp_cam), "--beta", args.beta, "--gama", args.gama]
    maps += ["--scn", args.Qmodel_path, "--refine_list", str(steps)] if args.sp_cam else []
    maps += ["--savenpy", f"{folder}/camnpy"] if args.savenpy else []
    maps += ["--savepng", str(pseudo)] if args.savepng else []
    maps += ["--crf_t", "none", "--work_dir", str(folder), *others]
    sweep = ["eval.py", "--type", "npy", "--data_set", layout.name, "--list", ids]
    sweep += ["--predict_dir", f"{folder}/cam_npy", "--gt_dir", masks, "--thresholds", *THRESHOLDS]
    sweep += ["--result", f"{folder}/result.txt", "--json", f"{folder}/result.json"]
    sweep += ["--logfile", f"{folder}/evallog.txt", "--comment", args.tag]
    return [maps, sweep]


def put_together(folders: Sequence[Path]) -> None:
    """Write result.txt and result.json of all `folders` into the one that they lie in, the settings best first there,
    and print the best."""
    lines = "".join((folder / "result.txt").read_text() for folder in folders)
    found = [json.loads((folder / "result.json").read_text()) for folder in folders]
    best_first = sorted((row for each in found for row in each["best_first"]), key=lambda row: -row[0])
    result = {**max(found, key=lambda each: each["best_mIoU"]), "best_first": best_first}
    whole = folders[0].parent
    for name, text in (("result.txt", lines), ("result.json", json.dumps(result, indent=1))):
        with atomic_file(whole / name) as file:
            file.write(text.encode())
    mean, (steps, threshold) = best_first[0]
    print(f"all of it: {whole / 'result.txt'}; best mIoU {mean:.2f}, --refine_list {steps}, threshold {threshold:.2f}")


def evaluate(method: str, tag: str) -> None:
    """Run them."""

    def main() -> None:
        every = commands(method, tag, sys.argv[1:])
        sweep = every[-1]
        require_folder(sweep[sweep.index("--gt_dir") + 1], "--gt_dir", "true masks")  # before hours of inference
        for script, *words in every:
            run_words(script, words)
        folders = [Path(words[words.index("--result") + 1]).parent for script, *words in every if script == "eval.py"]
        if len(folders) > 1:
            put_together(folders)

    run_script(main)
