"""The table of a score: per cent of every label from counts, as it is kept, printed and logged."""

from collections.abc import Sequence

import numpy as np

from tool.cli import UserError
from tool.dataset import DataSet
from tool.metric import CURVE, about_absent, iou, occurs


def named_labels(words: Sequence[str], data_set: DataSet) -> list[int]:
    """The labels that `--classes` names, in the data set's order; all of them for no name. `UserError` for an unknown
    or a second one."""
    names = []
    for word in words:  # a name may have spaces
        whole = [part.strip() for part in word.split(",") if part.strip()]
        known = all(name in data_set.label_names for name in whole)
        names += (whole if known else word.replace(",", " ").split()) or [repr(word)]
    unknown = sorted(set(names) - set(data_set.label_names))
    if unknown:
        raise UserError(
            f"--classes: expected names among {', '.join(data_set.label_names)}; found {', '.join(unknown)}"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"--classes: expected each name once; found {', '.join(twice)} more than once")
    return [label for label, name in enumerate(data_set.label_names) if name in names or not names]


def summarise(
    counts: np.ndarray,
    data_set: DataSet,
    *,
    labels: Sequence[int] | None = None,
    thresholds: Sequence[float] = (),
    walk: int = 0,
) -> dict:
    """Per cent for every class at the best threshold, mIoU over `labels` (all), and the curve, if of many thresholds.

    `best_first` is what MSA's evaluators return: mIoU, with the steps that the CAMs walked between superpixels, `walk`,
    and the threshold, in falling order; of equals the lowest threshold first.
    `absent` names those of `labels` that neither prediction nor ground truth has there: mIoU counts them as 0, as
    published. `mIoU_of_occurring` is the mean over the others, None where there are none.
    """
    names = data_set.label_names
    labels = range(len(names)) if labels is None else labels
    scores = 100 * iou(counts)
    means = scores[:, labels].mean(axis=1)
    best = int(means.argmax())
    summary = dict(zip(names, scores[best].tolist(), strict=True)) | {"mIoU": float(means[best])}
    if len(thresholds) > 1:
        summary |= {"thresholds": [*thresholds], "curve": means.tolist()}
        summary |= {"best_threshold": thresholds[best], "best_mIoU": float(means[best])}
        settings = [(walk, threshold) for threshold in thresholds]
        summary["best_first"] = sorted(zip(summary["curve"], settings, strict=True), key=lambda row: -row[0])
    there = occurs(counts[:, best])
    present = [label for label in labels if there[label]]
    return summary | {
        "classes": [names[label] for label in labels],
        "absent": [names[label] for label in labels if not there[label]],
        "mIoU_of_occurring": float(scores[best, present].mean()) if present else None,
    }


def as_text(summary: dict) -> str:
    """The table of a `summarise`d score, as it is printed and logged."""
    lines = []
    if "curve" in summary:
        if summary["thresholds"] == [*CURVE]:
            lines.append("threshold" + "".join(f"  +.{k:02}" for k in range(10)))
            for start in range(0, len(CURVE), 10):
                row = summary["curve"][start : start + 10]
                lines.append(f"{CURVE[start]:9.2f}" + "".join(f"{value:6.2f}" for value in row))
        else:
            lines += ["threshold   mIoU", *map("{:9.2f} {:6.2f}".format, summary["thresholds"], summary["curve"])]
        lines.append(f"best threshold {summary['best_threshold']:.2f}, mIoU {summary['best_mIoU']:.2f}; there:")
        if summary["best_threshold"] == summary["thresholds"][-1]:
            lines.insert(-1, "note: the best is the highest; background may begin above it: --thresholds takes others")
    width = max(12, *map(len, summary["classes"]))
    lines += [f"{name:{width}} {summary[name]:6.2f}" for name in summary["classes"]]
    lines.append(f"{'mIoU':{width}} {summary['mIoU']:6.2f}")
    present = [name for name in summary["classes"] if name not in summary["absent"]]
    if about := about_absent(summary["absent"], present, summary["mIoU_of_occurring"]):
        lines.append(f"note: {about}")
    return "\n".join(lines)


def result_lines(summary: dict, walk: int) -> str:
    """MSA's result.txt of a score at many thresholds: a line each, in their order, with mIoU, the steps of the `walk`
    and the threshold (paper/method.md, MSA)."""
    pairs = zip(summary["curve"], summary["thresholds"], strict=True)
    return "".join(f"{mean:10.2f} {walk:10.2f} {threshold:10.2f}\n" for mean, threshold in pairs)
