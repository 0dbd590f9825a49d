"""MSA's classifier: golden forward, gradients and AP, released names in and out, other backbones."""

import json
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torchvision import models

from network.backbones import batch_norms
from network.msa import (
    ALIASES,
    MSAClassifier,
    MSANet,
    load_msa,
    load_msa_state_dict,
    msa_state_dict,
)
from network.names import under_first_names
from network.pixel_affinity import propagate, similarity
from network.scn import SCN
from tests.golden_inputs import assert_golden, rnd
from tests.network.filled_msa import KINDS, filled
from tests.network.test_superpixel import soft
from tool.cli import UserError

MODELS = {"resnet18": models.resnet18, "mobilenet_v2": models.mobilenet_v2}


def released_names(golden, kind: str) -> dict[str, list[int]]:
    """By name the shapes of a released file of 21 labels."""
    names = json.loads((golden / "msa" / "cls_state_dict.json").read_text())
    if kind == "cam":
        backbone = {name: shape for name, shape in names.items() if name.startswith(("model.", "stage"))}
        return {**backbone, **json.loads((golden / "msa" / "cam_state_dict.json").read_text())}
    changed = {} if kind == "association" else json.loads((golden / "msa" / "cls_features_state_dict.json").read_text())
    return {**names, **changed}


class Case:
    """A filled net, its golden inputs and numbers."""

    def __init__(self, golden, meta: dict, device: torch.device) -> None:
        self.expected = np.load(golden / "msa" / "network.npz")
        self.meta, self.device, seed = meta, device, meta["seed"]
        height, width = meta["network_size"]
        self.image = rnd(seed + 20, 2, 3, height, width).to(device)
        self.association = soft(seed + 21, 2, 9, height, width).to(device)
        self.steps = {"steps": meta["beta"], "threshold": meta["gama"]}

    def gradients(self, net: MSAClassifier, names: list[str]) -> tuple[list[float], dict[str, Tensor]]:
        """The norms of the gradients of these parameters, NaN where there is none, and all gradients."""
        output = net(self.image, self.association, **self.steps)
        (output.score.sum() + output.logits.square().sum()).backward()
        found = {name.replace("backbone.", "model."): value.grad for name, value in net.named_parameters()}
        return [float("nan") if found[name] is None else float(found[name].norm()) for name in names], found


@pytest.fixture(scope="module")
def case(golden, msa_meta, golden_device):
    return Case(golden, msa_meta, golden_device)


@pytest.mark.golden
def test_golden_forward_pass_and_its_parts(case, msa_net):
    net, seen = deepcopy(msa_net), {}
    parts = {"q_feature": net.get_qfeats, "g4": net.ala1, "g5": net.ala2, "layer4": net.backbone.layer4}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    for name, part in (("w4", net.get_tran_conv4), ("w5", net.get_tran_conv5)):
        part.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.softmax(1)}))
    with torch.no_grad():
        plain = net(case.image, case.association)
        spread = net(case.image, case.association, **case.steps)
    expected = case.expected
    assert_golden(plain.logits, expected["logits"])
    assert_golden(plain.score, expected["score"][:, :, 0, 0])
    assert_golden(spread.score, expected["score"][:, :, 0, 0])
    assert_golden(spread.logits, expected["logits_ap"])
    for name, every in {"q_feature": 8, "w4": 1, "w5": 1, "g4": 16, "g5": 32, "layer4": 64}.items():
        assert_golden(seen[name][:, ::every].reshape(expected[name].shape), expected[name])


