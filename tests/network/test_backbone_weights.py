"""ImageNet weights into the backbone and trained ones into the whole: what is loaded, left, and refused."""

import re
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from network.backbone_weights import BackboneReport, load_backbone, load_deeplab, load_pretrained
from network.build import build_network
from network.deeplab import DeepLab
from network.weights import released_state_dict
from tests.network.mxnet_writer import mxnet_name, params_of
from tests.network.nets import net_of, numbered
from tool.cli import UserError

COUNTER = "num_batches_tracked"


def imagenet_state(name: str) -> dict[str, torch.Tensor]:
    """A torchvision checkpoint of the net `name`, every tensor with a number of its own."""
    with torch.device("meta"):
        original = models.get_model(name, weights=None).state_dict()
    return numbered(original)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def snapshot(net: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def assert_untouched(net: nn.Module, before: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def assert_report_is_true(
    report: BackboneReport, net: DeepLab, state: dict[str, torch.Tensor], before: dict[str, torch.Tensor]
) -> None:
    """Loaded tensors hold the file's values, all others those they had."""
    own = net.state_dict()
    for key in report.loaded:
        assert torch.equal(own[f"backbone.{key}"], state[key]), key
    loaded = {f"backbone.{key}" for key in report.loaded}
    kept = {key for key in own if key not in loaded and not key.endswith(COUNTER)}
    assert all(torch.equal(own[key], before[key]) for key in kept)
    assert {f"backbone.{key}" for key in report.at_random} == {key for key in kept if key.startswith("backbone.")}
    assert set(report.unused) == {key for key in state if key not in report.loaded and not key.endswith(COUNTER)}


# -- ImageNet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "deep_base", "classifier"),
    [
        ("resnet18", False, ["fc.weight", "fc.bias"]),
        ("mobilenet_v2", True, ["classifier.1.weight", "classifier.1.bias"]),
    ],
)
def test_a_torchvision_file_loads_whole_but_for_its_classifier(tmp_path, backbone, deep_base, classifier):
    net, state = net_of(backbone=backbone, deep_base=deep_base), imagenet_state(backbone)
    before = snapshot(net)
    report = load_backbone(net, backbone, saved(tmp_path / "net.pth", state))
    assert_report_is_true(report, net, state, before)
    assert (report.at_random, report.unused) == ([], classifier)
    assert len(report.loaded) == sum(not key.endswith(COUNTER) for key in state) - 2
    assert str(report).splitlines() == [
        f"MODEL_BACKBONE_WEIGHTS {tmp_path / 'net.pth'}: {len(report.loaded)} of the backbone's {len(report.loaded)}"
        " tensors loaded",
        f"  in the file but not used (2): {', '.join(classifier)}",
    ]


def stem(*, with_norm_behind: bool) -> set[str]:
    """What the stem of three convolutions does not find in a file of the 7x7 one."""
    norms = ["conv1.1", "conv1.4", "bn1", *(["layer1.0.downsample.1"] if with_norm_behind else [])]
    convolutions = ["conv1.0", "conv1.3", "conv1.6", "layer1.0.conv1", "layer1.0.downsample.0"]
    return {f"{name}.weight" for name in convolutions} | {
        f"{name}.{leaf}" for name in norms for leaf in ("weight", "bias", "running_mean", "running_var")
    }


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_a_7x7_stem_leaves_the_three_convolutions_at_random_and_the_report_names_them(tmp_path, backbone):
    net, state = net_of(backbone=backbone), imagenet_state(backbone)
    before = snapshot(net)
    report = load_backbone(net, backbone, saved(tmp_path / "net.pth", state))
    assert_report_is_true(report, net, state, before)
    assert set(report.at_random) == stem(with_norm_behind=backbone == "resnet18")
    assert {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.bias"} <= set(report.unused)
    assert "layer1.0.conv2.weight" in report.loaded and "layer4.1.conv2.weight" in report.loaded
    text = str(report)
    assert f"{len(report.loaded)} of the backbone's {len(report.loaded) + len(report.at_random)} tensors" in text
    assert "all but the stem" in text and "7x7" in text
    assert all(key in text for key in [*report.at_random, *report.unused[:6]])
    assert "fc.bias" not in text and f"not used ({len(report.unused)})" in text


@pytest.mark.parametrize(
    ("network", "backbone", "width"),
    [("resnet38_hsc", "resnet38d", 0.125), ("resnet38_cls", "resnet38d", 0.125), ("resnet38_hsc", "mobilenet_v2", 1.0)],
)
def test_a_classifier_of_stage_1_loads_whole_but_for_its_heads(tmp_path, network, backbone, width):
    with torch.device("meta"):
        classifier = build_network(network, num_classes=20, backbone=backbone, width=width)
    state = numbered(released_state_dict(classifier))
    net = net_of(backbone=backbone, width=width)
    before = snapshot(net)
    report = load_backbone(net, backbone, saved(tmp_path / "classifier.pth", state))
    assert_report_is_true(report, net, state, before)
    assert not report.at_random
    heads = {f"{name.split('.')[0]}." for name, _ in classifier.named_parameters() if not name.startswith("backbone.")}
    assert {f"{name.split('.')[0]}." for name in report.unused} == heads


def test_imagenets_params_of_resnet38d_load_whole_but_for_their_classifier(tmp_path):
    net = net_of(backbone="resnet38d", width=0.125)
    state = {name: value for name, value in numbered(net.backbone.state_dict()).items() if not name.endswith(COUNTER)}
    before = snapshot(net)
    arrays = {mxnet_name(name): value.numpy() for name, value in state.items()}
    head = {"arg:linear1000_weight": np.ones((2, 3), np.float32)}
    (tmp_path / "imagenet.params").write_bytes(params_of({**arrays, **head}))
    report = load_backbone(net, "resnet38d", tmp_path / "imagenet.params")
    assert_report_is_true(report, net, {**state, **head}, before)
    assert set(report.loaded) == set(state) and report.unused == list(head)


def test_resnet38d_has_no_weights_for_download():
    with pytest.raises(UserError, match=r"MODEL_BACKBONE_WEIGHTS None: resnet38d.*\.params.*MODEL_BACKBONE_PRETRAIN"):
        load_backbone(net_of(backbone="resnet38d", width=0.125), "resnet38d", None)


def test_weights_of_the_deep_stem_load_whole(tmp_path):
    net = net_of()
    state, before = numbered(net.backbone.state_dict()), snapshot(net)
    report = load_backbone(net, "resnet18", saved(tmp_path / "net.pth", state))
    assert_report_is_true(report, net, state, before)
    assert (report.at_random, report.unused) == ([], [])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "resnet50.", "model.module.encoder."])
