"""The released optimiser: its groups, its rates, its steps."""

import json

import numpy as np
import torch
from torch import nn

from network.backbones import build_backbone
from network.build import build_network
from network.resnet38_hsc import HSCNet
from tests.golden_inputs import assert_golden, rnd
from tool.optim import parameter_groups, polynomial_schedule


def test_groups_of_the_hsc_net_are_the_released_ones(golden):
    expected = json.loads((golden / "hsc_parameter_groups.json").read_text())
    with torch.device("meta"):
        net = build_network("resnet38_hsc")
    groups = parameter_groups(net, head_layers=net.head_layers, lr=0.01, weight_decay=5e-4)
    names = {id(parameter): name.removeprefix("backbone.") for name, parameter in net.named_parameters()}
    found = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert [sorted(group) for group in found] == [sorted(group) for group in expected]
    assert [group["lr"] for group in groups] == [0.01, 0.02, 0.1, 0.2]
    assert [group["weight_decay"] for group in groups] == [5e-4, 0, 5e-4, 0]


def test_the_region_head_learns_at_the_heads_rate_where_the_oddity_is_switched_off():
    net = HSCNet(build_backbone("resnet38d", width=0.125), region_head_at_backbone_rate=False)
    groups = parameter_groups(net, head_layers=net.head_layers, lr=1, weight_decay=0)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rate[id(net.extra_F[0].weight)] == rate[id(net.fc8.weight)] == 10
    assert rate[id(net.extra_F[3].bias)] == 20


def test_a_trained_norm_is_in_the_backbone_groups_and_a_frozen_parameter_in_none():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 2, 1)))
    net[0].weight.requires_grad_(False)
    groups = parameter_groups(net, head_layers=[net[2]], lr=1, weight_decay=1)
    found = [[id(parameter) for parameter in group["params"]] for group in groups]
    head = net[2][0]
    expected = [[net[1].weight], [net[0].bias, net[1].bias], [head.weight], [head.bias]]
    assert found == [[id(parameter) for parameter in group] for group in expected]


def test_steps_and_rates_are_the_golden_ones_also_past_max_step(golden, meta):
    with np.load(golden / "optimizer.npz") as file:
        expected, rates = file["params"], file["lrs"]
    parameters = [nn.Parameter(rnd(meta["seed"] + 30 + i, 4, 3)) for i in range(expected.shape[1])]
    groups = [
        {"params": [parameter], "lr": lr, "weight_decay": decay}
        for parameter, lr, decay in zip(parameters, (0.01, 0.02, 0.1, 0.2), (5e-4, 0, 5e-4, 0), strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=5e-4)
    schedule = polynomial_schedule(optimizer, max_step=6)
    for step in range(len(expected)):
        np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], rates[step], rtol=1e-9)
        loss = sum((i + 1) * (parameter**2).sum() for i, parameter in enumerate(parameters))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        assert_golden(torch.stack(parameters).detach(), expected[step])
