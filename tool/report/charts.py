"""Line charts as geometry: where lines, ticks and marks lie, in per cent of the plot, for the page to draw."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

MAX_POINTS = 400  # of a line: more than there are pixels for


class Tick(NamedTuple):
    at: float  # per cent from the left or from the top
    text: str


class Mark(NamedTuple):
    """A point of run `run` that shows, with `text` under the chart unless that is empty."""

    run: int
    x: float
    y: float
    text: str


class Chart(NamedTuple):
    """A chart: `lines` are the runs' points for SVG, x and y in 0..100, y downwards; bounds are the data's."""

    title: str
    lines: dict[int, str]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_bounds: tuple[float, float]
    y_bounds: tuple[float, float]
    marks: list[Mark]
    summary: str  # in words, for those who do not see it


def line_chart(
    title: str, series: Mapping[int, Sequence[tuple[float, float]]], *, names: Sequence[str], mark_best: bool = False
) -> Chart:
    """A chart of each run's points (x, y), x ascending; with `mark_best`, the highest point of each is marked."""
    thinned = {run: _thin(points) for run, points in series.items()}
    xs = [x for points in thinned.values() for x, _ in points]
    ys = [y for points in thinned.values() for _, y in points]
    x_bounds, y_ticks_at = (min(xs), max(xs)), _round_numbers(min(ys), max(ys), most=4)
    y_bounds = (min(y_ticks_at[0], min(ys)), max(y_ticks_at[-1], max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        return 100 * _share(x, x_bounds), 100 - 100 * _share(y, y_bounds)

    lines = {
        run: " ".join("{:.2f},{:.2f}".format(*place(*point)) for point in points) for run, points in thinned.items()
    }
    x_ticks = [
        Tick(place(x, 0)[0], f"{x:g}") for x in _round_numbers(*x_bounds, most=6) if x_bounds[0] <= x <= x_bounds[1]
    ]
    y_ticks = [Tick(place(0, y)[1], f"{y:g}") for y in y_ticks_at]
    marks, words = [], []
    for run, points in series.items():
        best = max(points, key=lambda point: point[1])
        if mark_best:
            marks.append(Mark(run, *place(*best), f"{best[1]:.1f} at {best[0]:.2f}"))
            words.append(f"{names[run]}: best {best[1]:.1f} at {best[0]:.2f}")
        else:
            first, last = points[0], points[-1]
            words.append(f"{names[run]}: {first[1]:g} at {first[0]:g}, {last[1]:g} at {last[0]:g}")
            if len(points) == 1:  # a line of one point would not be seen
                marks.append(Mark(run, *place(*first), ""))
    return Chart(title, lines, x_ticks, y_ticks, x_bounds, y_bounds, marks, f"{title}. {'; '.join(words)}")


def _share(value: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return (value - low) / (high - low) if high > low else 0.5


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` points: means of neighbours."""
    group = math.ceil(len(points) / MAX_POINTS)
    chunks = (points[start : start + group] for start in range(0, len(points), group))
    return [(sum(x for x, _ in chunk) / len(chunk), sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _round_numbers(low: float, high: float, *, most: int) -> list[float]:
    """Round numbers with at most `most` steps in low..high; the first is at most `low`, the last at least `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]
