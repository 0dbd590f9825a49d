"""IRN's net: the golden forward, released names, weights in and out, and affinities by their definition."""

import json

import numpy as np
import pytest
import timm
import torch
from torchvision import models

from network.irn import (
    IRNet,
    edge_affinities,
    load_first_weights,
    load_trained,
    path_maxima,
    with_aliases,
    without_aliases,
)
from tests.golden_inputs import assert_golden, crt_fill, rnd, uni
from tool.cli import UserError
from tool.pairs import pairs_of


def filled(crt_meta, *, displacement: bool) -> IRNet:
    net = IRNet(displacement=displacement).eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.copy_(crt_fill(name, tuple(value.shape), crt_meta))
    return net


@pytest.fixture(scope="module")
def net(crt_meta, golden_device) -> IRNet:
    return filled(crt_meta, displacement=True).to(golden_device)


@pytest.mark.golden
def test_edges_and_displacements_are_the_golden_ones(golden, crt_meta, net, golden_device):
    expected = np.load(golden / "crt" / "irn.npz")
    with torch.no_grad():
        logits, displacement = net(rnd(crt_meta["seed"] + 40, 2, 3, 64, 96).to(golden_device))
    assert_golden(logits, expected["edge_logit"])
    assert_golden(displacement, expected["displacement"])


@pytest.mark.golden
def test_names_shapes_and_rates_are_the_released_ones(golden, net):
    released = json.loads((golden / "crt" / "state_dict_irn.json").read_text())
    state = net.state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == released["keys"]
    expanded = dict.fromkeys(released["keys"])
    for alias, prefix in released["aliases"].items():
        expanded |= {alias + n.removeprefix(prefix): None for n in [*expanded] if (n + ".").startswith(prefix + ".")}
    assert [*with_aliases(state)] == [*expanded]
    own = without_aliases({**with_aliases(state), **dict.fromkeys(released["training_only"])})
    assert [*own] == [*state]
    groups = json.loads((golden / "crt" / "parameter_groups.json").read_text())["irn"]
    trained = [name for name, value in net.named_parameters() if value.requires_grad]
    for beginning, factor in IRNet.RATES.items():
        assert {name for name in trained if name.startswith(beginning)} == {*groups[f"x{factor}"]}


@pytest.mark.golden
@pytest.mark.parametrize(("radius", "step"), [(10, 6), (5, 2)])
def test_affinities_are_the_golden_ones(golden, crt_meta, golden_device, radius, step):
    expected = np.load(golden / "crt" / "irn.npz")
    pairs = pairs_of(24, 40, radius=radius)
    found = edge_affinities(3 * rnd(crt_meta["seed"] + 42, 24, 40)[None, None].to(golden_device), pairs)
    order = np.argsort(order_of(expected[f"destinations_{radius}"]))
    mine = np.argsort(order_of(pairs.offsets))
    in_released_order = found.view(len(mine), -1).cpu()[mine[np.argsort(order)]]
    assert_golden(in_released_order[::step, ::3], expected[f"affinity_{radius}"])


def order_of(offsets) -> list[int]:
    """A number for each offset that sorts them row by row."""
    return [100 * int(dy) + int(dx) for dy, dx in offsets]


def plain_affinities(logits, pairs):
    """By the definition, pair after pair."""
    edges = torch.sigmoid(logits[:, 0])
    columns = []
    for (dy, dx), (rows, places) in zip(pairs.offsets, pairs.starts, strict=True):
        length = (dy**2 + dx**2) ** 0.5
        for y in range(rows.start, rows.stop):
            for x in range(places.start, places.stop):
                cells = [
                    edges[:, y + py, x + px]
                    for py in range(0, dy + 1)
                    for px in range(min(0, dx), max(0, dx) + 1)
                    if abs(dy * px - dx * py) / length < 1 - 1e-9  # from the straight line
                ]
                columns.append(1 - torch.stack(cells).amax(dim=0))
    return torch.stack(columns, dim=1) if columns else logits.new_zeros(len(logits), 0)


