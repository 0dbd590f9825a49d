"""Three whole optimiser steps of the full-size net against the golden losses and weight updates."""

import numpy as np
import pytest
import torch
from torch import nn

from method.hsc.config import HSCConfig
from network.build import build_network
from network.weights import released_state_dict
from tests.golden_inputs import assert_golden, fill, uni
from tests.method.hsc.steps import build_training, training_step
from tests.method.hsc.test_golden_losses import load_golden_banks

SLICES = {
    "fc8.weight": np.s_[:, ::64, 0, 0],
    "proj_fc.weight": np.s_[::4, ::256, 0, 0],
    "f9.weight": np.s_[::4, ::4, 0, 0],
    "b7.conv_branch2b2.weight": np.s_[::256, ::128, 0, 0],
    "b4.conv_branch2a.weight": np.s_[::64, ::64],
    "extra_F.0.bias": np.s_[::8],
    "extra_F.3.weight": np.s_[::32, ::32, 0, 0],
}


def batch(seed: int, step: int) -> dict[str, torch.Tensor]:
    label = torch.zeros(2, 20)
    label[0, (3 + step) % 20] = label[0, 14] = label[1, (7 + step) % 20] = 1
    return {
        "image": (uni(seed + 100 + step, 2, 3, 160, 160) - 0.45) / 0.225,
        "saliency": (uni(seed + 110 + step, 2, 1, 160, 160) > 0.6).float(),
        "label": label,
    }


@pytest.mark.golden
def test_losses_and_updates_of_three_steps(golden, meta, golden_device):
    with np.load(golden / "training_steps.npz") as file:
        expected = dict(file)
    net = build_network("resnet38_hsc", num_classes=20)
    state = released_state_dict(net)
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(fill(name, tuple(value.shape), meta["salt"]))
    for module in net.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    net.to(golden_device).train()
    state = released_state_dict(net)
    before = {name: state[name][SLICES[name]].clone() for name in SLICES}

    training = build_training(net, HSCConfig(), lr=1e-4, momentum=5e-4, weight_decay=5e-4, max_step=20)
    load_golden_banks(training.objective.criterion, meta["seed"])
    for step, golden_losses in enumerate(expected["losses"]):
        inputs = {name: value.to(golden_device) for name, value in batch(meta["seed"], step).items()}
        losses = training_step(training, **inputs)
        actual = [float(losses[name]) for name in expected["names"]]
        assert_golden(actual, golden_losses, atol=0)

    for name, piece in SLICES.items():
        update = (released_state_dict(net)[name][piece] - before[name]).cpu().numpy()
        golden_update = expected[f"update {name}"]
        assert np.linalg.norm(update - golden_update) <= 2e-2 * np.linalg.norm(golden_update), name
