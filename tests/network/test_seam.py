"""SEAM's net and PPC's: the golden forward, the released names and order, one dropout, and what inference computes."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from network.build import build_network
from network.foreign import FIRST
from network.weights import load_weights, released_state_dict
from tests.golden_inputs import assert_golden, rnd
from tests.network.conftest import filled

TINY = 0.0625
RELEASED = {"seam": "resnet38_seam", "ppc_seam": "resnet38_ppc", "ppc_eps": "resnet38_ppc_eps"}


def tiny(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(name, num_classes=20, width=TINY, **options)


@pytest.mark.golden
def test_seams_forward_gives_the_golden_numbers(golden, ppc_meta, golden_device):
    net = filled("resnet38_ppc", ppc_meta["salt"], golden_device)
    image = rnd(ppc_meta["seed"] + 1, 2, 3, 96, 128).to(golden_device)
    with torch.no_grad():
        output = net(image)
        foreground = net.foreground_cam(image)
    expected = np.load(golden / "ppc" / "network.npz")

    def released(maps: torch.Tensor) -> torch.Tensor:
        return maps.roll(1, dims=1)[:, ::2]

    for name in ("cam", "cam_rv"):
        whole = F.interpolate(getattr(output, name), (96, 128), mode="bilinear", align_corners=True)
        assert_golden(released(whole)[:, :, ::8, ::8], expected[name])
    assert_golden(released(output.cam_rv), expected["cam_rv_grid"])
    assert_golden(output.feat_pixel[:, ::16], expected["f_proj"])
    assert torch.equal(foreground, whole[:, :20])


@pytest.mark.golden
def test_the_forward_of_ppc_on_eps_gives_the_golden_numbers(golden, ppc_meta, golden_device):
    net = filled("resnet38_ppc_eps", ppc_meta["salt"], golden_device)
    with torch.no_grad():
        output = net(rnd(ppc_meta["seed"] + 1, 2, 3, 96, 128).to(golden_device))
    expected = np.load(golden / "ppc" / "network.npz")
    assert output.feat_region is None
    for name, step in {"logits": 1, "cam": 2, "cam_rv": 2}.items():
        assert_golden(getattr(output, name)[:, ::step], expected[f"eps_{name}"])
    assert_golden(output.feat_pixel[:, ::16], expected["eps_feat"])


@pytest.mark.golden
@pytest.mark.parametrize("key", RELEASED)
def test_names_shapes_and_head_layers_are_the_released_ones(key, golden):
    with torch.device("meta"):
        net = build_network(RELEASED[key], num_classes=20)
        state = released_state_dict(net)
    shapes = json.loads((golden / "ppc" / "state_dicts.json").read_text())[key]
    assert {name: list(value.shape) for name, value in state.items()} == shapes
    groups = json.loads((golden / "ppc" / "parameter_groups.json").read_text())[key]
    names = {module: name for name, module in net.named_modules()}
    assert {f"{names[layer]}.weight" for layer in net.head_layers} == set(groups[2])
    trained = {name.removeprefix("backbone.") for name, value in net.named_parameters() if value.requires_grad}
    assert trained == {name for group in groups for name in group}


@pytest.mark.parametrize("name", ["resnet38_seam", "resnet38_ppc"])
def test_files_have_background_first_and_the_net_has_it_last(name, tmp_path):
    net = tiny(name)
    head = net.fc8.weight.detach().clone()
    torch.save(released_state_dict(net), tmp_path / "net.pth")
    saved = torch.load(tmp_path / "net.pth", weights_only=True)
    assert torch.equal(saved["fc8.weight"][0], head[20]) and torch.equal(saved["fc8.weight"][1:], head[:20])
    other = build_network(name, num_classes=20, width=TINY)
    report = load_weights(other, tmp_path / "net.pth")
    assert torch.equal(other.fc8.weight, head) and report.background == FIRST

    # A net with background last reads the same file, and says what it took for granted.
    hsc = tiny("resnet38_hsc")
    report = load_weights(hsc, tmp_path / "net.pth")
    assert torch.equal(hsc.fc8.weight, head) and "background is taken to be its first channel" in str(report)


@pytest.mark.parametrize("source", ["resnet38_hsc", "resnet38_ppc_eps"])
def test_a_start_from_files_with_background_last_keeps_what_each_channel_scores(source, tmp_path):
    eps = tiny(source)
    torch.save(released_state_dict(eps), tmp_path / "eps.pth")
    seam = build_network("resnet38_seam", num_classes=20, width=TINY)
    load_weights(seam, tmp_path / "eps.pth")
    assert torch.equal(seam.fc8.weight, eps.fc8.weight)


def test_both_heads_see_one_dropout_and_inference_none():
    net = tiny("resnet38_ppc").train()
    seen = []
    for head in (net.fc8, net.fc_proj):
        head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        net(rnd(1, 2, 3, 64, 64))
        conv6 = seen[0]
        dropped = (conv6 == 0).all((2, 3)).float().mean()
        assert torch.equal(*seen) and 0.3 < dropped < 0.7
        assert torch.equal(net.eval().foreground_cam(rnd(2, 1, 3, 40, 48)), net.foreground_cam(rnd(2, 1, 3, 40, 48)))


def test_the_classifier_and_the_pcm_learn_and_the_pcm_shapes_nothing_below():
    net = tiny("resnet38_ppc")
    output = net(rnd(3, 2, 3, 64, 64))
    reached = {}
    for name in ("cam", "cam_rv", "feat_pixel"):
        net.zero_grad()
        getattr(output, name).square().sum().backward(retain_graph=True)
        reached[name] = {key for key, value in net.named_parameters() if value.grad is not None and value.grad.any()}
    assert reached["cam_rv"] == {"f8_3.weight", "f8_4.weight", "f9.weight"}
    assert "fc8.weight" in reached["cam"] and "backbone.b3.conv_branch2a.weight" in reached["cam"]
    assert "fc_proj.weight" in reached["feat_pixel"] and "fc8.weight" not in reached["feat_pixel"]


@pytest.mark.parametrize("size", [(97, 131), (8, 8)])
def test_inferences_maps_have_the_images_size(size):
    with torch.no_grad():
        assert tiny("resnet38_seam").eval().foreground_cam(rnd(4, 1, 3, *size)).shape == (1, 20, *size)