@pytest.mark.parametrize(
    ("size", "radius", "everywhere"), [((14, 13), 6, False), ((4, 7), 5, True), ((3, 9), 5, False), ((1, 1), 5, True)]
)
def test_affinities_and_their_gradient_are_those_of_the_definition(size, radius, everywhere):
    pairs = pairs_of(*size, radius=radius, everywhere=everywhere)
    logits = (3 * rnd(3, 2, 1, *size)).requires_grad_()
    found, expected = edge_affinities(logits, pairs), plain_affinities(logits, pairs)
    assert found.shape == (2, len(pairs))
    torch.testing.assert_close(found, expected)
    weight = rnd(4, 2, len(pairs))
    if len(pairs):
        gradients = [torch.autograd.grad(weight.mul(each).sum(), logits)[0] for each in (found, expected)]
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_of_equal_edges_on_a_path_one_gets_the_gradient():
    pairs = pairs_of(5, 9, radius=3)
    logits = torch.zeros(1, 1, 5, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(edge_affinities(logits, pairs).sum(), logits)
    assert float(gradient.sum()) == pytest.approx(-0.25 * len(pairs))  # of each pair sigma'(0), once


def test_ranks_are_integers_that_hold_the_cells_of_a_large_grid():
    """128 x 128 cells fit into 16 bits, 256 x 256 do not."""
    logits = rnd(1, 1, 1, 256, 256)
    pairs = pairs_of(256, 256, radius=2)
    torch.testing.assert_close(edge_affinities(logits, pairs), torch.sigmoid(-path_maxima(logits[:, 0], pairs)))


def test_the_edges_are_the_same_without_displacement_and_for_any_size_of_image():
    torch.manual_seed(0)
    both = IRNet("resnet18", displacement=True).eval()
    edges = IRNet("resnet18").eval()
    edges.load_state_dict(both.state_dict(), strict=False)
    for height, width in ((1, 1), (33, 50), (64, 20)):
        image = rnd(1, 1, 3, height, width)
        with torch.no_grad():
            logits, none = edges(image)
            expected, displacement = both(image)
        cells = (height - 1) // 4 + 1, (width - 1) // 4 + 1
        assert none is None and torch.equal(logits, expected)
        assert logits.shape == (1, 1, *cells) and displacement.shape == (1, 2, *cells)


OTHERS = {"mobilenet_v2": 1.0, "resnet38d": 0.0625, "timm:tf_mobilenetv3_small_minimal_100": 1.0}


@pytest.mark.parametrize(("name", "width"), OTHERS.items())
def test_any_backbone_serves_and_what_an_image_shows_stays_in_its_place(name, width):
    torch.manual_seed(0)
    net = IRNet(name, width=width, displacement=True).eval()
    assert net.normalisation is net.resnet50.normalisation
    for height, width in ((1, 1), (33, 50)):
        cells = (height - 1) // 4 + 1, (width - 1) // 4 + 1
        with torch.no_grad():
            logits, displacement = net(rnd(1, 1, 3, height, width))
        assert logits.shape == (1, 1, *cells) and displacement.shape == (1, 2, *cells)
    image = rnd(2, 1, 3, 128, 160)
    with torch.no_grad():
        taps, first = net.taps(image), net.resnet50.levels(image).c1
        torch.testing.assert_close(taps[0], first.unflatten(2, (32, 2)).unflatten(4, (40, 2)).mean((3, 5)))
        for number, tap in enumerate(taps):
            stride = 128 // tap.shape[2]
            shown = torch.zeros_like(tap)
            shown[..., 32 // stride : 64 // stride, 96 // stride : 128 // stride] = rnd(3, 1, tap.shape[1], 1, 1)
            nothing = [torch.zeros_like(each) for each in taps]
            for head in (net.edges, net.displacement):
                change = head([*nothing[:number], shown, *nothing[number + 1 :]]) - head(nothing)
                assert centre_of(change) == pytest.approx([11.5, 27.5], abs=1), number


def centre_of(change):
    """Row and column, in cells, of what changed otherwise than most did, (1, C, h, w)."""
    change = change[0] - change[0].flatten(1).median(dim=1).values[:, None, None]
    weight = change.norm(dim=0) ** 2
    places = torch.meshgrid(*(torch.arange(float(side)) for side in weight.shape), indexing="ij")
    return [float((weight * place).sum() / weight.sum()) for place in places]


@pytest.mark.parametrize("name", ["mobilenet_v2", "timm:tf_mobilenetv3_small_minimal_100"])
def test_any_backbones_weights_come_from_its_whole_nets_file_and_trained_ones_come_back(name, tmp_path):
    torch.manual_seed(0)
    whole = models.mobilenet_v2() if name == "mobilenet_v2" else timm.create_model(name.removeprefix("timm:"))
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    net, others = IRNet(name), IRNet(name)
    load_first_weights(net, tmp_path / "whole.pth", name)
    own = net.resnet50.state_dict()
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in own.items())
    torch.save(with_aliases(net.state_dict()), tmp_path / "irn.pth")
    load_trained(others, tmp_path / "irn.pth")
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in others.state_dict().items())
    with pytest.raises(UserError, match="expected the backbone's weights, resnet18's"):
        load_first_weights(IRNet("resnet18"), tmp_path / "whole.pth", "resnet18")


