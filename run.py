"""A whole system by one command: the stages of a recipe, one after the other.

    python run.py hsc --voc12_root VOC2012 --saliency_root VOC2012/saliency
    python run.py hsc --mini      the same on generated data, with narrow nets, in minutes on a CPU

recipes/ has the recipes. Run again after a stop, the same command goes on where it stopped. OUT gets a folder for each
training, the stages' logs in logs/, and summary.json with the scores and with each stage's seconds and command.
"""

import argparse
import os
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.descriptions import find_data_set
from recipes import combined
from recipes.checks import check_flags, check_names, check_seeds, check_steps, check_weights, note_missing_maps
from recipes.combined import REFINEMENTS, SEGMENTATIONS
from tool.artifact import write_json
from tool.cli import (
    UserError,
    add_switch,
    did_you_mean,
    duration,
    path_text,
    path_value,
    require_file,
    require_folder,
    run_script,
    script_parser,
)
from tool.places import ROOT
from tool.recipe import Setup, Stage, Steps, all_stages
from tool.run_recipe import SUMMARY, Record, check_out, command_line, run_stages, summarise

RECIPES = {
    path.stem: path for path in sorted((ROOT / "recipes").glob("*.py")) if "\ndef stages(" in path.read_text("utf-8")
}
# What a recipe may be about, by the flag that leads to it, its name and _root: a title, what is in its folder, that
# folder's usual name. A recipe that is not about VOC says `DATA = "cub_root"`; one that is takes OWN, too.
OWN = "own_root"
DATA = {
    "voc12_root": ("VOC 2012", "JPEGImages", "VOC2012"),
    "coco14_root": ("COCO 2014", "train2014", "COCO"),
    "cub_root": ("CUB-200-2011", "images.txt", "CUB_200_2011"),
    OWN: ("photographs of your own", "set.json", "MINE"),
}
EXAMPLES = """\
  # HSC on VOC 2012, from its images to DeepLab's score
  python run.py hsc --voc12_root VOC2012 --saliency_root VOC2012/saliency
  # the same stages on generated data, in minutes on a CPU
  python run.py hsc --mini
  # its commands, not run
  python run.py hsc --voc12_root VOC2012 --list
  # some of its stages, and other flags for them
  python run.py hsc --voc12_root VOC2012 --stages infer eval \\
      --set infer.scales="0.5 1" infer.amp=bf16
  # EPS's seeds, refined by IRN, rebalanced by DHR: any seeds, refinement and segmentation
  python run.py eps+irn+dhr --voc12_root VOC2012
  # photographs of your own
  python run.py eps --own_root MINE
  # a recipe of your own
  python run.py my_recipe.py --voc12_root VOC2012
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("A whole system: the stages of a recipe, one after the other.", examples=EXAMPLES)
    parser.add_argument(
        "recipe",
        help=f"{', '.join(RECIPES)}; SEEDS+REFINEMENT+SEGMENTATION, of one's seeds, {', '.join(REFINEMENTS)} and"
        f" {', '.join(SEGMENTATIONS)}; or a FILE.py written like those in recipes/",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", type=path_value, help="VOC 2012: the folder with JPEGImages in it")
    data.add_argument(
        "--coco14_root", type=path_value, help="COCO 2014, for recipes ending in _coco: with train2014 in it"
    )
    data.add_argument("--cub_root", type=path_value, help="CUB-200-2011, for crt_cub: the folder with images.txt in it")
    data.add_argument(
        "--own_root", type=path_value,
        help="photographs of your own in the place of VOC (docs/your_data.md): the folder with set.json in it",
    )  # fmt: skip
    data.add_argument("--saliency_root", type=path_value, help="saliency maps, <id>.png (saliency in that folder)")
    add_switch(data, "--mini", default=False, help="generate small data, and train narrow nets for minutes (False)")

    run = parser.add_argument_group("run")
    run.add_argument("--out", type=path_value, help="all files go there (exps/<recipe>; exps/<recipe>_mini, _own)")
    run.add_argument(
        "--stages", nargs="+", action="extend", metavar="STAGE", help="run these, done or not (all that are not done)"
    )
    run.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="STAGE.FLAG=VALUE",
        help="change flags, as train.lr=0.02",
    )
    add_switch(run, "--list", default=False, help="print the commands, with what is done, and run none (False)")
    return parser.parse_args()


def read_changes(texts: Sequence[str]) -> dict[tuple[str, str], Any]:
    """What `--set` says: a value by stage and flag; several words make a list, none leaves the flag out."""
    changes = {}
    for text in texts:
        match = re.fullmatch(r"(\w+)\.(?:--)?(\w+)=(.*)", text, re.DOTALL)
        if match is None:
            raise UserError(f"--set {text}: expected STAGE.FLAG=VALUE, as train.lr=0.02 or deeplab.TRAIN_LR=0.002")
        stage, flag, value = match.groups()
        try:
            words = [value] if flag.isupper() and value else shlex.split(value)
            words = [path_text(word) if re.match(r"~\w*/", word) else word for word in words]
        except argparse.ArgumentTypeError as error:
            raise UserError(f"--set {text}: {error}") from error
        except ValueError as error:
            raise UserError(f"--set {text}: expected words as a shell takes them ({error})") from error
        if (stage, flag) in changes:
            raise UserError(
                f"--set {text}: expected one value of {stage}.{flag}, found another before it; leave one out"
            )
        changes[stage, flag] = (words[0] if len(words) == 1 else words) if words else None
    return changes


def load_recipe(name: str) -> tuple[str, str, Callable[[Setup], Steps]]:
    """A recipe's name, its key of `DATA` and its function `stages`, from recipes/, combined, or from a file."""
    seeds, *parts = name.split("+")
    if parts and not name.endswith(".py"):
        combined.check_parts(name, parts)
        _, data, of_seeds = load_recipe(seeds)
        return name, data, lambda setup: combined.combine(setup, seeds, of_seeds, *parts)
    if not name.endswith(".py") and name not in RECIPES:
        raise UserError(
            f"{name}: expected one of the recipes {', '.join(RECIPES)}, or a FILE.py{did_you_mean(name, RECIPES)}"
        )
    path = RECIPES.get(name) or require_file(name, "recipe", "written like those in recipes/").resolve()
    content = attempt(path, lambda: runpy.run_path(str(path), run_name="recipe"))
    if not callable(content.get("stages")):
        raise UserError(f"{path}: expected a function stages(setup), as in recipes/hsc.py, found none")
    known = [flag for flag in DATA if flag != OWN]
    if (data := content.get("DATA", "voc12_root")) not in known:
        raise UserError(f"{path}: DATA: expected one of {', '.join(known)}, found {data!r}")
    return path.stem, data, lambda setup: attempt(path, lambda: content["stages"](setup))


