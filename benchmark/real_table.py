"""The figures of `benchmark.real`: mIoU of each run over seeds, its interval over images, and the table of them all."""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.real_refine import REFINEMENTS
from data.score import named_labels
from method import METHODS
from tool.artifact import atomic_file, load_cam, load_label_map
from tool.cli import FILE, UserError, raise_problems, require_file, what_is_at
from tool.lists import LABEL_MAP_ENDINGS, Source, expect_files, read_ids
from tool.lock import turn_in
from tool.metric import CURVE, iou, label_counts, threshold_counts
from tool.run_recipe import Record
from voc12.classes import VOC12

CURVE_FILE = "curve.json"  # of a run, written last
PREDICTIONS = "results/VOC2012/Segmentation/comp6_val_cls"
FIXED_THRESHOLD = CURVE.index(0.22)
RESAMPLES = 2000
LABEL_NAMES, NUM_LABELS = VOC12.label_names, VOC12.num_labels
BEGIN, END = "<!-- benchmark.real: from here -->", "<!-- benchmark.real: to here -->"
MASKS = "masks"  # the run whose DeepLab learns from them
REFERENCE = "eps"  # what gains are measured against
AFTER_EPS = "_after_eps"  # ends the name of a run that goes on from eps's weights: eps going on is its reference
ABLATION = re.compile(rf"(?P<run>.+)_without_(?P<what>[a-z]+)(?P<start>{AFTER_EPS}|)")
MENDED = re.compile(rf"(?P<run>.+)_(?P<what>sane_[a-z_]+?)(?P<start>{AFTER_EPS}|)")


class Run(NamedTuple):
    """A finished run: its name, its seed, its folder and the processor time of its training."""

    name: str
    seed: int
    folder: Path
    cpu_seconds: float

    @property
    def crf(self) -> Path:
        """The folder of its CRF seeds, by the first CRF of its method's recipe; its name begins with the method's."""
        method = max((method for method in METHODS if f"{self.name}_".startswith(f"{method}_")), key=len)
        return self.folder / "crf" / METHODS[method].seeds.crf[0].folder


class Estimate(NamedTuple):
    """Per cent: mean and standard deviation over the seeds (None for one), 95 % bootstrap interval over the images."""

    mean: float
    spread: float | None
    low: float
    high: float

    def __str__(self) -> str:
        spread = f" ± {self.spread:.1f}" if self.spread is not None else ""
        return f"{self.mean:.1f}{spread} [{self.low:.1f}, {self.high:.1f}]"


class Figures(NamedTuple):
    """mIoU of seeds at each run's best threshold, of seeds at the fixed one, and of CRF seeds."""

    best: Estimate
    thresholds: list[float]
    fixed: Estimate
    crf: Estimate


