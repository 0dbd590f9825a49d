"""The ResNets and stage 3's backbones: torchvision's with dilation for stride, and the deep stem."""

import math

import pytest
import torch
from torch import nn
from torchvision import models

from data.normalisation import Normalisation
from network import BACKBONES, RESNETS
from network.build import build_network
from network.resnet import STRIDE_16, ResNet
from network.weights import released_state_dict
from segmentation.experiment.config import config_dict
from segmentation.net import normalisation_of
from segmentation.settings import read_config
from tests.golden_inputs import fill, rnd
from tests.network.nets import backbone_of, net_of
from tool.cli import UserError

# Blocks of layer3 and layer4, 3x3 convolutions a block, channels out.
SHAPES = {
    "resnet18": (2, 2, 2, 512),
    "resnet34": (6, 3, 2, 512),
    "resnet50": (6, 3, 1, 2048),
    "resnet101": (23, 3, 1, 2048),
    "resnet152": (36, 3, 1, 2048),
}


def shapes_only(name: str, **options: float) -> nn.Module:
    """A backbone without memory for its weights."""
    with torch.device("meta"):
        return backbone_of(backbone=name, **options).eval()


def output_shape(backbone: nn.Module, height: int, width: int) -> tuple[int, ...]:
    return tuple(backbone(torch.empty(1, 3, height, width, device="meta")).conv6.shape)


def convolutions(module: nn.Module, kernel: int) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (kernel, kernel)]


def dilations(layer: nn.Module) -> list[int]:
    for conv in convolutions(layer, 3):
        assert conv.padding == conv.dilation
    return [conv.dilation[0] for conv in convolutions(layer, 3)]


