"""The figures of a report, from what was found on its images."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tool.cli import brief
from tool.dataset import IGNORE, DataSet
from tool.metric import CURVE, about_absent, counts_of, iou, occurs
from tool.report.charts import Chart, line_chart
from tool.report.found import Found, Shown
from tool.report.run_folder import STAGES, Run
from tool.report.score import Confusion, costliest_confusions, label_iou


class ClassRow(NamedTuple):
    """A label's scores, one for each run: IoU in 0..100, None for a run without the stage, and what costs most."""

    label: int
    name: str
    images: int
    ious: list[float | None]
    confusions: list[Confusion | None]
    gain: float | None
    occurs: bool


class StageScore(NamedTuple):
    """A kind of label maps: mIoU in 0..100 for each run, and the classes' rows.

    notes: on each run that has none of some labels, which its mIoU counts as 0.
    """

    key: str
    title: str
    images: int
    means: list[float | None]
    gain: float | None
    rows: list[ClassRow]
    notes: list[str]


def absence_note(run: Run, title: str, counts: np.ndarray, data_set: DataSet, *, labels: Sequence[int]) -> list[str]:
    """On those of `labels` that neither a run's predictions, `title`, nor the truth has; counts: int64 (3, L)."""
    there = occurs(counts)
    present = [label for label in labels if there[label]]
    absent = [data_set.label_names[label] for label in labels if not there[label]]
    mean = float(100 * iou(counts)[present].mean()) if present else None
    about = about_absent(absent, [data_set.label_names[label] for label in present], mean)
    return [f"{run.name}, {title}: {about}."] if about else []


def _gain(scores: Sequence[float | None]) -> float | None:
    """The first run's score less the second's, where there are both; whatever other runs have."""
    return None if len(scores) < 2 or None in scores[:2] else scores[0] - scores[1]


def score_stages(runs: Sequence[Run], found: Found, data_set: DataSet, *, labels: Sequence[int]) -> list[StageScore]:
    """The scores of every stage that a run has, their means over `labels`."""
    scores = []
    for stage, (title, *_) in STAGES.items():
        ids = {image_id for run in runs for image_id in run.labels[stage]}
        if not ids:
            continue
        totals = [found.confusions.get((number, stage)) for number in range(len(runs))]
        ious = [None if total is None else label_iou(total) for total in totals]
        worst = [[None] * data_set.num_labels if total is None else costliest_confusions(total) for total in totals]
        images = {**({0: len(ids)} if data_set.background else {}), **found.labels[stage]}
        notes = [
            note
            for run, total in zip(runs, totals, strict=True)
            if total is not None
            for note in absence_note(run, title, counts_of(total), data_set, labels=labels)
        ]
        there = occurs(counts_of(sum(total for total in totals if total is not None)))
        rows = []
        for label, name in enumerate(data_set.label_names):
            of_label = [None if values is None else float(values[label]) for values in ious]
            confusions = [of_run[label] for of_run in worst]
            row = (label, name, images.get(label, 0), of_label, confusions, _gain(of_label), bool(there[label]))
            rows.append(ClassRow(*row))
        means = [None if values is None else float(values[list(labels)].mean()) for values in ious]
        scores.append(StageScore(stage, title, len(ids), means, _gain(means), rows, notes))
    return scores


def curve_chart(curves: Mapping[int, Sequence[float]], names: Sequence[str]) -> Chart | None:
    if not curves:
        return None
    series = {run: list(zip(CURVE, values, strict=True)) for run, values in curves.items()}
    return line_chart("Seed mIoU (%) over the background threshold", series, names=names, mark_best=True)


def loss_charts(runs: Sequence[Run]) -> dict[str, list[Chart]]:
    """Charts of every loss term, by the title of the training, the total first; runs share charts."""
    charts: dict[str, list[Chart]] = {}
    titles = dict.fromkeys(title for run in runs for title in run.losses)
    names = [run.name for run in runs]
    for title in titles:
        of_runs = {number: run.losses[title] for number, run in enumerate(runs) if title in run.losses}
        terms = dict.fromkeys(term for losses in of_runs.values() for term in losses)
        ordered = sorted(terms, key=lambda term: term != "total")  # stable: the others keep their order
        charts[title] = [
            line_chart(term, {run: losses[term] for run, losses in of_runs.items() if term in losses}, names=names)
            for term in ordered
        ]
    return charts


def image_records(
    runs: Sequence[Run], shown: Mapping[str, Shown], stages: Sequence[StageScore]
) -> list[dict[str, Any]]:
    """For the page's script, of every image: its id, labels, IoU by stage (one a run), and its pictures' names."""
    return [
        {
            "id": image_id,
            "labels": image.labels,
            "iou": {
                stage.key: [_of_image(image, number, stage.key) for number in range(len(runs))] for stage in stages
            },
            "pictures": list(image.pictures),
        }
        for image_id, image in shown.items()
    ]


def _of_image(image: Shown, run: int, stage: str) -> float | None:
    score = image.ious.get((run, stage))
    return None if score is None else round(score, 2)


def label_colours_hex(data_set: DataSet) -> dict[int, str]:
    """The data set's colours for the page: {label: "#rrggbb"}."""
    labels = (*range(data_set.num_labels), IGNORE)
    return {label: "#" + bytes(data_set.palette[label]).hex() for label in labels}


def setting_rows(runs: Sequence[Run]) -> dict[str, list[tuple[str, list[str], bool]]]:
    """By title, each setting's name, its value in every run ("" where it has none), and whether these differ."""
    tables = {}
    for title in dict.fromkeys(title for run in runs for title in run.settings):
        of_runs = [run.settings.get(title, {}) for run in runs]
        rows = []
        for name in dict.fromkeys(name for settings in of_runs for name in settings):
            values = [_as_text(settings[name]) if name in settings else "" for settings in of_runs]
            rows.append((name, values, len(set(values)) > 1))
        tables[title] = rows
    return tables


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(brief, value)) or "none"
    return "none" if value is None else brief(value)