@dataclass(frozen=True)
class Protocol:
    """What all runs share: their folder, the lists and masks to score on, the classes, a line on the recipe."""

    out: Path
    lists: Path
    gt_dir: Path
    classes: tuple[str, ...]
    recipe: str

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(named_labels(self.classes, VOC12))

    def check(self, splits: Sequence[str]) -> None:
        """Raise `UserError` for a class that is none or in no mask of a split, and for masks that are missing."""
        for split in splits:
            there = np.zeros(NUM_LABELS, bool)
            for mask in self.truth(split).values():
                there |= label_counts(np.zeros_like(mask), mask, num_labels=NUM_LABELS)[1] > 0
            absent = [LABEL_NAMES[label] for label in self.labels if not there[label]]
            if absent:
                raise UserError(
                    f"--classes: no mask of {self.lists / f'{split}.txt'} has {', '.join(absent)}; name those that "
                    f"masks have: {' '.join(np.array(LABEL_NAMES)[there])}"
                )

    def runs(self) -> list[Run]:
        """Every finished run, by seed."""
        found = []
        for path in sorted(self.out.glob(f"seed_*/*/{CURVE_FILE}")):
            folder, seed = path.parent, path.parent.parent.name.removeprefix("seed_")
            if seed.isdecimal():
                found.append(Run(folder.name, int(seed), folder, Record(folder).cpu_seconds("train")))
        return sorted(found, key=lambda run: run.seed)

    def truth(self, split: str) -> dict[str, np.ndarray]:
        """The masks of a list by id, uint8 (H, W); `UserError` if some are missing."""
        source = Source("--lists", self.lists / f"{split}.txt")
        ids = read_ids(source.path, source.flag)
        expect_files(
            ids, self.gt_dir, ".png", flag="--voc12_root", source=source, endings=LABEL_MAP_ENDINGS, fixed=True
        )
        raise_problems(
            f"{source}: ids without a mask in {self.gt_dir}",
            [name for name in ids if what_is_at(self.gt_dir / f"{name}.png") != FILE],
        )
        return {name: load_label_map(self.gt_dir / f"{name}.png", VOC12) for name in ids}

    @functools.cache  # noqa: B019, one protocol a process, and each table after another run needs all counts again
    def label_map_counts(self, folder: Path, split: str) -> np.ndarray:
        """Counts of every image's label map in `folder`, int64 (N, 3, L)."""
        return np.stack([
            label_counts(load_label_map(folder / f"{name}.png", VOC12, shape=mask.shape), mask, num_labels=NUM_LABELS)
            for name, mask in self.truth(split).items()
        ])  # fmt: skip

    @functools.cache  # noqa: B019, as above
    def seed_counts(self, folder: Path) -> tuple[float, np.ndarray, np.ndarray]:
        """The best threshold of the CAMs of the train list, and every image's counts, int64 (N, 3, L), at it and at
        the fixed one."""
        counts = np.stack([
            threshold_counts(
                load_cam(folder / f"{name}.npy", VOC12, shape=mask.shape),
                mask,
                thresholds=CURVE,
                num_labels=NUM_LABELS,
            )
            for name, mask in self.truth("train").items()
        ])  # fmt: skip
        best = int(miou(counts.sum(0), self.labels).argmax())
        return CURVE[best], counts[:, :, best], counts[:, :, FIXED_THRESHOLD]

    def crf_counts(self, runs: Iterable[Run]) -> np.ndarray:
        """Counts of the runs' CRF seeds, int64 (R, N, 3, L)."""
        return np.stack([self.label_map_counts(run.crf, "train") for run in runs])

    def figures(self, runs: Sequence[Run]) -> Figures:
        """Those of one method's runs; `UserError` with what to do if a run's files are not whole."""
        for run in runs:
            try:
                self.label_map_counts(run.crf, "train"), self.seed_counts(run.folder / "cam_npy")
            except UserError as error:
                raise UserError(f"{error}; remove {run.folder / CURVE_FILE}, and this command makes it anew") from error
        thresholds, best, fixed = zip(*(self.seed_counts(run.folder / "cam_npy") for run in runs), strict=True)
        return Figures(
            best=estimate(np.stack(best), self.labels),
            thresholds=list(thresholds),
            fixed=estimate(np.stack(fixed), self.labels),
            crf=estimate(self.crf_counts(runs), self.labels),
        )


def check_table(path: Path) -> None:
    """Raise `UserError` if `path` is no file with the two marks that the table goes between."""
    try:
        text = require_file(path, "--table", "Markdown").read_text("utf-8")
    except ValueError as error:
        raise UserError(f"--table {path}: expected Markdown in UTF-8 ({error})") from error
    if path.suffix == ".png":
        raise UserError(f"--table {path}: expected another name, as the figure beside it ends in .png")
    if text.count(BEGIN) != 1 or END not in text.split(BEGIN)[1]:
        raise UserError(
            f"--table {path}: expected a line {BEGIN} and after it one {END}; put them where the table goes"
        )


