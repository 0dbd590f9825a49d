"""`--compile`: a net's forward pass, as training runs it, is one graph, and training runs what is compiled."""

import pytest
import torch
from torch import nn
from torch._dynamo import OptimizedModule

from method.hsc.config import CONFIGS
from network.build import NETS, build_network
from network.crt import CRTNet
from tests.method.hsc.steps import build_training, training_step
from tool.device import autocast


@pytest.mark.parametrize("name", NETS)
def test_a_training_net_is_one_graph(name):
    assert_one_graph(build_network(name, num_classes=20, width=1 / 16), 32, "bf16")


def test_so_are_crts_branches():
    assert_one_graph(CRTNet("resnet18", "test_vit", num_classes=20), 224, "off")


def assert_one_graph(net: nn.Module, side: int, amp: str) -> None:
    torch._dynamo.reset()
    with autocast(torch.device("cpu"), amp):
        found = torch._dynamo.explain(net.train())(torch.randn(2, 3, side, side))
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


class Noting(nn.Module):
    """A net in place of a compiled one, which notes what it is given."""

    def __init__(self, net: nn.Module, used: list) -> None:
        super().__init__()
        self.net, self.used = net, used

    def forward(self, image: torch.Tensor):
        self.used.append(image.shape)
        return self.net(image)


def test_training_runs_the_compiled_net_and_keeps_the_released_names():
    net = build_network("resnet38_cls", num_classes=20, width=1 / 16, frozen=False)
    options = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "max_step": 10}
    plain = build_training(net, CONFIGS["cls"], **options)
    training = build_training(net, CONFIGS["cls"], **options, compiled=True)
    assert plain.objective.training_net is plain.objective.net is training.objective.net
    compiled = training.objective.training_net
    assert isinstance(compiled, OptimizedModule) and compiled._orig_mod is net
    assert list(training.state()["model"]) == list(plain.state()["model"])
    used = []
    plain.objective._aside = (Noting(net, used), None)
    training_step(plain, image=torch.randn(2, 3, 32, 32), saliency=None, label=torch.eye(20)[:2])
    assert used == [(2, 3, 32, 32)]