def test_a_backbone_without_five_maps_or_of_another_width_is_named():
    with pytest.raises(UserError, match=r"--backbone timm:convnext_atto: expected a net with maps at strides 2, 4, 8"):
        IRNet("timm:convnext_atto")
    with pytest.raises(UserError, match=r"--width 0.5: --backbone resnet18 has one width only"):
        IRNet("resnet18", width=0.5)


def test_the_mean_shift_is_subtracted_but_in_training_and_the_backbone_never_moves():
    torch.manual_seed(0)
    net = IRNet("resnet18", displacement=True)
    net.mean_shift.running_mean.copy_(torch.tensor([2.0, -1.0]))
    image = uni(1, 2, 3, 40, 40)
    before = {name: value.clone() for name, value in net.resnet50.state_dict().items()}
    logits, raw = net.train()(image)
    (logits.sum() + raw.sum()).backward()
    _, shifted = net.eval()(image)
    torch.testing.assert_close(raw - shifted, torch.tensor([2.0, -1.0]).view(2, 1, 1).expand_as(raw))
    assert all(torch.equal(value, before[name]) for name, value in net.resnet50.state_dict().items())
    reached = {name for name, value in net.named_parameters() if value.grad is not None and value.grad.any()}
    assert reached == {name for name, _ in net.named_parameters() if name.startswith("fc_")}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What IRN may meet: its own weights with and without displacement, released ones, a backbone's, others'."""
    tmp_path = tmp_path_factory.mktemp("files")
    torch.manual_seed(1)
    net = IRNet("resnet18", displacement=True)
    states = {"unshifted": {name: value.clone() for name, value in net.state_dict().items()}}
    net.mean_shift.running_mean.copy_(torch.tensor([0.5, 0.0]))
    states["both"] = net.state_dict()
    states["edges"] = {k: v for k, v in states["both"].items() if not k.startswith(("fc_dp", "mean_shift"))}
    states["released"] = {**with_aliases(states["both"]), "path_indices0": torch.zeros(2, 2, 5, dtype=torch.int64)}
    states["backbone"] = {
        name.removeprefix("resnet50."): value for name, value in states["edges"].items() if "fc_" not in name
    }
    states["classifier"] = {**states["backbone"], "fc8.weight": torch.zeros(20, 512, 1, 1)}
    states["aff"] = {**states["backbone"], "f8_5.weight": torch.zeros(256, 512, 1, 1)}
    for name, state in states.items():
        torch.save(state, tmp_path / f"{name}.pth")
    return tmp_path, states


@pytest.mark.parametrize("name", ["backbone", "classifier", "released"])
def test_training_starts_from_a_backbone_of_any_file(files, name):
    folder, states = files
    torch.manual_seed(2)
    net = IRNet("resnet18")
    heads = {key: value.clone() for key, value in net.state_dict().items() if key.startswith("fc_")}
    load_first_weights(net, folder / f"{name}.pth", "resnet18")
    found = net.state_dict()
    assert all(torch.equal(found[key], value) for key, value in heads.items())
    assert torch.equal(found["resnet50.layer4.1.conv2.weight"], states["backbone"]["layer4.1.conv2.weight"])


@pytest.mark.parametrize("name", ["both", "released"])
def test_trained_weights_come_back_whole_and_serve_edges_alone_too(files, name):
    folder, states = files
    for displacement in (True, False):
        net = IRNet("resnet18", displacement=displacement)
        load_trained(net, folder / f"{name}.pth")
        assert all(torch.equal(value, states["both"][key]) for key, value in net.state_dict().items())


def test_other_nets_files_are_named_as_what_they_are(files):
    folder, states = files
    net = IRNet("resnet18")
    for name, found in (
        ("classifier", "found a classifier's weights; inference.py takes them"),
        ("aff", "found AffinityNet's weights; refine/affinity/infer.py takes them"),
        ("backbone", r"found conv1\.weight"),
    ):
        with pytest.raises(UserError, match=rf"{name}\.pth: expected the weights of IRN.*{found}"):
            load_trained(net, folder / f"{name}.pth")
    with pytest.raises(UserError, match=r"expected the weights of an IRN with displacement.*found one without"):
        load_trained(IRNet("resnet18", displacement=True), folder / "edges.pth")
    with pytest.raises(UserError, match=r"unshifted\.pth: expected .* mean displacement.* <session>\.pth .* found 0"):
        load_trained(IRNet("resnet18", displacement=True), folder / "unshifted.pth")
    load_trained(net, folder / "unshifted.pth")  # edges do not need it
    wide = {**states["edges"], "resnet50.conv1.weight": torch.zeros(128, 3, 7, 7)}
    torch.save(wide, folder / "wide.pth")
    with pytest.raises(
        UserError, match=r"(?s)does not fit the net; was it trained with another --backbone\?.*kind \(1\): .*conv1"
    ):
        load_trained(net, folder / "wide.pth")
    torch.save({k: v for k, v in states["backbone"].items() if "layer4" not in k}, folder / "short.pth")
    with pytest.raises(UserError, match=r"(?s)expected the backbone's weights, resnet18's.*missing \(25\): layer4"):
        load_first_weights(net, folder / "short.pth", "resnet18")
    torch.save({k: v for k, v in states["edges"].items() if k != "fc_edge2.1.bias"}, folder / "part.pth")
    with pytest.raises(UserError, match=r"missing \(1\): fc_edge2\.1\.bias"):
        load_trained(net, folder / "part.pth")
    deeper = {"resnet50.layer4.2.conv1.weight": torch.zeros(512, 512, 3, 3)}
    torch.save({**states["edges"], **deeper}, folder / "deeper.pth")
    with pytest.raises(UserError, match=r"another --backbone\?\n  unexpected \(1\): resnet50\.layer4\.2"):
        load_trained(net, folder / "deeper.pth")
    torch.save({**states["backbone"], "layer4.2.conv1.weight": torch.zeros(512, 512, 3, 3)}, folder / "deep.pth")
    with pytest.raises(UserError, match=r"the backbone's weights, resnet18's\n  unexpected \(1\): layer4\.2"):
        load_first_weights(net, folder / "deep.pth", "resnet18")
