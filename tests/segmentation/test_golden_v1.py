"""DeepLab v1 of SEAM's and PPC's configurations: released names and groups, golden logits, and one training step."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from data.normalisation import IMAGENET
from network.backbones import batch_norms
from network.deeplab import DeepLab
from segmentation.engine import build_training, make_step
from segmentation.experiment.config import config_dict, configurations
from segmentation.net import net_of
from segmentation.settings import read_config
from tests.golden_inputs import assert_golden, fill, rnd, uni
from tool.loop import run_steps
from tool.optim import parameter_groups
from voc12.classes import VOC12

pytestmark = pytest.mark.golden
CONFIGURATIONS = {"resnet38": "SEAM_deeplabv1_resnet38", "resnet101": "EPS_deeplabv1_resnet101"}
SLICES = {
    "conv_fov2.weight": np.s_[::32, ::32, 0, 0],
    "cls_conv.weight": np.s_[:, ::32, 0, 0],
    "cls_conv.bias": np.s_[:],
    "backbone.conv1a.weight": np.s_[::8],
    "backbone.b7.conv_branch2b2.weight": np.s_[::256, ::128, 0, 0],
    "conv_fov.weight": np.s_[::64, ::256],
}


def net_named(name: str, *changes: str) -> DeepLab:
    chosen = configurations[CONFIGURATIONS[name]]
    return net_of(read_config({**config_dict, **chosen}, changes))


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "ppc" / "deeplabv1.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def filled(request, ppc_meta, golden_device):
    net = net_named(request.param)
    state = {key: fill(key, tuple(value.shape), ppc_meta["salt"]) for key, value in net.state_dict().items()}
    net.load_state_dict(state)
    return request.param, net.to(golden_device), state


def test_names_shapes_and_groups_are_the_released_ones(golden, filled):
    name, net, _ = filled
    shapes = json.loads((golden / "ppc" / "state_dicts.json").read_text())[f"deeplabv1_{name}"]
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == shapes
    groups = parameter_groups(net, head_layers=net.head_layers, lr=0.001, weight_decay=5e-4)
    names = {id(parameter): key for key, parameter in net.named_parameters()}
    found = [sorted(names[id(parameter)] for parameter in group["params"]) for group in groups]
    released = json.loads((golden / "ppc" / "parameter_groups.json").read_text())[f"deeplabv1_{name}"]
    assert found == [sorted(group) for group in released]


def test_logits_and_the_backbones_map(ppc_meta, golden_device, expected, filled):
    name, net, state = filled
    net.load_state_dict(state)
    net.eval()
    seen = []
    handle = net.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.conv6))
    with torch.no_grad():
        logits = net(rnd(ppc_meta["seed"] + 50, 1, 3, 97, 113).to(golden_device))
    handle.remove()
    assert_golden(seen[0][:, ::256], expected[f"{name} backbone"])
    assert_golden(logits[:, ::2, ::8, ::8], expected[f"{name} logits"])


def test_a_step_of_training(ppc_meta, golden_device, expected, filled):
    """Norms on the batch's statistics with the released momentum, the stem training, and no norm's affine."""
    name, net, state = filled
    net.load_state_dict(state)
    for part in net.modules():
        if isinstance(part, nn.Dropout | nn.Dropout2d):
            part.p = 0.0
    net.train()
    seed = ppc_meta["seed"]
    label = torch.floor(23 * uni(seed + 52, 2, 65, 81)).long()
    batch = {"image": rnd(seed + 51, 2, 3, 65, 81), "label": label.masked_fill(label > 20, 255), "id": ["0", "1"]}
    logits = []
    handle = net.register_forward_hook(lambda module, inputs, output: logits.append(output.detach()))
    training = build_training(net, lr=0.001, momentum=0.9, weight_decay=5e-4, power=0.9, num_steps=20000)
    losses = run_steps(
        make_step(training, amp="off", normalisation=IMAGENET, data_set=VOC12, log=None),
        [batch],
        **{"optimizer": training.optimizer, "steps": range(1), "seed": 0, "log": None, "log_every": 1},
        **{"save": lambda step: None, "save_due": lambda step: False},
    )
    handle.remove()
    scale = 1e-4 if name == "resnet38" else 5e-3
    golden_logits = expected[f"{name} train_logits"]
    atol = scale * float(np.abs(golden_logits).max())
    assert_golden(logits[0][:, ::2, ::8, ::8], golden_logits, rtol=0, atol=atol)
    assert_golden(sum(losses.values()), expected[f"{name} train_loss"])

    after = net.state_dict()
    for key in expected:
        kind, _, tensor = key.removeprefix(f"{name} ").partition(" ")
        if not key.startswith(f"{name} ") or kind not in ("change", "update"):
            continue
        change = (after[tensor].cpu() - state[tensor]).numpy()[np.s_[::8] if kind == "change" else SLICES[tensor]]
        far = np.linalg.norm(change - expected[key]) / np.linalg.norm(expected[key])
        assert far <= (5e-2 if kind == "update" and tensor.startswith("backbone.") else 2e-2), (key, far)
    affine = [f"{key}.{leaf}" for key, part in net.named_modules() if isinstance(part, nn.BatchNorm2d)
              for leaf in ("weight", "bias")]  # fmt: skip
    assert affine and all(torch.equal(after[key].cpu(), state[key]) for key in affine)


def test_norms_run_as_released_or_as_the_key_says_and_may_be_frozen():
    with torch.device("meta"):
        momenta = {
            changes: {norm.momentum for norm in batch_norms(net_named("resnet38", *changes).backbone)}
            for changes in ((), ("MODEL_BACKBONE_BN_MOM=0.1",))
        }
        others = {norm.momentum for norm in batch_norms(net_named("resnet101").backbone)}
        frozen = net_named("resnet38", "MODEL_FREEZEBN=True").train()
    assert momenta == {(): {3e-4}, ("MODEL_BACKBONE_BN_MOM=0.1",): {0.1}} and others == {0.1}
    assert not any(norm.training for norm in batch_norms(frozen.backbone)) and frozen.bn_fov.training
    assert frozen.backbone.conv1a.weight.requires_grad and frozen.backbone.b7.dropout_2b1.training
