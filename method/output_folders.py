"""The folders that seeds are written into: which there are, and what their files were made with."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.descriptions import DEFAULT, find_data_set
from method import METHODS
from method.outputs import Outputs
from tool.cli import raise_problems
from tool.file_hash import sha256_of
from tool.folder import Claim, claim_folders
from tool.metric import SWEEP
from tool.seed_recipe import CRFRecipe, SeedRecipe


def plan_outputs(args: argparse.Namespace, crf_recipes: Sequence[CRFRecipe]) -> Outputs:
    """Where the files will go that `args`, inference.py's, ask for, the CRF's by `crf_recipes`.

    Raises `UserError` if two kinds of files would go into one folder.
    """
    work_dir = Path(args.work_dir)
    cam_npy, cam_png = cam_folders(args)
    crf = {each: work_dir / "crf" / each.folder for each in crf_recipes}
    overlay = work_dir / "overlay" if args.overlay else None
    irn, msa = (None if folder is None else Path(folder) for folder in (args.cam_out_dir, args.savenpy))
    thresholds = () if args.savepng is None else SWEEP
    sweep = {thr: Path(args.savepng, f"{thr:.2f}", str(args.refine_list)) for thr in thresholds}
    users = [("CAM dicts", cam_npy), ("label maps", cam_png), ("pictures", overlay)]
    users += [("CAMs in IRN's form", irn), ("CAMs in MSA's form", msa)]
    users += [(f"label maps at {thr:.2f}", folder) for thr, folder in sweep.items()]
    require_own_folders(users, crf, "--cam_npy, --cam_png, --cam_out_dir, --savenpy, --savepng, --crf_alpha")
    return Outputs(cam_npy, cam_png, crf, overlay, args.thr, find_data_set(args.data_set), irn, msa, sweep)


def cam_folders(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """Where inference.py puts CAM dicts, and label maps, None for none."""
    work_dir = Path(args.work_dir)
    cam_png = None if args.cam_png == "none" else Path(args.cam_png or work_dir / "cam_png")
    return Path(args.cam_npy or work_dir / "cam_npy"), cam_png


def require_own_folders(users: Sequence[tuple[str, Path | None]], crf: Mapping[CRFRecipe, Path], flags: str) -> None:
    """Raise `UserError` if two kinds of files, of `users` or CRF seeds, would go into one folder, as `flags` say."""
    seeds = [
        (f"CRF seeds of {each.iterations} iterations, {each.background[0]} {float(each.background[1])}", folder)
        for each, folder in crf.items()
    ]
    by_folder: dict[Path, list[str]] = {}
    for user, folder in (*users, *seeds):
        if folder is not None:
            by_folder.setdefault(folder.resolve(), []).append(user)
    raise_problems(
        f"{flags}: expected a folder for each kind of files, found several in one",
        [f"{folder}: {'; '.join(names)}" for folder, names in by_folder.items() if len(names) > 1],
    )


def cam_settings(args: argparse.Namespace, background: str | None) -> dict[str, Any]:
    """What the CAMs of `args`, inference.py's, are made with.

    background: where the weights' head has it, if that is in doubt (`network.weights.LoadReport`).
    """
    cam = cam_flags(args)
    cam["weights_sha256"] = sha256_of(args.weights)
    cam["scn_sha256"] = None if args.scn is None else sha256_of(args.scn)
    if background is not None:
        cam["background in fc8"] = background
    return cam


def cam_flags(args: argparse.Namespace) -> dict[str, Any]:
    """What of `cam_settings` no file says."""
    names = ("network", "backbone", "width", "scales", "amp", "data_set", "refine_list")
    cam = {name: getattr(args, name) for name in names}
    return cam | method_setting(args.method) | METHODS[args.method].inference_settings(args)


def method_setting(method: str) -> dict[str, str]:
    """The method as a setting of seeds, where its recipe of these is its own."""
    return {} if METHODS[method].seeds == SeedRecipe() else {"method": method}


def flags_of(args: argparse.Namespace, outputs: Outputs) -> dict[Path | None, str]:
    """The flags of `args`, inference.py's, that name folders of `outputs`; --work_dir leads to the others."""
    flags = {outputs.cam_npy: args.cam_npy and "--cam_npy", outputs.cam_png: args.cam_png and "--cam_png"}
    flags |= {outputs.irn: "--cam_out_dir", outputs.msa: "--savenpy"}
    flags |= dict.fromkeys(outputs.sweep.values(), "--savepng")
    return {folder: flag for folder, flag in flags.items() if flag}


def open_outputs(outputs: Outputs, cam: Mapping[str, Any], *, flags: Mapping[Path | None, str]) -> None:
    """Create the folders and keep others out; refuse those with files that were made with other settings.

    cam: what the CAMs are made with. flags: that name a folder; --work_dir leads to the others.
    """
    settings = {folder: {**cam} for folder in (outputs.cam_npy, outputs.irn, outputs.msa) if folder is not None}
    settings |= {folder: {**cam, "thr": threshold} for threshold, folder in outputs.label_maps}
    for each, folder in outputs.crf.items():
        settings[folder] = {**cam, "iterations": each.iterations, **dict([each.background])}
    if outputs.overlay is not None:
        crf = [[each.iterations, each.background[1]] for each in outputs.crf]
        settings[outputs.overlay] = {**cam, "thr": outputs.threshold, "crf": crf}
    older = {"data_set": DEFAULT, "refine_list": 0, "background in fc8": "first"}
    claim_folders([Claim(each, flags.get(each, "--work_dir"), made, defaults=older) for each, made in settings.items()])