@pytest.mark.golden
def test_golden_training_mode_and_gradients(case, msa_net):
    net, expected = deepcopy(msa_net), case.expected
    norms, gradients = case.gradients(net, [str(name) for name in expected["grad_names"]])
    assert_golden(norms, expected["grad_norm"], atol=1e-5 * expected["grad_norm"].max() + 1e-8)
    slices = {
        "ala2": ("ala2.0.weight", np.s_[::8, ::128]),
        "x5": ("x5_feats.0.0.weight", np.s_[::8, ::128]),
        "layer3": ("model.layer3.5.conv3.weight", np.s_[::64, ::32]),
    }
    for key, (name, part) in slices.items():
        golden = expected[f"grad_{key}"]
        assert_golden(gradients[name][part].reshape(golden.shape), golden, atol=1e-5 * np.abs(golden).max() + 1e-8)
    with torch.no_grad():
        output = net.train()(case.image, case.association)
    assert_golden(output.logits, expected["train_logits"])
    assert_golden(output.score, expected["train_score"][:, :, 0, 0])
    assert_golden(net.x4_feats[0][1].running_mean, expected["running_mean_x4"])
    assert_golden(net.backbone.layer4[0].bn1.running_mean[::16], expected["running_mean_layer4"])


@pytest.mark.golden
def test_golden_weights_from_features_alone_that_the_features_learn_from(case, msa_meta, golden_device):
    net, expected = filled("features", msa_meta, golden_device), case.expected
    with torch.no_grad():
        plain = net(case.image, None)
        spread = net(case.image, None, **case.steps)
    assert_golden(plain.logits, expected["features_logits"])
    assert_golden(plain.score, expected["features_score"][:, :, 0, 0])
    assert_golden(spread.logits, expected["features_logits_ap"])
    norms, _ = case.gradients(net, [str(name) for name in expected["grad_names"]])
    golden = expected["features_grad_norm"]
    assert_golden(norms, golden, atol=1e-5 * np.nanmax(golden) + 1e-8)
    assert np.isnan(norms).any()


@pytest.mark.golden
def test_golden_baseline_and_coco(case, msa_meta, golden_device):
    with torch.no_grad():
        output = filled("cam", msa_meta, golden_device)(case.image)
        assert_golden(output.logits, case.expected["cam_logits"])
        assert_golden(output.score, case.expected["cam_score"][:, :, 0, 0])
        net = filled("association", msa_meta, golden_device, num_classes=80)
        output = net(case.image[:1], case.association[:1])
        assert_golden(output.logits[:, ::4], case.expected["coco_logits"])
        assert_golden(output.score.flatten(), case.expected["coco_score"].flatten())


