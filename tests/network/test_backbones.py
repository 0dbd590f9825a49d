"""The torchvision adapters compute torchvision's nets on a finer grid, and take its checkpoints whole."""

import pytest
import torch
from torch import nn
from torchvision import models

from network import BACKBONES
from network.backbones import build_backbone, fix_norms
from network.build import build_network
from network.weights import load_released_state_dict, released_state_dict
from tests.golden_inputs import fill, rnd
from tool.cli import UserError

ADAPTERS = {"mobilenet_v2": models.mobilenet_v2, "resnet50": models.resnet50}
LEFT_OVER = {
    "mobilenet_v2": {"classifier.1.weight", "classifier.1.bias"},
    "resnet50": {"fc.weight", "fc.bias"},
}


def strided_taps(name: str, net: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """The taps of torchvision's own net, at its own strides 8, 16 and 32."""
    if name == "mobilenet_v2":
        parts = [net.features[:7], net.features[7:14], net.features[14:]]
    else:
        stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1)
        parts = [nn.Sequential(stem, net.layer2), net.layer3, net.layer4]
    taps = []
    for part in parts:
        image = part(image)
        taps.append(image)
    return taps


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("size", [(96, 64), (97, 131)])
def test_dilated_taps_hold_the_strided_net_at_every_second_and_fourth_pixel(name, size):
    # The defining property of dilation in the place of stride. It fails for a rate forgotten, doubled, given to the
    # layer that strided, or a padding that does not follow.
    original = ADAPTERS[name](weights=None).eval()
    original.load_state_dict({key: fill(key, tuple(value.shape), "t") for key, value in original.state_dict().items()})
    backbone = build_backbone(name).eval()
    backbone.load_state_dict(original.state_dict(), strict=False)
    image = rnd(1, 1, 3, *size)
    with torch.no_grad():
        taps, expected = backbone(image), strided_taps(name, original, image)
    grid = tuple(-(-side // 8) for side in size)
    assert [tuple(tap.shape) for tap in taps] == [(1, channels, *grid) for channels in backbone.channels]
    for tap, reference, step in zip(taps, expected, (1, 2, 4), strict=True):
        assert reference.std() > 0
        scale = float(reference.abs().max())
        torch.testing.assert_close(tap[:, :, ::step, ::step], reference, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "timm:test_resnet", "timm:test_efficientnet", "timm:test_convnext"]
)
def test_stages_one_after_the_other_give_the_taps(name, output_stride):
    backbone = build_backbone(name, output_stride=output_stride).eval()
    x = image = rnd(1, 1, 3, 64, 96)
    with torch.no_grad():
        taps = backbone(image)
        for stage, tap in zip(backbone.stages, taps, strict=True):
            for layer in stage:
                x = layer(x)
            assert torch.equal(x, tap)
    assert [tuple(tap.shape[2:]) for tap in taps] == [(8, 12)] + 2 * [(64 // output_stride, 96 // output_stride)]


def test_mobilenet_of_output_stride_16_holds_the_strided_net_at_every_second_pixel():
    original = models.mobilenet_v2(weights=None).eval()
    original.load_state_dict({key: fill(key, tuple(value.shape), "t") for key, value in original.state_dict().items()})
    backbone = build_backbone("mobilenet_v2", output_stride=16).eval()
    backbone.load_state_dict(original.state_dict(), strict=False)
    image = rnd(1, 1, 3, 96, 64)
    with torch.no_grad():
        tap, expected = backbone(image).conv6, strided_taps("mobilenet_v2", original, image)[2]
    scale = float(expected.abs().max())
    torch.testing.assert_close(tap[:, :, ::2, ::2], expected, rtol=1e-4, atol=1e-5 * scale)


def test_a_net_of_timm_that_is_no_chain_has_no_stages(monkeypatch):
    backbone = build_backbone("timm:test_resnet")
    monkeypatch.setattr("network.timm_backbone.CHAINS", ("EfficientNetFeatures",))
    with pytest.raises(UserError, match="--backbone timm:test_resnet: expected a net whose parts run one after"):
        backbone.stages  # noqa: B018


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_torchvision_checkpoint_loads_whole_but_for_its_classifier(name):
    state = ADAPTERS[name](weights=None).state_dict()
    net = build_network("resnet38_cls", num_classes=20, backbone=name)
    report = load_released_state_dict(net, state, source="torchvision")
    assert set(report.unexpected) == LEFT_OVER[name]
    assert report.missing == ["fc8.weight"]
    assert set(report.loaded) == set(state) - LEFT_OVER[name]
    own = released_state_dict(net)
    assert all(torch.equal(own[key], state[key]) for key in report.loaded)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_frozen_adapter_trains_neither_norms_nor_stem(name):
    net = build_network("resnet38_cls", num_classes=20, backbone=name)
    stem = {parameter for part in net.backbone.stem for parameter in part.parameters()}
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    fixed = stem | {parameter for norm in norms for parameter in norm.parameters()}
    assert not any(norm.training for norm in norms)
    for key, parameter in net.named_parameters():
        assert parameter.requires_grad == (parameter not in fixed), key
    assert len(stem) > 3


@pytest.mark.parametrize("name", ADAPTERS)
def test_other_backbones_carry_the_hsc_heads(name):
    net = build_network("resnet38_hsc", num_classes=20, backbone=name).eval()
    with torch.no_grad():
        output = net(rnd(2, 1, 3, 65, 72))
    assert output.cam_rv.shape == (1, 21, 9, 9) and output.feat_region.shape == (1, 256, 9, 9)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_width_that_the_backbone_does_not_have_is_refused(name):
    with pytest.raises(UserError, match=rf"--width 0\.5.*{name}"):
        build_backbone(name, width=0.5)


def test_an_unknown_backbone_is_refused_with_the_names_there_are():
    with pytest.raises(UserError, match="--backbone vgg.*" + ".*".join(BACKBONES)):
        build_backbone("vgg")


def test_fixing_norms_covers_the_synchronised_kind():
    module = nn.Sequential(nn.BatchNorm2d(4), nn.SyncBatchNorm(4), nn.Conv2d(4, 4, 1))
    fix_norms(module)
    assert [part.training for part in module] == [False, False, True]
    assert [part.weight.requires_grad for part in module] == [False, False, True]
