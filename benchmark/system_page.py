"""The page of `benchmark.systems`: all figures in a table that sorts and filters, and every image of a seed's runs."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.system_counts import Cost
from benchmark.system_figures import Estimate, Protocol, crf_folder, estimate
from benchmark.system_gains import (
    by_name_of,
    mean_cost,
    of_fewer,
    reference_gain,
    reference_of,
    refined,
    seed_list,
    segmentation_gains,
)
from tool.cli import printable
from tool.lists import Source, read_ids
from tool.report.make import write_report
from tool.report.plan import find_data
from tool.report.run_folder import files_by_id, read_run
from voc12.classes import VOC12

TEMPLATE = Path(__file__).parent / "template" / "systems.html"
# The table's columns, and whether they are numbers.
COLUMNS = {
    "run": False,
    "stage": False,
    "seeds of training": False,
    "mIoU": True,
    "interval": False,
    "gain": True,
    "on": False,
    "training, min": True,
    "inference, s": True,
    "memory, GB": True,
}
SORTED_BY = "mIoU"  # at first, the highest at the top
MIOU = [*COLUMNS].index(SORTED_BY)
UNKNOWN = Cost(0, 0, 0)
IMAGES = 300  # of train.txt that the page shows, at most


class Row(NamedTuple):
    """A row of the table: its cells are a text each, and the number that it sorts by."""

    stage: str
    cells: list[tuple[str, float | None]]


def write_page(protocol: Protocol, data_root: Path, *, num_workers: int) -> None:
    """Write OUT/systems.html, with the images of the seed that has most runs. Raises `UserError` as the report does."""
    here = [run for run in protocol.runs() if run.folder is not None]
    seeds = [run.seed for run in here]
    seed = max(dict.fromkeys(seeds), key=seeds.count)
    # The best first: the gallery's gains are its over the next best's.
    of_seed = sorted((run for run in here if run.seed == seed), key=lambda run: -protocol.figures([run]).crf.mean)
    shown = []
    for folder in (run.folder for run in of_seed):
        shown.append(read_run(folder, "--out"))
        shown[-1].labels["crf"] = files_by_id([crf_folder(folder)], ".png")  # the recipe's, where refinements have more
    overview = {
        "recipe": protocol.recipe,
        "columns": list(COLUMNS.items()),
        "sorted_by": SORTED_BY,
        "rows": sorted(_rows(protocol), key=lambda row: -row.cells[MIOU][1]),
        "seed": seed,
    }
    path, source = protocol.out / "systems.html", Source("--lists", protocol.lists / "train.txt")
    data, ids = find_data(str(data_root), None, None, VOC12), read_ids(source.path, source.flag)[:IMAGES]
    images, size = write_report(
        path,
        shown,
        data,
        ids,
        source=source,
        labels=protocol.labels,
        num_workers=num_workers,
        overview=overview,
        template=TEMPLATE,
    )
    print(f"wrote {printable(path)}: {len(shown)} runs, {images} images, {size / 1e6:.1f} MB")


def _rows(protocol: Protocol) -> Iterator[Row]:
    by_name = by_name_of(protocol.runs())
    for name, runs in by_name.items():
        figures, cost, seeds = protocol.figures(runs), mean_cost(runs), [run.seed for run in runs]
        yield row_of(name, "seeds, best threshold", seeds, figures.best, cost=cost)
        paired = reference_gain(protocol, by_name, name)
        on = () if paired is None else (paired[1], f"{reference_of(name)}{of_fewer(paired[0], seeds)}")
        yield row_of(name, "CRF seeds", seeds, figures.crf, *on, cost=cost)
        for of in refined(protocol, runs):
            yield row_of(name, of.kind, of.seeds, of.score, of.on_crf, "its CRF seeds")
    found = protocol.segmentations()
    for asked, of_seeds in found.items():
        score = estimate(np.stack(list(of_seeds.values())), protocol.labels)
        for other, value in segmentation_gains(protocol, found, asked) or [("", None)]:
            yield row_of(asked, "segmentation of val.txt", of_seeds, score, value, other)


def row_of(
    name: object,
    stage: str,
    seeds: Iterable[int],
    score: Estimate,
    gain: Estimate | None = None,
    on: str = "",
    *,
    cost: Cost = UNKNOWN,
) -> Row:
    """A row of the run `name`; gain: of the score, on what `on` says."""
    spread = "" if score.spread is None else f" ± {score.spread:.1f}"
    words = [(str(name), None), (stage, None), (seed_list(seeds), None)]
    scores = [(f"{score.mean:.1f}{spread}", score.mean), (f"{score.low:.1f} to {score.high:.1f}", None)]
    gains = [("", None) if gain is None else (str(gain), gain.mean), (on, None)]
    costs = [(f"{value:.1f}" if value else "", value or None) for value in _in_units(cost)]
    return Row(stage, [*words, *scores, *gains, *costs])


def _in_units(cost: Cost) -> tuple[float, float, float]:
    return cost.train / 60, cost.infer, cost.memory / 1e9