def attempt(path: Path, step: Callable[[], Any]) -> Any:
    """What `step` returns; `UserError` with the line in the recipe at `path` if Python finds a mistake there."""
    try:
        return step()
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}, line {error.lineno or 1}: {error.msg}") from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        raise UserError(f"{path}, line {lines[-1] if lines else 1}: {type(error).__name__}: {error}") from error


def make_setup(args: argparse.Namespace, name: str, data: str) -> Setup:
    """Paths as they are where all commands start, in the clone's folder. data: the key of `DATA`."""
    here = Path() if Path.cwd() == ROOT else Path.cwd()
    given = [flag for flag in DATA if getattr(args, flag)]
    if given == [OWN] and data == "voc12_root":
        data = OWN
    kind = "_mini" if args.mini else "_own" if data == OWN else ""
    out = here / (args.out or Path("exps", f"{name}{kind}"))
    title, _, folder = DATA[data]
    if args.mini and (given or args.saliency_root):
        flags = " and ".join(f"--{flag}" for flag in (data, "saliency_root"))
        raise UserError(f"--mini: it generates its own data; leave {flags} out")
    if len(given) > 1:
        raise UserError(f"{', '.join(f'--{flag}' for flag in given)}: expected one of them")
    if others := [flag for flag in given if flag != data]:
        raise UserError(f"--{others[0]}: {name} is about {title}; give --{data} instead")
    if not args.mini and data not in given:
        others = "--mini, for generated data"
        if data == "voc12_root":
            others = f"--{OWN}, for photographs of your own, or {others}"
        raise UserError(f"--{data}: expected the folder of {title}, found none; or give {others}")
    root = out / "data" / folder if args.mini else here / getattr(args, data)
    if out.resolve() == root.resolve():
        raise UserError(f"--out {out}: expected a folder for results, found that of the data; name another")
    if data == OWN:  # which the recipe looks into
        path = require_file(root / DATA[OWN][1], f"--{OWN}", f"the classes of {title}, as docs/your_data.md says")
        find_data_set(str(path), f"--{OWN}")
    saliency = root / "saliency" if args.saliency_root is None else here / args.saliency_root
    return Setup(out, root, saliency, args.mini, read_changes(args.set), data.removesuffix("_root"))


