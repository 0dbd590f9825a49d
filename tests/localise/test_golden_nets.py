"""Both branches, their optimisers' groups and three steps against the golden numbers."""

import json

import numpy as np
import pytest
import torch

from localise.evaluation import two_classes
from localise.training import build_training, cnn_groups, training_step, transformer_groups
from network.localiser import Localiser
from tests.golden_inputs import assert_golden, fill, rnd, uni

pytestmark = pytest.mark.golden
CLASSES, FALL = 200, 30


def golden_value(name, shape, salt):
    """A parameter of the README: the names are the released, canonical ones."""
    value = fill(name, shape, salt)
    if name == "pos_embed":
        return value * 100
    return value * 0.2 if name.endswith(".bn3.weight") else value


@pytest.fixture(scope="module")
def wsol(golden):
    return np.load(golden / "crt" / "wsol.npz")


@pytest.fixture(scope="module")
def net(golden_device, crt_meta):
    """Filled; a test that trains it puts it back."""
    with torch.device("meta"):  # random weights would take longer than all tests
        net = Localiser("deit_small_patch16_224", "resnet50", num_classes=CLASSES)
    for branch in (net.transformer, net.cnn):
        shapes = {name: tuple(value.shape) for name, value in branch.state_dict().items()}
        values = {name: golden_value(name, shape, crt_meta["salt"]) for name, shape in shapes.items()}
        branch.load_state_dict(values, assign=True)
    return net.to(golden_device)


def test_golden_names(golden, net):
    def shapes(branch):
        return {name: list(value.shape) for name, value in branch.state_dict().items()}

    differs = json.loads((golden / "crt" / "state_dict_wsol.json").read_text())
    deit = json.loads((golden / "crt" / "state_dict_deit.json").read_text())
    assert shapes(net.transformer) == {**deit, **differs["deit"]}
    irn = json.loads((golden / "crt" / "state_dict_irn.json").read_text())["keys"]
    resnet = {name: shape for name, shape in irn.items() if name.startswith("resnet50.")}
    assert shapes(net.cnn) == {**resnet, **differs["cnn"]}


def test_golden_groups(golden, net):
    expected = json.loads((golden / "crt" / "parameter_groups_wsol.json").read_text())
    names = {id(p): name for branch in (net.transformer, net.cnn) for name, p in branch.named_parameters()}

    def of(group):
        return {names[id(parameter)] for parameter in group["params"]}

    plain, decayed = transformer_groups(net.transformer, weight_decay=0.05)
    assert of(plain) == set(expected["deit decay 0"]) and of(decayed) == set(expected["deit decay 0.05"])
    backbone, classifier = cnn_groups(net.cnn, lr=0.0005)
    never = {name for name, parameter in net.cnn.named_parameters() if not parameter.requires_grad}
    assert of(backbone) == set(expected["cnn x1"]) - never and of(classifier) == set(expected["cnn x10"])
    assert not [name for name in never if ".layer3." in name or ".layer4." in name]
    optimizer = build(net).optimizer
    for key in ("lr", "eps"):
        assert optimizer.defaults[key] == expected["deit"][key]
    assert list(optimizer.defaults["betas"]) == expected["deit"]["betas"]


def test_golden_maps(wsol, net, crt_meta, golden_device):
    image = rnd(crt_meta["seed"] + 90, 2, 3, 224, 224).to(golden_device)
    with torch.inference_mode():
        maps, attention = net.eval().transformer.maps(image)
        cnn = net.cnn(image)
    net.train()
    assert_golden(maps.mean(dim=(2, 3)), wsol["logits"])
    assert_golden(maps[:, ::25], wsol["map"])
    assert_golden((maps * attention[:, None]).relu()[:, ::25], wsol["cams"])
    assert_golden(cnn.mean(dim=(2, 3))[:, ::4], wsol["cnn_logits"])
    assert_golden(cnn[:, ::25], wsol["cnn_map"])
    # What the test takes of them: the maps of the true class and of the best.
    label = torch.tensor([25, 50], device=golden_device)
    rank, best, both = two_classes(maps, attention, label)
    assert_golden(both[0, 0], wsol["cams"][0, 1])
    assert_golden(both[1, 0], wsol["cams"][1, 2])
    assert best.tolist() == wsol["logits"].argmax(axis=1).tolist()
    true = wsol["logits"][[0, 1], [25, 50]]
    assert rank.tolist() == (wsol["logits"] > true[:, None]).sum(axis=1).tolist()


def build(net):
    return build_training(
        net,
        lr=5e-5,
        weight_decay=0.05,
        cnn_lr=0.0005,
        cnn_weight_decay=1e-4,
        rate=lambda step: 1.0,
        saved={},
    )


STILL = ("conv1", "bn1", "layer1", "layer2")
SLICES = {
    "update1": {
        "head.weight": np.s_[::20, ::32],
        "blocks.3.attn.proj.weight": np.s_[::32, ::32],
        "blocks.7.norm2.bias": np.s_[::8],
        "cls_token": np.s_[0, 0, ::8],
    },
    "update2": {
        "classifier.weight": np.s_[::10, ::64, 0, 0],
        "resnet50.layer4.2.conv3.weight": np.s_[::64, ::32, 0, 0],
    },
}


@pytest.fixture
def start(net):
    """The net's state, which it has again after the test."""
    state = {name: value.clone() for name, value in net.state_dict().items()}
    yield state
    net.load_state_dict(state)


def test_golden_steps(wsol, net, start, crt_meta, golden_device):
    training, seed = build(net.train()), crt_meta["seed"]
    for k, epoch in enumerate(wsol["step_epochs"].tolist()):
        image = ((uni(seed + 92 + k, 2, 3, 224, 224) - 0.45) / 0.225).to(golden_device)
        label = torch.tensor([(17 + k) % CLASSES, (141 + 3 * k) % CLASSES], device=golden_device)
        training.optimizer.param_groups[0]["lr"] = training.optimizer.param_groups[1]["lr"] = (
            5e-6 if epoch >= FALL else 5e-5
        )
        losses = training_step(training, image, label, epoch=epoch)
        found = [losses[name].item() for name in ("total", "transformer", "cnn", "consistency")]
        np.testing.assert_allclose(found, wsol["step_losses"][k], rtol=1e-3)
    after = net.state_dict()
    for which, branch in (("update1", "transformer"), ("update2", "cnn")):
        for name, part in SLICES[which].items():
            expected, full = wsol[f"{which} {name}"], f"{branch}.{name}"
            update = (after[full] - start[full])[part].cpu().numpy()
            assert np.linalg.norm(update - expected) <= 2e-2 * np.linalg.norm(expected), name
    still = [name for name in start if name.startswith("cnn.") and name.split(".")[2] in STILL]
    assert still and all(torch.equal(after[name], start[name]) for name in still)
