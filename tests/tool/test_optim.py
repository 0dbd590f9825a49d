"""The released optimiser: its groups, its rates, its steps."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from network.backbones import build_backbone
from network.build import build_network
from network.hsc import HSCNet
from tests.golden_inputs import assert_golden, rnd
from tool.optim import PortableSGD, lie_as_weights, parameter_groups, polynomial_schedule


def test_groups_of_the_hsc_net_are_the_released_ones(golden):
    expected = json.loads((golden / "hsc_parameter_groups.json").read_text())
    with torch.device("meta"):
        net = build_network("resnet38_hsc", num_classes=20)
    groups = parameter_groups(net, head_layers=net.head_layers, lr=0.01, weight_decay=5e-4)
    names = {id(parameter): name.removeprefix("backbone.") for name, parameter in net.named_parameters()}
    found = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert [sorted(group) for group in found] == [sorted(group) for group in expected]
    assert [group["lr"] for group in groups] == [0.01, 0.02, 0.1, 0.2]
    assert [group["weight_decay"] for group in groups] == [5e-4, 0, 5e-4, 0]


def test_the_region_head_learns_at_the_heads_rate_where_the_oddity_is_switched_off():
    net = HSCNet(build_backbone("resnet38d", width=0.125), num_classes=20, region_head_at_backbone_rate=False)
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


@pytest.mark.golden
def test_steps_and_rates_are_the_golden_ones_also_past_max_step(golden, meta, golden_device):
    with np.load(golden / "optimizer.npz") as file:
        expected, rates = file["params"], file["lrs"]
    parameters = [nn.Parameter(rnd(meta["seed"] + 30 + i, 4, 3).to(golden_device)) for i in range(expected.shape[1])]
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


# -- on a GPU ----------------------------------------------------------------------------------------------------------


def fused_sgd(weights: list[nn.Parameter]) -> PortableSGD:
    """As it is on a GPU, on a CPU, whose fused kernel keeps the same rules."""
    optimizer = PortableSGD([{"params": weights, "fused": True}], lr=0.5, momentum=0.9)
    optimizer._step_supports_amp_scaling = True  # as the constructor has it for all groups
    return optimizer


def scaled_steps(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: list[float]) -> list[float]:
    """The weight's values after steps with these gradients and fp16's scaler."""
    scaler, values = GradScaler("cpu", init_scale=4.0, growth_interval=1000), []
    for gradient in gradients:
        optimizer.zero_grad()
        scaler.scale((weight * gradient).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        values.append(weight.detach().clone())
    return torch.stack(values)[:, 0].tolist()


@pytest.mark.parametrize("gradients", [[1.0, 2.0, 0.5], [float("inf"), 1.0, 2.0], [1.0, float("inf"), 2.0]])
def test_the_fused_kernel_skips_a_step_that_is_not_finite_as_plain_sgd_does(gradients):
    # Enough weights that momenta which nobody has written are hardly all 0.
    weights = [nn.Parameter(torch.ones(10_000)) for _ in range(2)]
    torch.empty(10_000).fill_(torch.nan)  # what the kernel would find there
    plain = scaled_steps(torch.optim.SGD([weights[0]], lr=0.5, momentum=0.9), weights[0], gradients)
    fused = scaled_steps(fused_sgd([weights[1]]), weights[1], gradients)
    assert fused == pytest.approx(plain) and plain[-1] != 1


@pytest.mark.parametrize("saved_on_gpu", [False, True])
def test_a_state_goes_on_on_another_device(saved_on_gpu):
    def weight(layout: torch.memory_format) -> nn.Parameter:
        return nn.Parameter(torch.ones(4, 3, 2, 2).contiguous(memory_format=layout))

    def step(optimizer: torch.optim.Optimizer) -> None:
        (parameter,) = optimizer.param_groups[0]["params"]
        parameter.grad = torch.full_like(parameter, 0.5)
        optimizer.step()

    gpu = fused_sgd([weight(torch.channels_last)])
    cpu = PortableSGD([{"params": [weight(torch.contiguous_format)]}], lr=0.5, momentum=0.9)
    saved, other = (gpu, cpu) if saved_on_gpu else (cpu, gpu)
    step(saved)
    fused = other.param_groups[0]["fused"]
    other.load_state_dict(saved.state_dict())
    lie_as_weights(other)
    assert saved.state_dict()["param_groups"][0]["fused"] is None
    assert other.param_groups[0]["fused"] is fused
    (parameter,) = other.param_groups[0]["params"]
    assert other.state[parameter]["momentum_buffer"].stride() == parameter.stride()
    step(other)
    assert other.state[parameter]["momentum_buffer"].unique().tolist() == pytest.approx([0.9 * 0.5 + 0.5])
