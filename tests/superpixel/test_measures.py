"""Achievable accuracy, undersegmentation error and boundary recall: golden figures and loops over pixels."""

import numpy as np
import pytest

from superpixel.measures import NAMES, figures, reach_of, superpixel_counts
from tests.golden_inputs import assert_golden


@pytest.mark.golden
def test_golden_figures(golden):
    expected = np.load(golden / "msa" / "scn.npz")
    images = zip(expected["metric_superpixels"], expected["metric_gt"], expected["metrics"], strict=True)
    for superpixels, mask, (accuracy, error, *recalls) in images:
        assert_golden(list(figures(superpixel_counts(superpixels, mask)).values()), [accuracy, error, recalls[0]])
        for reach, recall in enumerate(recalls):
            assert_golden(figures(superpixel_counts(superpixels, mask, reach=reach))[NAMES[2]], recall)


def naive(superpixels, mask, reach):
    """Pixel by pixel."""
    height, width = mask.shape
    valid = {place for place in np.ndindex(height, width) if mask[place] != 255}
    matched = leaked = 0
    for number in np.unique(superpixels):
        labels = [mask[place] for place in valid if superpixels[place] == number]
        overlaps = [labels.count(label) for label in set(labels)]
        matched += max(overlaps, default=0)
        leaked += sum(min(overlap, len(labels) - overlap) for overlap in overlaps)

    def on_border(labels, y, x):
        around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        return any(labels[p] != labels[y, x] for p in around if 0 <= p[0] < height and 0 <= p[1] < width)

    border = [place for place in valid if on_border(mask, *place)]
    met = 0
    for y, x in border:
        window = np.ndindex(2 * reach + 1, 2 * reach + 1)
        near = [(y + dy - reach, x + dx - reach) for dy, dx in window]
        met += any(0 <= p[0] < height and 0 <= p[1] < width and on_border(superpixels, *p) for p in near)
    return [matched, leaked, met, len(border), len(valid)]


@pytest.mark.parametrize("reach", [0, 1])
def test_counts_are_those_of_a_loop(reach):
    rng = np.random.default_rng(reach)
    superpixels = rng.integers(0, 6, (5, 7)).repeat(2, 0).repeat(2, 1)
    mask = rng.choice([0, 3, 255], (10, 14)).astype(np.uint8)
    assert superpixel_counts(superpixels, mask, reach=reach).tolist() == naive(superpixels, mask, reach)


def test_perfect_superpixels_and_masks_of_one_label_or_none():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 10:] = 7
    assert list(figures(superpixel_counts(mask.astype(int), mask)).values()) == [1, 0, 1]
    assert list(figures(superpixel_counts(mask.astype(int), np.zeros_like(mask))).values()) == [1, 0, 1]
    nothing = superpixel_counts(np.arange(600).reshape(20, 30), np.full((20, 30), 255, np.uint8))
    assert nothing.tolist() == [0, 0, 0, 0, 0]


def test_the_reach_follows_the_diagonal():
    assert reach_of((375, 500)) == 2 and reach_of((48, 56)) == 0


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="shape"):
        superpixel_counts(np.zeros((3, 4), int), np.zeros((4, 3), np.uint8))


def test_slic_of_a_picture_of_its_mask_keeps_to_it_better_than_a_grid():
    from skimage.segmentation import slic  # not at the top: a GPU's golden tests run without it

    rows, columns = np.mgrid[:96, :128]
    mask = ((rows - 50) ** 2 + (columns - 60) ** 2 < 900).astype(np.uint8)
    rng = np.random.default_rng(0)
    picture = 90 + 80 * mask[..., None] + rng.integers(0, 4, (96, 128, 3))
    grid = rows // 16 * 8 + columns // 16
    superpixels = slic(picture.astype(np.uint8), n_segments=grid.max() + 1, start_label=0)
    found = {name: figures(superpixel_counts(each, mask)) for name, each in (("slic", superpixels), ("grid", grid))}
    accuracy, error, recall = NAMES
    assert found["slic"][accuracy] > 0.99 > found["grid"][accuracy]
    assert found["slic"][error] < 0.02 < found["grid"][error]
    assert found["slic"][recall] > 0.9 > found["grid"][recall]
