"""The tables and the picture of `benchmark.systems`."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmark.system_figures import Cost, Estimate, Figures, Protocol, Run, estimate, gain
from benchmark.system_refine import REFINEMENTS
from benchmark.system_runs import AFTER_EPS
from benchmark.system_segment import MASKS
from tool.artifact import atomic_file
from tool.cli import FILE, UserError, require_file, what_is_at
from tool.lock import turn_in

BEGIN, END = "<!-- benchmark.systems: from here -->", "<!-- benchmark.systems: to here -->"
REFERENCE = "eps"  # what gains are measured against
ABLATION = re.compile(rf"(?P<run>.+)_without_(?P<what>[a-z]+)(?P<start>{AFTER_EPS}|)")
MENDED = re.compile(rf"(?P<run>.+)_(?P<what>sane_[a-z_]+?)(?P<start>{AFTER_EPS}|)")


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
        f"| run | seed | best threshold | at 0.22 | CRF seeds | against {REFERENCE} of as many steps | training"
        " | inference | memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in rows.items():
        plain = _reference(name)
        paired = None if name == plain else paired_gain(protocol, by_name[name], by_name.get(plain, []))
        seeds = [run.seed for run in by_name[name]]
        against = ""
        if paired is not None:
            against = str(paired[1]) if paired[0] == seeds else f"{paired[1]} (seed {', '.join(map(str, paired[0]))})"
        thresholds = ", ".join(f"{value:.2f}" for value in figures.thresholds)
        lines.append(
            f"| {name} | {', '.join(map(str, seeds))} | {figures.best} at {thresholds} "
            f"| {figures.fixed} | {figures.crf} | {against} | {' | '.join(_costs(protocol, by_name[name]))} |"
        )
    return "\n".join(lines)


def _costs(protocol: Protocol, runs: Sequence[Run]) -> tuple[str, str, str]:
    """Of a run's training, of the inference of an image with its CRF, and the memory of the larger process."""
    train, infer, memory = (np.mean([getattr(run.cost, of) for run in runs]) for of in Cost._fields)
    seconds = infer / len(protocol.truth("train"))
    return f"{train / 60:.0f} min", f"{seconds:.1f} s", f"{memory / 1e9:.1f} GB" if memory else ""


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
    """The segmentations, and their gains: on those that learnt alike from the reference's seeds, and for DHR on its net
    and training on the label maps as they are."""
    found = protocol.segmentations()
    lines = []
    for asked, of_seeds in found.items():
        others = [asked._replace(run=_reference(asked.run))] if asked.run != MASKS else []
        others += [asked._replace(segmentation="deeplabv3plus")] if asked.segmentation == "dhr" else []
        gains = []
        for other in others:
            both = [seed for seed in of_seeds if seed in found.get(other, {})]
            if other != asked and both:
                counts = [np.stack([of[seed] for seed in both]) for of in (of_seeds, found[other])]
                gains.append(f"{gain(*counts, protocol.labels)} on {other}")
        numbers = ", ".join(map(str, of_seeds))
        score = estimate(np.stack(list(of_seeds.values())), protocol.labels)
        lines.append(f"| {asked} | {numbers} | {score} | {'; '.join(gains)} |")
    if not lines:
        return []
    return ["\n".join(["| segmentation | seed | val list | gain |", "| --- | --- | --- | --- |", *lines])]


def _reference(name: str) -> str:
    """The run of as many steps from the same start that gains are measured against."""
    return f"{REFERENCE}{AFTER_EPS}" if name.endswith(AFTER_EPS) else REFERENCE


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
        for place, score in enumerate(estimates.values()):
            reach = [[score.mean - score.low], [score.high - score.mean]]
            axes.errorbar(score.mean, place, xerr=reach, fmt="o", color="#1f4e79", capsize=3)
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