def test_weights_under_any_prefix_load_whole(tmp_path, prefix):
    net = net_of(deep_base=False)
    state, before = imagenet_state("resnet18"), snapshot(net)
    report = load_backbone(net, "resnet18", saved(tmp_path / "net.pth", {f"{prefix}{k}": v for k, v in state.items()}))
    assert_report_is_true(report, net, state, before)
    assert not report.at_random and report.unused == ["fc.weight", "fc.bias"]


def test_a_trained_nets_backbone_loads_whole(tmp_path):
    net, other = net_of(deep_base=False), net_of(deep_base=False)
    load_backbone(other, "resnet18", saved(tmp_path / "net.pth", net.state_dict()))
    assert_untouched(other.backbone, snapshot(net.backbone))


def test_files_from_before_the_batch_counters_load(tmp_path):
    net = net_of(deep_base=False)
    state = {key: value for key, value in imagenet_state("resnet18").items() if not key.endswith(COUNTER)}
    before = snapshot(net)
    report = load_backbone(net, "resnet18", saved(tmp_path / "net.pth", state))
    assert_report_is_true(report, net, state, before)
    assert not report.at_random


@pytest.mark.parametrize("deep_base", [True, False])
@pytest.mark.parametrize("other", ["resnet34", "resnet50", "mobilenet_v2"])
def test_weights_of_another_backbone_are_refused_and_the_net_is_untouched(tmp_path, other, deep_base):
    # All of resnet18's names are in resnet34's file, in the same shapes.
    net = net_of(deep_base=deep_base)
    before = snapshot(net)
    path = saved(tmp_path / "net.pth", imagenet_state(other))
    with pytest.raises(UserError, match=rf"MODEL_BACKBONE_WEIGHTS {re.escape(str(path))}.*resnet18.*MODEL_BACKBONE"):
        load_backbone(net, "resnet18", path)
    assert_untouched(net, before)


def test_a_file_that_lacks_layers_is_refused_with_their_number_and_the_first_of_them(tmp_path):
    state = {key: value for key, value in imagenet_state("resnet18").items() if not key.startswith("layer4.1")}
    with pytest.raises(UserError, match=r"missing \(10\): layer4\.1\.conv1\.weight, layer4\.1\.bn1\.weight.*\.\.\."):
        load_backbone(net_of(), "resnet18", saved(tmp_path / "net.pth", state))


@pytest.mark.parametrize("deep_base", [True, False])
def test_a_misfit_behind_the_stem_is_refused_by_name_and_shapes(tmp_path, deep_base):
    net = net_of(deep_base=deep_base)
    before = snapshot(net)
    state = {**imagenet_state("resnet18"), "layer2.0.conv1.weight": torch.zeros(7, 64, 3, 3)}
    expected = r"shape or kind \(1\): layer2\.0\.conv1\.weight: .*\(7, 64, 3, 3\).*\(128, 64, 3, 3\)"
    with pytest.raises(UserError, match=expected):
        load_backbone(net, "resnet18", saved(tmp_path / "net.pth", state))
    assert_untouched(net, before)


