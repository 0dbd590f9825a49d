"""IRN's losses: golden numbers, their definitions as plain loops, and three golden steps."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from network.irn import IRNet, edge_affinities
from refine.irn.loss import displacement_losses
from refine.irn.samples import reduced
from refine.irn.training import Objective, build_training, irn_losses, mean_displacement, training_step
from refine.pairs import PairLabels, pair_labels
from tests.golden_inputs import assert_golden, crt_fill, rnd, uni
from tests.method.test_no_waiting import Copies, can_pretend
from tool.pairs import pairs_of


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "crt" / "irn.npz") as file:
        return dict(file)


def blocks(seed, count, side):
    """Generated label maps: L of the golden numbers' page."""
    coarse = torch.floor(4 * uni(seed, count, 1, 5, 6))
    index = torch.nn.functional.interpolate(coarse, (side, side), mode="nearest")[:, 0].long()
    return torch.tensor([0, 7, 15, 255])[index]


def released_order(destinations, pairs):
    """The place among ours of each released offset."""
    ours = {offset: number for number, offset in enumerate(pairs.offsets)}
    return [ours[tuple(offset)] for offset in destinations.tolist()]


@pytest.mark.golden
def test_pair_labels_losses_and_gradients_are_the_golden_ones(expected, crt_meta, golden_device):
    seed, pairs = crt_meta["seed"], pairs_of(32, 32, radius=10)
    label = blocks(seed + 43, 2, 32).to(golden_device)
    order = released_order(expected["destinations_10"], pairs)
    labels = pair_labels(label, pairs)
    for name, found in zip(("bg_pos", "fg_pos", "neg"), labels, strict=True):
        found = found.view(2, len(order), -1).cpu()[:, order].numpy()
        assert found.shape == tuple(expected["pair_shape"])
        assert (np.packbits(found) == expected[f"pair_aff_{name}_label"]).all(), name
    logits = (rnd(seed + 44, 2, 1, 32, 32) - 1.5).to(golden_device).requires_grad_()
    displacement = (3 * rnd(seed + 45, 2, 2, 32, 32)).to(golden_device).requires_grad_()
    losses = irn_losses(edge_affinities(logits, pairs), displacement, label, pairs)
    positive = (losses["bg"] + losses["fg"]) / 2
    terms = [positive, losses["neg"], losses["dp_fg"], losses["dp_bg"]]
    assert_golden(torch.stack(terms).detach(), expected["losses"])
    gradients = torch.autograd.grad(losses["total"], (logits, displacement))
    for name, gradient in zip(("edge", "displacement"), gradients, strict=True):
        assert_golden(gradient, expected[f"grad_{name}"], atol=1e-8)


@pytest.mark.golden
def test_labels_are_reduced_as_the_golden_ones(expected, crt_meta):
    label = torch.floor(22 * uni(crt_meta["seed"] + 59, 96, 128)).long()
    assert (reduced(label).numpy() == expected["reduced_label"]).all()


def plain_displacement_losses(displacement, label, pairs):
    sums = {"dp_fg": [0.0, 0], "dp_bg": [0.0, 0]}
    field, grid = displacement.flatten(2), label.flatten(1).tolist()
    first, second = pairs.index.tolist()
    width = pairs.width
    for image in range(len(grid)):
        for one, other in zip(first, second, strict=True):
            if 255 in (grid[image][one], grid[image][other]) or grid[image][one] != grid[image][other]:
                continue
            offset = other // width - one // width, other % width - one % width
            is_background = grid[image][one] == 0
            target = (0, 0) if is_background else offset
            step = field[image, :, one] - field[image, :, other]
            term = sums["dp_bg" if is_background else "dp_fg"]
            term[0] += sum(abs(float(step[axis]) - target[axis]) for axis in (0, 1))
            term[1] += 2
    return {name: total / (count + 1e-5) for name, (total, count) in sums.items()}


