"""The plain classifier: the golden forward, the released names, its CAMs and what is frozen."""

import json

import numpy as np
import pytest
import torch

from network.build import build_network
from network.weights import released_state_dict
from tests.golden_inputs import assert_golden, rnd

TINY = 0.125


@pytest.mark.golden
def test_forward_gives_the_golden_numbers(golden, meta, golden_device, cls_net):
    expected = np.load(golden / "network.npz")
    with torch.no_grad():
        output = cls_net(rnd(meta["seed"] + 1, 2, 3, 96, 128).to(golden_device))
    assert_golden(output.logits, expected["cls_logit"])
    assert_golden(output.cam, expected["cls_cam"])


def test_names_and_shapes_are_the_released_ones(golden, cls_net):
    state = released_state_dict(cls_net)
    assert {name: list(value.shape) for name, value in state.items()} == json.loads(
        (golden / "cls_state_dict.json").read_text()
    )


def test_foreground_cam_has_no_dropout_and_equals_the_evaluated_forward():
    torch.manual_seed(0)
    net = build_network("resnet38_cls", num_classes=20, width=TINY).eval()
    image = rnd(1, 2, 3, 41, 50)
    with torch.no_grad():
        output = net(image)
        assert torch.equal(net.foreground_cam(image), output.cam)
    assert output.cam.shape == (2, 20, 6, 7) and output.cam.min() == 0


def test_dropout_on_conv6_acts_in_training_only():
    torch.manual_seed(0)
    net = build_network("resnet38_cls", num_classes=20, width=TINY)
    seen = []
    net.fc8.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    image = rnd(2, 1, 3, 32, 32)
    with torch.no_grad():
        net.train()(image)
        net.eval()(image)
    dropped = [float((conv6.amax(dim=(2, 3)) == 0).float().mean()) for conv6 in seen]
    assert 0.4 < dropped[0] - dropped[1] * 0.5 < 0.6


def test_channels_are_dropped_in_the_last_two_blocks_and_before_the_classifier():
    net = build_network("resnet38_cls", num_classes=20, width=TINY)
    dropouts = {name: module for name, module in net.named_modules() if "Dropout" in type(module).__name__}
    assert {type(module) for module in dropouts.values()} == {torch.nn.Dropout2d}
    assert {name: module.p for name, module in dropouts.items()} == {
        **dict.fromkeys(("backbone.b6.dropout_2b1", "backbone.b6.dropout_2b2"), 0.3),
        **dict.fromkeys(("backbone.b7.dropout_2b1", "backbone.b7.dropout_2b2", "dropout7"), 0.5),
    }


def test_the_head_is_fc8_and_frozen_means_frozen():
    net = build_network("resnet38_cls", num_classes=20, width=TINY)
    assert net.head_layers == (net.fc8,)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD([value for value in net.parameters() if value.requires_grad], lr=0.1, weight_decay=0.1)
    net.train()(rnd(3, 2, 3, 32, 32)).logits.square().sum().backward()
    optimizer.step()
    kept = {name for name, value in net.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {
        name
        for name in before
        if "bn" in name or name.startswith(("backbone.conv1a.", "backbone.b2.", "backbone.b2_1.", "backbone.b2_2."))
    }
