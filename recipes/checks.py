"""What `run.py` looks at before hours of work: a recipe's stages, their flags, the files that they start from."""

import argparse
import importlib.util
import io
import runpy
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from method.output_folders import cam_flags, cam_folders, method_setting
from network import NO_FILES
from tool.cli import FOLDER, UserError, brief, did_you_mean, raise_problems, require_file, what_is_at
from tool.places import ROOT
from tool.recipe import Setup, SideBySide, Stage
from tool.weights_file import require_weights


def check_steps(steps: Any, recipe: str) -> None:
    """Raise `UserError` unless `steps` are what a recipe's function is to return."""
    expected = f"{recipe}: expected stages(setup) to return a list of stages"
    if not isinstance(steps, list) or not steps:
        raise UserError(f"{expected}, found {'an empty list' if steps == [] else type(steps).__name__}")
    for step in steps:
        if not isinstance(step, Stage | SideBySide):
            raise UserError(f"{expected}, found {type(step).__name__} in it")


def check_names(stages: Sequence[Stage], recipe: str, asked: Mapping[str, Sequence[str]]) -> None:
    """Raise `UserError` for a stage that the recipe has twice, or that it does not have and a flag asks for.

    asked: names of stages by the flag that names them.
    """
    names = [stage.name for stage in stages]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{recipe}: expected a name of its own for each stage, found {min(twice)} twice")
    for flag, wanted in asked.items():
        for stage in wanted:
            if stage not in names:
                has = f"no stage of {recipe}; it has {', '.join(names)}"
                raise UserError(f"{flag} {stage}: {has}{did_you_mean(stage, names)}")


def check_flags(stage: Stage, *, runs: bool) -> dict[str, Any]:
    """The values of the script's flags, or keys of stage 3, by name; none of a script that cannot be asked.

    runs: whether the stage is to run; of one that is not its flags may be out of range, or not go together.

    Raises `UserError` if it does not take the stage's flags: to be known before hours of other stages.
    """
    path = ROOT / stage.script
    if not stage.script.endswith(".py"):
        spec = importlib.util.find_spec(stage.script)
        if spec is None:
            raise UserError(f"stage {stage.name}: there is no module {stage.script}")
        package = spec.submodule_search_locations
        path = Path(package[0], "__main__.py") if package else Path(spec.origin)
    require_file(path, f"stage {stage.name}:", "its script")
    if '__name__ == "__main__"' not in path.read_text("utf-8"):
        return {}  # to look at it would be to run it
    sys.argv = [stage.script, *stage.words[1 if stage.script.endswith(".py") else 2 :]]
    with redirect_stderr(io.StringIO()) as said:
        try:
            script = runpy.run_path(str(path), run_name="checked")
            args = script["parse_arguments"]() if "parse_arguments" in script else argparse.Namespace()
            for name in ("complete_arguments", "check_arguments"):  # which look at no stage's files
                if runs and name in script:
                    script[name](args)
            values = vars(args)
            if "read_config" in script:  # the settings of stage 3
                chosen = script["configurations"].get(args.config, {})
                values = vars(script["read_config"]({**script["config_dict"], **chosen}, args.set))
        except SystemExit:
            lines = said.getvalue().strip().splitlines() or ["its flags make it end without work"]
            found = lines[-1].split("error: ")[-1]
        except UserError as error:
            found = str(error)
        else:
            return values
    raise UserError(f"stage {stage.name}: {stage.script}: {found}")


def settings_of_seeds(script: str, given: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """What files are made with in the folders of CAMs and label maps of `script`, which has the flags `given`; none of
    a script that makes no seeds."""
    args = argparse.Namespace(**given)
    if script == "inference.py":
        cam = {**cam_flags(args), "weights": str(args.weights), "scn": args.scn and str(args.scn)}
        cam_npy, cam_png = cam_folders(args)
    elif script == "merge.py":
        cam = {"cam_dir": args.cam_dir, "data_set": args.data_set, **method_setting(args.method)}
        cam_npy, cam_png = (Path(args.work_dir) / name for name in ("cam_npy", "cam_png"))
    else:
        return {}
    return {cam_npy: cam, **({} if cam_png is None else {cam_png: {**cam, "thr": args.thr}})}


def check_seeds(stages: Iterable[tuple[Stage, Mapping[str, Any]]]) -> None:
    """Raise `UserError` for stages that would write seeds made with different flags into one folder: the later one
    would say so after the hours of those before it.

    stages: each with the values of `check_flags`.
    """
    first: dict[Path, tuple[Stage, dict[str, Any]]] = {}
    for stage, given in stages:
        for folder, ours in settings_of_seeds(stage.script, given).items():
            other, theirs = first.setdefault(folder, (stage, ours))
            flags = [name for name in theirs | ours if theirs.get(name) != ours.get(name)]
            if flags:
                found = "; ".join(f"--{name} {brief(theirs.get(name))} and {brief(ours.get(name))}" for name in flags)
                raise UserError(
                    f"stages {other.name} and {stage.name} write into one folder, {folder}: expected the same flags,"
                    f" found {found}; --set both"
                )


def check_weights(stages: Iterable[tuple[Stage, Mapping[str, Any]]], out: Path) -> None:
    """Raise `UserError` with all files of weights that stages start from and that are not there: a later stage would
    say so after the hours of those before it.

    stages: those that will run, each with the values of `check_flags`. out: what lies there is for stages to make.
    """
    problems = []
    for stage, given in stages:
        goes_on = stage.flags.get("resume") and (stage.makes.parent / "last.ckpt").exists()
        for name, value in given.items():
            if goes_on or not name.lower().endswith("weights") or value is None or str(value) in NO_FILES:
                continue
            if name.isupper() and ("TEST_CKPT" in stage.flags or not given["MODEL_BACKBONE_PRETRAIN"]):
                continue  # a key of stage 3 that decides nothing
            chosen = stage.flags.get(name)  # None, too, where it is left out
            path = ROOT / (value if chosen is None else chosen)  # where stages start
            if not path.resolve().is_relative_to((ROOT / out).resolve()):
                try:
                    require_weights(path, name if name.isupper() else f"--{name}")
                except UserError as error:
                    problems.append(f"stage {stage.name}: {error}")
    raise_problems(
        "weights that stages start from; put them there, or --set STAGE.FLAG=FILE; nothing was run", problems
    )


def note_missing_maps(stages: Sequence[Stage], setup: Setup) -> None:
    """Say which folder of saliency maps the stages would ask for in vain, where the data they belong to is there."""
    if setup.mini or what_is_at(ROOT / setup.data_root) != FOLDER:
        return
    for folder in dict.fromkeys(stage.flags.get("saliency_root") for stage in stages):
        if folder is not None and (found := what_is_at(ROOT / folder)) != FOLDER:
            expected = "expected a folder with saliency maps, <id>.png, which the run needs"
            print(f"note: --saliency_root {folder}: {expected}; found {found}", file=sys.stderr)