def miou(counts: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Mean over `labels` in per cent, float64 (...), of counts (3, ..., L), as `eval.py` takes it where the masks have
    all of them; those that the masks of a bootstrap draw have not are left out of its mean."""
    occurs = counts[1][..., labels] > 0
    return 100 * (iou(counts)[..., labels] * occurs).sum(-1) / np.maximum(occurs.sum(-1), 1)


def estimate(counts: np.ndarray, labels: Sequence[int]) -> Estimate:
    """The mIoU of R seeds' counts, int64 (R, N, 3, L), and how far it moves with which N images are there."""
    over_seeds = miou(counts.sum(1).swapaxes(0, 1), labels)
    low, high = np.percentile(resampled(counts, labels).mean(0), (2.5, 97.5))
    return Estimate(over_seeds.mean(), over_seeds.std(ddof=1) if len(over_seeds) > 1 else None, low, high)


def gain(counts: np.ndarray, reference: np.ndarray, labels: Sequence[int]) -> Estimate:
    """The difference of the mIoU of `counts` and of `reference`, same seeds and images in both, resampled together."""
    over_seeds = [miou(each.sum(1).swapaxes(0, 1), labels) for each in (counts, reference)]
    difference = over_seeds[0] - over_seeds[1]
    low, high = np.percentile((resampled(counts, labels) - resampled(reference, labels)).mean(0), (2.5, 97.5))
    return Estimate(difference.mean(), difference.std(ddof=1) if len(difference) > 1 else None, low, high)


def resampled(counts: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """mIoU (R, RESAMPLES) on images drawn with replacement, the same draws for every call with as many images."""
    num_images = counts.shape[1]
    draws = np.random.default_rng(0).multinomial(num_images, np.full(num_images, 1 / num_images), size=RESAMPLES)
    summed = np.einsum("bn,rncl->crbl", draws, counts, optimize=True)
    return miou(summed, labels)


def write_table(protocol: Protocol, target: Path | None) -> None:
    """Write table.md and figure.png into the runs' folder; the table into `target` between its two marks, with the
    figure in a file beside it (results.png for results.md). Commands that share the folder take turns."""
    with turn_in(protocol.out):
        runs = protocol.runs()
        by_name: dict[str, list[Run]] = {}
        for run in runs:
            by_name.setdefault(run.name, []).append(run)
        rows = {name: protocol.figures(of_name) for name, of_name in by_name.items()}
        brought = what_changes_bring(protocol, by_name)
        tables = [_runs_table(protocol, by_name, rows), *_changes_table(brought), *_refined_table(protocol, by_name)]
        tables += _segmentation_table(protocol)
        text = "\n\n".join([protocol.recipe, *tables])
        _write(protocol.out / "table.md", f"{text}\n")
        scores = {name: figures.crf for name, figures in rows.items()}
        gains = {f"{run}: {what}": difference for (run, what), (_, difference) in brought.items()}
        draw(protocol.out / "figure.png", scores, gains)
        if target is not None:
            draw(target.with_suffix(".png"), scores, gains)
            _put_between_marks(target, f"{text}\n\n![mIoU of CRF seeds]({target.with_suffix('.png').name})")


def _runs_table(protocol: Protocol, by_name: dict[str, list[Run]], rows: dict[str, Figures]) -> str:
    lines = [
        f"| run | seed | best threshold | at 0.22 | CRF seeds | against {REFERENCE} of as many steps | training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in rows.items():
        plain = f"{REFERENCE}{AFTER_EPS}" if name.endswith(AFTER_EPS) else REFERENCE
        paired = None if name == plain else paired_gain(protocol, by_name[name], by_name.get(plain, []))
        seeds = [run.seed for run in by_name[name]]
        against = ""
        if paired is not None:
            against = str(paired[1]) if paired[0] == seeds else f"{paired[1]} (seed {', '.join(map(str, paired[0]))})"
        thresholds = ", ".join(f"{value:.2f}" for value in figures.thresholds)
        minutes = np.mean([run.cpu_seconds for run in by_name[name]]) / 60
        lines.append(
            f"| {name} | {', '.join(map(str, seeds))} | {figures.best} at {thresholds} "
            f"| {figures.fixed} | {figures.crf} | {against} | {minutes:.0f} min |"
        )
    return "\n".join(lines)


def what_changes_bring(
    protocol: Protocol, by_name: dict[str, list[Run]]
) -> dict[tuple[str, str], tuple[list[int], Estimate]]:
    """How far a run's CRF seeds are above those without one of its parts, and below those with an oddity's sane value,
    by run and part or oddity, with the seeds that have both; only what has any."""
    brought = {}
    for name, runs in by_name.items():
        if match := ABLATION.fullmatch(name) or MENDED.fullmatch(name):
            whole = match["run"] + match["start"]
            pair = by_name.get(whole, []), runs
            found = paired_gain(protocol, *(pair if match.re is ABLATION else reversed(pair)))
            if found is not None:
                brought[whole, match["what"]] = found
    return brought


def paired_gain(protocol: Protocol, runs: Iterable[Run], reference: Iterable[Run]) -> tuple[list[int], Estimate] | None:
    """The seeds that both have, and the gain of `runs`' CRF seeds on `reference`'s over them; None if there is none."""
    theirs = {run.seed: run for run in reference}
    ours = {run.seed: run for run in runs if run.seed in theirs}
    if not ours:
        return None
    counts = protocol.crf_counts(ours.values()), protocol.crf_counts(theirs[seed] for seed in ours)
    return list(ours), gain(*counts, protocol.labels)


def _changes_table(brought: dict[tuple[str, str], tuple[list[int], Estimate]]) -> list[str]:
    if not brought:
        return []
    lines = ["| run | part or sane value | seed | CRF seeds with it, less without |", "| --- | --- | --- | --- |"]
    for (run, what), (seeds, difference) in brought.items():
        lines.append(f"| {run} | {what} | {', '.join(map(str, seeds))} | {difference} |")
    return ["\n".join(lines)]


def _refined_table(protocol: Protocol, by_name: dict[str, list[Run]]) -> list[str]:
    """The label maps of each refinement, and their gain on the seeds at the best threshold and on the CRF seeds."""
    lines = []
    for name, runs in by_name.items():
        for kind, refinement in REFINEMENTS.items():
            refined = [run for run in runs if what_is_at(run.folder / refinement.score) == FILE]
            if refined:
                masks = np.stack([protocol.label_map_counts(run.folder / refinement.masks, "train") for run in refined])
                seeds = np.stack([protocol.seed_counts(run.folder / "cam_npy")[1] for run in refined])
                gains = [gain(masks, others, protocol.labels) for others in (seeds, protocol.crf_counts(refined))]
                numbers = ", ".join(str(run.seed) for run in refined)
                score = estimate(masks, protocol.labels)
                lines.append(f"| {name} | {kind} | {numbers} | {score} | {gains[0]} | {gains[1]} |")
    if not lines:
        return []
    head = "| run | refinement | seed | refined | against its seeds at the best threshold | against its CRF seeds |"
    return ["\n".join([head, "| --- | --- | --- | --- | --- | --- |", *lines])]


def _segmentation_table(protocol: Protocol) -> list[str]:
    scores: dict[int, dict[str, Estimate]] = {}
    for folder in protocol.out.glob(f"seed_*/deeplab_*/{PREDICTIONS}"):
        of_seed, run = folder.relative_to(protocol.out).parts[:2]
        score = estimate(protocol.label_map_counts(folder, "val")[None], protocol.labels)
        scores.setdefault(int(of_seed.removeprefix("seed_")), {})[run.removeprefix("deeplab_")] = score
    if not scores:
        return []
    lines = ["| DeepLab trained on | seed | val list | share of that on the masks |", "| --- | --- | --- | --- |"]
    for seed, of_seed in sorted(scores.items()):
        for name, score in sorted(of_seed.items(), key=lambda item: item[1].mean):
            what = "the masks of the train list" if name == MASKS else f"{name}'s CRF seeds"
            share = f"{100 * score.mean / of_seed[MASKS].mean:.0f} %" if MASKS in of_seed else ""
            lines.append(f"| {what} | {seed} | {score} | {share} |")
    return ["\n".join(lines)]


def draw(path: Path, scores: dict[str, Estimate], gains: dict[str, Estimate]) -> None:
    """A dot for each run's mean, its interval over the images as a line, the first run at the top; below, if there are
    any, the same for what parts and sane values bring."""
    panels = {"mIoU of CRF seeds, per cent\n(95 % interval over the images)": scores}
    if gains:
        panels["what the part or sane value brings, points of mIoU\n(95 % interval over the images)"] = gains
    from matplotlib.figure import Figure  # slow to import

    heights = [0.8 + 0.35 * len(estimates) for estimates in panels.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    rows = figure.subplots(len(panels), height_ratios=heights, squeeze=False)[:, 0]
    for axes, (title, estimates) in zip(rows, panels.items(), strict=True):
        for place, estimate in enumerate(estimates.values()):
            reach = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
            axes.errorbar(estimate.mean, place, xerr=reach, fmt="o", color="#1f4e79", capsize=3)
        axes.set_yticks(range(len(estimates)), list(estimates))
        axes.set_ylim(max(len(estimates), 1) - 0.5, -0.5)  # the first at the top
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel(title)
    if gains:
        rows[-1].axvline(0, color="black", linewidth=0.8)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _put_between_marks(path: Path, text: str) -> None:
    before, rest = path.read_bytes().decode().split(BEGIN)  # with the line ends that it has
    _write(path, f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())