@pytest.mark.golden
def test_golden_propagation_at_its_defaults_with_gradients(case, msa_meta, golden_device):
    seed, expected = msa_meta["seed"], case.expected
    columns = rnd(seed + 25, 2, 32, 1, 3).repeat_interleave(3, dim=3).expand(2, 32, 6, 9)
    x4 = (rnd(seed + 26, 2, 32, 6, 9) + 1.4 * columns).to(golden_device).requires_grad_()
    logits = rnd(seed + 27, 2, 21, 6, 9).to(golden_device).requires_grad_()
    spread = propagate(logits, x4, steps=8, threshold=0.6)
    assert_golden(spread.detach(), expected["ap_logits"])
    (spread * rnd(seed + 28, 2, 21, 6, 9).to(golden_device)).sum().backward()
    for found, name in ((x4.grad, "x4"), (logits.grad, "logits")):
        golden = expected[f"ap_grad_{name}"]
        assert_golden(found, golden, atol=1e-5 * np.abs(golden).max() + 1e-8)
    with torch.no_grad():
        assert_golden(propagate(logits, x4, steps=1, threshold=0.6), expected["ap_logits_1"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_released_names_and_shapes(golden, kind):
    net = KINDS[kind]("resnet50", num_classes=20, **({} if kind == "cam" else {"dcr": kind}))
    assert {name: list(value.shape) for name, value in msa_state_dict(net).items()} == released_names(golden, kind)


def test_the_released_parameter_groups(golden):
    net = MSANet("resnet50", num_classes=20)
    names = {value: name.replace("backbone.", "model.") for name, value in net.named_parameters()}
    groups = [[names[value] for value in group] for group in net.parameters_by_name()]
    assert groups == json.loads((golden / "msa" / "cls_parameter_groups.json").read_text())


# -- weights -----------------------------------------------------------------------------------------------------------


def small(kind: str = "association", **options) -> MSAClassifier:
    options |= {} if kind == "cam" else {"dcr": kind}
    return KINDS[kind]("resnet18", num_classes=4, **options)


def tiny(kind: str = "association", **options) -> MSAClassifier:
    options |= {} if kind == "cam" else {"dcr": kind}
    return KINDS[kind]("timm:test_resnet", num_classes=4, **options)


def test_files_are_read_with_the_backbone_once_or_twice_and_with_any_prefix(tmp_path):
    trained = small()
    state, own = msa_state_dict(trained), trained.state_dict()
    files = {
        "parallel": {f"module.{name}": value for name, value in state.items()},
        "model": {name: value for name, value in state.items() if not name.startswith("stage")},
        "stages": {name: value for name, value in state.items() if not name.startswith("model.")},
        "last": {"model": {name.removeprefix("backbone."): value for name, value in own.items()}},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        net = small()
        report = load_msa(net, tmp_path / f"{name}.pth")
        assert not report.missing and not report.unexpected, name
        assert all(torch.equal(value, own[key]) for key, value in net.state_dict().items()), name


@pytest.mark.parametrize(
    ("kind", "backbone", "heads"),
    [
        ("association", "resnet18", ["fc.weight", "fc.bias"]),
        ("association", "mobilenet_v2", ["classifier.1.weight", "classifier.1.bias"]),
        ("association", "timm:test_efficientnet", ["classifier.weight", "classifier.bias"]),
        ("cam", "timm:test_efficientnet", ["classifier.weight", "classifier.bias"]),
    ],
)
def test_a_file_of_torchvision_or_timm_is_the_backbone_and_its_classifier_is_left(tmp_path, kind, backbone, heads):
    make = partial(timm.create_model, backbone.removeprefix("timm:")) if "timm" in backbone else MODELS[backbone]
    state = make().state_dict()
    torch.save(state, tmp_path / "net.pth")
    net = KINDS[kind](backbone, num_classes=4)
    report = load_msa(net, tmp_path / "net.pth")
    assert set(heads) <= set(report.unexpected)
    assert {name.split(".")[0] for name in report.missing} == set(dict(net.named_children())) - {"backbone"}
    own = net.backbone.state_dict()
    assert own and all(torch.equal(value, state[name]) for name, value in own.items())


def test_a_wrong_file_is_named_as_what_it_is(tmp_path):
    twice = {"model.conv1.weight": torch.zeros(2), "stage1.0.weight": torch.ones(2)}
    cases = {
        "scn": (SCN().state_dict(), "found a superpixel network's, which is for --scn"),
        "torn": (
            twice,
            r"expected one tensor under each of its names.*model\.conv1\.weight: stage1\.0\.weight is another",
        ),
        "other": ({"layer": torch.zeros(2)}, "fits nowhere"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match=rf"(?s)--weights .*{name}\.pth: .*{message}"):
            load_msa(small(), tmp_path / f"{name}.pth")


def test_a_file_of_another_classifier_is_named_with_the_flag_that_makes_it():
    cases = (
        (tiny(), tiny("cam"), r"expected ala1\.0\.weight, .* that --sp_cam off makes"),
        (tiny("cam"), tiny(), r"expected ala1\.weight, .* that --sp_cam on makes"),
        (tiny(), tiny("features"), "expected a classifier of --dcr association, found one of --dcr features"),
        (tiny("features"), tiny(), "expected a classifier of --dcr features, found one of --dcr association"),
        (tiny(), MSANet("timm:test_resnet", num_classes=7), r"tensors that do not fit[^~]*\(8, 96, 1, 1\) in the file"),
    )
    for net, other, message in cases:
        with pytest.raises(UserError, match=f"^net.pth: {message}"):
            load_msa_state_dict(net, under_first_names(msa_state_dict(other), ALIASES, source=""), source="net.pth")


# -- what the golden numbers do not show -------------------------------------------------------------------------------


def naive_propagation(logits: np.ndarray, features: np.ndarray, steps: int, threshold: float) -> np.ndarray:
    """Cell by cell, of one image: logits (K, P), features (C, P)."""
    cells = range(features.shape[1])
    unit = [features[:, i] / max(np.linalg.norm(features[:, i]), 1e-12) for i in cells]
    for _ in range(steps):
        spread = np.zeros_like(logits)
        for j in cells:
            alike = [min(max(float(unit[i] @ unit[j]), 0.01), 0.999) for i in cells]
            kept = [value if value >= threshold else 0.0 for value in alike]
            if not any(kept):
                kept[j] = 1.0
            spread[:, j] = sum(kept[i] / sum(kept) * logits[:, i] for i in cells)
        logits = spread
    return logits


@pytest.mark.parametrize("threshold", [0.005, 0.3])
def test_propagation_is_the_definition_and_a_cell_that_is_like_none_keeps_what_it_has(threshold):
    features, logits = rnd(1, 2, 5, 3, 4), rnd(2, 2, 3, 3, 4)
    features[0, :, 1, 2] = 0
    found = propagate(logits, features, steps=3, threshold=threshold)
    for image in range(2):
        arrays = (value[image].flatten(1).double().numpy() for value in (logits, features))
        np.testing.assert_allclose(
            found[image].flatten(1), naive_propagation(*arrays, 3, threshold), rtol=1e-4, atol=1e-6
        )
    if threshold > 0.01:
        assert torch.equal(found[0, :, 1, 2], logits[0, :, 1, 2])
        assert similarity(features, threshold=threshold)[0, 6].count_nonzero() == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [True, False])
def test_norms_of_the_backbone_keep_their_statistics_but_learn_and_those_of_the_heads_are_ordinary(kind, frozen):
    net = tiny(kind, frozen=frozen).train()
    before = {name: value.clone() for name, value in net.state_dict().items() if "running_mean" in name}
    output = net(rnd(1, 2, 3, 64, 96), soft(2, 2, 9, 64, 96))
    (output.score.sum() + output.logits.square().sum()).backward()
    moved = {name for name, value in before.items() if not torch.equal(value, net.state_dict()[name])}
    unused = {"get_qfeats"} if kind == "features" else set()
    assert {name for name in before if not name.startswith("backbone.")} - moved == {
        name for name in before if name.split(".")[0] in unused
    }
    assert any(name.startswith("backbone.") for name in moved) is not frozen
    first, *_ = batch_norms(net.backbone)
    *_, last = batch_norms(net.backbone)
    assert last.weight.grad.abs().sum() > 0
    assert (first.weight.grad is None) == (kind == "cam" and frozen)
    trained = {value for group in net.parameters_by_name() for value in group}
    assert {value for value in net.parameters() if value.grad is not None} == trained


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "timm:test_efficientnet", "timm:test_convnext"])
def test_other_backbones_give_maps_of_the_same_stride(backbone):
    net = MSANet(backbone, num_classes=3).eval()
    with torch.no_grad():
        output = net(rnd(1, 1, 3, 64, 80), soft(2, 1, 9, 64, 80), steps=2)
    assert output.logits.shape == (1, 4, 4, 5) and output.score.shape == (1, 4)
    assert not any(name.startswith("stage") for name in msa_state_dict(net))


def test_half_precision_reaches_neither_weights_nor_propagation():
    net = tiny().eval()
    image, association = rnd(1, 1, 3, 64, 64), soft(2, 1, 9, 64, 64)
    whole = net(image, association, steps=2)
    with torch.autocast("cpu", torch.bfloat16):
        output = net.train()(image, association, steps=2)
    assert output.logits.dtype == output.score.dtype == torch.float32
    output.logits.square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in net.parameters() if value.grad is not None)
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        half = net.eval()(image, association, steps=2)
    torch.testing.assert_close(half.logits, whole.logits, rtol=0.1, atol=0.1 * float(whole.logits.detach().abs().max()))


def test_resnet38_is_refused_as_its_maps_are_finer():
    with pytest.raises(
        UserError, match=r"--backbone resnet38d: expected a net that has output stride 16, .*mobilenet_v2"
    ):
        MSANet("resnet38d", num_classes=3)
