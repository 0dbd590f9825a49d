"""DeepLab v2 and v1 under the released names: golden logits and groups, heads, norms that move without training."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from network.deeplab import NETS, DeepLab
from tests.golden_inputs import assert_golden, fill, rnd
from tests.network.nets import net_of
from tool.optim import parameter_groups


def filled(net: nn.Module, salt: str) -> nn.Module:
    net.load_state_dict({key: fill(key, tuple(value.shape), salt) for key, value in net.state_dict().items()})
    return net.eval()


def released(**options) -> DeepLab:
    """The net of the golden numbers."""
    return net_of(backbone="resnet101", aspp_dim=256, **options)


@pytest.fixture(scope="module")
def released_shapes() -> DeepLab:
    with torch.device("meta"):
        return released()


# -- the released net --------------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_logits_and_layer4_are_the_golden_ones(golden, meta, golden_device):
    net = filled(released(), meta["salt"]).to(golden_device)
    image = rnd(meta["seed"] + 50, 1, 3, 97, 113).to(golden_device)
    seen = []
    net.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.conv6))
    with torch.no_grad():
        logits = net(image)
    assert logits.shape == (1, 21, 97, 113)
    with np.load(golden / "deeplabv2.npz") as file:
        assert_golden(seen[0][:, ::32], file["layer4"])
        assert_golden(logits[:, :, ::4, ::4], file["logits"])


def test_names_shapes_and_their_order_are_the_released_ones(golden, released_shapes):
    expected = json.loads((golden / "deeplabv2_state_dict.json").read_text())
    found = {name: list(value.shape) for name, value in released_shapes.state_dict().items()}
    assert list(found.items()) == list(expected.items())


def test_groups_are_the_released_ones_in_their_order(golden, released_shapes):
    expected = json.loads((golden / "deeplabv2_parameter_groups.json").read_text())
    net = released_shapes
    groups = parameter_groups(net, head_layers=net.head_layers, lr=0.001, weight_decay=5e-4)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert [[names[id(parameter)] for parameter in group["params"]] for group in groups] == expected


# -- heads -------------------------------------------------------------------------------------------------------------


def normed(state: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    """A norm in evaluation mode, and relu."""
    keys = ("running_mean", "running_var", "weight", "bias")
    return F.relu(F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys)))


def assert_forward(net: nn.Module, image: torch.Tensor, scores: torch.Tensor) -> None:
    """The net's logits are `scores`, resized to the image so that the corners fall together."""
    assert scores.std() > 0
    with torch.no_grad():
        logits = net(image)
    assert logits.shape == (*scores.shape[:2], *image.shape[2:])
    expected = F.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=True)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_v1_is_a_dilated_and_a_pointwise_convolution_with_norms_and_a_classifier():
    net = filled(net_of(name="deeplabv1"), "v1")
    state, image = net.state_dict(), rnd(3, 2, 3, 97, 113)
    head = {name: tuple(value.shape) for name, value in state.items() if not name.startswith("backbone.")}
    norm = {"weight": (512,), "bias": (512,), "running_mean": (512,), "running_var": (512,), "num_batches_tracked": ()}
    assert head == {
        "conv_fov.weight": (512, 512, 3, 3), **{f"bn_fov.{key}": shape for key, shape in norm.items()},
        "conv_fov2.weight": (512, 512, 1, 1), **{f"bn_fov2.{key}": shape for key, shape in norm.items()},
        "cls_conv.weight": (21, 512, 1, 1), "cls_conv.bias": (21,),
    }  # fmt: skip
    with torch.no_grad():
        feat = net.backbone(image).conv6
    x = normed(state, "bn_fov", F.conv2d(feat, state["conv_fov.weight"], padding=12, dilation=12))
    x = normed(state, "bn_fov2", F.conv2d(x, state["conv_fov2.weight"]))
    assert_forward(net, image, F.conv2d(x, state["cls_conv.weight"], state["cls_conv.bias"]))


@pytest.mark.parametrize("aspp_global", [True, False])
def test_v2_concatenates_four_dilations_and_the_image_mean_where_it_is_asked_for(aspp_global):
    net = filled(net_of(aspp_global=aspp_global), "v2")
    state, image = net.state_dict(), rnd(4, 2, 3, 97, 113)
    assert any("branch5" in name for name in state) == aspp_global
    with torch.no_grad():
        feat = net.backbone(image).conv6
    branches = [
        normed(
            state, f"aspp.branch{i}.1", F.conv2d(feat, state[f"aspp.branch{i}.0.weight"], padding=6 * i, dilation=6 * i)
        )
        for i in (1, 2, 3, 4)
    ]
    if aspp_global:
        mean = F.conv2d(feat.mean(dim=(2, 3), keepdim=True), state["aspp.branch5_conv.weight"])
        branches.append(F.interpolate(normed(state, "aspp.branch5_bn", mean), size=feat.shape[2:], mode="bilinear"))
    x = normed(state, "aspp.conv_cat.1", F.conv2d(torch.cat(branches, dim=1), state["aspp.conv_cat.0.weight"]))
    assert_forward(net, image, F.conv2d(x, state["cls_conv.weight"], state["cls_conv.bias"]))


@pytest.mark.parametrize(("name", "times"), [("deeplabv2", 2), ("deeplabv1", 1)])
def test_the_classifiers_input_is_dropped_twice_in_v2_and_once_in_v1(name, times):
    torch.manual_seed(0)
    net = net_of(name=name, aspp_dim=64)
    last_norm = net.aspp.conv_cat[1] if name == "deeplabv2" else net.bn_fov2
    seen = []
    last_norm.register_forward_hook(lambda module, inputs, output: seen.append(F.relu(output)))
    net.cls_conv.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net.head(rnd(5, 4, 512, 12, 12))
    before, after = (values[seen[0] > 0] for values in seen)
    kept = after != 0
    assert float(kept.float().mean()) == pytest.approx(0.5**times, abs=0.02)
    torch.testing.assert_close(after[kept], before[kept] * 2**times)