def test_imagenet_weights_of_the_deep_stem_do_not_fit_a_7x7_net(tmp_path):
    path = saved(tmp_path / "net.pth", numbered(net_of().backbone.state_dict()))
    with pytest.raises(UserError, match=r"net\.pth.*stem of three convolutions.*MODEL_BACKBONE_DEEPBASE to True"):
        load_backbone(net_of(deep_base=False), "resnet18", path)


def test_a_file_that_is_not_there_or_no_checkpoint_is_named_with_the_key(tmp_path):
    net = net_of()
    with pytest.raises(UserError, match=r"MODEL_BACKBONE_WEIGHTS .*absent\.pth: expected a file"):
        load_backbone(net, "resnet18", tmp_path / "absent.pth")
    with pytest.raises(UserError, match=r"MODEL_BACKBONE_WEIGHTS .*net\.pth: expected a state dict"):
        load_backbone(net, "resnet18", saved(tmp_path / "net.pth", {"epoch": 3}))


def test_names_in_the_file_cannot_write_to_the_terminal(tmp_path):
    state = {"fc.\x1b[2J": torch.zeros(1), **imagenet_state("resnet18")}
    report = load_backbone(net_of(), "resnet18", saved(tmp_path / "net.pth", state))
    assert "fc.\x1b[2J" in report.unused
    assert "\x1b" not in str(report) and "\\x1b[2J" in str(report)


