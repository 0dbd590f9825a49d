"""Labels of cells and of pairs, and the loss: golden numbers, and their definitions as plain loops."""

import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from network.affinity import build_affinity_net
from network.weights import released_state_dict
from refine.affinity.labels import grid_labels
from refine.affinity.training import build_training, training_step
from refine.pairs import PairLabels, PairsMet, pair_labels, pair_losses
from tests.golden_inputs import assert_golden, fill, uni
from tests.method.test_no_waiting import Copies, can_pretend
from tool.pairs import pairs_of

NAMES = ("bg", "fg", "neg")


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "ppc" / "affinity.npz") as file:
        return dict(file)


@pytest.mark.golden
def test_pairs_loss_and_gradient_are_the_golden_ones(expected, ppc_meta, golden_device):
    grids = np.stack([expected["grid"], np.roll(expected["grid"], 7, 1)]).astype(np.int64)
    labels = pair_labels(torch.from_numpy(grids).to(golden_device), pairs_of(20, 20))
    for name, found in zip(NAMES, labels, strict=True):
        assert (found[0].view(34, -1).cpu().numpy() == expected[name]).all()
    affinities = torch.exp(-uni(ppc_meta["seed"] + 161, 2, 34, 192)).to(golden_device).requires_grad_()
    losses = pair_losses(affinities.flatten(1), labels)
    assert_golden(losses["total"].detach(), expected["pair_loss"], atol=1e-5)
    for name in NAMES:
        assert_golden(losses[name].detach(), expected[f"pair_{name}_loss"], atol=1e-5)
        assert losses[f"pairs/{name}"] == expected[f"pair_{name}_count"]
    (gradient,) = torch.autograd.grad(losses["total"], affinities)
    assert_golden(gradient[:, ::4], expected["pair_grad"], atol=1e-4 * np.abs(expected["pair_grad"]).max())


def test_a_cell_is_what_a_half_is_sure_of():
    def halves(*rows):
        return (
            torch.tensor(rows, dtype=torch.float32).T.reshape(3, 1, -1).repeat_interleave(8, 1).repeat_interleave(8, 2)
        )

    #                low: background, a, b                          high
    cells = {
        1: ((0.2, 0.7, 0.1), (0.1, 0.8, 0.1)),  # both say a
        2: ((0.2, 0.1, 0.7), (0.1, 0.8, 0.1)),  # low's class counts
        0: ((0.2, 0.7, 0.1), (0.9, 0.1, 0.0)),  # high's background comes first
        255: ((0.7, 0.2, 0.1), (0.3, 0.5, 0.2)),  # low's background is not sure
    }
    low, high = (halves(*(pair[side] for pair in cells.values())) for side in (0, 1))
    assert grid_labels(low, high).flatten().tolist() == list(cells)
    assert grid_labels(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)).item() == 255  # beside the image
    ties = torch.full((3, 8, 8), 0.3)
    assert grid_labels(ties, ties).item() == 0


def test_means_of_blocks_decide_not_single_pixels():
    low = torch.zeros(2, 8, 8)
    low[0, :, :3], low[1, :, 3:] = 1, 0.5  # 24 pixels of 1, 40 of 0.5
    high = torch.zeros(2, 8, 8)
    high[1] = 0.1
    assert grid_labels(low, high).item() == 255
    low[1, :, 3:] = 0.7
    assert grid_labels(low, high).item() == 1


def naive_losses(affinities, label, pairs):
    sums = {name: [0.0, 0] for name in NAMES}
    for image, grid in enumerate(label.flatten(1).tolist()):
        for number, (first, second) in enumerate(pairs.index.T.tolist()):
            one, other, affinity = grid[first], grid[second], float(affinities[image, number])
            if 255 in (one, other):
                continue
            name = "neg" if one != other else "bg" if one == 0 else "fg"
            sums[name][0] -= math.log(1 + 1e-5 - affinity) if name == "neg" else math.log(affinity + 1e-5)
            sums[name][1] += 1
    terms = {name: total / (count + 1e-5) for name, (total, count) in sums.items()}
    return {**terms, "total": terms["bg"] / 4 + terms["fg"] / 4 + terms["neg"] / 2}


