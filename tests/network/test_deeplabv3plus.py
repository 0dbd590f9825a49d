"""DHR's DeepLabv3+: the golden forward, released names and groups, its backbones' maps, weights in, what it refuses."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from network.backbones import batch_norms
from network.deeplabv3plus import (
    DeepLabV3Plus,
    build_deeplabv3plus,
    load_first_weights,
    load_trained,
    parameter_groups,
)
from tests.golden_inputs import assert_golden, fill, rnd
from tool.cli import UserError

TINY = {"backbone": "resnet38d", "width": 0.0625}


def golden_net(name: str, salt: str, device: torch.device) -> DeepLabV3Plus:
    net = build_deeplabv3plus(name, num_labels=21, num_classes=20).eval()
    with torch.no_grad():
        for key, value in net.state_dict().items():
            value.copy_(fill(key, tuple(value.shape), salt))
    return net.to(device)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_the_forward_is_the_golden_one(golden, dhr_meta, golden_device, name):
    expected = np.load(golden / "dhr" / "network.npz")
    net = golden_net(name, dhr_meta["salt"], golden_device)
    image = rnd(dhr_meta["seed"] + 1, 2, 3, 97, 129).to(golden_device)
    with torch.no_grad():
        found = net(image)
        _, c2, c3, _, _ = net.model.levels(image) if name == "resnet50" else [None] * 5
    assert_golden(found.logits[:, ::2, ::3, ::3], expected[f"{name}_logits"])
    assert_golden(found.cam, expected[f"{name}_cams"])
    if name == "resnet50":
        assert_golden(c2[:, ::64, ::2, ::2], expected["resnet50_C2"])
        assert_golden(c3[:, ::128, ::2, ::2], expected["resnet50_C3"])
        assert_golden(found.c4[:, ::256, ::2, ::2], expected["resnet50_C4"])
        assert_golden(found.c5[:, ::256, ::2, ::2], expected["resnet50_C5"])


@pytest.mark.golden
@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_names_and_shapes_are_the_golden_ones(golden, name):
    net = on_meta(name)
    released = json.loads((golden / "dhr" / "state_dict.json").read_text())[name]
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == released


@pytest.mark.golden
def test_groups_and_rates_are_the_golden_ones(golden):
    net = on_meta("resnet50")
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    expected = json.loads((golden / "dhr" / "parameter_groups.json").read_text())
    for group, golden_group in zip(parameter_groups(net, lr=0.5, weight_decay=4e-5), expected, strict=True):
        assert group["lr"] == 0.5 * golden_group["lr_mult"]
        assert group["weight_decay"] == golden_group["weight_decay"]
        assert [names[id(parameter)] for parameter in group["params"]] == golden_group["names"]


def on_meta(name: str, **counts: int) -> DeepLabV3Plus:
    with torch.device("meta"):
        return build_deeplabv3plus(name, **{"num_labels": 21, "num_classes": 20, **counts})


def test_only_layer3s_and_layer4s_later_blocks_are_dilated():
    """The usual net of this stride gives layer4's first block half of that."""
    net = on_meta("resnet50")
    for layer, rates in ((1, [1, 1, 1]), (2, [1] * 4), (3, [1, 2, 2, 2, 2, 2]), (4, [1, 4, 4])):
        assert [block.conv2.dilation[0] for block in getattr(net.model, f"layer{layer}")] == rates


LEVELS = {
    "resnet152": ((64, 24, 24), (256, 24, 24), 512, 1024, 2048),
    "mobilenet_v2": ((16, 48, 48), (24, 24, 24), 32, 96, 1280),
    "resnet38d": ((128, 48, 48), (256, 24, 24), 512, 1024, 4096),
    "timm:tf_efficientnet_lite2": ((16, 48, 48), (24, 24, 24), 48, 120, 352),
}


@pytest.mark.parametrize("name", LEVELS)
def test_each_backbone_hands_over_its_five_maps_and_labels_of_any_data_set_come_out(name):
    net = on_meta(name, num_labels=6, num_classes=5).eval()
    image = torch.empty(2, 3, 96, 95, device="meta")
    found = net(image)
    *low, c3, c4, c5 = LEVELS[name]
    maps = net.model.levels(image)
    assert [tuple(level.shape[1:]) for level in maps] == [*low, *((channels, 12, 12) for channels in (c3, c4, c5))]
    assert found.logits.shape == net.segment(image).shape == (2, 6, 24, 24)
    assert found.cam.shape == (2, 5, 6, 6)
    assert found.c4.shape[1] == c4 and found.c5.shape[1] == c5


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "resnet38d"])
def test_the_last_three_maps_are_the_backbones_taps(name):
    torch.manual_seed(0)
    width = 0.0625 if name == "resnet38d" else 1.0
    body = build_deeplabv3plus(name, num_labels=3, num_classes=2, width=width).eval().model
    image = rnd(1, 1, 3, 41, 57)
    with torch.no_grad():
        for level, tap in zip(body.levels(image)[2:], body(image), strict=True):
            assert tap.std() > 0
            torch.testing.assert_close(level, tap)


