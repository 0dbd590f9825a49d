"""timm's nets as backbones: their taps, names, stem, statistics and gradients, and what timm cannot build so."""

import pytest
import timm
import torch
from torch import nn

from network.backbones import build_backbone
from network.build import build_network
from network.depthwise import DilatedDepthwise
from network.fold import fold_norms
from network.timm_backbone import TimmBackbone
from network.weights import load_weights, released_state_dict
from tests.golden_inputs import fill, rnd
from tool.cli import UserError

# Channels of the taps, the last layer of the stem, what of the whole net is left out.
NETS = {
    "tf_efficientnet_lite2": ((48, 120, 352), "blocks.0.0.bn2", {"conv_head", "bn2", "classifier"}),
    "resnet50.a1_in1k": ((512, 1024, 2048), "bn1", {"fc"}),
    "convnext_tiny": ((192, 384, 768), "stages.0.blocks.2.mlp.fc2", {"head"}),
    "mobilenetv3_large_100": ((40, 112, 960), "blocks.0.0.bn2", {"conv_head", "classifier"}),
    "regnety_002": ((56, 152, 368), "stem.bn", {"head"}),
    "resnetv2_50": ((512, 1024, 2048), "stem.conv", {"norm", "head"}),  # stages flattened, norms before convolutions
}


def whole_of(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name)


def filled(name: str) -> dict[str, torch.Tensor]:
    """A file of timm's whole net."""
    return {key: fill(key, tuple(value.shape), "t") for key, value in whole_of(name).state_dict().items()}


@pytest.fixture(scope="module", params=NETS)
def backbone(request) -> TimmBackbone:
    with torch.device("meta"):
        made = build_backbone(f"timm:{request.param}")
    made.timm_name = request.param
    return made


def test_three_taps_lie_on_one_grid_of_an_eighth(backbone):
    channels, *_ = NETS[backbone.timm_name]
    taps = backbone.eval()(torch.empty(2, 3, 96, 64, device="meta"))
    assert backbone.channels == channels
    assert [tuple(tap.shape) for tap in taps] == [(2, count, 12, 8) for count in channels]


def test_names_are_those_of_timms_whole_net_in_their_order_and_come_back(backbone):
    *_, left_out = NETS[backbone.timm_name]
    whole, own = whole_of(backbone.timm_name).state_dict(), backbone.state_dict()
    assert list(own) == [name for name in whole if name in own]
    assert {name.split(".")[0] for name in whole if name not in own} == left_out
    backbone.load_state_dict({name: torch.empty_like(value) for name, value in own.items()})  # all of them, no other


def test_normalisation_is_timms(backbone):
    config = whole_of(backbone.timm_name).pretrained_cfg
    assert (backbone.normalisation.mean, backbone.normalisation.std) == (config["mean"], config["std"])


def test_the_stem_ends_with_the_first_map_that_timm_lists(backbone):
    _, last, _ = NETS[backbone.timm_name]
    frozen = {id(parameter) for part in backbone.stem for parameter in part.parameters()}
    names = {id(value): name for name, value in backbone.state_dict(keep_vars=True).items()}
    stem = [names[id(parameter)] for parameter in backbone.parameters() if id(parameter) in frozen]
    assert stem == [names[id(parameter)] for parameter in backbone.parameters()][: len(stem)]  # nothing skipped
    assert stem[-1].rpartition(".")[0] == last


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "convnext_tiny"])
def test_every_dilated_depthwise_layer_has_the_fast_gradient_and_the_same_one(name):
    torch.manual_seed(0)
    ours = TimmBackbone(name).eval()
    plain = timm.create_model(name, features_only=True, output_stride=8).eval()
    plain.load_state_dict(ours.net.state_dict())
    depthwise = [part for part in ours.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    dilated = [part for part in depthwise if part.dilation != (1, 1)]
    assert len(dilated) > 5 and all(type(part) is DilatedDepthwise for part in dilated)
    image = rnd(1, 2, 3, 64, 48)
    for net, taps in ((ours, ours(image)), (plain, plain(image)[-3:])):
        sum((tap * rnd(number, *tap.shape)).mean() for number, tap in enumerate(taps)).backward()
        assert all(part.grad is not None for part in net.parameters())  # nothing idle, which several processes refuse
    for (key, mine), theirs in zip(ours.net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, theirs.grad, rtol=1e-3, atol=1e-4 * float(theirs.grad.abs().max()), msg=key
        )


def test_a_net_that_cuts_patches_sees_the_last_columns_and_rows_too():
    net = TimmBackbone("test_convnext").eval()
    image = rnd(1, 1, 3, 33, 79)
    whole = torch.zeros(1, 3, 40, 80)
    whole[:, :, :33, :79] = image
    for tap, expected in zip(net(image), net.net(whole)[-3:], strict=True):
        assert tap.shape[2:] == (5, 10)
        torch.testing.assert_close(tap, expected)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_of_timms_names_loads_whole_but_for_what_is_left_out(tmp_path, prefix):
    name = "resnetv2_50"
    state = filled(name)
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "timm.pth")
    net = build_network("resnet38_cls", num_classes=20, backbone=f"timm:{name}")
    report = load_weights(net, tmp_path / "timm.pth")
    assert report.missing == ["fc8.weight"]
    assert {key.split(".")[0] for key in report.unexpected} == NETS[name][2]
    own = released_state_dict(net)
    assert all(torch.equal(own[key], state[key]) for key in report.loaded)


def test_the_frozen_net_trains_neither_stem_nor_norms_and_its_cams_are_the_folded_nets():
    torch.manual_seed(0)
    net = build_network("resnet38_cls", num_classes=20, backbone="timm:mobilenetv3_large_100")
    stem = {id(parameter) for part in net.backbone.stem for parameter in part.parameters()}
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    fixed = stem | {id(parameter) for norm in norms for parameter in norm.parameters()}
    assert all(parameter.requires_grad == (id(parameter) not in fixed) for parameter in net.parameters())
    assert not any(norm.training for norm in norms)
    image = rnd(2, 1, 3, 65, 49)
    with torch.inference_mode():
        before = net.eval().foreground_cam(image)
        after = fold_norms(net).foreground_cam(image)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5O", r"timm:resnet5O.*no net of this name; did you mean resnet50"),
        ("qqqq", r"timm:qqqq.*no net of this name; it has for example resnet50"),
        ("resnet50.nobody", r"timm:resnet50\.nobody"),
        ("vit_small_patch16_224", r"vit_small_patch16_224: expected a convolutional net.*output_stride=8"),
        ("vgg16", r"vgg16: expected a convolutional net.*output_stride=8"),
        ("densenet121", r"densenet121: expected a convolutional net.*output_stride=8"),
    ],
)
def test_what_timm_cannot_build_so_is_refused_in_a_line(name, message):
    with pytest.raises(UserError, match=message) as error:
        TimmBackbone(name, flag="MODEL_BACKBONE")
    assert str(error.value).startswith("MODEL_BACKBONE timm:") and "\n" not in str(error.value)