@pytest.mark.parametrize("values", [(0, 1, 2, 255), (0, 255), (1, 255), (255,)])
def test_displacements_losses_are_those_of_plain_loops_whichever_pairs_there_are(values):
    pairs = pairs_of(9, 12, radius=10)
    label = torch.tensor(values)[torch.randint(0, len(values), (2, 9, 12), generator=torch.Generator().manual_seed(0))]
    displacement = rnd(1, 2, 2, 9, 12)
    losses = displacement_losses(displacement, pair_labels(label, pairs), pairs)
    for name, value in plain_displacement_losses(displacement, label, pairs).items():
        assert float(losses[name]) == pytest.approx(value, abs=1e-4)


def test_a_grid_without_pairs_costs_nothing():
    losses = displacement_losses(rnd(1, 1, 2, 3, 3), PairLabels(*[torch.zeros(1, 0).bool()] * 3), pairs_of(3, 3))
    assert all(float(value) == 0 for value in losses.values())


@pytest.mark.skipif(not can_pretend(), reason="this torch pretends no GPU")
def test_forward_pass_and_losses_ask_a_gpu_for_no_value_and_copy_nothing_to_it():
    pairs = pairs_of(12, 12, radius=2)
    with FakeTensorMode(), torch.device("cuda"):
        objective = Objective(IRNet("resnet18", displacement=True))
        image, label = torch.empty(2, 3, 48, 48), torch.empty(2, 12, 12, dtype=torch.int64)
        with Copies() as copies:
            losses = irn_losses(*objective(image, pairs, "off"), label, pairs)
    assert copies.number == 0 and losses["total"].device.type == "cuda"


SLICES = {
    "fc_edge1.0.weight": np.s_[:, ::4, 0, 0],
    "fc_edge3.1.weight": np.s_[:],
    "fc_edge5.0.weight": np.s_[:, ::32, 0, 0],
    "fc_edge6.weight": np.s_[0, :, 0, 0],
    "fc_edge6.bias": np.s_[:],
    "fc_dp1.0.weight": np.s_[::4, ::4, 0, 0],
    "fc_dp5.0.weight": np.s_[::8, ::64, 0, 0],
    "fc_dp6.1.bias": np.s_[::4],
    "fc_dp7.3.weight": np.s_[:, ::4, 0, 0],
}


@pytest.mark.golden
def test_three_steps_are_the_golden_ones_and_the_edges_equal_without_displacement(golden, crt_meta, golden_device):
    with np.load(golden / "crt" / "irn_steps.npz") as file:
        steps = dict(file)
    seed, pairs = crt_meta["seed"], pairs_of(32, 32, radius=10)
    after = {}
    for displacement in (True, False):
        net = IRNet(displacement=displacement)
        with torch.no_grad():
            for name, value in net.state_dict().items():
                value.copy_(crt_fill(name, tuple(value.shape), crt_meta))
        net.to(golden_device)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        training = build_training(net, lr=1e-2, momentum=1e-4, weight_decay=1e-4, num_steps=3)
        for number, golden_losses in enumerate(steps["losses"]):
            image = (uni(seed + 46 + number, 2, 3, 128, 128) - 0.45) / 0.225
            label = blocks(seed + 50 + number, 2, 32)
            losses = training_step(training, image.to(golden_device), label.to(golden_device), pairs)
            found = [float(losses["bg"] + losses["fg"]) / 2, float(losses["neg"])]
            found += [float(losses[name]) for name in ("dp_fg", "dp_bg") if displacement]
            assert_golden(found, golden_losses[: len(found)], atol=0)
        state = after[displacement] = net.state_dict()
        for name, piece in SLICES.items():
            if name in state:
                update, golden_update = (state[name] - before[name])[piece].cpu().numpy(), steps[f"update {name}"]
                assert np.linalg.norm(update - golden_update) <= 2e-2 * np.linalg.norm(golden_update), name
        assert all(torch.equal(value, before[name]) for name, value in state.items() if name.startswith("resnet50"))
        if displacement:
            batches = [{"image": (uni(seed + 53 + j, 2, 3, 128, 128) - 0.45) / 0.225} for j in (0, 1)]
            shift = mean_displacement(net, batches, golden_device, "off")
            assert_golden(shift, steps["mean_shift"], rtol=1e-2)
    for name, value in after[False].items():  # a GPU adds in no fixed order
        allowed = {"rtol": 0, "atol": 0} if golden_device.type == "cpu" else {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(value, after[True][name], **allowed, msg=name)
