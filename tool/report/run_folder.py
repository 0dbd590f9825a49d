"""What a run left on disk, found where the scripts put it: settings, losses, CAMs, label maps."""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tool.cli import FILE, UserError, require_folder, what_is_at
from tool.file_hash import sha256_of
from tool.places import folders_with, listed, visible


class MapKind(NamedTuple):
    """A kind of label maps: its title, the folders in a run's that the scripts and recipes put it in, the setting
    in which a net that makes it says which label maps it learnt from, None where it is made of the run's CAMs, and the
    net's folders of images that have no ground truth."""

    title: str
    patterns: tuple[str, ...]
    learnt_from: str | None = None
    unscored: str | None = None


# In the order in which they are made.
STAGES = {
    "seed": MapKind("Seed", ("cam_png", "pseudo")),  # the second: MSA's, at the threshold that its seeds' scores choose
    "crf": MapKind("CRF seed", ("crf/crf_*",)),
    "affinity": MapKind("AffinityNet's mask", ("out_rw",)),
    "irn": MapKind("IRN's mask", ("sem_seg",)),
    "segmentation": MapKind(
        "Segmentation",
        ("results/*/Segmentation/comp[56]_*_cls",),
        "DATA_PSEUDO_GT",
        "results/*/Segmentation/*_test_cls",
    ),
    "deeplabv3plus": MapKind("DeepLabv3+", ("val",), "wss_masks", "test"),
}
USUAL = ("seed", "crf")  # of which a run without them is said to have none
RELEASED_CRF = "crf_8_7"
_LOG_LINE = re.compile(r"\S+ \S+ step (\d{1,18})/\d+((?: \S+ -?\d{1,39}\.\d{4})+)")  # float32 at most


@dataclass
class Run:
    """A run: what there is of it. Files are by image id; what was looked for in vain stands in `missing`."""

    name: str
    folder: Path
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # title -> its settings
    losses: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)  # title -> term -> (step, mean)
    cams: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, dict[str, Path]] = field(default_factory=lambda: {stage: {} for stage in STAGES})  # to id -> file
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_run(folder: str | Path, flag: str, *, scored: bool = True) -> Run:
    """What is in a run's `folder`, which `flag` leads to, and beside it; for images without ground truth, not `scored`,
    what nets made of such images too.

    CAMs, seeds and what refinements made of them lie in the folder, or beside it (inference's own `--work_dir` is the
    parent of the run) where their settings.json says that the run's weights made them or their CAMs. Segmentation and
    DeepLabv3+ (DHR's, or plain) are the folder's own, or of the latest such net beside it that was trained on any of
    these label maps; of several folders of a kind the one counts that the latest net learnt from. Raises `UserError` if
    there is nothing of a run.
    """
    folder = require_folder(folder, flag, "a run's, with cam_npy, crf, results or a training log")
    run = Run(folder.resolve().name, folder)
    _read_training(run, folder, "Training")
    places = _Places(folder)
    made = {key: places.find(*stage.patterns) for key, stage in STAGES.items() if stage.learnt_from is None}
    nets = _trained_on(run, made, scored)
    _read_predictions(run, places, made, nets)
    _read_segmentation(run, made, nets, scored)
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
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
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
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read as the record of settings that it is ({error})") from error
    return _parse_settings(text, path)


def _parse_settings(text: str | bytes, path: Path) -> dict[str, Any]:
    """The settings in `text`, which stands at `path`."""
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
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
    """The files `<id><suffix>` in `folders`."""
    return {path.name.removesuffix(suffix): path for folder in folders for path in visible(folder, suffix)}


def _read_predictions(run: Run, places: "_Places", made: dict[str, list[Path]], nets: dict[str, list["_Net"]]) -> None:
    """CAMs, and the label maps that are made of them; of several folders those of the one that a net learnt from, the
    latest net's first."""
    run.cams = _read_files(run, "CAMs", places.find("cam_npy"), ".npy")
    ended = sorted((net.ended, net.learnt_from) for of_stage in nets.values() for net in of_stage)
    latest = {learnt_from: when for when, learnt_from in ended}
    for key, folders in made.items():
        stage = STAGES[key]
        folders = sorted(folders, key=lambda folder: -latest.get(folder.resolve(), 0))
        if folders or key in USUAL:
            run.labels[key] = _read_files(run, f"{stage.title}s", folders, ".png")
        if len(folders) > 1:
            others = ", ".join(folder.name for folder in folders[1:])
            run.notes.append(f"{stage.title}s are those of {folders[0].name}; there are also {others}.")


