"""The tables and the picture of `benchmark.systems`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.system_counts import CRF, Measured, Run, write_counts
from benchmark.system_figures import Estimate, Figures, Protocol, estimate
from benchmark.system_folds import FOLDS, Choice, choose
from benchmark.system_gains import (
    REFERENCE,
    by_name_of,
    mean_cost,
    of_fewer,
    reference_gain,
    refined,
    seed_list,
    segmentation_gains,
    what_changes_bring,
)
from benchmark.system_seeds import AND
from benchmark.system_segment import Segmented
from tool.artifact import atomic_file
from tool.cli import UserError, require_file
from tool.lock import turn_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {CRF: "CRF seeds", "affinity": "AffinityNet's masks", "irn": "IRN's masks"}
LINE = 0.22  # of the figure, inches
BEGIN, END = "<!-- benchmark.systems: from here -->", "<!-- benchmark.systems: to here -->"


def check_table(path: Path) -> None:
    """Raise `UserError` if `path` is no file with the two marks that the table goes between."""
    try:
        text = require_file(path, "--table", "Markdown").read_text("utf-8")
    except ValueError as error:
        raise UserError(f"--table {path}: expected Markdown in UTF-8 ({error})") from error
    if path.suffix in (".png", ".npz"):
        raise UserError(f"--table {path}: expected another name, as what is put beside it ends in {path.suffix}")
    if text.count(BEGIN) != 1 or END not in text.split(BEGIN)[1]:
        raise UserError(
            f"--table {path}: expected a line {BEGIN} and after it one {END}; put them where the table goes"
        )


def write_table(protocol: Protocol, target: Path | None) -> None:
    """Write table.md, figure.png and counts.npz into the runs' folder; the table into `target` between its two marks,
    with the figure and the counts in files beside it (results.png for results.md). Commands that share the folder take
    turns."""
    with turn_in(protocol.out):
        measured = Measured(protocol.runs(), protocol.segmentations())
        by_name = by_name_of(measured.runs)
        rows = {name: protocol.figures(of_name) for name, of_name in by_name.items()}
        brought = what_changes_bring(protocol, by_name)
        tables = [_runs_table(protocol, by_name, rows), *_changes_table(brought), *_refined_table(protocol, by_name)]
        tables += _segmentation_table(protocol, measured.segmentations)
        tables += _choice(choose(measured.runs, protocol.labels))
        text = "\n\n".join([protocol.recipe, *tables])
        _write(protocol.out / "table.md", f"{text}\n")
        scores = {name: figures.crf for name, figures in rows.items()}
        gains = {f"{run}: {what}": difference for (run, what), (_, difference) in brought.items()}
        draw(protocol.out / "figure.png", scores, gains)
        for path in (protocol.out / "counts.npz", *([] if target is None else [target.with_suffix(".npz")])):
            write_counts(path, measured, settings=protocol.settings, truth=protocol.mask_counts)
        if target is not None:
            draw(target.with_suffix(".png"), scores, gains)
            _put_between_marks(target, f"{text}\n\n![mIoU of CRF seeds]({target.with_suffix('.png').name})")


def _runs_table(protocol: Protocol, by_name: dict[str, list[Run]], rows: dict[str, Figures]) -> str:
    lines = [
        f"| run | seed | best threshold | at 0.22 | CRF seeds | against {REFERENCE} of as many steps | training"
        " | inference | memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in rows.items():
        runs, against = by_name[name], ""
        seeds = [run.seed for run in runs]
        if (paired := reference_gain(protocol, by_name, name)) is not None:
            against = f"{paired[1]}{of_fewer(paired[0], seeds)}"
        thresholds = ", ".join(f"{value:.2f}" for value in figures.thresholds)
        cost = mean_cost(runs)
        infer, memory = f"{cost.infer:.1f} s" * bool(cost.infer), f"{cost.memory / 1e9:.1f} GB" * bool(cost.memory)
        costs = f"{cost.train / 60:.0f} min | {infer} | {memory}"
        lines.append(
            f"| {name} | {seed_list(seeds)} | {figures.best} at {thresholds} | {figures.fixed} | {figures.crf} "
            f"| {against} | {costs} |"
        )
    return "\n".join(lines)


def _changes_table(brought: dict[tuple[str, str], tuple[list[int], Estimate]]) -> list[str]:
    if not brought:
        return []
    lines = ["| run | part or sane value | seed | CRF seeds with it, less without |", "| --- | --- | --- | --- |"]
    for (run, what), (seeds, difference) in brought.items():
        lines.append(f"| {run} | {what} | {seed_list(seeds)} | {difference} |")
    return ["\n".join(lines)]


def _refined_table(protocol: Protocol, by_name: dict[str, list[Run]]) -> list[str]:
    """The label maps of each refinement, and their gain on the seeds at the best threshold and on the CRF seeds."""
    lines = [
        f"| {name} | {of.kind} | {seed_list(of.seeds)} | {of.score} | {of.on_seeds} | {of.on_crf} |"
        for name, runs in by_name.items()
        for of in refined(protocol, runs)
    ]
    if not lines:
        return []
    head = "| run | refinement | seed | refined | against its seeds at the best threshold | against its CRF seeds |"
    return ["\n".join([head, "| --- | --- | --- | --- | --- | --- |", *lines])]


def _segmentation_table(protocol: Protocol, found: Mapping[Segmented, Mapping[int, np.ndarray]]) -> list[str]:
    lines = []
    for asked, of_seeds in found.items():
        score = estimate(np.stack(list(of_seeds.values())), protocol.labels)
        gains = "; ".join(f"{value} on {other}" for other, value in segmentation_gains(protocol, found, asked))
        lines.append(f"| {asked} | {seed_list(of_seeds)} | {score} | {gains} |")
    if not lines:
        return []
    return ["\n".join(["| segmentation | seed | val list | gain |", "| --- | --- | --- | --- |", *lines])]


def _choice(choice: Choice | None) -> list[str]:
    if choice is None:
        return []
    names = ", ".join(f"{run}'s {KINDS.get(kind, kind)} in {times}" for (run, kind), times in choice.chosen)
    return [
        f"The best of these label maps, chosen on four of {FOLDS} parts of the images and scored on the one left, in"
        f" {FOLDS} ways: {choice.score} ({names} of {FOLDS}; seed {seed_list(choice.seeds)})."
    ]


def draw(path: Path, scores: dict[str, Estimate], gains: dict[str, Estimate]) -> None:
    """Write `figure_of` them as a PNG file."""
    figure = figure_of(scores, gains)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=150)


def figure_of(scores: dict[str, Estimate], gains: dict[str, Estimate]) -> "Figure":
    """A dot for each run's mean, its interval over the images as a line, the best at the top, and a line down at the
    reference's, if that is among them; below, if there are any, the same for what parts and sane values bring."""
    from matplotlib.figure import Figure  # slow to import

    title, reference = "mIoU of CRF seeds, per cent", None
    if REFERENCE in scores:
        title, reference = f"{title}; dashed: {REFERENCE}", scores[REFERENCE].mean
    panels = [(title, scores, reference)]
    if gains:
        panels.append(("what the part or sane value brings, points of mIoU", gains, 0))
    heights = [0.8 + LINE * sum(map(_height_of, estimates)) for _, estimates, _ in panels]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    rows = figure.subplots(len(panels), height_ratios=heights, squeeze=False)[:, 0]
    for axes, (title, estimates, reference) in zip(rows, panels, strict=True):
        names = sorted(estimates, key=lambda name: -estimates[name].mean)
        ends = np.cumsum([_height_of(name) for name in names])
        places = [end - _height_of(name) / 2 for name, end in zip(names, ends, strict=True)]
        for name, place in zip(names, places, strict=True):
            score = estimates[name]
            reach = [[score.mean - score.low], [score.high - score.mean]]
            axes.errorbar(score.mean, place, xerr=reach, fmt="o", color="#1f4e79", capsize=3)
        axes.set_yticks(places, [name.replace(AND, f"\n{AND}") for name in names], fontsize=9)
        axes.set_ylim(max(sum(map(_height_of, names)), 1), 0)  # the first at the top
        axes.grid(alpha=0.3)
        axes.set_xlabel(f"{title}\n(95 % interval over the images)")
        if reference is not None:
            axes.axvline(reference, color="black", linewidth=0.8, linestyle="--")
    return figure


def _height_of(name: str) -> float:
    """The height of a run's name in the figure, in rows: a mean has a line, less high than a row, for each part."""
    return 1 + 0.75 * name.count(AND)


def _put_between_marks(path: Path, text: str) -> None:
    before, rest = path.read_bytes().decode().split(BEGIN)  # with the line ends that it has
    _write(path, f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())
