"""Labels of cells and their classes' features: the golden ones, and those of plain loops."""

import numpy as np
import pytest
import torch

from rebalance.cells import USS_PATCH, cell_labels, class_means, likeness
from tests.golden_inputs import assert_golden, rnd

NO_LABEL = 21


def with_no_label(mask):
    labels = torch.as_tensor(mask).long()
    return torch.where(labels == 255, NO_LABEL, labels)


@pytest.mark.golden
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("way", ["us", "ws"])
def test_class_means_are_the_golden_ones(golden, dhr_meta, golden_device, number, way):
    with np.load(golden / "dhr" / "prototypes.npz") as file:
        mask, grid = file[f"mask_{number}"], tuple(file[f"grid_{number}"].tolist())
        expected, labels = file[f"{way}_{number}"], file[f"{way}_{number}_labels"]
    features = rnd(dhr_meta["seed"] + 40 + number, 6, *grid).to(golden_device)
    multiples = (USS_PATCH, USS_PATCH) if way == "us" else grid
    cells = cell_labels(with_no_label(mask).to(golden_device), grid, multiples=multiples, num_labels=NO_LABEL)
    means = class_means(features, cells, num_labels=NO_LABEL)
    assert means.any(dim=1).nonzero().flatten().tolist() == labels.tolist()
    assert_golden(means[labels], expected, rtol=1e-5)


def naive_cells(labels, grid, multiples):
    """Cell by cell, pixel by pixel."""
    height, width = labels.shape
    raised_h, raised_w = (
        -(-side // multiple) * multiple for side, multiple in zip(labels.shape, multiples, strict=True)
    )
    found = np.zeros(grid, int)
    for i in range(grid[0]):
        for j in range(grid[1]):
            counts = [0] * (NO_LABEL + 1)
            top, left = int(i / grid[0] * raised_h), int(j / grid[1] * raised_w)
            for row in range(top, top + max(1, raised_h // grid[0])):
                for column in range(left, left + max(1, raised_w // grid[1])):
                    counts[int(labels[row * height // raised_h, column * width // raised_w])] += 1
            found[i, j] = counts.index(max(counts))
    return found


@pytest.mark.parametrize(
    ("size", "grid"), [((45, 33), (16, 16)), ((64, 70), (9, 19)), ((5, 4), (11, 3)), ((1, 1), (2, 1))]
)
def test_labels_of_cells_are_those_of_plain_loops(size, grid):
    generator = np.random.default_rng(0)
    labels = with_no_label(generator.choice([0, 3, 7, 20, 255], size))
    for multiples in ((USS_PATCH, USS_PATCH), grid):
        found = cell_labels(labels, grid, multiples=multiples, num_labels=NO_LABEL)
        assert (found.numpy() == naive_cells(labels.numpy(), grid, multiples)).all()


def test_the_lowest_of_equally_frequent_labels_wins_and_no_label_loses_to_them():
    labels = with_no_label([[255, 5], [9, 5], [255, 9], [9, 255]])
    cells = cell_labels(labels, (2, 1), multiples=(2, 1), num_labels=NO_LABEL)
    assert cells.flatten().tolist() == [5, 9]


def test_likeness_is_the_cosine_brought_to_0_to_1_and_a_constant_map_is_0():
    features = rnd(2, 4, 5, 6)
    means = torch.cat([3 * features[:, 2, 3][None], torch.zeros(1, 4)])
    maps = likeness(features, means)
    cosines = torch.cosine_similarity(features.flatten(1), features[:, 2, 3][:, None], dim=0).view(5, 6)
    torch.testing.assert_close(maps[0], (cosines - cosines.min()) / (1 - cosines.min()))
    assert maps[0, 2, 3] == maps[0].max() and (maps[1] == 0).all()
