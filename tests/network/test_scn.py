"""The superpixel network: golden forward and gradients, released names, weights in."""

import json

import cv2
import numpy as np
import pytest
import torch

from network.scn import SCN, load_scn, parameter_groups
from network.superpixel import hard_map
from superpixel.loss import reconstruction_losses
from superpixel.samples import to_lab
from tests.golden_inputs import assert_golden, rnd, uni
from tests.superpixel.golden_net import filled_scn
from tool.cli import UserError


@pytest.fixture(scope="module")
def expected(golden):
    return np.load(golden / "msa" / "scn.npz")


@pytest.fixture
def net(msa_meta, golden_device):
    return filled_scn(msa_meta["salt"], golden_device)


@pytest.mark.golden
def test_golden_associations_and_statistics(expected, net, msa_meta, golden_device):
    seed, size = msa_meta["seed"], msa_meta["scn_size"]
    with torch.no_grad():
        found = net(rnd(seed + 1, 2, 3, size, size * 3 // 2).to(golden_device))
        assert_golden(found[:, :, ::5, ::5], expected["q_eval"])
        assert net.train()(rnd(seed + 3, 2, 3, size, size).to(golden_device)).shape == (2, 9, size, size)
    for name in ("running_mean", "running_var"):
        assert_golden(getattr(net.conv4b[1], name)[::4], expected[f"{name}_conv4b"])


@pytest.mark.golden
def test_golden_losses_gradients_and_hard_map(expected, net, msa_meta, golden_device):
    seed, size = msa_meta["seed"], msa_meta["scn_size"]
    pixels = (256 * uni(seed + 2, 2, size, size, 3)).floor().to(torch.uint8).numpy()
    lab = torch.stack([to_lab(image) for image in pixels])
    assert (lab.permute(0, 2, 3, 1)[:, ::4, ::4].numpy() == expected["lab"]).all()
    association = net.train()(rnd(seed + 3, 2, 3, size, size).to(golden_device))
    assert_golden(association.detach()[:, :, ::4, ::4], expected["q_train"])
    losses = reconstruction_losses(association, lab.to(golden_device))
    for name in ("lab", "xy"):
        assert_golden(losses[name].detach(), expected[f"loss_{name}"])
    assert_golden(losses["total"].detach(), expected["loss"])
    association.retain_grad()
    losses["total"].backward()
    for found, name in (
        (association.grad[:, :, ::4, ::4], "q"),
        (net.pred_mask0.bias.grad, "bias"),
        (net.conv0a[0].weight.grad, "conv0a"),
        (net.deconv3[0].weight.grad[::16, ::16], "deconv3"),
    ):
        golden_gradient = expected[f"grad_{name}"]
        assert_golden(found, golden_gradient, atol=1e-5 * np.abs(golden_gradient).max() + 1e-8)
    assert (hard_map(association).cpu().numpy() == expected["hard"]).mean() >= 0.999


def test_names_shapes_and_groups_are_the_released_ones(golden):
    net = SCN()
    state = {name: list(value.shape) for name, value in net.state_dict().items()}
    assert state == json.loads((golden / "msa" / "scn_state_dict.json").read_text())
    names = {value: name for name, value in net.named_parameters()}
    groups = [[names[value] for value in group] for group in parameter_groups(net)]
    assert groups == json.loads((golden / "msa" / "scn_parameter_groups.json").read_text())


def test_unused_heads_get_no_gradient_and_all_else_does():
    net = SCN()
    lab = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 32, 48), np.uint8))
    reconstruction_losses(net(rnd(1, 1, 3, 32, 48)), lab)["total"].backward()
    without = {name.split(".")[0] for name, value in net.named_parameters() if value.grad is None}
    assert without == {"pred_mask1", "pred_mask2", "pred_mask3"}


def test_the_colours_are_opencvs_of_rgb():
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert to_lab(red).flatten().tolist() == cv2.cvtColor(red[..., ::-1].copy(), cv2.COLOR_BGR2LAB).flatten().tolist()


def test_files_with_and_without_a_prefix_and_without_the_unused_heads_are_read(tmp_path):
    state = SCN().state_dict()
    files = {
        "plain": state,
        "parallel": {f"module.{name}": value for name, value in state.items()},
        "wrapped": {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}},
        "used": {name: value for name, value in state.items() if "pred_mask" not in name or "mask0" in name},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        net = SCN()
        report = load_scn(net, tmp_path / f"{name}.pth")
        found = net.state_dict()
        for key in files["used"]:
            assert torch.equal(found[key], state[key]), (name, key)
        assert len(report.missing) == (6 if name == "used" else 0)


def test_a_wrong_file_is_named_as_what_it_is(tmp_path):
    state = SCN().state_dict()
    files = {
        "classifier": ({"conv1a.weight": torch.zeros(2), "fc8.weight": torch.zeros(2)}, "found a classifier's"),
        "other": ({"layer": torch.zeros(2)}, r"with deconv3\.0\.weight; found layer"),
        "part": (
            {k: v for k, v in state.items() if k != "conv2b.0.weight"},
            r"expected a trained.*missing.*conv2b\.0\.weight",
        ),
        "narrow": (
            {**state, "conv0a.0.weight": torch.zeros(8, 3, 3, 3)},
            r"tensors that do not fit.*\(8, 3, 3, 3\) in the file",
        ),
    }
    for name, (content, message) in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match=rf"(?s)--weights .*{name}\.pth: .*{message}"):
            load_scn(SCN(), tmp_path / f"{name}.pth")