@pytest.mark.parametrize("deep_base", [True, False], ids=["three convolutions", "7x7"])
@pytest.mark.parametrize("name", RESNETS)
def test_every_resnet_has_stride_8_and_dilations_2_and_4_half_where_the_stride_was(name, deep_base):
    backbone = shapes_only(name, deep_base=deep_base)
    blocks3, blocks4, convs, channels = SHAPES[name]
    assert dilations(backbone.layer3) == [1] + [2] * (blocks3 * convs - 1)
    assert dilations(backbone.layer4) == [2] + [4] * (blocks4 * convs - 1)
    assert set(dilations(backbone.layer1) + dilations(backbone.layer2)) == {1}
    for layer in (backbone.layer3, backbone.layer4):
        assert all(conv.stride == (1, 1) for conv in convolutions(layer, 3) + convolutions(layer, 1))
        assert all(conv.dilation == (1, 1) and conv.padding == (0, 0) for conv in convolutions(layer, 1))
    assert backbone.channels == (channels // 4, channels // 2, channels)
    assert output_shape(backbone, 97, 113) == (1, channels, 13, 15)
    assert output_shape(backbone, 96, 64) == (1, channels, 12, 8)


@pytest.mark.parametrize("name", RESNETS)
def test_multigrid_gives_layer4s_blocks_4_8_and_16_and_leaves_layer3(name):
    backbone = shapes_only(name, multigrid=True)
    blocks3, blocks4, convs, channels = SHAPES[name]
    assert dilations(backbone.layer3) == [1] + [2] * (blocks3 * convs - 1)
    assert dilations(backbone.layer4) == [rate for rate in (4, 8, 16)[:blocks4] for _ in range(convs)]
    assert output_shape(backbone, 97, 113) == (1, channels, 13, 15)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_without_dilation_the_stride_is_32(name):
    backbone = shapes_only(name, dilated=False)
    assert set(dilations(backbone)) == {1}
    assert output_shape(backbone, 97, 113)[2:] == (4, 4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_dilated_net_holds_the_strided_one_at_every_fourth_pixel(name):
    # What dilation in the place of stride means. It fails for a rate forgotten, doubled, or given to the convolution
    # that had the stride.
    original = models.get_model(name, weights=None)
    state = {key: fill(key, tuple(value.shape), "t") for key, value in original.state_dict().items()}
    maps = []
    for dilated in (True, False):
        backbone = backbone_of(backbone=name, dilated=dilated, deep_base=False).eval()
        assert set(backbone.load_state_dict(state, strict=False).unexpected_keys) == {"fc.weight", "fc.bias"}
        with torch.no_grad():
            maps.append(backbone(rnd(1, 1, 3, 97, 75)).conv6)
    assert maps[1].std() > 0
    torch.testing.assert_close(maps[0][:, :, ::4, ::4], maps[1], rtol=1e-4, atol=1e-5 * float(maps[1].abs().max()))


@pytest.mark.parametrize("name", RESNETS)
def test_names_and_shapes_are_torchvisions_where_the_stem_does_not_matter(name):
    plain, deep = (
        {key: value.shape for key, value in shapes_only(name, deep_base=deep_base).state_dict().items()}
        for deep_base in (False, True)
    )
    with torch.device("meta"):
        original = {key: value.shape for key, value in models.get_model(name, weights=None).state_dict().items()}
    del original["fc.weight"], original["fc.bias"]
    assert plain == original
    differ = {key for key in plain.keys() | deep.keys() if plain.get(key) != deep.get(key)}
    behind = {"layer1.0.conv1.weight", "layer1.0.downsample.0.weight"}
    if name in ("resnet18", "resnet34"):  # they had no convolution around the first block
        behind |= {key for key in deep if key.startswith("layer1.0.downsample.1.")}
    assert {key for key in differ if not key.startswith(("conv1.", "bn1."))} == behind


def test_the_deep_stem_is_three_convolutions_the_first_two_with_norm_and_relu_then_bn1_relu_and_pooling():
    backbone = backbone_of().eval()
    state = {key: fill(key, tuple(value.shape), "t") for key, value in backbone.state_dict().items()}
    backbone.load_state_dict(state)
    seen = []
    backbone.layer1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    def norm(x, name):
        statistics = (state[f"{name}.running_mean"], state[f"{name}.running_var"])
        return nn.functional.batch_norm(x, *statistics, state[f"{name}.weight"], state[f"{name}.bias"])

    x = image = rnd(2, 1, 3, 33, 41)
    x = norm(nn.functional.conv2d(x, state["conv1.0.weight"], stride=2, padding=1), "conv1.1").relu()
    x = norm(nn.functional.conv2d(x, state["conv1.3.weight"], padding=1), "conv1.4").relu()
    x = norm(nn.functional.conv2d(x, state["conv1.6.weight"], padding=1), "bn1").relu()
    with torch.no_grad():
        backbone(image)
    assert seen[0].shape == (1, 128, 9, 11)
    torch.testing.assert_close(seen[0], nn.functional.max_pool2d(x, 3, stride=2, padding=1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_an_untrained_stem_is_normal_with_variance_2_over_kernel_area_and_channels_out(name):
    torch.manual_seed(0)
    backbone = backbone_of(backbone=name)
    first = backbone.layer1[0]
    stem = [backbone.conv1[0], backbone.conv1[3], backbone.conv1[6], first.conv1, first.downsample[0]]
    for conv in [*stem, backbone_of(backbone=name, deep_base=False).conv1]:
        expected = math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels))
        assert float(conv.weight.detach().std()) == pytest.approx(expected, rel=0.1)
        assert conv.bias is None


@pytest.mark.parametrize("deep_base", [True, False])
def test_mobilenet_has_stride_8_and_torchvisions_names_whatever_the_stem(deep_base):
    backbone = shapes_only("mobilenet_v2", deep_base=deep_base)
    assert output_shape(backbone, 97, 113) == (1, backbone.channels.conv6, 13, 15) == (1, 1280, 13, 15)
    with torch.device("meta"):
        features = models.mobilenet_v2(weights=None).features
    assert list(backbone.state_dict()) == [f"features.{key}" for key in features.state_dict()]


def test_resnet38d_is_the_classifiers_backbone_of_stride_8_and_its_width():
    backbone = shapes_only("resnet38d", width=0.125)
    assert output_shape(backbone, 97, 113) == (1, backbone.channels.conv6, 13, 15) == (1, 512, 13, 15)
    with torch.device("meta"):
        classifier = build_network("resnet38_cls", num_classes=20, backbone="resnet38d", width=0.125)
    assert list(backbone.state_dict()) == [name for name in released_state_dict(classifier) if name != "fc8.weight"]


def test_all_backbones_of_the_configuration_build():
    for name in BACKBONES:
        assert len(shapes_only(name).channels) == 3


def test_strides_and_dilations_are_those_asked_for():
    """As other systems have them: layer4 alone at stride 1, undilated; or dilated 2 and 4 but for each first block."""
    with torch.device("meta"):
        fine = ResNet("resnet50", **STRIDE_16)
        first = ResNet("resnet50", dilations=((1,), (1, 2), (1, 4)))
    taps = fine(torch.empty(1, 3, 65, 33, device="meta"))
    assert [tuple(tap.shape[2:]) for tap in taps] == [(9, 5), (5, 3), (5, 3)]
    assert [fine.layer4[0].conv2.stride, fine.layer4[0].downsample[0].stride] == [(1, 1), (1, 1)]
    assert set(dilations(fine)) == {1}
    assert (dilations(first.layer3), dilations(first.layer4)) == ([1, 2, 2, 2, 2, 2], [1, 4, 4])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"multigrid": True, "dilated": False}, r"MODEL_BACKBONE_MULTIGRID True.*MODEL_BACKBONE_DILATED"),
        ("mobilenet_v2", {"multigrid": True}, r"MODEL_BACKBONE_MULTIGRID True.*mobilenet_v2"),
        ("mobilenet_v2", {"dilated": False}, r"MODEL_BACKBONE_DILATED False.*mobilenet_v2"),
        ("resnet38d", {"dilated": False}, r"MODEL_BACKBONE_DILATED False.*resnet38d"),
        ("resnet18", {"width": 0.5}, r"MODEL_BACKBONE_WIDTH 0.5.*resnet18"),
    ],
)
def test_what_a_backbone_does_not_have_is_refused_by_its_key(name, options, message):
    with pytest.raises(UserError, match=message):
        shapes_only(name, **options)


def test_a_normalisation_that_is_not_set_is_the_backbones_each_part_by_itself():
    config = read_config(config_dict, ["MODEL_BACKBONE=resnet18", "DATA_MEAN=[0.1, 0.2, 0.3]", "DATA_STD=None"])
    net = net_of(deep_base=False)
    net.backbone.normalisation = Normalisation((0.5,) * 3, (0.7,) * 3)
    assert normalisation_of(config, net) == Normalisation((0.1, 0.2, 0.3), (0.7,) * 3)
