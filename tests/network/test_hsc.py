"""The HSC net: the golden forward, the released names, what inference computes and what is frozen."""

import json

import numpy as np
import pytest
import torch

from network.backbones import build_backbone
from network.build import build_network
from network.hsc import HSCNet
from network.weights import released_state_dict
from tests.golden_inputs import assert_golden, rnd

TINY = 0.125


@pytest.fixture(scope="module")
def golden_forward(golden, meta, golden_device, hsc_net):
    with torch.no_grad():
        return hsc_net(rnd(meta["seed"] + 1, 2, 3, 96, 128).to(golden_device)), np.load(golden / "network.npz")


@pytest.mark.golden
@pytest.mark.parametrize(
    ("field", "key", "step"),
    [
        ("logits", "pred", 1),
        ("cam", "cam", 1),
        ("cam_rv", "cam_rv", 1),
        ("feat_pixel", "f_pixel", 8),
        ("feat_region", "f_region", 16),
    ],
)
def test_forward_gives_the_golden_numbers(golden_forward, field, key, step):
    output, expected = golden_forward
    assert_golden(getattr(output, field)[:, ::step], expected[key])


def test_names_and_shapes_are_the_released_ones(golden, hsc_net):
    state = released_state_dict(hsc_net)
    assert {name: list(value.shape) for name, value in state.items()} == json.loads(
        (golden / "hsc_state_dict.json").read_text()
    )


def test_head_layers_are_those_of_the_published_parameter_groups(golden, hsc_net):
    groups = json.loads((golden / "hsc_parameter_groups.json").read_text())
    names = {module: name for name, module in hsc_net.named_modules()}
    assert {f"{names[layer]}.weight" for layer in hsc_net.head_layers} == set(groups[2])


def test_what_trains_is_what_the_published_parameter_groups_hold(golden, hsc_net):
    groups = json.loads((golden / "hsc_parameter_groups.json").read_text())
    trained = {name.removeprefix("backbone.") for name, value in hsc_net.named_parameters() if value.requires_grad}
    assert trained == {name for group in groups for name in group}


