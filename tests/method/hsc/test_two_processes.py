"""Two processes with half a batch each train as one with the whole of it: the same losses, weights and prototypes."""

import sys
from pathlib import Path

import pytest
import torch

from method.hsc.build import build_training
from method.hsc.config import METHODS
from method.hsc.engine import training_step
from network.backbones import drop_nothing
from network.build import build_network
from tests.golden_inputs import rnd
from tests.tool.test_distributed import end_what_hangs, needs_alarm, run_processes
from tool.distributed import join_processes, leave_processes, rank, world_size

STEPS, BATCH = 3, 4


def train(method: str) -> dict:
    """The losses of a few steps on this process's share of the batches, and the state after them."""
    torch.manual_seed(0)
    config = METHODS[method]
    net = build_network(
        config.network, width=0.0625
    )  # with heads that run though no loss reads them, as ablations have
    drop_nothing(net)  # what is dropped hangs on the process
    training = build_training(net, config, lr=0.01, momentum=0.9, weight_decay=5e-4, max_step=10, max_gradient=1.0)
    label = torch.zeros(BATCH, 20)
    label[range(BATCH), [3, 7, 3, 11]] = 1
    label[1, 11] = 1
    share = BATCH // world_size()
    mine = slice(rank() * share, (rank() + 1) * share)
    losses = []
    for step in range(STEPS):
        image, saliency = rnd(10 + step, BATCH, 3, 64, 64), rnd(20 + step, BATCH, 1, 64, 64).sigmoid()
        saliency = saliency[mine] if "sal" in config.terms else None
        losses.append(training_step(training, image=image[mine], saliency=saliency, label=label[mine]))
    return {"losses": losses, "model": training.state()["model"], "banks": training.criterion.state_dict()}


def main(folder: Path) -> None:
    end_what_hangs()
    join_processes(torch.device("cpu"))
    results = {method: train(method) for method in METHODS}
    if rank() == 1:  # not the one that is saved: it must hold the same
        torch.save(results, folder / "results.pth")
    leave_processes()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run_processes("tests.method.hsc.test_two_processes", folder)
    return torch.load(folder / "results.pth", weights_only=True)


@needs_alarm
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one(two, method):
    torch.testing.assert_close(two[method], train(method), rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
