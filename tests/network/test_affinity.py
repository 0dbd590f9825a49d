"""AffinityNet: the golden forward and gradients, released names, weights in, and affinities by their formula."""

import json

import numpy as np
import pytest
import torch

from network.affinity import AffNet, affinities, build_affinity_net, load_first_weights, load_trained
from network.build import build_network
from network.weights import load_released_state_dict, load_weights, released_state_dict
from tests.golden_inputs import assert_golden, fill, rnd
from tool.cli import UserError
from tool.pairs import pairs_of

TINY = 0.0625


@pytest.fixture(scope="module")
def ppc(golden):
    return golden / "ppc"


@pytest.fixture(scope="module")
def net(ppc_meta, golden_device) -> AffNet:
    made = build_affinity_net().eval()
    state = {key: fill(key, tuple(value.shape), ppc_meta["salt"]) for key, value in released_state_dict(made).items()}
    load_released_state_dict(made, state, source="the golden numbers")
    return made.to(golden_device)


@pytest.mark.golden
def test_forward_gives_the_golden_affinities(ppc, ppc_meta, net, golden_device):
    expected = np.load(ppc / "network.npz")
    with torch.no_grad():
        found = net(rnd(ppc_meta["seed"] + 1, 2, 3, 96, 128).to(golden_device), pairs_of(12, 16))
        assert_golden(found.view(2, 34, -1), expected["aff"])
        pairs = pairs_of(8, 11)
        (found,) = net(rnd(ppc_meta["seed"] + 2, 1, 3, 64, 88).to(golden_device), pairs)
    assert_golden(found.view(1, 12, -1), expected["aff_small"])
    dense = torch.eye(88)
    dense[tuple(pairs.index)] = dense.T[tuple(pairs.index)] = found.cpu()
    assert_golden(dense[::6], expected["aff_dense"])