@pytest.mark.parametrize("name", NETS)
def test_all_of_the_head_learns_at_the_heads_rates_and_no_norm_is_in_a_group(name):
    net = net_of(name=name)
    names = {id(parameter): key for key, parameter in net.named_parameters()}
    groups = [
        {names[id(parameter)] for parameter in group["params"]}
        for group in parameter_groups(net, head_layers=net.head_layers, lr=1, weight_decay=1)
    ]
    convolutions = {f"{key}.weight" for key, part in net.named_modules() if isinstance(part, nn.Conv2d)}
    backbone = {key for key in convolutions if key.startswith("backbone.")}
    assert groups == [backbone, set(), convolutions - backbone, {"cls_conv.bias"}]
    assert len(groups[2]) == {"deeplabv2": 7, "deeplabv1": 3}[name]


@pytest.mark.parametrize("name", NETS)
def test_new_convolutions_are_kaiming_normal_by_channels_out_and_new_norms_the_identity(name):
    torch.manual_seed(0)
    net = net_of(name=name, aspp_dim=64)
    for key, part in net.named_modules():
        if key.startswith("backbone"):
            continue
        if isinstance(part, nn.Conv2d):
            expected = (2 / (part.kernel_size[0] ** 2 * part.out_channels)) ** 0.5
            assert float(part.weight.detach().std()) == pytest.approx(expected, rel=0.1), key
        if isinstance(part, nn.BatchNorm2d):
            assert bool((part.weight == 1).all()) and bool((part.bias == 0).all())


@pytest.mark.parametrize("name", NETS)
def test_the_momentum_is_that_of_the_heads_norms_and_of_no_other(name):
    net = net_of(name=name, bn_momentum=0.02)
    momenta = {key: part.momentum for key, part in net.named_modules() if isinstance(part, nn.BatchNorm2d)}
    for key, momentum in momenta.items():
        assert momentum == (0.1 if key.startswith("backbone.") else 0.02), key
    assert sum(not key.startswith("backbone.") for key in momenta) == {"deeplabv2": 6, "deeplabv1": 2}[name]


def test_the_number_of_classes_is_that_of_the_logits():
    with torch.device("meta"):
        net = net_of(num_classes=5).eval()
    assert net(torch.empty(2, 3, 33, 41, device="meta")).shape == (2, 5, 33, 41)


def test_logits_are_float32_also_under_autocast():
    net = net_of().eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(rnd(6, 1, 3, 33, 41))
    assert logits.dtype == torch.float32 and bool(logits.isfinite().all())


# -- training ----------------------------------------------------------------------------------------------------------


def change_over_a_step(net: DeepLab) -> dict[str, bool]:
    """Which tensors of the state a step of training changes."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    groups = parameter_groups(net, head_layers=net.head_layers, lr=0.1, weight_decay=5e-4)
    optimizer = torch.optim.SGD(groups, lr=0.1)
    net.train()
    target = torch.arange(2 * 33 * 41).view(2, 33, 41) % 21
    F.cross_entropy(net(rnd(7, 2, 3, 33, 41)), target).backward()
    optimizer.step()
    return {name: not torch.equal(value, before[name]) for name, value in net.state_dict().items()}


def backbone_norm_names(net: nn.Module) -> set[str]:
    return {name for name in norm_names(net) if name.startswith("backbone.")}


def norm_names(net: nn.Module) -> set[str]:
    return {name for name, part in net.named_modules() if isinstance(part, nn.BatchNorm2d)}


@pytest.mark.parametrize("name", NETS)
def test_a_step_moves_the_running_statistics_and_convolutions_and_no_affine(name):
    torch.manual_seed(0)
    net = net_of(name=name)
    norms = norm_names(net)
    for key, changed in change_over_a_step(net).items():
        module, leaf = key.rsplit(".", 1)
        assert changed == (module not in norms or leaf not in ("weight", "bias")), key


@pytest.mark.parametrize("name", NETS)
def test_frozen_norms_do_not_move_in_training_but_the_heads_which_are_new_do(name):
    torch.manual_seed(0)
    net = net_of(name=name, frozen_norms=True)
    norms, frozen = norm_names(net), backbone_norm_names(net)
    for key, changed in change_over_a_step(net).items():
        module, leaf = key.rsplit(".", 1)
        assert changed == (module not in frozen and (module not in norms or leaf not in ("weight", "bias"))), key


def test_frozen_norms_are_so_from_the_start_and_when_the_net_comes_back_from_evaluation():
    net = net_of(frozen_norms=True)
    norms = [part for part in net.backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and net.training and not any(norm.training for norm in norms)
    net.eval().train()
    assert net.training and net.dropout.training and not any(norm.training for norm in norms)


@pytest.mark.parametrize("frozen_norms", [True, False])
def test_norms_synchronised_over_processes_are_treated_alike(frozen_norms):
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net_of(frozen_norms=frozen_norms)).train()
    norms = [part for part in net.modules() if isinstance(part, nn.SyncBatchNorm)]
    assert len(norms) == 20 + 1 + 2 + 6  # resnet18's, its first block's with the deep stem, that stem's, ASPP's
    in_backbone = set(net.backbone.modules())
    assert all(norm.training == (norm not in in_backbone or not frozen_norms) for norm in norms)
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())
