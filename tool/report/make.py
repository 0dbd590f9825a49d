"""A report of runs that have been read, without a command line: their images looked at, their page written."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tool.cli import raise_problems
from tool.dataset import DataSet
from tool.lists import Source
from tool.metric import CURVE, iou
from tool.plot import ERROR_COLOURS, heat_colours
from tool.report.figures import (
    absence_note,
    curve_chart,
    image_records,
    label_colours_hex,
    loss_charts,
    score_stages,
    setting_rows,
)
from tool.report.found import Found
from tool.report.image import ImageFiles, look_at_all
from tool.report.page import MAX_BYTES, PAGE, write_page
from tool.report.plan import Data, plan_images
from tool.report.run_folder import STAGES, Run


def write_report(
    path: Path,
    runs: Sequence[Run],
    data: Data,
    ids: Sequence[str] | None = None,
    *,
    source: Source,
    labels: Sequence[int] | None = None,
    num_workers: int = 1,
    overview: Any = None,
    template: Path = PAGE,
    max_bytes: int = MAX_BYTES,
) -> tuple[int, int]:
    """Write the page of `runs`, whose names differ; gains are the first's over the second's.

    Args:
        runs: as `read_run` gives them, under any names; they are changed to what is shown of them.
        ids: of the images to show, or None for all with ground truth, of very many some (`plan_images`). source: where
            these come from, for messages; or where the first run does.
        labels: that mIoU is over, or None for all. num_workers: processes that look at the images.
        overview: what `template` draws of it, under this name. template, max_bytes: as `write_page` has them.

    Returns:
        The numbers of images looked at and of bytes. Raises `UserError` with every file that is missing or cannot be
        used.
    """
    files, notes = plan_images(runs, data, ids, source=source)
    found = look_at_images(files, data.data_set, num_workers=num_workers)
    labels = range(data.data_set.num_labels) if labels is None else labels
    about = describe(runs, found, notes, data.data_set, labels=labels, scored=data.truth is not None)
    context = {**about, "overview": overview}
    pictures = [image.pictures for image in found.shown.values()]
    return len(files), write_page(path, context, pictures, max_bytes=max_bytes, template=template)


def look_at_images(files: Mapping[str, ImageFiles], data_set: DataSet, *, num_workers: int) -> Found:
    """What is on the images, those that are shown in their order. Raises `UserError` with every file that cannot be
    used."""
    found = Found()
    for image_id, findings in look_at_all(files, data_set, num_workers=num_workers):
        found.add(image_id, findings)
    raise_problems(
        "faulty files (all have the size of their ground truth, or of their image where there is none); no report was"
        " written",
        [problem for image_id in files for problem in found.problems.get(image_id, ())],
    )
    found.shown = {image_id: found.shown[image_id] for image_id in files if image_id in found.shown}
    return found


def describe(
    runs: Sequence[Run],
    found: Found,
    notes: Sequence[str],
    data_set: DataSet,
    *,
    labels: Sequence[int],
    scored: bool = True,
) -> dict:
    """All that the page shows but for the pictures; mIoU is over `labels`, where images are `scored`."""
    stages = score_stages(runs, found, data_set, labels=labels) if scored else []
    counts = dict(sorted(found.counts.items()))
    curves = {run: (100 * iou(of_run))[:, list(labels)].mean(axis=1).tolist() for run, of_run in counts.items()}
    names = [run.name for run in runs]
    missing = [f"{run.name}: not found, so left out: {', '.join(run.missing)}." for run in runs if run.missing]
    best = {run: max(range(len(values)), key=values.__getitem__) for run, values in curves.items()}
    absences = [
        note
        for run, k in best.items()
        for note in absence_note(runs[run], "CAM", counts[run][:, k], data_set, labels=labels)
    ]
    if len(labels) < data_set.num_labels:
        absences.append(f"mIoU is over {', '.join(data_set.label_names[label] for label in labels)}.")
    absences += [note for stage in stages for note in stage.notes]
    return {
        "runs": runs,
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "notes": [*missing, *(f"{run.name}: {note}" for run in runs for note in run.notes), *notes, *absences],
        "scored": scored,
        "stages": stages,
        "stage_titles": {key: stage.title for key, stage in STAGES.items() if any(run.labels[key] for run in runs)},
        "best": {run: (curves[run][k], CURVE[k]) for run, k in best.items()},
        "curve": curve_chart(curves, names),
        "losses": loss_charts(runs),
        "settings": setting_rows(runs),
        "colours": label_colours_hex(data_set),
        "error_colours": {kind: "#" + bytes(colour).hex() for kind, colour in ERROR_COLOURS.items()},
        "heat": ["#" + bytes(colour).hex() for colour in heat_colours(np.linspace(0, 1, 9)[None])[0]],
        "data_set": data_set.title,
        "names": data_set.label_names,
        "images": image_records(runs, found.shown, stages),
    }
