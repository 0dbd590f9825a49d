"""The branches' loss by turns, against a naive twin, and without a wait for a GPU."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from localise.evaluation import two_classes
from localise.loss import branch_losses, is_consistent
from tests.golden_inputs import rnd
from tests.method.test_no_waiting import Copies, can_pretend


def test_the_branches_are_pulled_together_for_five_epochs_of_ten():
    assert [epoch for epoch in range(1, 26) if is_consistent(epoch)] == [*range(5, 10), *range(15, 20), 25]


@pytest.mark.parametrize("consistent", [False, True])
def test_losses_are_those_of_a_naive_twin(consistent):
    first, second, label = rnd(0, 3, 5, 4, 4), rnd(1, 3, 5, 4, 4), [4, 0, 2]
    losses = branch_losses(first, second, torch.tensor(label), consistent=consistent)

    def entropy(maps):
        found = 0.0
        for image, true in zip(maps.numpy().astype(float), label, strict=True):
            logits = [channel.sum() / 16 for channel in image]
            found -= logits[true] - np.log(sum(np.exp(logit) for logit in logits))
        return found / 3

    far = np.abs(first.numpy() - second.numpy()).mean()
    np.testing.assert_allclose(losses["transformer"].item(), entropy(first), rtol=1e-5)
    np.testing.assert_allclose(losses["cnn"].item(), entropy(second), rtol=1e-5)
    total = entropy(first) + entropy(second) + consistent * far
    np.testing.assert_allclose((losses["consistency"].item(), losses["total"].item()), (far, total), rtol=1e-5)


def test_both_branches_learn_from_the_consistency_where_it_counts():
    first, second = (rnd(seed, 2, 3, 4, 4).requires_grad_() for seed in (0, 1))
    gradients = []
    for consistent in (False, True):
        losses = branch_losses(first, second, torch.tensor([0, 1]), consistent=consistent)
        gradients.append(torch.autograd.grad(losses["total"], (first, second)))
    for without, with_it in zip(*gradients, strict=True):
        assert not torch.equal(without, with_it)


@pytest.mark.skipif(not can_pretend(), reason="this torch pretends no GPU")
def test_losses_and_the_maps_of_two_classes_ask_for_no_value():
    with FakeTensorMode(), Copies() as copies:
        maps, attention = torch.empty(4, 6, 14, 14, device="cuda"), torch.empty(4, 14, 14, device="cuda")
        label = torch.empty(4, dtype=torch.int64, device="cuda")
        losses = branch_losses(maps, maps + 1, label, consistent=True)
        _, _, both = two_classes(maps, attention, label)
    assert {loss.device.type for loss in losses.values()} == {"cuda"} and both.shape == (4, 2, 14, 14)
    assert copies.number == 0