@pytest.mark.parametrize("values", [(0, 1, 2, 255), (0, 255), (1, 255), (255,), (0, 1)])
def test_the_loss_is_that_of_plain_loops_whichever_pairs_there_are(values):
    pairs = pairs_of(9, 12)
    label = torch.tensor(values)[torch.randint(0, len(values), (2, 9, 12), generator=torch.Generator().manual_seed(0))]
    affinities = uni(1, 2, len(pairs))
    losses = pair_losses(affinities, pair_labels(label, pairs))
    for name, value in naive_losses(affinities, label, pairs).items():
        assert float(losses[name]) == pytest.approx(value, abs=1e-5)


def test_a_grid_without_pairs_costs_nothing():
    empty = torch.zeros(1, 0)
    losses = pair_losses(empty, PairLabels(*[empty.bool()] * 3))
    assert all(float(value) == 0 for value in losses.values())


def test_a_run_says_which_pairs_it_never_met():
    pairs, met = pairs_of(8, 8), PairsMet(torch.device("cpu"))
    assert met.notes("the labels") == []  # nor took a step
    half = torch.zeros(1, 8, 8, dtype=torch.int64)
    half[..., 4:] = 4
    for label, missing in ((half * 0, ["of one class", "of different labels"]), (half, [])):
        labels = pair_labels(label, pairs)
        met.add(pair_losses(torch.full_like(labels.background, 0.5, dtype=torch.float32), labels))
        notes = met.notes("the labels")
        assert len(notes) == len(missing) and all(map(str.__contains__, notes, missing))


@pytest.mark.skipif(not can_pretend(), reason="this torch pretends no GPU")
def test_forward_pass_and_losses_ask_a_gpu_for_no_value_and_copy_nothing_to_it():
    pairs = pairs_of(12, 12)
    with FakeTensorMode(), torch.device("cuda"):
        net = build_affinity_net(width=0.0625)
        image, label = torch.empty(2, 3, 96, 96), torch.empty(2, 12, 12, dtype=torch.int64)
        met = PairsMet(image.device)
        with Copies() as copies:
            losses = pair_losses(net(image, pairs), pair_labels(label, pairs))
            met.add(losses)
    assert copies.number == 0 and losses["total"].device.type == "cuda"


SLICES = {
    "f8_3.weight": np.s_[::4, ::16, 0, 0],
    "f8_5.weight": np.s_[::8, ::128, 0, 0],
    "f9.weight": np.s_[::8, ::8, 0, 0],
    "b4.conv_branch2a.weight": np.s_[::64, ::64],
}


@pytest.mark.golden
def test_losses_and_updates_of_three_steps_are_the_golden_ones(golden, ppc_meta, golden_device):
    with np.load(golden / "ppc" / "steps_aff.npz") as file:
        steps = dict(file)
    net = build_affinity_net()
    state = released_state_dict(net)
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(fill(name, tuple(value.shape), ppc_meta["salt"]))
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    net.to(golden_device).train()
    before = {name: value.clone() for name, value in released_state_dict(net).items()}
    training = build_training(net, lr=1e-3, momentum=5e-4, weight_decay=5e-4, num_steps=3)
    for number, golden_losses in enumerate(steps["losses"]):
        image = (uni(ppc_meta["seed"] + 100 + number, 2, 3, 128, 128) - 0.45) / 0.225
        share = uni(ppc_meta["seed"] + 120 + number, 2, 16, 16)
        label = torch.full(share.shape, 255)
        for value, bound in ((2, 0.8), (1, 0.6), (0, 0.4)):
            label[share < bound] = value
        losses = training_step(training, image.to(golden_device), label.to(golden_device), pairs_of(16, 16))
        names = ["total", *NAMES, *(f"pairs/{name}" for name in NAMES)]
        assert_golden([float(losses[name]) for name in names], golden_losses, atol=0)
    after = released_state_dict(net)
    for name, piece in SLICES.items():
        update, golden_update = (after[name] - before[name])[piece].cpu().numpy(), steps[f"update {name}"]
        bound = 5e-2 if name.startswith("b4") else 2e-2
        assert np.linalg.norm(update - golden_update) <= bound * np.linalg.norm(golden_update), name
    frozen = [name for name in before if name.startswith(("conv1a", "b2")) or ".bn_" in name or name.startswith("bn7")]
    assert all(torch.equal(after[name], before[name]) for name in frozen)
