"""Folding norms changes no output, and leaves only the norms that read more than one convolution's output."""

import pytest
import timm
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from network.affinity import build_affinity_net
from network.build import build_network
from network.deeplabv3plus import build_deeplabv3plus
from network.depthwise import DilatedDepthwise
from network.fold import Pointwise, fold_norms
from network.irn import IRNet
from network.scn import SCN
from tests.network.nets import net_of
from tool.device import AMP_TYPES, autocast, place_for_inference

CPU = torch.device("cpu")
TINY = 0.0625


def with_own_norms(net: nn.Module) -> nn.Module:
    """`net`, whose norms get statistics, scales and shifts of their own."""
    for norm in net.eval().modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
    return net


@pytest.mark.parametrize("name", ["resnet38_hsc", "resnet38_cls"])
@pytest.mark.parametrize(
    ("backbone", "left"),
    [
        # Of ResNet-38: the first norm of each of 15 + 2 blocks and bn7, which read sums.
        ("resnet38d", {"bn_branch2a", "bn7"}),
        ("resnet50", set()),
        ("mobilenet_v2", set()),
    ],
)
def test_the_cams_are_equal_and_no_norm_is_left_that_could_be_folded(name, backbone, left):
    torch.manual_seed(0)
    net = with_own_norms(
        build_network(name, num_classes=20, backbone=backbone, width=TINY if backbone == "resnet38d" else 1.0)
    )
    image = torch.randn(2, 3, 65, 49)
    with torch.inference_mode():
        before = net.foreground_cam(image)
        count = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
        after = fold_norms(net).foreground_cam(image)
    norms = [path for path, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert {path.rpartition(".")[2] for path in norms} == left and len(norms) < count
    assert before.abs().max() > 0.01
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_the_scores_of_deeplab_are_equal(backbone):
    torch.manual_seed(0)
    net = with_own_norms(net_of(backbone=backbone))
    image = torch.randn(1, 3, 65, 49)
    with torch.inference_mode():
        before = net(image)
        after = fold_norms(net)(image)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


def test_every_convolution_of_single_pixels_becomes_pointwise_and_no_other():
    layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 8, 1))
    layers.append(nn.BatchNorm2d(8))
    assert [type(layer) is Pointwise for layer in fold_norms(layers.eval())] == [True, False, False, True, False]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("amp", [True, False])
def test_pointwise_computes_what_the_convolution_does_and_keeps_its_type_and_layout(stride, bias, layout, amp):
    torch.manual_seed(0)
    convolution = nn.Conv2d(16, 24, 1, stride=stride, bias=bias).to(memory_format=layout)
    pointwise = Pointwise(16, 24, 1, stride=stride, bias=bias).to(memory_format=layout)
    pointwise.load_state_dict(convolution.state_dict())
    x = torch.randn(2, 16, 9, 7).to(memory_format=layout)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        actual, expected = pointwise(x), convolution(x)
    assert actual.dtype == (torch.bfloat16 if amp else torch.float32)
    assert actual.is_contiguous(memory_format=layout)
    torch.testing.assert_close(actual, expected)


def test_a_net_in_training_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_norms(build_network("resnet38_cls", num_classes=20, width=TINY).train())


def test_a_dilated_convolution_with_a_folded_norm_keeps_its_bias_with_gradients_too():
    torch.manual_seed(0)
    pair = nn.Sequential(DilatedDepthwise(4, 3, dilation=2), nn.BatchNorm2d(4)).eval()
    nn.init.normal_(pair[1].bias)
    x = torch.randn(1, 4, 6, 6, requires_grad=True)
    expected = pair(x)
    torch.testing.assert_close(fold_norms(pair)(x), expected)


def cams_of(name, backbone, width=1.0):
    return lambda: build_network(name, num_classes=20, backbone=backbone, width=width), "foreground_cam"


HALVED = {
    "hsc": cams_of("resnet38_hsc", "resnet38d", TINY),
    "hsc on MobileNetV2": cams_of("resnet38_hsc", "mobilenet_v2"),
    "seam": cams_of("resnet38_seam", "resnet38d", TINY),
    "timm": cams_of("resnet38_cls", "timm:test_efficientnet"),
    "DeepLab": (lambda: net_of(backbone="resnet18"), "forward"),
    "DeepLabv3+": (lambda: build_deeplabv3plus("resnet18", num_labels=21, num_classes=20), "forward"),
    "AffinityNet": (lambda: build_affinity_net(backbone="resnet38d", width=TINY), "features"),
    "IRN": (lambda: IRNet("resnet18", displacement=True), "forward"),
    "superpixels": (SCN, "forward"),
    "a transformer": (lambda: timm.create_model("test_vit", pretrained=False), "forward"),
}


@pytest.mark.parametrize("amp", ["bf16", "off"])
@pytest.mark.parametrize("name", HALVED)
def test_a_net_placed_for_inference_computes_what_it_did_to_the_bit(name, amp):
    torch.manual_seed(0)
    build, call = HALVED[name]
    net = fold_norms(with_own_norms(build()))
    side = 160 if name == "a transformer" else 32
    image = torch.randn(1, 3, side, side)
    found = []
    for _ in range(2):
        with torch.inference_mode(), autocast(CPU, amp):
            found.append(tree_leaves(getattr(net, call)(image)))
        place_for_inference(net, CPU, amp)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    halves = {value.dtype for name, value in net.named_parameters() if value.ndim > 1} == {AMP_TYPES[amp]}
    assert halves or amp == "off" or name == "a transformer"  # whose positions stay as they are
    assert not any(value.requires_grad for value in net.parameters())
