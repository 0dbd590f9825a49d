"""The Caffe-style net and its three scales: each layer against plain functions, and what files of weights may hold."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from data.normalisation import IMAGENET
from network.backbone_weights import WEIGHTS_KEY, load_backbone, load_caffe, load_deeplab
from network.deeplab_msc import CAFFE, STRIDES, CaffeResNet, DeepLabMSC, _resized_by
from network.fold import fold_norms
from segmentation.experiment.config import config_dict
from segmentation.net import net_of as stage_3_net
from segmentation.settings import read_config
from tests.golden_inputs import fill
from tests.network.nets import net_of
from tool.cli import UserError


def small_net(num_classes: int = 5, **options) -> DeepLabMSC:
    """Filled, in evaluation mode."""
    net = DeepLabMSC(CaffeResNet((1, 2, 1, 1), width=4, **options), num_classes=num_classes, frozen_norms=True)
    net.load_state_dict({name: fill(name, tuple(value.shape), "") for name, value in net.state_dict().items()})
    return net.eval()


def plain_map(state: dict, image: torch.Tensor) -> torch.Tensor:
    """layer5 of CRT's net from `state`, the base's."""

    def layer(name: str, x: torch.Tensor, relu: bool = True, **geometry) -> torch.Tensor:
        x = F.conv2d(x, state[f"{name}.conv.weight"], **geometry)
        keys = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(state[f"{name}.bn.{key}"] for key in keys))
        return F.relu(x) if relu else x

    x = layer("layer1.conv1", image, stride=2, padding=3)
    x = F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)
    for number, blocks, stride, dilation in ((2, 1, 1, 1), (3, 2, 2, 1), (4, 1, 1, 2), (5, 1, 1, 4)):
        for block in range(1, blocks + 1):
            name, step = f"layer{number}.block{block}", stride if block == 1 else 1
            short = layer(f"{name}.shortcut", x, relu=False, stride=step) if block == 1 else x
            x = layer(f"{name}.reduce", x, stride=step)
            x = layer(f"{name}.conv3x3", x, padding=dilation, dilation=dilation)
            x = F.relu(layer(f"{name}.increase", x, relu=False) + short)
    return x


@pytest.mark.parametrize("size", [(32, 44), (33, 45), (31, 40)])
def test_the_net_is_the_plain_one_at_each_scale_and_the_maximum_counts(size):
    net, image = small_net(), 40 * torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    state = net.base.state_dict()

    def scores(image: torch.Tensor) -> torch.Tensor:
        feat = plain_map(state, image)
        branches = [
            F.conv2d(feat, state[f"aspp.c{i}.weight"], state[f"aspp.c{i}.bias"], padding=rate, dilation=rate)
            for i, rate in enumerate((6, 12, 18, 24))
        ]
        return sum(branches)

    expected = [scores(image)]
    for scale in (0.5, 0.75):
        smaller = F.interpolate(image, scale_factor=scale, mode="bilinear", recompute_scale_factor=False)
        assert smaller.shape[2:] == (int(size[0] * scale), int(size[1] * scale))
        expected.append(scores(smaller))
    grid = expected[0].shape[2:]
    expected.append(torch.stack([F.interpolate(each, grid, mode="bilinear") for each in expected]).amax(dim=0))
    with torch.no_grad():
        torch.testing.assert_close(net(image), expected[-1], rtol=1e-4, atol=1e-4)
        for found, each in zip(net.train()(image), expected, strict=True):
            torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-4)
    ratio = F.interpolate(image, (int(size[0] * 0.75), int(size[1] * 0.75)), mode="bilinear")
    odd = any(int(side * 0.75) != side * 0.75 for side in size)
    assert torch.equal(ratio, smaller) != odd  # the easy mistake shows at sizes that do not divide


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (12, 1)])
def test_a_side_of_one_pixel_is_one_at_each_scale(size):
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    whole = image.expand(-1, -1, *(4 if side == 1 else side for side in size))
    for scale in (0.5, 0.75):
        rows, columns = (max(int(side * scale), 1) for side in size)
        expected = F.interpolate(whole, scale_factor=scale, mode="bilinear", recompute_scale_factor=False)
        assert torch.equal(_resized_by(image, scale), expected[..., :rows, :columns])
    with torch.no_grad():
        assert small_net()(image).shape[2:] == small_net().scores(image).shape[2:]


def test_the_stride_is_in_the_first_convolution_and_every_3x3_of_a_layer_is_dilated():
    net = CaffeResNet((2, 2, 2, 2), width=4)
    for number, dilation in zip((2, 3, 4, 5), (1, 1, 2, 4), strict=True):
        blocks = list(getattr(net, f"layer{number}").children())
        assert [block.conv3x3.conv.dilation[0] for block in blocks] == [dilation] * 2
        assert [block.conv3x3.conv.stride[0] for block in blocks] == [1, 1]
        assert [block.reduce.conv.stride[0] for block in blocks] == [STRIDES[number - 2], 1]


def test_a_fresh_head_is_near_0_and_frozen_norms_stay():
    torch.manual_seed(0)
    net = DeepLabMSC(CaffeResNet((1, 1, 1, 1), width=16), num_classes=21, frozen_norms=True).train()
    weights = torch.cat([branch.weight.flatten() for branch in net.base.aspp.children()])
    assert weights.std().item() == pytest.approx(0.01, rel=0.02)
    assert all(not branch.bias.any() for branch in net.base.aspp.children())
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and not any(norm.training or norm.weight.requires_grad for norm in norms)


def test_the_input_is_blue_green_red_less_a_mean_and_comes_back():
    pixels = torch.arange(2 * 3 * 4, dtype=torch.uint8).reshape(2, 4, 3).numpy()
    image = CAFFE(pixels)
    mean = torch.tensor([104.008, 116.669, 122.675])[:, None, None]
    expected = torch.tensor(pixels[..., ::-1].copy()).permute(2, 0, 1) - mean
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-4)
    assert torch.equal(CAFFE.rounded(image), torch.tensor(pixels).permute(2, 0, 1))


def test_folded_for_inference_it_gives_the_same():
    net, image = small_net(), 40 * torch.randn(1, 3, 33, 45)
    with torch.no_grad():
        expected = net(image)
        folded = fold_norms(net)
        assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
        torch.testing.assert_close(folded(image), expected, rtol=1e-4, atol=1e-4)


def test_on_torchvisions_resnet_the_stride_is_in_the_3x3_every_3x3_is_dilated_and_pooling_rounds_up():
    with torch.device("meta"):
        net = stage_3_net(read_config(config_dict, ["MODEL_NAME=deeplabv2_msc", "MODEL_BACKBONE=resnet50"]))
        plain = stage_3_net(read_config(config_dict, ["MODEL_BACKBONE=resnet50"]))
    assert net.backbone.maxpool.ceil_mode and not plain.backbone.maxpool.ceil_mode
    first = net.backbone.layer2[0]
    assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (2, 2)) and net.normalisation == IMAGENET
    for layer, dilation in ((net.backbone.layer3, 2), (net.backbone.layer4, 4)):
        assert {block.conv2.dilation[0] for block in layer} == {dilation}
    for layer, expected in ((plain.backbone.layer3, 1), (plain.backbone.layer4, 2)):
        assert layer[0].conv2.dilation[0] == expected  # the easy mistake


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "base.", "module.base."])
def test_the_first_weights_have_any_prefix_and_may_lack_the_head_which_is_said(tmp_path, prefix):
    source, net = small_net(), small_net(num_classes=7)
    state = {name: value + 1 for name, value in source.base.state_dict().items() if not name.startswith("aspp.")}
    torch.save({f"{prefix}{name}": value for name, value in state.items()}, tmp_path / "coco.pth")
    before = {name: value.clone() for name, value in net.base.aspp.state_dict().items()}
    report = load_caffe(net, tmp_path / "coco.pth")
    assert report.missing == [f"aspp.{name}" for name in before] and not report.unexpected
    assert f"not in the file, left as they were ({len(before)}): aspp.c0.weight" in str(report)
    assert all(torch.equal(net.base.state_dict()[name], value) for name, value in state.items())
    assert all(torch.equal(net.base.aspp.state_dict()[name], value) for name, value in before.items())


def test_the_first_weights_bring_a_head_where_they_have_it_and_what_is_none_of_them_is_said(tmp_path):
    source, net = small_net(), small_net()
    state = {f"base.{name}": value + 1 for name, value in source.base.state_dict().items()}
    torch.save({**state, "fc.weight": torch.zeros(2)}, tmp_path / "net.pth")
    report = load_caffe(net, tmp_path / "net.pth")
    assert (report.missing, report.unexpected) == ([], ["fc.weight"])
    assert torch.equal(net.base.aspp.c3.bias, source.base.aspp.c3.bias + 1)


def test_weights_of_another_net_are_refused(tmp_path):
    torch.save(net_of(deep_base=False).backbone.state_dict(), tmp_path / "torchvision.pth")
    with pytest.raises(
        UserError, match=f"{WEIGHTS_KEY} .*expected a Caffe-style ResNet-101 .*MODEL_BACKBONE=resnet101"
    ):
        load_caffe(small_net(), tmp_path / "torchvision.pth")
    torch.save(small_net(num_classes=7).state_dict(), tmp_path / "labels.pth")
    with pytest.raises(UserError, match=r"tensors that do not fit the net"):
        load_caffe(small_net(), tmp_path / "labels.pth")
    with pytest.raises(UserError, match=f"{WEIGHTS_KEY} None: caffe_resnet101 has no weights for download"):
        load_caffe(small_net(), None)


@pytest.mark.parametrize("prefix", ["", "base.", "module.base."])
def test_a_trained_net_has_any_prefix_and_must_be_whole(tmp_path, prefix):
    source, net = small_net(), small_net()
    state = {f"{prefix}{name}": value + 1 for name, value in source.base.state_dict().items()}
    torch.save(state, tmp_path / "checkpoint_final.pth")
    load_deeplab(net, tmp_path / "checkpoint_final.pth")
    assert torch.equal(net.base.aspp.c1.weight, source.base.aspp.c1.weight + 1)
    torch.save({name: value for name, value in state.items() if "aspp.c1" not in name}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"missing \(2\): aspp.c1.weight, aspp.c1.bias"):
        load_deeplab(net, tmp_path / "part.pth")


def test_on_another_backbone_that_ones_weights_are_loaded_and_the_head_is_left(tmp_path):
    torch.manual_seed(0)
    source = net_of(deep_base=False)
    net = net_of("deeplabv2_msc", deep_base=False)
    torch.save(source.backbone.state_dict(), tmp_path / "resnet18.pth")
    head = net.base.aspp.c0.weight.clone()
    report = load_backbone(net, "resnet18", tmp_path / "resnet18.pth")
    assert not report.at_random and not report.unused and not any("aspp" in name for name in report.loaded)
    assert torch.equal(net.base.layer4[1].conv2.weight, source.backbone.layer4[1].conv2.weight)
    assert torch.equal(net.base.aspp.c0.weight, head)


def test_on_timms_net_the_trained_head_comes_back_too(tmp_path):
    trained, found = (net_of("deeplabv2_msc", backbone="timm:test_byobnet") for _ in range(2))
    torch.save(trained.weights.state_dict(), tmp_path / "net.pth")
    load_deeplab(found, tmp_path / "net.pth")
    expected = trained.weights.state_dict()
    assert any("aspp" in name for name in expected)
    assert all(torch.equal(value, expected[name]) for name, value in found.weights.state_dict().items())
