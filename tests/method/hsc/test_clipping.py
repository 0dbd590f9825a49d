"""`max_gradient` cuts the whole gradient of a step to that norm, and nothing where the gradient is smaller."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from method.hsc.config import CONFIGS
from network.build import build_network
from tests.golden_inputs import rnd
from tests.method.hsc.steps import build_training, training_step


def step_of(net, max_gradient):
    """What one plain step (rate 1, no momentum, no decay) takes off each weight."""
    net = deepcopy(net)
    before = deepcopy(net.state_dict())
    training = build_training(
        net, CONFIGS["cls"], lr=1.0, momentum=0.0, weight_decay=0.0, max_step=10, max_gradient=max_gradient
    )
    label = torch.zeros(2, 20)
    label[0, 3] = label[1, 7] = 1
    training_step(training, image=rnd(1, 2, 3, 48, 48), saliency=None, label=label)
    rates = {id(p): group["lr"] for group in training.optimizer.param_groups for p in group["params"]}
    decay = (1 - 1 / 10) ** 0.9  # by which the schedule has moved the rates since
    return {n: (before[n] - p.detach()) / (rates[id(p)] / decay) for n, p in net.named_parameters() if id(p) in rates}


def norm(step):
    return torch.stack([part.norm() for part in step.values()]).norm()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = build_network("resnet38_cls", num_classes=20, width=0.0625, frozen=False)
    return net.train()


def test_a_larger_gradient_is_cut_to_the_norm_in_its_direction(net):
    whole, cut = step_of(net, None), step_of(net, 0.01)
    assert norm(whole) > 0.1
    assert norm(cut).item() == pytest.approx(0.01, rel=1e-2)
    for name, part in whole.items():
        torch.testing.assert_close(cut[name], part * (0.01 / norm(whole)), rtol=1e-2, atol=1e-6, msg=name)


def test_a_smaller_gradient_stays(net):
    whole, cut = step_of(net, None), step_of(net, 1e6)
    assert all(torch.equal(cut[name], part) for name, part in whole.items())
