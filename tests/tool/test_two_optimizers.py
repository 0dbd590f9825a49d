"""A training with a second optimiser: both move in a step, both are saved, and go on bit for bit."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from tests.scripts.conftest import assert_same
from tool.checkpoint import load_checkpoint, save_checkpoint
from tool.cli import UserError
from tool.resume import restore_checkpoint
from tool.training import Training


def make():
    torch.manual_seed(0)
    net = nn.ModuleDict({"first": nn.Linear(3, 2), "second": nn.Linear(3, 2)})
    optimizer = AdamW(net["first"].parameters(), lr=0.1)
    return Training(
        objective=net,
        saved={"model": net},
        optimizer=optimizer,
        schedule=LambdaLR(optimizer, lambda step: 0.5**step),
        beside=SGD(net["second"].parameters(), lr=0.1, momentum=0.9),
    )


def step(training, number):
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(number))
    training.step(sum(part(values).square().mean() for part in training.objective.values()))


def test_both_move_and_the_schedule_is_the_firsts_alone():
    training = make()
    before = {name: value.clone() for name, value in training.objective.state_dict().items()}
    step(training, 0)
    assert all(not torch.equal(value, before[name]) for name, value in training.objective.state_dict().items())
    assert (training.optimizer.param_groups[0]["lr"], training.beside.param_groups[0]["lr"]) == (0.05, 0.1)


def test_a_stopped_training_goes_on_bit_for_bit(tmp_path):
    whole, first, second = make(), make(), make()
    for number in range(4):
        step(whole, number)
    for number in range(2):
        step(first, number)
    save_checkpoint(tmp_path / "last.ckpt", {**first.state(), "step": 2, "settings": {}})
    found = load_checkpoint(tmp_path / "last.ckpt", "--resume")
    assert restore_checkpoint(second, found, folder=tmp_path, num_steps=4) == 2
    for number in (2, 3):
        step(second, number)
    assert_same(second.state(), whole.state())


@pytest.mark.parametrize("damage", ["missing", "another shape"])
def test_a_checkpoint_whose_second_state_does_not_fit_is_refused(damage, tmp_path):
    training = make()
    step(training, 0)
    state = {**training.state(), "step": 1, "settings": {}}
    if damage == "missing":
        del state["beside"]
    else:
        state["beside"]["state"][0]["momentum_buffer"] = torch.zeros(5)
    with pytest.raises(UserError, match="beside"):
        restore_checkpoint(make(), state, folder=tmp_path, num_steps=4)


def test_what_adam_remembers_lies_as_the_weights_of_the_device_that_goes_on():
    def conv(layout):
        net = nn.Conv2d(3, 4, 2).to(memory_format=layout)
        optimizer = AdamW(net.parameters())
        schedule = LambdaLR(optimizer, lambda step: 1.0)
        return Training(objective=net, saved={"model": net}, optimizer=optimizer, schedule=schedule)

    first, second = conv(torch.contiguous_format), conv(torch.channels_last)
    first.step(first.objective(torch.ones(1, 3, 5, 5)).sum())
    second.restore(first.state())
    weight = second.objective.weight
    moment = second.optimizer.state[weight]["exp_avg"]
    assert moment.stride() == weight.stride() != first.objective.weight.stride()
    assert torch.equal(moment, first.optimizer.state[first.objective.weight]["exp_avg"])
