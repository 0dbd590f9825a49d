"""Three whole optimiser steps of the full-size nets against the golden losses and weight updates."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from method.engine import build_training, training_step
from method.learner import Moment
from method.ppc.config import CONFIGS
from method.ppc.criterion import PPCCriterion
from method.two_scales import TwoScaleLearner
from network.backbones import drop_nothing
from network.build import build_network
from network.weights import load_released_state_dict, released_state_dict
from tests.golden_inputs import assert_golden, fill, uni
from tests.method.ppc.test_golden_losses import even_first
from voc12.classes import VOC12

FILES = {"seam": "steps_seam", "ppc": "steps_ppc_seam", "ppc_eps": "steps_ppc_eps"}
SECOND_VIEW = {"seam": 48, "ppc": 128, "ppc_eps": 128}
CONTRAST = ("cross", "cross2", "intra")
NAMES = {
    **{"loss": ("total",), "loss_nce": CONTRAST, "loss_intra_nce": ("intra",)},
    **{"loss_cross_nce": ("cross",), "loss_cross_nce2": ("cross2",)},
}
SLICES = {
    "fc8.weight": np.s_[:, ::64, 0, 0],
    "fc_proj.weight": np.s_[::4, ::256, 0, 0],
    "proj_fc.weight": np.s_[::4, ::256, 0, 0],
    "f8_3.weight": np.s_[::4, ::16, 0, 0],
    "f9.weight": np.s_[::4, ::4, 0, 0],
    "b7.conv_branch2b2.weight": np.s_[::256, ::128, 0, 0],
    "b4.conv_branch2a.weight": np.s_[::64, ::64],
}
TOLERANCE = {"b4.conv_branch2a.weight": 5e-2}  # of the update's norm; others 2e-2


def batch(method: str, seed: int, step: int) -> dict[str, torch.Tensor]:
    label = torch.zeros(2, 20)
    label[0, (3 + step) % 20] = label[0, 14] = label[1, (7 + step) % 20] = 1
    inputs = {"image": (uni(seed + 100 + step, 2, 3, 160, 160) - 0.45) / 0.225, "label": label}
    if method == "ppc_eps":
        inputs["saliency"] = (uni(seed + 110 + step, 2, 1, 160, 160) > 0.6).float()
    return inputs


@pytest.mark.golden
@pytest.mark.parametrize("method", CONFIGS)
def test_losses_and_updates_of_three_steps(method, golden, ppc_meta, golden_device):
    with np.load(golden / "ppc" / f"{FILES[method]}.npz") as file:
        expected = dict(file)
    config = replace(CONFIGS[method], second_view=SECOND_VIEW[method])
    net = build_network(config.network, num_classes=20)
    filled = {
        name: fill(name, tuple(value.shape), ppc_meta["salt"]) for name, value in released_state_dict(net).items()
    }
    load_released_state_dict(net, filled, source="the golden numbers")
    drop_nothing(net)
    net = net.to(golden_device)
    learner = TwoScaleLearner(net, PPCCriterion(config), VOC12, second_view=config.second_view)
    learner.criterion.draw = even_first
    learner.train()
    before = {name: value.clone() for name, value in released_state_dict(net).items()}

    training = build_training(learner, lr=1e-4, momentum=5e-4, weight_decay=5e-4, decay_steps=3)
    for step, golden_losses in enumerate(expected["losses"]):
        inputs = {name: value.to(golden_device) for name, value in batch(method, ppc_meta["seed"], step).items()}
        losses = training_step(training, inputs, Moment(step))
        for name, value in zip(expected["names"], golden_losses, strict=True):
            found = sum(losses[term] for term in NAMES.get(str(name), (str(name).removeprefix("loss_"),)))
            assert_golden(found, value, rtol=1e-3, atol=0)

    after = released_state_dict(net)
    for name, value in before.items():
        if f"update {name}" in expected:
            golden_update = expected[f"update {name}"]
            update = (after[name] - value)[SLICES[name]].cpu().numpy()
            far = np.linalg.norm(update - golden_update) / np.linalg.norm(golden_update)
            assert far <= TOLERANCE.get(name, 2e-2), name
        elif name.split(".")[0] in ("conv1a", "b2", "b2_1", "b2_2") or ".bn_" in name or name.startswith("bn7"):
            assert torch.equal(after[name], value), name
    assert {name.removeprefix("update ") for name in expected if name.startswith("update ")} <= before.keys()
