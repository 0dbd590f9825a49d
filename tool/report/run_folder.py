"""What a run left on disk, found where the scripts put it: settings, losses, CAMs, label maps."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tool.cli import FILE, UserError, require_folder, what_is_at
from tool.places import folders_with, listed

# The kinds of label maps, in the order in which they are made.
STAGES = {"seed": "Seed", "crf": "CRF seed", "segmentation": "Segmentation"}
_LOG_LINE = re.compile(r"\S+ \S+ step (\d{1,18})/\d+((?: \S+ -?\d{1,39}\.\d{4})+)")  # float32 at most


@dataclass
class Run:
    """A run: what there is of it. Files are by image id; what was looked for in vain stands in `missing`."""

    name: str
    folder: Path
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # title -> its settings
    losses: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)  # title -> term -> (step, mean)
    cams: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, dict[str, Path]] = field(default_factory=dict)  # stage -> id -> file
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_run(folder: str | Path, flag: str) -> Run:
    """What is in a run's `folder`, which `flag` leads to, and beside it.

    CAMs and seeds lie in the folder, or beside it (inference's own `--work_dir` is the parent of the run) where their
    settings.json says that the run's weights made them. Segmentation is the folder's own, or that of the latest
    DeepLab beside it that was trained on these label maps. Raises `UserError` if there is nothing of a run.
    """
    folder = require_folder(folder, flag, "a run's, with cam_npy, crf, results or a training log")
    run = Run(folder.resolve().name, folder)
    _read_training(run, folder, "Training")
    _read_predictions(run)
    _read_segmentation(run)
    if not (run.losses or run.cams or any(run.labels.values())):
        others = folders_with(["args.json", "cam_npy", "cam_png"], folder)
        meant = f", as {listed(others)}" if others else ""
        raise UserError(
            f"{flag} {folder}: expected a run (log, cam_npy, cam_png, crf/crf_T_A or results), found none of it; run"
            f" train_voc.py or inference.py with that --work_dir first, or name another folder{meant}"
        )
    return run


def read_losses(path: Path) -> dict[str, list[tuple[int, float]]]:
    """The mean losses in a run's log: {term: [(step, value)]}; {} without such lines.

    Lines past the checkpoint from which a stopped run went on count no more.
    """
    terms: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text(errors="replace").splitlines():
        match = _LOG_LINE.fullmatch(line)
        if match is None:
            continue
        step, words = int(match[1]), match[2].split()
        for curve in terms.values():
            while curve and curve[-1][0] >= step:
                curve.pop()
        for name, value in zip(words[::2], words[1::2], strict=True):
            terms.setdefault(name, []).append((step, float(value)))
    return {name: points for name, points in terms.items() if points}


def _read_settings(path: Path) -> dict[str, Any]:
    """The settings that a script noted at `path`; {} where there is no such file."""
    if what_is_at(path) != FILE:
        return {}
    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as the record of settings that it is ({error})") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected a record of settings, found {type(settings).__name__}")
    return settings


def _read_training(run: Run, folder: Path, title: str) -> None:
    if settings := _read_settings(folder / "args.json"):
        run.settings[title] = settings
    if what_is_at(folder / "log") == FILE and (losses := read_losses(folder / "log")):
        run.losses[title] = losses
    else:
        run.missing.append(f"losses ({folder / 'log'})")


def files_by_id(folders: Iterable[Path], suffix: str) -> dict[str, Path]:
    """The files `<id><suffix>` in `folders`; not what a killed run left, which begins with a dot."""
    found = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*{suffix}")):
            if not path.name.startswith("."):
                found[path.name.removesuffix(suffix)] = path
    return found


def _read_predictions(run: Run) -> None:
    """CAMs, seeds and CRF seeds."""
    places = _Places(run.folder)
    crf = places.find("crf/crf_*", first="crf_8_7")
    cams, seeds, crf_seeds = (
        _read_files(run, *kind)
        for kind in (
            ("CAMs", places.find("cam_npy"), ".npy"),
            ("Seeds", places.find("cam_png"), ".png"),
            ("CRF seeds", crf, ".png"),
        )
    )
    run.cams, run.labels["seed"], run.labels["crf"] = cams, seeds, crf_seeds
    if len(crf) > 1:
        others = ", ".join(folder.name for folder in crf[1:])
        run.notes.append(f"CRF seeds are those of {crf[0].name}; there are also {others}.")


def _read_files(run: Run, title: str, folders: list[Path], suffix: str) -> dict[str, Path]:
    """The files of the first of `folders`, by id; notes what they were made with, or that there are none."""
    files = files_by_id(folders[:1], suffix)
    if not files:
        run.missing.append(title)
    elif settings := _read_settings(folders[0] / "settings.json"):
        run.settings[title] = settings
    return files


class _Places:
    """Where a run's predictions may be: its folder, or its parent if the run's weights made them."""

    def __init__(self, folder: Path):
        self.folder, self.parent = folder, folder.resolve().parent
        self._hashes: set[str] | None = None

    def _is_ours(self, folder: Path) -> bool:
        made_with = _read_settings(folder / "settings.json").get("weights_sha256")
        if made_with is None:
            return False
        if self._hashes is None:
            weights = [path for path in self.folder.glob("*.pth") if path.is_file()]
            self._hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}
        return made_with in self._hashes

    def find(self, pattern: str, *, first: str = "") -> list[Path]:
        """The folders of that pattern, the one named `first` before the others."""
        own = [path for path in self.folder.glob(pattern) if path.is_dir()]
        found = own or [path for path in self.parent.glob(pattern) if path.is_dir() and self._is_ours(path)]
        return sorted(found, key=lambda path: (path.name != first, path.name))


def _result_folders(folder: Path) -> list[Path]:
    """Where stage 3's test leaves label maps that have a ground truth."""
    found = folder.glob("results/*/Segmentation/comp[56]_*_cls")
    return sorted(path for path in found if path.is_dir() and not path.name.endswith("_test_cls"))


def _read_segmentation(run: Run) -> None:
    results = _result_folders(run.folder)
    if not results and (nets := _trained_on(run)):
        results = _result_folders(nets[-1])
        _read_training(run, nets[-1], f"Segmentation ({nets[-1].name})")
        more = f", the latest of {len(nets)} trained on these label maps" if len(nets) > 1 else ""
        run.notes.append(f"Segmentation is that of {nets[-1].name}{more}.")
    run.labels["segmentation"] = files_by_id(results, ".png")
    if not run.labels["segmentation"]:
        run.missing.append("segmentation (results)")


def _trained_on(run: Run) -> list[Path]:
    """The tested DeepLab runs beside `run` that were trained on its label maps, the latest last."""
    sources = {path.parent.resolve() for stage in ("seed", "crf") for path in list(run.labels[stage].values())[:1]}
    nets = []
    for record in run.folder.resolve().parent.glob("*/args.json"):
        try:
            pseudo = _read_settings(record).get("DATA_PSEUDO_GT")
        except UserError:  # another run's
            continue
        if isinstance(pseudo, str) and Path(pseudo).resolve() in sources and _result_folders(record.parent):
            nets.append(record.parent)
    return sorted(nets, key=lambda folder: (folder / "results").stat().st_mtime)
