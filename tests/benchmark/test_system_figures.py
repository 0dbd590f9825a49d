"""The figures of `benchmark.systems` against plain loops: mIoU, intervals, gains, and the best by folds."""

import numpy as np
import pytest

from benchmark.system_counts import CRF, Cost, Run
from benchmark.system_figures import RESAMPLES, estimate, gain, miou, resampled
from benchmark.system_folds import choose, fold_of

LABELS = [0, 3, 7]


def random_counts(*shape: int, seed: int = 0) -> np.ndarray:
    """Counts (*shape, 3, 21) that confusions of LABELS could give."""
    generator = np.random.default_rng(seed)
    counts = np.zeros((*shape, 3, 21), np.int64)
    counts[..., 0, LABELS] = generator.integers(0, 50, (*shape, 3))
    counts[..., 1:, LABELS] = counts[..., :1, LABELS] + generator.integers(1, 50, (*shape, 2, 3))
    return counts


def plain_miou(counts: np.ndarray) -> float:
    """Of (3, 21) counts, one class after the other; classes that are nowhere are left out."""
    scores = []
    for label in LABELS:
        hit, truth, found = counts[:, label]
        if truth:
            scores.append(100 * hit / (truth + found - hit))
    return sum(scores) / len(scores)


def test_miou_is_that_of_plain_loops_and_leaves_out_classes_that_no_mask_has():
    counts = random_counts(5)
    counts[2, :, 7] = 0
    counts[3, :2, 7] = 0
    scores = miou(counts.swapaxes(0, 1), LABELS)
    assert scores == pytest.approx([plain_miou(each) for each in counts])


def test_an_estimate_is_the_mean_over_seeds_and_the_percentiles_of_resampled_images():
    counts = random_counts(3, 6)
    found = estimate(counts, LABELS)
    per_seed = [plain_miou(run.sum(0)) for run in counts]
    assert found.mean == pytest.approx(np.mean(per_seed))
    assert found.spread == pytest.approx(np.std(per_seed, ddof=1))

    draws = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=RESAMPLES)
    means = []
    for draw in draws[:40]:
        drawn = [image for image, times in enumerate(draw) for _ in range(times)]
        means.append(np.mean([plain_miou(run[drawn].sum(0)) for run in counts]))
    assert resampled(counts, LABELS).mean(0)[:40] == pytest.approx(means)
    assert found.low < found.mean < found.high


def test_images_that_are_all_alike_leave_no_doubt_and_a_net_gains_nothing_on_itself():
    counts = np.repeat(random_counts(1, 1), 8, axis=1)
    found = estimate(counts, LABELS)
    assert (found.low, found.high) == (pytest.approx(found.mean), pytest.approx(found.mean))
    other = random_counts(2, 8)
    assert gain(other, other, LABELS)[:] == (0, 0, 0, 0)


def test_a_gain_is_judged_on_the_same_draws_of_images():
    # Images differ by far more than the two runs do: only paired draws see that one is better on each.
    reference = random_counts(1, 30)
    better = reference.copy()
    better[:, :, 0, LABELS] += 1
    found = gain(better, reference, LABELS)
    assert 0 < found.low < found.mean < found.high
    separate = estimate(better, LABELS), estimate(reference, LABELS)
    assert separate[0].low < separate[1].high


def runs_of(counts: dict[str, np.ndarray], kind: str) -> list[Run]:
    """Runs with these counts (R, N, 3, L) of a kind of label maps, by name, of seeds from 0 on."""
    return [
        Run(name, seed, Cost(0, 0, 0), 0.3, {kind: each}) for name in counts for seed, each in enumerate(counts[name])
    ]


def test_the_best_is_chosen_on_the_other_folds_by_the_mean_over_seeds():
    counts, generator = {name: random_counts(2, 12) for name in ("a", "b", "c")}, np.random.default_rng(1)
    for each in counts.values():  # nearly alike, so that the folds do not agree
        each[:, :, 0, LABELS] += generator.integers(0, 2, (2, 12, 3))
    folds = fold_of(12)
    assert sorted(np.bincount(folds)) == [2, 2, 2, 3, 3]
    picked, expected = [], np.zeros_like(counts["a"])
    for fold in range(5):
        means = {
            name: np.mean([plain_miou(sum(run[image] for image in range(12) if folds[image] != fold)) for run in runs])
            for name, runs in counts.items()
        }
        picked.append(max(means, key=means.get))
        expected[:, folds == fold] = counts[picked[-1]][:, folds == fold]
    assert len({*picked}) > 1
    late = [run._replace(seed=run.seed + 1) for run in runs_of({"late": counts["a"] * 0 + 1}, CRF)]
    found = choose(
        [*runs_of({"a": counts["a"], "b": counts["b"]}, CRF), *runs_of({"c": counts["c"]}, "irn"), *late], LABELS
    )
    assert dict(found.chosen) == {(name, "irn" if name == "c" else CRF): picked.count(name) for name in {*picked}}
    assert found.score == estimate(expected, LABELS) and found.seeds == [0, 1]


def test_what_is_best_by_luck_is_not_what_its_own_images_say():
    # Each is right on a fifth of the images and wrong elsewhere: whatever was best on the others is wrong on this one.
    counts = {}
    for fold in range(5):
        counts[f"run{fold}"] = np.zeros((1, 10, 3, 21), np.int64)
        counts[f"run{fold}"][..., 1:, LABELS] = 10
        counts[f"run{fold}"][:, fold_of(10) == fold, 0] = counts[f"run{fold}"][:, fold_of(10) == fold, 1]
    assert choose(runs_of(counts, CRF), LABELS).score.mean == 0
    assert choose(runs_of({"alone": counts["run0"]}, CRF), LABELS) is None and choose([], LABELS) is None
