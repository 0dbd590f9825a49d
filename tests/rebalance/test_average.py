"""The average and the schedule over eight steps: the golden ones."""

import numpy as np
import pytest
import torch
from torch import nn

from rebalance.average import Average
from tests.golden_inputs import assert_golden, rnd
from tool.optim import PortableSGD, polynomial_schedule


class Rows(nn.Module):
    """Four parameters, of which a batch norm sees the first, and a counter."""

    def __init__(self, seed):
        super().__init__()
        self.rows = nn.ParameterList([nn.Parameter(rnd(seed + 80 + number, 4, 3)) for number in range(4)])
        self.norm = nn.BatchNorm1d(3, affine=False)


@pytest.mark.golden
def test_parameters_rates_and_their_average_are_the_golden_ones(golden, dhr_meta, golden_device):
    with np.load(golden / "dhr" / "optimizer.npz") as file:
        expected = dict(file)
    net = Rows(dhr_meta["seed"]).to(golden_device)
    average = Average(net, decay=0.9)
    rates = (0.01, 0.01, 0.1, 0.1)
    groups = [{"params": [row], "lr": lr, "weight_decay": 0.04} for row, lr in zip(net.rows, rates, strict=True)]
    optimizer = PortableSGD(groups, lr=0.01, momentum=0.9)
    schedule = polynomial_schedule(optimizer, max_step=6)
    for step in range(8):
        net.norm(net.rows[0].detach())
        np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], expected["lrs"][step], rtol=1e-6)
        optimizer.zero_grad()
        sum((number + 1) * row.square().sum() for number, row in enumerate(net.rows)).backward()
        optimizer.step()
        schedule.step()
        average.update(net)
        assert_golden(torch.stack([*net.rows]).detach(), expected["params"][step], rtol=1e-5)
        assert_golden(torch.stack([*average.net.rows]), expected["ema"][step], rtol=1e-5)
        means = torch.stack([net.norm.running_mean, average.net.norm.running_mean])
        assert_golden(means, expected["running_mean"][step], rtol=1e-5)
    counts = [int(each.norm.num_batches_tracked) for each in (net, average.net)]
    assert counts == expected["count"].tolist()


def test_an_average_goes_on_from_its_state_and_leaves_the_net_alone():
    net = Rows(0)
    first = Average(net, decay=0.5)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        net.rows[1] += 1
    first.update(net)
    torch.testing.assert_close(first.state_dict()["rows.1"], state["rows.1"] + 0.5)
    second = Average(net, decay=0.5)
    second.load_state_dict(first.state_dict())
    for each in (first, second):
        each.update(net)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    torch.testing.assert_close(net.state_dict()["rows.1"], state["rows.1"] + 1)