def print_commands(stages: Sequence[Stage], record: Record) -> None:
    for stage in stages:
        done = f": done, in {duration(record.seconds(stage.name))}" if record.done(stage) else ""
        print(f"# {stage.name}{done}\n{command_line(stage)}")


def print_table(steps: Steps, record: Record, scores: dict[str, float]) -> None:
    """A row for each stage: its time so far, and the scores that it found."""
    stages = all_stages(steps)
    what = ""
    if any(stage.figures or stage.score for stage in stages):
        what = "per cent" if any(stage.figures for stage in stages) else "mIoU, per cent"
        what += "; seed: at the best of its thresholds" if any(stage.score == "seed" for stage in stages) else ""
    width = max(len(stage.name) for stage in stages)
    print(f"\n{'stage':<{width}} {'time':>12}   {what}".rstrip())
    for stage in stages:
        took = duration(record.seconds(stage.name)) if record.done(stage) else "not done"
        found = [f"{scores[name]:.1f} {name}" for name in (stage.score, *stage.figures) if name in scores]
        print(f"{stage.name:<{width}} {took:>12}   {', '.join(found)}".rstrip())


def main() -> None:
    args = parse_arguments()
    name, data, recipe = load_recipe(args.recipe)
    setup = make_setup(args, name, data)
    os.chdir(ROOT)  # where all commands start: relative paths of --set mean the same to them and to what looks at them
    steps = recipe(setup)
    check_steps(steps, args.recipe)
    stages = all_stages(steps)
    check_names(stages, args.recipe, {"--stages": args.stages or [], "--set": [stage for stage, _ in setup.changes]})
    chosen = {stage.name for stage in stages} if args.stages is None else {*args.stages}
    pairs = [(stage, check_flags(stage, runs=stage.name in chosen)) for stage in stages]
    asked = [pair for pair in pairs if pair[0].name in chosen]
    check_seeds(asked)
    if args.list:
        print_commands([stage for stage, _ in asked], Record(setup.out))
        note_missing_maps([stage for stage, _ in asked], setup)
        return
    if not args.mini:
        flag = f"{setup.data_set}_root"
        title, content, _ = DATA[flag]
        require_folder(setup.data_root, f"--{flag}", f"{title}, with {content} in it")
    check_out(setup.out, name)
    record = Record(setup.out)
    check_weights([pair for pair in asked if args.stages is not None or not record.done(pair[0])], setup.out)
    try:
        record = run_stages(steps, setup.out, recipe=name, chosen=args.stages)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        raise
    summary = summarise(name, steps, record)
    write_json(setup.out / SUMMARY, summary)
    print_table(steps, record, summary["scores"])
    print(f"\nall of it is in {setup.out}; figures and commands in {setup.out / SUMMARY}")
    for page in [stage.makes for stage in stages if stage.makes.suffix == ".html" and record.done(stage)]:
        print(f"to look at: {page}")


if __name__ == "__main__":
    run_script(main)
