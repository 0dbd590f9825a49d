"""CRT's branches: windows, maps, seeds' maps of any size, what trains, and weights under all of their names."""

import json
from itertools import product

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torchvision import models

from data.normalisation import IMAGENET, Normalisation
from network.crt import (
    ALIASES,
    CNNBranch,
    CRTNet,
    crt_state_dict,
    cut_windows,
    load_cnn,
    load_crt,
    merge_windows,
)
from network.vit import load_vit
from tests.golden_inputs import assert_golden, rnd
from tool.cam import maps_of_pair, turned_back
from tool.cli import UserError


def small(**options: object) -> CRTNet:
    torch.manual_seed(0)
    return CRTNet("resnet18", "test_vit", num_classes=20, **options)


# -- windows -----------------------------------------------------------------------------------------------------------


def test_windows_come_row_by_row_each_of_all_images_and_merge_to_the_mean_of_those_that_cover_a_cell():
    image = rnd(1, 2, 3, 336, 448)
    windows, grid = cut_windows(image)
    assert grid == (2, 3)
    for number, (row, column) in enumerate(product(range(2), range(3))):
        part = image[:, :, 112 * row : 112 * row + 224, 112 * column : 112 * column + 224]
        assert torch.equal(windows[2 * number : 2 * number + 2], part)
    maps = rnd(2, 12, 5, 14, 14)
    total, count = torch.zeros(2, 5, 21, 28), torch.zeros(21, 28)
    for number, (row, column) in enumerate(product(range(2), range(3))):
        cells = np.s_[..., 7 * row : 7 * row + 14, 7 * column : 7 * column + 14]
        total[cells] += maps[2 * number : 2 * number + 2]
        count[cells] += 1
    assert set(count.unique().tolist()) == {1, 2, 4}
    torch.testing.assert_close(merge_windows(maps, grid), total / count)


@torch.no_grad()
def test_a_window_sees_nothing_of_its_neighbours_and_the_head_pads_each_with_zeros():
    net = small().transformer.eval()
    image = rnd(3, 1, 3, 224, 448)
    whole, alone = net(image), net(image[..., :224])
    torch.testing.assert_close(whole[..., :7], alone[..., :7], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole[..., 7:14], alone[..., 7:], atol=1e-2)


@torch.no_grad()
def test_chunks_of_windows_on_a_cpu_give_the_maps_of_all_at_once():
    net = small().transformer
    image = rnd(4, 1, 3, 448, 448)  # 9 windows
    at_once = net.train()(image)
    torch.testing.assert_close(net.eval()(image), at_once, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(9, 1), (15, 40), (224, 224), (230, 300)])
