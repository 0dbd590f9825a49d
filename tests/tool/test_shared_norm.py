"""Two processes with uneven halves of a batch: outputs, gradients and statistics of PyTorch's norm on the whole."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from tests.tool.test_distributed import end_what_hangs, needs_alarm, run_processes
from tool.distributed import join_processes, leave_processes, rank
from tool.shared_norm import SharedBatchNorm, share_statistics

SPLIT = 3  # of 5 images
# timm's has its activation within.
NORMS = {"plain": nn.BatchNorm2d, "timm's": partial(BatchNormAct2d, act_layer=nn.SiLU)}


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """A batch and what its output is weighed with, whose sum is the loss."""
    generator = torch.Generator().manual_seed(0)
    shape = (5, 4, 3, 2)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def norm_of(kind: str = "plain") -> nn.Sequential:
    norm = NORMS[kind](4, momentum=0.3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    return nn.Sequential(norm)


def run(module: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> dict:
    x = x.clone().requires_grad_()
    y = module(x)
    (y * weight).sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"y": y.detach(), "x": x.grad, "gradients": gradients, "state": dict(module.state_dict())}


def main(folder: Path) -> None:
    end_what_hangs()
    join_processes(torch.device("cpu"))
    x, weight = inputs()
    mine = slice(None, SPLIT) if rank() == 0 else slice(SPLIT, None)
    done = {}
    for kind in NORMS:
        module = norm_of(kind)
        share_statistics(module)
        assert isinstance(module[0], SharedBatchNorm)
        done[kind] = run(module, x[mine], weight[mine])
    torch.save(done, folder / f"{rank()}.pth")
    leave_processes()


@needs_alarm
def test_the_halves_are_the_whole(tmp_path):
    run_processes("tests.tool.test_shared_norm", tmp_path)
    first, second = (torch.load(tmp_path / f"{number}.pth", weights_only=True) for number in (0, 1))
    for kind in NORMS:
        whole, halves = run(norm_of(kind), *inputs()), (first[kind], second[kind])
        for name in ("y", "x"):
            torch.testing.assert_close(torch.cat([half[name] for half in halves]), whole[name])
        for name, gradient in whole["gradients"].items():
            torch.testing.assert_close(sum(half["gradients"][name] for half in halves), gradient)
        for half in halves:
            torch.testing.assert_close(half["state"], whole["state"])


@pytest.mark.parametrize("training", [True, False])
def test_only_norms_that_train_are_replaced(training):
    module = norm_of().train(training)
    share_statistics(module)
    assert isinstance(module[0], SharedBatchNorm) == training


if __name__ == "__main__":
    main(Path(sys.argv[1]))