# -- torchvision's download --------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch's, and a network on which every connection is refused."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        proxies = urllib.request.ProxyHandler({"https": f"http://127.0.0.1:{unheard.getsockname()[1]}"})
        monkeypatch.setattr(urllib.request, "_opener", urllib.request.build_opener(proxies))
        (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
        yield tmp_path / "hub" / "checkpoints"


def first_weights(name: str) -> str:
    return models.get_model_weights(name).IMAGENET1K_V1.url


@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_v2"])
def test_without_a_file_torchvisions_first_weights_are_taken(cache, backbone):
    # Both nets have second ones, trained to other features.
    net, state = net_of(backbone=backbone, deep_base=False), imagenet_state(backbone)
    before = snapshot(net)
    saved(cache / Path(first_weights(backbone)).name, state)
    report = load_backbone(net, backbone, None)
    assert_report_is_true(report, net, state, before)
    assert report.source == first_weights(backbone) and not report.at_random


def test_without_a_network_the_message_says_what_to_fetch_and_where_to_name_it(cache):
    with pytest.raises(UserError) as error:
        load_backbone(net_of(), "resnet18", None)
    message = str(error.value)
    assert first_weights("resnet18") in message and "refused" in message
    assert "set MODEL_BACKBONE_WEIGHTS" in message and "MODEL_BACKBONE_PRETRAIN to False" in message
    assert not list(cache.iterdir())


def test_a_damaged_file_in_the_cache_is_named(cache):
    (cache / Path(first_weights("resnet18")).name).write_bytes(b"<html>")
    with pytest.raises(UserError, match=re.escape(str(cache)) + ".*damaged"):
        load_backbone(net_of(), "resnet18", None)


# -- trained nets ------------------------------------------------------------------------------------------------------

WRAPPED = {
    "bare": lambda state: state,
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled, data parallel": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "in a trainer": lambda state: {"state_dict": {f"model.net.{key}": value for key, value in state.items()}},
    "our last.ckpt": lambda state: {"model": state, "optimizer": {"lr": 0.1}, "position": (1, 2)},
    "without counters": lambda state: {key: value for key, value in state.items() if not key.endswith(COUNTER)},
}


@pytest.fixture(scope="module")
def small() -> DeepLab:
    """For the refusals, which leave it as it was."""
    return net_of()


@pytest.mark.parametrize("form", WRAPPED)
def test_a_trained_net_comes_back_from_every_form_of_checkpoint(tmp_path, form):
    net = net_of()
    state = numbered(net.state_dict())
    load_deeplab(net, saved(tmp_path / "net.pth", WRAPPED[form](state)))
    for key, value in net.state_dict().items():
        assert key.endswith(COUNTER) or torch.equal(value, state[key]), key


def test_a_trained_net_comes_back_from_safetensors(tmp_path):
    net, other = net_of(), net_of()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    load_deeplab(other, tmp_path / "net.safetensors")
    assert_untouched(other, snapshot(net))


@pytest.mark.parametrize(
    ("deep_base", "found", "setting"), [(True, "the 7x7 stem", "False"), (False, "three convolutions", "True")]
)
def test_the_other_stem_is_refused_with_the_setting_that_fits(tmp_path, deep_base, found, setting):
    path = saved(tmp_path / "net.pth", numbered(net_of(deep_base=not deep_base).state_dict()))
    net = net_of(deep_base=deep_base)
    before = snapshot(net)
    with pytest.raises(
        UserError, match=rf"TEST_CKPT .*net\.pth: this checkpoint has .*{found}.*MODEL_BACKBONE_DEEPBASE to {setting}$"
    ):
        load_deeplab(net, path)
    assert_untouched(net, before)


def test_another_version_is_refused_with_what_is_missing_and_unexpected(tmp_path, small):
    path = saved(tmp_path / "net.pth", numbered(net_of(name="deeplabv1").state_dict()))
    before = snapshot(small)
    with pytest.raises(UserError) as error:
        load_deeplab(small, path)
    lines = str(error.value).splitlines()
    assert f"TEST_CKPT {path}" in lines[0] and "MODEL_NAME" in lines[0] and "MODEL_BACKBONE" in lines[0]
    # ASPP: six convolutions and norms of four tensors; v1: two of each.
    assert lines[1].startswith("  missing (30): aspp.branch1.0.weight, ") and lines[1].endswith(", ...")
    assert lines[2].startswith("  unexpected (12): conv_fov.weight, ")
    assert lines[3].startswith("  of another shape or kind (1): cls_conv.weight: ") and len(lines) == 4
    assert_untouched(small, before)


def test_another_number_of_classes_is_refused_with_both_shapes(tmp_path, small):
    path = saved(tmp_path / "net.pth", numbered(net_of(num_classes=5).state_dict()))
    with pytest.raises(UserError, match=r"kind \(2\): cls_conv\.weight: .*\(5, 8, 1, 1\).*\(21, 8, 1, 1\).*, cls_conv"):
        load_deeplab(small, path)


@pytest.mark.parametrize("other", ["resnet34", "mobilenet_v2"])
def test_another_backbone_is_refused(tmp_path, small, other):
    path = saved(tmp_path / "net.pth", numbered(net_of(backbone=other).state_dict()))
    with pytest.raises(UserError, match=r"MODEL_BACKBONE(.|\n)*unexpected \(\d+\): backbone\."):
        load_deeplab(small, path)


def test_a_classifiers_weights_are_named_as_such(tmp_path, small):
    path = saved(tmp_path / "net.pth", {"conv1.weight": torch.zeros(1), "fc8.weight": torch.zeros(21, 8, 1, 1)})
    with pytest.raises(
        UserError, match=r"net\.pth: expected a segmentation network's weights.* a classifier of stage 1"
    ):
        load_deeplab(small, path)


def test_one_missing_tensor_is_enough_to_refuse(tmp_path, small):
    state = numbered(small.state_dict())
    del state["cls_conv.bias"]
    with pytest.raises(UserError, match=r"missing \(1\): cls_conv\.bias"):
        load_deeplab(small, saved(tmp_path / "net.pth", state))


def test_the_key_that_names_the_file_is_in_the_message(tmp_path, small):
    with pytest.raises(UserError, match=r"TEST_CKPT .*absent\.pth"):
        load_deeplab(small, tmp_path / "absent.pth")
    (tmp_path / "net.pth").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"TEST_CKPT .*net\.pth: expected a checkpoint"):
        load_deeplab(small, tmp_path / "net.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, small, value):
    state = {**small.state_dict(), "cls_conv.bias": torch.full((21,), value)}
    before = snapshot(small)
    with pytest.raises(UserError, match=r"TEST_CKPT .*: weights that are not finite .* \(1\):\n  cls_conv\.bias$"):
        load_deeplab(small, saved(tmp_path / "net.pth", state))
    assert_untouched(small, before)


def test_pretrained_weights_of_a_classifier_are_torchvisions_first_ones(cache):
    net, state = build_network("resnet38_cls", num_classes=20, backbone="mobilenet_v2"), imagenet_state("mobilenet_v2")
    saved(cache / Path(first_weights("mobilenet_v2")).name, state)
    report = load_pretrained(net, "mobilenet_v2")
    assert report.source == first_weights("mobilenet_v2") and report.missing == ["fc8.weight"]
    assert report.unexpected == ["classifier.1.weight", "classifier.1.bias"]
    own = released_state_dict(net)
    assert all(torch.equal(own[key], state[key]) for key in report.loaded)


def test_a_classifiers_weights_that_cannot_be_had_are_refused_by_its_flag(cache):
    net = build_network("resnet38_cls", num_classes=20, backbone="mobilenet_v2")
    with pytest.raises(UserError, match=r"^--weights pretrained: expected .*mobilenet_v2.*set --weights to the file"):
        load_pretrained(net, "mobilenet_v2")
    with pytest.raises(UserError, match=r"^--weights pretrained: resnet38d has no weights .*, or --weights to none$"):
        load_pretrained(net, "resnet38d")