@pytest.fixture
def tiny() -> HSCNet:
    torch.manual_seed(0)
    return build_network("resnet38_hsc", num_classes=20, width=TINY)


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (8, 8)])
def test_any_image_size_gives_maps_of_an_eighth(tiny, size):
    grid = tuple(-(-side // 8) for side in size)
    with torch.no_grad():
        output = tiny.eval()(rnd(1, 2, 3, *size))
        foreground = tiny.foreground_cam(rnd(1, 2, 3, *size))
    assert {field: tuple(value.shape) for field, value in output._asdict().items()} == {
        "logits": (2, 21),
        "cam": (2, 21, *grid),
        "cam_rv": (2, 21, *grid),
        "feat_pixel": (2, 128, *grid),
        "feat_region": (2, 256 // 8, *grid),
    }
    assert foreground.shape == (2, 20, *grid)
    assert all(value.isfinite().all() for value in output)


def test_foreground_cam_is_the_softmax_over_all_channels_without_background(tiny):
    image = rnd(2, 1, 3, 40, 48)
    with torch.no_grad():
        cam = tiny.eval()(image).cam
        assert torch.equal(tiny.foreground_cam(image), cam.softmax(dim=1)[:, :20])


def test_foreground_cam_computes_no_head_but_the_classifier(tiny):
    called = []
    for name, module in tiny.named_children():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    tiny.foreground_cam(rnd(3, 1, 3, 32, 32))
    assert called == ["backbone", "fc8"]


def test_the_pcm_trains_its_own_layers_and_nothing_below(tiny):
    output = tiny(rnd(4, 2, 3, 64, 64))
    output.cam_rv[:, 3].sum().backward()
    reached = {name for name, value in tiny.named_parameters() if value.grad is not None and value.grad.any()}
    assert reached == {"f8_3.weight", "f8_4.weight", "f9.weight"}


def test_outputs_are_float32_under_autocast(tiny):
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        tiny.eval()
        output = tiny(rnd(5, 1, 3, 48, 48))
        foreground = tiny.foreground_cam(rnd(5, 1, 3, 48, 48))
    assert {value.dtype for value in (*output, foreground)} == {torch.float32}


def step(net: HSCNet) -> tuple[set[str], set[str]]:
    """One optimiser step in training mode: the names that changed and those that did not, bit for bit."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    optimizer = torch.optim.SGD(
        [value for value in net.parameters() if value.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.1
    )
    output = net(rnd(6, 2, 3, 64, 64))
    sum((value * rnd(7, *value.shape)).mean() for value in output).backward()
    optimizer.step()
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return changed, set(before) - changed


def stays_when_frozen(name: str) -> bool:
    norm = ".bn_" in name or ".bn7." in name or name.startswith("extra_F.1.")
    return norm or name.startswith(("backbone.conv1a.", "backbone.b2.", "backbone.b2_1.", "backbone.b2_2."))


def test_a_frozen_net_keeps_norms_and_stem_bit_for_bit_and_trains_the_rest(tiny):
    changed, kept = step(tiny)
    assert kept == {name for name in changed | kept if stays_when_frozen(name)}


def test_a_net_from_scratch_trains_norms_and_stem_too():
    torch.manual_seed(0)
    _, kept = step(build_network("resnet38_hsc", num_classes=20, width=TINY, frozen=False))
    assert kept == set()


def test_a_frozen_net_is_frozen_before_anyone_calls_train_or_eval(tiny):
    norms = [module for module in tiny.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert tiny.training and not any(norm.training for norm in norms)
    assert tiny.backbone.b7.dropout_2b1.training
    tiny.eval()
    assert not tiny.backbone.b7.dropout_2b1.training


def test_channels_are_dropped_in_the_last_two_blocks_and_none_before_the_classifier(tiny):
    dropouts = {name: module for name, module in tiny.named_modules() if "Dropout" in type(module).__name__}
    assert {name: (type(module), module.p) for name, module in dropouts.items()} == {
        "backbone.b6.dropout_2b1": (torch.nn.Dropout2d, 0.3),
        "backbone.b6.dropout_2b2": (torch.nn.Dropout2d, 0.3),
        "backbone.b7.dropout_2b1": (torch.nn.Dropout2d, 0.5),
        "backbone.b7.dropout_2b2": (torch.nn.Dropout2d, 0.5),
    }
    called, conv6 = [], []
    for name, module in dropouts.items():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    tiny.backbone.register_forward_hook(lambda _, __, taps: conv6.append(taps.conv6))
    for head in (tiny.fc8, tiny.proj_fc, tiny.extra_F):
        head.register_forward_hook(lambda _, inputs, __: conv6.append(inputs[0]))
    with torch.no_grad():
        tiny.train()(rnd(9, 1, 3, 32, 32))
    assert called == list(dropouts)
    assert all(torch.equal(each, conv6[0]) for each in conv6) and len(conv6) == 4


def test_the_region_norm_is_the_identity_as_published_and_trains_where_asked(tiny):
    x = rnd(8, 2, tiny.region_channels, 4, 4)
    torch.testing.assert_close(tiny.extra_F[1](x), x, rtol=1e-5, atol=0)
    sane = HSCNet(build_backbone("resnet38d", width=TINY), num_classes=20, freeze_region_norm=False)
    changed, _ = step(sane)
    assert {name for name in changed if stays_when_frozen(name)} == {
        f"extra_F.1.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


def test_initial_heads_have_the_spread_of_their_recipes():
    torch.manual_seed(0)
    net = HSCNet(build_backbone("mobilenet_v2"), num_classes=20)
    uniform = {"fc8": (1, 1280 + 21), "proj_fc": (1, 1280 + 128), "f9": (4, 195 + 192)}
    for name, (gain, fans) in uniform.items():
        bound = gain * (6 / fans) ** 0.5
        weight = getattr(net, name).weight.abs()
        assert weight.max() <= bound and weight.max() > 0.99 * bound and abs(weight.mean() / bound - 0.5) < 0.02
    for name, inputs in {"f8_3": 32, "f8_4": 96}.items():
        weight = getattr(net, name).weight
        assert abs(weight.std() / (2 / inputs) ** 0.5 - 1) < 0.06 and weight.abs().max() > 2.5 * (2 / inputs) ** 0.5