def tiny() -> DeepLabV3Plus:
    torch.manual_seed(0)
    return build_deeplabv3plus(**TINY, num_labels=4, num_classes=3)


def test_the_cam_is_the_classifier_on_half_the_map_and_sides_are_rounded_down():
    net = tiny().eval()
    with torch.no_grad():
        for side, half in ((104, 6), (8, 1)):  # maps of 13 and of one cell
            assert net(rnd(1, 1, 3, side, side)).cam.shape == (1, 3, half, half)


def test_resnet38_keeps_its_norms_and_its_first_convolution_and_the_rest_trains():
    net = tiny()
    norms = {name: norm for name, norm in net.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    assert {name.startswith("model.") for name, norm in norms.items() if not norm.training} == {True}
    assert all(norm.training for name, norm in norms.items() if not name.startswith("model."))
    found = net(rnd(1, 2, 3, 48, 40))
    (found.logits.square().mean() + found.cam.square().mean()).backward()
    without = {name for name, value in net.named_parameters() if value.grad is None}
    assert without == {name for name in net.state_dict() if name == "model.conv1a.weight"} | {
        f"{name}.{kind}" for name, norm in norms.items() if name.startswith("model.") for kind in ("weight", "bias")
    }
    in_groups = {id(p) for group in parameter_groups(net, lr=1, weight_decay=0) for p in group["params"]}
    assert in_groups == {id(value) for value in net.parameters() if value.grad is not None}


def test_a_resnet_trains_whole_on_its_batchs_statistics():
    net = on_meta("resnet50")
    assert all(value.requires_grad for value in net.parameters())
    assert all(norm.training for norm in batch_norms(net))


def test_logits_and_cams_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        found = tiny()(rnd(1, 2, 3, 48, 40))
    assert found.logits.dtype == found.cam.dtype == torch.float32


def test_resnets_of_plain_blocks_serve_too():
    found = build_deeplabv3plus("resnet18", num_labels=5, num_classes=4).eval()(rnd(1, 1, 3, 65, 81))
    assert found.logits.shape == (1, 5, 17, 21) and found.cam.shape[1] == 4


@pytest.mark.parametrize("name", ["wide", "timm:"])
def test_a_backbone_that_does_not_fit_is_refused(name):
    with pytest.raises(UserError, match=f"--backbone {name}: expected one of resnet18, .*or timm:NAME"):
        build_deeplabv3plus(name, num_labels=21, num_classes=20)


def test_a_net_of_timm_without_a_map_of_stride_2_is_refused():
    with pytest.raises(UserError, match=r"--backbone timm:convnext_tiny: .*strides 2, 4, 8, 8 and 8, found 4, 8, 8, 8"):
        on_meta("timm:convnext_tiny")


def test_training_starts_from_a_backbones_file_or_a_whole_nets_and_heads_stay(tmp_path):
    source = tiny()
    with torch.no_grad():
        for value in source.state_dict().values():
            value.add_(1)
    torch.save({**source.model.state_dict(), "fc.weight": torch.zeros(3)}, tmp_path / "imagenet.pth")
    torch.save({f"module.{name}": value for name, value in source.state_dict().items()}, tmp_path / "whole.pth")
    for name in ("imagenet", "whole"):
        net = tiny()
        head = net.classifier.weight.clone()
        report = load_first_weights(net, tmp_path / f"{name}.pth", "resnet38d")
        assert not report.missing and ("fc.weight" in report.unexpected) == (name == "imagenet")
        assert torch.equal(net.classifier.weight, head)
        own = source.model.state_dict()
        assert all(torch.equal(value, own[key]) for key, value in net.model.state_dict().items())
        if name == "whole":
            load_trained(net, tmp_path / "whole.pth", "--checkpoint")
            assert all(torch.equal(value, source.state_dict()[key]) for key, value in net.state_dict().items())


def test_files_of_other_nets_are_named_as_that(tmp_path):
    net = tiny()
    torch.save(net.model.state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(UserError, match=r"--checkpoint .*backbone\.pth: expected the weights of DHR's DeepLabv3\+"):
        load_trained(net, tmp_path / "backbone.pth", "--checkpoint")
    torch.save({"f8_5.weight": torch.zeros(1)}, tmp_path / "aff.pth")
    with pytest.raises(UserError, match=r"expected the weights of DHR's.*; found AffinityNet's weights; refine/"):
        load_trained(net, tmp_path / "aff.pth", "--checkpoint")
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"(?s)other\.pth: does not fit.*expected the backbone's weights, resnet38d's"):
        load_first_weights(net, tmp_path / "other.pth", "resnet38d")
    more = build_deeplabv3plus(**TINY, num_labels=6, num_classes=5)
    torch.save(more.state_dict(), tmp_path / "more.pth")
    with pytest.raises(UserError, match=r"(?s)more\.pth: does not fit.*--data_set.*classifier\.weight"):
        load_trained(net, tmp_path / "more.pth", "--checkpoint")


def test_a_width_that_a_backbone_has_not_is_named():
    with pytest.raises(UserError, match=r"--width 0.5: --backbone resnet101 has one width only"):
        build_deeplabv3plus("resnet101", num_labels=4, num_classes=3, width=0.5)