def _read_files(run: Run, title: str, folders: list[Path], suffix: str) -> dict[str, Path]:
    """The files of the first of `folders`, by id; notes what they were made with, or that there are none."""
    files = files_by_id(folders[:1], suffix)
    if not files:
        run.missing.append(title)
    elif settings := _read_settings(folders[0] / "settings.json"):
        run.settings[title] = settings
    return files


class _Places:
    """Where a run's predictions may be: its folder, or its parent if the run's weights made them or their CAMs."""

    def __init__(self, folder: Path):
        self.folder, self.parent = folder, folder.resolve().parent
        self._hashes: set[str] | None = None

    def _is_ours(self, folder: Path) -> bool:
        settings = _read_settings(folder / "settings.json")
        if isinstance(of_cams := settings.get("settings.json of --cam_dir"), str):  # a refinement's, of its own net
            settings = _parse_settings(of_cams, folder / "settings.json")
        made_with = settings.get("weights_sha256")
        if made_with is None:
            return False
        if self._hashes is None:
            weights = [path for path in self.folder.glob("*.pth") if path.is_file()]
            self._hashes = {sha256_of(path) for path in weights}
        return made_with in self._hashes

    def find(self, *patterns: str) -> list[Path]:
        """The folders of these patterns, the released CRF's before the others, these by the numbers in their names."""
        own = _folders(self.folder, patterns)
        found = own or [path for path in _folders(self.parent, patterns) if self._is_ours(path)]
        return sorted(found, key=lambda path: (path.name != RELEASED_CRF, _numbers_in(path.name), path.name))


def _folders(around: Path, patterns: Iterable[str]) -> list[Path]:
    return [path for pattern in patterns for path in around.glob(pattern) if path.is_dir()]


def _numbers_in(name: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", name)]


def _result_folders(folder: Path, stage: MapKind, scored: bool) -> list[Path]:
    """Where a net's run leaves a stage's label maps; only of images that have a ground truth, where they are scored."""
    of_truth = {path for path in _folders(folder, stage.patterns) if not path.name.endswith("_test_cls")}
    others = [] if scored else _folders(folder, [stage.unscored])
    return sorted(of_truth.union(others))


class _Net(NamedTuple):
    """A net's run: its folder, those of its label maps, the one that it learnt from, and when it was through."""

    folder: Path
    results: list[Path]
    learnt_from: Path
    ended: float


def _read_segmentation(run: Run, made: dict[str, list[Path]], nets: dict[str, list[_Net]], scored: bool) -> None:
    """The label maps of nets that learnt from a run's."""
    for key, of_stage in nets.items():
        stage = STAGES[key]
        results = _result_folders(run.folder, stage, scored)
        if not results and of_stage:
            net = of_stage[-1]
            results = net.results
            _read_training(run, net.folder, f"{stage.title} ({net.folder.name})")
            more = f", the latest of {len(of_stage)} trained on label maps of this run" if len(of_stage) > 1 else ""
            run.notes.append(f"{stage.title} is that of {net.folder.name}{more}.")
        run.labels[key] = files_by_id(results, ".png")
    if not any(run.labels[key] for key in nets):
        own = any(_result_folders(run.folder, STAGES[key], False) for key in nets)
        of_others = scored and (own or any(_trained_on(run, made, False).values()))
        more = "; --gt_dir none shows the label maps of images without ground truth" if of_others else ""
        run.missing.append(f"segmentation (results{more})")


def _trained_on(run: Run, made: dict[str, list[Path]], scored: bool) -> dict[str, list[_Net]]:
    """By what they make, the nets beside `run` that were trained on label maps `made` by it, or on those of such nets,
    the latest last."""
    records = {}
    for path in run.folder.resolve().parent.glob("*/args.json"):
        with suppress(UserError):  # of another run
            records[path.parent] = _read_settings(path)
    sources = {folder.resolve() for folders in made.values() for folder in folders}
    nets: dict[str, list[_Net]] = {}
    for key, stage in STAGES.items():
        if stage.learnt_from is None:
            continue
        found = []
        for folder, settings in records.items():
            masks = settings.get(stage.learnt_from)
            if not isinstance(masks, str) or Path(masks).resolve() not in sources:
                continue
            if results := _result_folders(folder, stage, scored):
                found.append(_Net(folder, results, Path(masks).resolve(), results[-1].stat().st_mtime))
        nets[key] = sorted(found, key=lambda net: net.ended)
        own = _result_folders(run.folder, stage, scored)
        sources.update(path.resolve() for results in (own, *(net.results for net in found)) for path in results)
    return nets
