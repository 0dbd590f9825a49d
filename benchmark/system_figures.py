"""The figures of `benchmark.systems`: mIoU of each run over seeds of training, and its interval over images."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.system_counts import BEST, CRF, FIXED, Cost, Measured, Run
from benchmark.system_refine import REFINEMENTS
from benchmark.system_runs import CURVE_FILE, is_run
from benchmark.system_seeds import crf_of, parts_of, trainings_of
from benchmark.system_segment import Segmented, segmented_in
from data.score_table import named_labels
from tool.artifact import load_cam, load_label_map
from tool.cli import FILE, UserError, raise_problems, what_is_at
from tool.lists import LABEL_MAP_ENDINGS, Source, expect_files, read_ids
from tool.metric import CURVE, iou, label_counts, threshold_counts
from tool.run_recipe import Record
from voc12.classes import VOC12

FIXED_THRESHOLD = CURVE.index(0.22)
RESAMPLES = 2000
LABEL_NAMES, NUM_LABELS = VOC12.label_names, VOC12.num_labels


def crf_folder(run: Path) -> Path:
    """The folder of a run's CRF seeds, by the first CRF of its recipe."""
    return run / "crf" / crf_of(run.name).folder


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
    """What all runs share: their folder, the lists and masks to score on, the classes, a line on the recipe, and its
    settings. others: what the table has beside the runs in the folder."""

    out: Path
    lists: Path
    gt_dir: Path
    classes: tuple[str, ...]
    recipe: str
    settings: Mapping[str, object] = field(default_factory=dict, compare=False)
    others: Measured = field(default=Measured(), compare=False)

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(named_labels(self.classes, VOC12))

    def check(self, splits: Sequence[str]) -> None:
        """Raise `UserError` for a class that is none or in no mask of a split, and for masks that are missing."""
        for split in splits:
            there = self.mask_counts(split).any(0)
            absent = [LABEL_NAMES[label] for label in self.labels if not there[label]]
            if absent:
                raise UserError(
                    f"--classes: no mask of {self.lists / f'{split}.txt'} has {', '.join(absent)}; name those that "
                    f"masks have: {' '.join(np.array(LABEL_NAMES)[there])}"
                )

    def runs(self) -> list[Run]:
        """Every finished run, by seed; of those that are in OUT and in a file of counts, OUT's."""
        found = {(run.seed, run.name): run for run in self.others.runs}
        for path in sorted(self.out.glob(f"seed_*/*/{CURVE_FILE}")):
            seed = path.parent.parent.name.removeprefix("seed_")
            if seed.isdecimal() and is_run(path.parent.name):
                run = self._run(int(seed), path.parent)
                found[run.seed, run.name] = run
        return [found[key] for key in sorted(found)]

    def _run(self, seed: int, folder: Path) -> Run:
        """The finished run in `folder`; `UserError` with what to do if its files are not whole."""
        records = {
            "train": [Record(folder.parent / run) for run in trainings_of(folder.name)],
            "infer": [Record(folder.parent / run) for run in (folder.name, *parts_of(folder.name))],
        }
        spent = {stage: sum(record.cpu_seconds(stage) for record in of) for stage, of in records.items()}
        memory = max(record.memory(stage) for stage, of in records.items() for record in of)
        cost = Cost(spent["train"], spent["infer"] / len(read_ids(self.lists / "train.txt", "--lists")), memory)
        try:
            threshold, best, fixed = self.seed_counts(folder / "cam_npy")
            counts = {BEST: best, FIXED: fixed, CRF: self.label_map_counts(crf_folder(folder), "train")}
        except UserError as error:
            raise UserError(f"{error}; remove {folder / CURVE_FILE}, and this command makes it anew") from error
        for kind, refinement in REFINEMENTS.items():
            if what_is_at(folder / refinement.score) == FILE:
                counts[kind] = self.label_map_counts(folder / refinement.masks, "train")
        return Run(folder.name, seed, cost, threshold, counts, folder)

    def segmentations(self) -> dict[Segmented, dict[int, np.ndarray]]:
        """By what was asked for and by seed, the counts of the label maps of val.txt, int64 (N, 3, L)."""
        found = {asked: dict(by_seed) for asked, by_seed in self.others.segmentations.items()}
        for seed, asked, folder in segmented_in(self.out):
            found.setdefault(asked, {})[seed] = self.label_map_counts(folder, "val")
        return found

    def mask_counts(self, split: str) -> np.ndarray:
        """The pixels of each label in each mask of a split, int64 (N, L)."""
        masks = self.truth(split).values()
        return np.stack([label_counts(np.zeros_like(mask), mask, num_labels=NUM_LABELS)[1] for mask in masks])

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

    def figures(self, runs: Sequence[Run]) -> Figures:
        """Those of one method's runs."""
        best, fixed, crf = (estimate(stacked(runs, what), self.labels) for what in (BEST, FIXED, CRF))
        return Figures(best, [run.threshold for run in runs], fixed, crf)


def stacked(runs: Iterable[Run], what: str) -> np.ndarray:
    """The runs' counts of what was scored, int64 (R, N, 3, L)."""
    return np.stack([run.counts[what] for run in runs])


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
