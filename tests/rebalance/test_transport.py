"""Plans of transport: the golden ones, POT's, and that neighbours in a batch change nothing."""

import numpy as np
import pytest
import torch

from rebalance.transport import MOST_ROUNDS, balanced, transport
from tests.golden_inputs import assert_golden, rnd, uni


def golden_scores(seed, many_rows):
    """The golden problems, (cells, classes), by name."""
    return {
        "few": uni(seed + 10, 40, 3),
        "many": uni(seed + 11, many_rows, 4),
        "peaked": (6 * rnd(seed + 12, 500, 5)).softmax(dim=1),
        "sparse": torch.where(uni(seed + 14, 300, 3) > 0.8, uni(seed + 13, 300, 3), 0),
        "one": uni(seed + 15, 64, 1),
        "slow": torch.stack([uni(seed + 16, 16), 0.05 * uni(seed + 18, 16)], dim=1),
        "cam": uni(seed + 17, 256, 3) ** 8 * torch.tensor([1, 0.5, 0.05]),
    }


def padded(problems, device="cpu"):
    """A batch of problems (cells, classes), with scores of 1 where a problem has nothing, and what is there."""
    cells, classes = (max(problem.shape[axis] for problem in problems) for axis in (0, 1))
    scores = torch.ones(len(problems), classes, cells)
    for number, problem in enumerate(problems):
        scores[number, : problem.shape[1], : problem.shape[0]] = problem.T
    there = {
        name: torch.arange(most) < torch.tensor([problem.shape[axis] for problem in problems])[:, None]
        for axis, (name, most) in enumerate({"cells": cells, "classes": classes}.items())
    }
    return scores.to(device), {name: mask.to(device) for name, mask in there.items()}


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "dhr" / "ot.npz") as file:
        return dict(file)


@pytest.mark.golden
def test_plans_maps_and_rounds_of_a_batch_are_the_golden_ones(expected, dhr_meta, golden_device):
    problems = golden_scores(dhr_meta["seed"], int(expected["many_rows"]))
    scores, there = padded(list(problems.values()), golden_device)
    plans, rounds = transport(scores, **there)
    maps = balanced(scores, **there)
    for number, (name, problem) in enumerate(problems.items()):
        cells, classes = problem.shape
        assert int(rounds[number]) == expected[f"{name}_iterations"], name
        for kind, values in {"plan": plans, "map": maps}.items():
            if f"{name}_{kind}" in expected:
                found = values[number, :classes, :cells].T.flatten()
                assert_golden(found[:: max(1, problem.numel() // 700)], expected[f"{name}_{kind}"])
            assert (values[number, classes:] == 0).all() and (values[number, :, cells:] == 0).all()


def test_converged_plans_are_pots_and_take_more_rounds():
    import ot  # not at the top: a GPU's golden tests run without it

    problems = list(golden_scores(3, 1200).values())
    scores, there = padded(problems)
    plans, rounds = transport(scores, rule="converged", **there)
    assert (rounds[1:3] > transport(scores, **there)[1][1:3]).all() and (rounds < MOST_ROUNDS["converged"]).all()
    for plan, problem in zip(plans, problems, strict=True):
        cells, classes = problem.shape
        shares = [np.full(count, 1 / count) for count in (cells, classes)]
        pots = ot.sinkhorn(*shares, 1 - problem.double().numpy(), reg=0.1, stopThr=1e-12, numItermax=20000)
        found = plan[:classes, :cells].T.numpy()
        np.testing.assert_allclose(found.sum(0), shares[1], rtol=1e-4)
        np.testing.assert_allclose(found.sum(1), shares[0], rtol=1e-4)
        np.testing.assert_allclose(found, pots, rtol=1e-3)


def test_the_released_rule_leaves_cells_of_a_large_problem_with_unequal_sums():
    scores = uni(0, 1, 4, 2304) ** torch.tensor([1, 1, 1, 2])[:, None]
    plan, rounds = transport(scores)
    assert int(rounds) == 2
    np.testing.assert_allclose(plan.sum(2), 0.25, rtol=1e-4)
    assert (plan.sum(1) * 2304 - 1).abs().max() > 0.1
    assert (balanced(scores) - balanced(scores, rule="converged")).abs().max() > 0.1


def test_problems_alone_give_what_they_give_beside_others():
    problems = list(golden_scores(5, 900).values())
    scores, there = padded(problems)
    maps = balanced(scores, **there)
    for found, problem in zip(maps, problems, strict=True):
        cells, classes = problem.shape
        torch.testing.assert_close(found[:classes, :cells], balanced(problem.T[None])[0], atol=1e-4, rtol=1e-4)


def test_a_problem_without_cells_or_classes_is_0_and_disturbs_nobody():
    scores = uni(1, 3, 3, 20)
    cells, classes = torch.ones(3, 20, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)
    cells[0], classes[1] = False, False
    maps = balanced(scores, cells=cells, classes=classes)
    assert (maps[:2] == 0).all()
    torch.testing.assert_close(maps[2:], balanced(scores[2:]))


def test_flat_scores_give_flat_maps_of_0():
    assert (balanced(torch.zeros(1, 2, 12)) == 0).all()
