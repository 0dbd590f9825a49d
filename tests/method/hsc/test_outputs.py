"""A method's net computes the outputs that its losses read, and trains to the same weights as one that computes all."""

import pytest
import torch
from torch import nn

from method.hsc.config import CONFIGS
from network.build import build_network
from tests.golden_inputs import rnd, uni
from tests.method.hsc.steps import build_training, training_step
from tests.scripts.conftest import assert_same

LABEL = torch.eye(20)[[3, 7]]
HEADS = ("fc8", "proj_fc", "extra_F", "f8_3", "f8_4", "f9")


def train_tiny(method: str, *, switches: dict[str, bool]) -> tuple[dict, set[str], set[str]]:
    """The state after three steps, the heads that ran and the heads that got a gradient."""
    config = CONFIGS[method]
    torch.manual_seed(0)
    net = build_network(config.network, num_classes=20, width=0.0625, **switches)
    training = build_training(net, config, lr=0.01, momentum=0.9, weight_decay=5e-4, max_step=10)
    ran = set()
    heads = {name: layer for name, layer in net.named_children() if name in HEADS}
    for name, layer in heads.items():
        layer.register_forward_hook(lambda *_, name=name: ran.add(name))
    torch.manual_seed(0)
    for step in range(3):
        saliency = uni(20 + step, 2, 1, 64, 64) if "sal" in config.terms else None
        training_step(training, image=rnd(step, 2, 3, 64, 64), saliency=saliency, label=LABEL)
    learnt = {name for name, layer in heads.items() if has_gradient(layer)}
    return training.state(), ran, learnt


def has_gradient(layer: nn.Module) -> bool:
    return any(weight.grad is not None and weight.grad.any() for weight in layer.parameters())


@pytest.mark.parametrize("method", CONFIGS)
def test_the_heads_that_run_are_those_that_learn(method):
    _, ran, learnt = train_tiny(method, switches=CONFIGS[method].net)
    assert "fc8" in ran and ran == learnt


@pytest.mark.parametrize("method", [method for method in CONFIGS if CONFIGS[method].net])
def test_outputs_that_no_loss_reads_change_no_weight(method):
    lean, ran, _ = train_tiny(method, switches=CONFIGS[method].net)
    full, all_ran, _ = train_tiny(method, switches={})
    assert ran < all_ran == set(HEADS)
    assert_same(lean, full)
