"""What an optimiser remembers is known for any, so that any resumes: Adam as SGD."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from tests.scripts.conftest import assert_same
from tool.cli import UserError
from tool.optim import PortableSGD, memory_of, polynomial_schedule
from tool.resume import restore_checkpoint
from tool.training import Training

OPTIMISERS = {
    "SGD": lambda p: PortableSGD([{"params": p}], lr=0.1, momentum=0.9),
    "SGD without momentum": lambda p: PortableSGD([{"params": p}], lr=0.1, momentum=0.0),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
}


def training_of(name: str, seed: int = 0) -> Training:
    torch.manual_seed(seed)
    net = nn.Linear(4, 3)
    optimizer = OPTIMISERS[name]([*net.parameters()])
    return Training(net, {"model": net}, optimizer, polynomial_schedule(optimizer, max_step=10))


def take_steps(training: Training, steps: range) -> None:
    for step in steps:
        training.step(training.objective(torch.full((2, 4), float(step))).square().sum())


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_run_of_any_optimiser_goes_on_as_if_it_had_not_stopped(name, tmp_path):
    whole = training_of(name)
    take_steps(whole, range(3))
    checkpoint = {**deepcopy(whole.state()), "step": 3, "settings": {}}
    take_steps(whole, range(3, 6))
    resumed = training_of(name, seed=1)
    assert restore_checkpoint(resumed, checkpoint, folder=tmp_path, num_steps=9) == 3
    take_steps(resumed, range(3, 6))
    assert_same(resumed.state(), whole.state())


@pytest.mark.parametrize("name", OPTIMISERS)
def test_asking_what_it_remembers_changes_nothing(name):
    training = training_of(name)
    take_steps(training, range(1))
    before = deepcopy(training.state())
    memory = memory_of(training.optimizer)
    assert_same(training.state(), before)
    found = training.optimizer.state_dict()["state"]
    for number, expected in enumerate(memory):
        assert {key: value.shape for key, value in expected.items()} == {
            key: value.shape for key, value in found.get(number, {}).items() if value is not None
        }


def test_the_state_of_another_optimiser_is_refused(tmp_path):
    other = training_of("SGD")
    take_steps(other, range(2))
    checkpoint = {**other.state(), "step": 2, "settings": {}}
    with pytest.raises(UserError, match=r"optimizer\.state\.0\.exp_avg: missing"):
        restore_checkpoint(training_of("Adam"), checkpoint, folder=tmp_path, num_steps=9)