def taps_of(seed):
    """The generated outputs of the backbone, constant on squares of 4 x 4 but for noise."""
    taps = []
    for number, channels in enumerate((512, 1024, 4096)):
        coarse = rnd(seed + 180 + number, 1, channels, 3, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        taps.append((coarse + 0.1 * rnd(seed + 190 + number, 1, channels, 12, 16)).relu())
    return taps


@pytest.mark.golden
def test_heads_give_the_golden_affinities_and_gradients(ppc, ppc_meta, net, golden_device):
    expected = np.load(ppc / "affinity.npz")
    taps = [tap.to(golden_device).requires_grad_() for tap in taps_of(ppc_meta["seed"])]
    found = affinities(net.head(*taps), pairs_of(12, 16))
    assert_golden(found.detach().view(1, 34, -1), expected["head_aff"], atol=1e-5)
    for name, gradient in zip(("conv4", "conv5", "conv6"), torch.autograd.grad(found.mean(), taps), strict=True):
        golden_gradient = expected[f"head_grad_{name}"]
        assert_golden(gradient[:, ::256], golden_gradient, atol=2e-2 * np.abs(golden_gradient).max(), rtol=0)


def test_names_shapes_and_groups_are_the_released_ones(ppc, net):
    state = {name: list(value.shape) for name, value in released_state_dict(net).items()}
    assert state == json.loads((ppc / "state_dicts.json").read_text())["aff"]
    groups = json.loads((ppc / "parameter_groups.json").read_text())["aff"]
    names = {module: name for name, module in net.named_modules()}
    assert {f"{names[layer]}.weight" for layer in net.head_layers} == set(groups[2])
    trained = {name.removeprefix("backbone.") for name, value in net.named_parameters() if value.requires_grad}
    assert trained == {name for group in groups for name in group}


@pytest.mark.parametrize(("size", "everywhere"), [((11, 13), False), ((6, 9), False), ((4, 7), True), ((3, 9), False)])
def test_affinities_and_their_gradient_are_those_of_the_formula(size, everywhere):
    pairs = pairs_of(*size, everywhere=everywhere)
    features = rnd(3, 2, 5, *size).requires_grad_()
    first, second = features.flatten(2)[:, :, torch.from_numpy(pairs.index)].unbind(dim=2)
    expected = torch.exp(-(first - second).abs().mean(dim=1))
    found = affinities(features, pairs)
    assert found.shape == (2, len(pairs))
    torch.testing.assert_close(found, expected)
    weight = rnd(4, 2, len(pairs))
    (of_found,), (of_expected,) = (torch.autograd.grad(weight.mul(each).sum(), features) for each in (found, expected))
    torch.testing.assert_close(of_found, of_expected, atol=1e-6, rtol=1e-5)


def test_affinities_are_float32_under_autocast_and_all_that_is_not_frozen_learns():
    torch.manual_seed(0)
    net = build_affinity_net(width=TINY)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(rnd(1, 2, 3, 48, 56), pairs_of(6, 7))
    assert found.dtype == torch.float32 and (found > 0).all() and (found <= 1).all()
    found.mean().backward()
    reached = {name for name, value in net.named_parameters() if value.grad is not None and value.grad.any()}
    assert reached == {name for name, value in net.named_parameters() if value.requires_grad}


@pytest.fixture
def files(tmp_path):
    """The weights of a classifier, of AffinityNet, and of a backbone alone."""
    torch.manual_seed(1)
    nets = {"hsc": build_network("resnet38_hsc", num_classes=20, width=TINY), "aff": build_affinity_net(width=TINY)}
    states = {name: released_state_dict(net) for name, net in nets.items()}
    states["backbone"] = nets["hsc"].backbone.state_dict()
    for name, state in states.items():
        torch.save(state, tmp_path / f"{name}.pth")
    return {name: (tmp_path / f"{name}.pth", state) for name, state in states.items()}


@pytest.mark.parametrize("name", ["hsc", "backbone"])
def test_training_starts_from_a_backbone_alone_whose_heads_are_other_layers(files, name):
    path, state = files[name]
    torch.manual_seed(2)
    net = build_affinity_net(width=TINY)
    heads = {key: value.clone() for key, value in net.state_dict().items() if key.startswith("f")}
    load_first_weights(net, path)
    found = released_state_dict(net)
    assert all(torch.equal(found[key], value) for key, value in heads.items())
    assert torch.equal(found["b7.conv_branch1.weight"], state["b7.conv_branch1.weight"])


def test_a_trained_file_comes_back_whole(files):
    path, state = files["aff"]
    for load in (load_trained, load_first_weights):
        net = build_affinity_net(width=TINY)
        load(net, path)
        assert all(torch.equal(value, state[name]) for name, value in released_state_dict(net).items())


def test_a_classifiers_file_is_no_affinity_nets_and_the_reverse(files, tmp_path):
    net = build_affinity_net(width=TINY)
    with pytest.raises(UserError, match=r"hsc\.pth: expected the weights of AffinityNet.*found a classifier's"):
        load_trained(net, files["hsc"][0])
    with pytest.raises(UserError, match=r"backbone\.pth: expected the weights of AffinityNet.*found conv1a"):
        load_trained(net, files["backbone"][0])
    torch.save({"fc_edge6.weight": torch.zeros(1)}, tmp_path / "irn.pth")
    with pytest.raises(
        UserError, match=r"irn\.pth: expected the weights of AffinityNet.*found IRN's weights; refine/irn"
    ):
        load_trained(net, tmp_path / "irn.pth")
    torch.save({key: value for key, value in files["aff"][1].items() if key != "f9.weight"}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"(?s)these tensors are missing.*f9\.weight"):
        load_trained(net, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"aff\.pth: expected a classifier.*found AffinityNet"):
        load_weights(build_network("resnet38_hsc", num_classes=20, width=TINY), files["aff"][0])


def test_a_deeper_nets_weights_are_refused(tmp_path):
    net = build_affinity_net(backbone="resnet18")
    state = released_state_dict(net)
    torch.save({**state, "layer4.2.conv1.weight": torch.zeros(512, 512, 3, 3)}, tmp_path / "deep.pth")
    for load in (load_first_weights, load_trained):
        with pytest.raises(UserError, match=r"another --network, --backbone.*\n  layer4\.2\.conv1\.weight: not in the"):
            load(net, tmp_path / "deep.pth")