def test_seeds_maps_have_a_cell_for_every_16_pixels_begun_at_any_size(size):
    net = small().eval()
    for branch in ("transformer", "cnn"):
        net.branch = branch
        maps = net.foreground_cam(rnd(5, 1, 3, *size))
        assert maps.shape == (1, 20, -(-size[0] // 16), -(-size[1] // 16)) and maps.min() >= 0


def test_a_multiple_of_112_gets_112_more_unless_that_is_mended():
    net = small().transformer
    assert [net._padded(side) for side in (10, 223, 224, 225, 336)] == [224, 224, 336, 336, 448]
    net.pad_multiples = False
    assert [net._padded(side) for side in (10, 223, 224, 225, 336)] == [224, 224, 224, 336, 336]


# -- the released nets -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(golden) -> dict[str, np.ndarray]:
    with np.load(golden / "crt" / "network.npz") as file:
        return dict(file)


@torch.no_grad()
@pytest.mark.golden
def test_golden_maps_of_training(crt_net, expected, crt_meta, golden_device):
    net = crt_net.train()
    height, width = (16 * side for side in expected["cnn_map"].shape[2:])
    image = rnd(crt_meta["seed"] + 1, 2, 3, height, width).to(golden_device)
    assert_golden(net.cnn(image), expected["cnn_map"])
    images, _, rows, columns = expected["deit_map"].shape
    image = rnd(crt_meta["seed"] + 2, images, 3, 16 * rows, 16 * columns).to(golden_device)
    assert_golden(net.transformer(image)[:, ::4], expected["deit_map"])


@torch.no_grad()
@pytest.mark.golden
def test_golden_maps_of_pairs(crt_net, expected, crt_meta, golden_device):
    net = crt_net.eval()
    height, width = (16 * side for side in expected["cnn_cam"].shape[1:])
    pair = rnd(crt_meta["seed"] + 1, 2, 3, height, width).to(golden_device)
    assert_golden(turned_back(maps_of_pair(net.cnn.foreground_cam, pair)), expected["cnn_cam"])
    numbers = [name for name in expected if name.startswith("deit_cam_") and not name.endswith("_size")]
    assert len(numbers) == 3
    for number, name in enumerate(numbers):
        image = rnd(crt_meta["seed"] + 4 + number, 1, 3, *expected[f"{name}_size"].tolist()).to(golden_device)
        pair = torch.cat([image, image.flip(-1)])
        assert_golden(turned_back(maps_of_pair(net.transformer.foreground_cam, pair))[::2], expected[name])


@pytest.mark.golden
def test_golden_names_and_shapes(crt_net, golden):
    def shapes(branch: torch.nn.Module) -> dict[str, list[int]]:
        return {name: list(value.shape) for name, value in branch.state_dict().items()}

    released = json.loads((golden / "crt" / "state_dict_cnn.json").read_text())
    assert shapes(crt_net.cnn) == released["keys"] and released["aliases"] == ALIASES
    assert shapes(crt_net.transformer) == json.loads((golden / "crt" / "state_dict_deit.json").read_text())


# -- what trains -------------------------------------------------------------------------------------------------------


def test_layer3_and_layer4_learn_with_their_norms_affine_by_running_statistics_and_all_before_stays():
    net = small().train()
    trained = {name for name, parameter in net.cnn.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[1] for name in trained} == {"layer3", "layer4", "weight"}  # classifier.weight
    assert "resnet50.layer3.0.bn1.weight" in trained
    before = {name: value.clone() for name, value in net.cnn.named_buffers()}
    net.cnn(rnd(6, 2, 3, 64, 64)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in net.cnn.named_buffers())
    scratch = small(frozen=False)
    assert all(parameter.requires_grad for parameter in scratch.parameters())
    assert scratch.cnn.resnet50.bn1.training


# -- weights -----------------------------------------------------------------------------------------------------------


def released_file(net: CRTNet) -> dict[str, Tensor]:
    """The CNN's tensors under all of their names, as the released file has them."""
    state = dict(net.cnn.state_dict())
    for alias, meant in reversed(ALIASES.items()):
        for name in list(state):
            if f"{name}.".startswith(f"{meant}."):
                state[alias + name[len(meant) :]] = state[name]
    return state


@pytest.mark.parametrize("kept", ["resnet50. classifier.", "stage newly_added.", "backbone. newly_added.", "all"])
def test_the_cnns_file_is_read_under_any_of_its_names(kept, tmp_path):
    net, other = small(), CRTNet("resnet18", "test_vit", num_classes=20, branch="cnn")
    released = released_file(net)
    if kept != "all":
        released = {name: value for name, value in released.items() if name.startswith(tuple(kept.split()))}
    torch.save({f"module.{name}": value for name, value in released.items()}, tmp_path / "res152_cam.pth")
    report = load_crt(other, tmp_path / "res152_cam.pth")
    assert not report.unexpected and {name.split(".")[0] for name in report.missing} <= {*other.training_only_layers}
    for name, value in net.cnn.state_dict().items():
        assert torch.equal(value, other.cnn.state_dict()[name])


def test_two_different_tensors_for_one_and_files_of_other_nets_are_refused(tmp_path):
    net = small()
    released = released_file(net)
    torch.save({**released, "stage1.0.weight": released["stage1.0.weight"] + 1}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"(?s)found two.*resnet50.conv1.weight: .* is another"):
        load_crt(small(), tmp_path / "a.pth")
    torch.save({"fc8.weight": torch.zeros(21, 4096, 1, 1)}, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"b\.pth: expected weights of CRT, .* found fc8.weight"):
        load_crt(small(), tmp_path / "b.pth")
    torch.save(crt_state_dict(CRTNet("resnet18", "test_vit", num_classes=7)), tmp_path / "c.pth")
    with pytest.raises(UserError, match=r"(?s)do not fit; .*--data_set.*classifier.weight: float32 \(7, 512, 1, 1\)"):
        load_crt(small(), tmp_path / "c.pth")


def test_torchvisions_file_gives_the_cnn_all_but_its_classifier_and_must_be_whole(tmp_path):
    torch.manual_seed(1)
    whole = models.resnet18().state_dict()
    torch.save(whole, tmp_path / "resnet18.pth")
    cnn = CNNBranch("resnet18", num_classes=20, frozen=True)
    classifier = cnn.classifier.weight.clone()
    report = load_cnn(cnn, "resnet18", tmp_path / "resnet18.pth", flag="--weights")
    assert report.unexpected == ["fc.weight", "fc.bias"] and report.missing == ["classifier.weight"]
    assert torch.equal(cnn.classifier.weight, classifier)
    for name, value in cnn.resnet50.state_dict().items():
        assert torch.equal(value, whole[name])
    torch.save({name: value for name, value in whole.items() if name != "layer3.0.conv1.weight"}, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"(?s)--weights .*b.pth: .*missing \(1\): resnet50.layer3.0.conv1.weight"):
        load_cnn(cnn, "resnet18", tmp_path / "b.pth", flag="--weights")


def test_trained_branches_start_another_training_with_their_heads(tmp_path):
    net, other = small(), small()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    torch.save(net.cnn.state_dict(), tmp_path / "cnn.pth")
    torch.save(net.transformer.state_dict(), tmp_path / "transformer.pth")
    assert not load_cnn(other.cnn, "resnet18", tmp_path / "cnn.pth", flag="--weights").missing
    assert not load_vit(
        other.transformer, "test_vit", tmp_path / "transformer.pth", flag="--transformer_weights"
    ).missing
    for name, value in crt_state_dict(net).items():
        assert torch.equal(value, crt_state_dict(other)[name])


@pytest.mark.parametrize("name", ["mobilenet_v2", "timm:test_byobnet"])
def test_any_backbone_is_the_cnn_and_starts_from_its_whole_nets_file(name, tmp_path):
    torch.manual_seed(0)
    whole = models.mobilenet_v2() if name == "mobilenet_v2" else timm.create_model(name.removeprefix("timm:"))
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    net, other = (CRTNet(name, "test_vit", num_classes=20) for _ in range(2))
    report = load_cnn(net.cnn, name, tmp_path / "whole.pth", flag="--weights")
    assert report.missing == ["classifier.weight"] and report.unexpected
    state = net.cnn.resnet50.state_dict()
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in state.items())
    torch.save(crt_state_dict(net), tmp_path / "crt.pth")
    assert not load_crt(other, tmp_path / "crt.pth").missing
    assert not load_cnn(other.cnn, name, tmp_path / "crt.pth", flag="--weights").missing
    outputs = net(rnd(1, 1, 3, 224, 336))
    assert outputs.cnn.shape == (1, 20, 28, 42) and outputs.transformer.shape == (1, 20, 14, 21)
    sum(maps.mean() for maps in outputs).backward()
    kept = {id(parameter) for part in net.cnn.resnet50.stem for parameter in part.parameters()}
    assert kept and all((id(value) in kept) == (value.grad is None) for value in net.cnn.parameters())
    with pytest.raises(UserError, match=r"expected weights of resnet18; check --backbone"):
        load_cnn(small().cnn, "resnet18", tmp_path / "whole.pth", flag="--weights")


def test_a_cnn_gets_the_image_as_it_was_trained_on_it():
    cnn = CNNBranch("timm:test_resnet", num_classes=2, frozen=True).eval()
    image = rnd(1, 1, 3, 32, 32)
    with torch.no_grad():
        own = Normalisation((0.5,) * 3, (0.5,) * 3).of_others(image, IMAGENET)
        found, expected = cnn(image), cnn.classifier(cnn.resnet50(own).conv6)
        torch.testing.assert_close(found, expected)
        assert not torch.allclose(found, cnn.classifier(cnn.resnet50(image).conv6))
