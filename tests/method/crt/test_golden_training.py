"""CRT's losses on given maps, its optimiser's groups, and three whole steps, against those of the released code."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from method.crt.config import CRTConfig
from method.crt.criterion import CRTCriterion
from method.crt.learner import CRTLearner
from method.engine import build_training, training_step
from method.learner import FIRST, Moment
from network.crt import CRTOutput, crt_state_dict
from tests.golden_inputs import assert_golden, rnd, uni
from tests.network.test_crt import small
from voc12.classes import VOC12

pytestmark = pytest.mark.golden
SLICES = {
    "classifier.weight": np.s_[:, ::64, 0, 0],
    "resnet50.layer4.2.conv3.weight": np.s_[::64, ::32, 0, 0],
    "resnet50.layer4.0.downsample.0.weight": np.s_[::64, ::64, 0, 0],
    "resnet50.layer3.0.conv2.weight": np.s_[::16, ::16],
    "resnet50.layer3.35.bn2.weight": np.s_[::4],
    "resnet50.layer4.1.bn3.bias": np.s_[::16],
    "head.weight": np.s_[:, ::32],
    "head.bias": np.s_[:],
    "patch_embed.proj.weight": np.s_[::16, :, ::5, ::5],
    "blocks.0.attn.qkv.weight": np.s_[::64, ::32],
    "blocks.5.mlp.fc1.weight": np.s_[::64, ::32],
    "blocks.11.mlp.fc2.weight": np.s_[::16, ::64],
    "blocks.11.norm1.weight": np.s_[::8],
    "norm.weight": np.s_[::8],
}


def test_losses_and_gradients_of_given_maps(golden, crt_meta):
    with np.load(golden / "crt" / "losses.npz") as file:
        expected = dict(file)
    images, _, rows, columns = expected["grad1"].shape
    for image_classes in ([[3, 14], [7]], [[5], [1, 14, 19]]):  # of either set
        label = torch.zeros(images, 20)
        for row, classes in zip(label, image_classes, strict=True):
            row[classes] = 1
        maps = [(2 * rnd(crt_meta["seed"] + 20 + n, images, 20, rows, columns)).requires_grad_() for n in (0, 1)]
        losses = CRTCriterion(CRTConfig())(CRTOutput(*maps), label, Moment(epoch=1))
        if np.isclose(losses["cnn"].item(), expected["losses"][0], rtol=1e-3):
            break
    found = [losses["cnn"], losses["transformer"], 10 * losses["consistency"]]
    np.testing.assert_allclose([value.item() for value in found], expected["losses"], rtol=1e-5)
    for name, total, atol in (
        ("", sum(losses.values()), 1e-7),
        ("_without", losses["cnn"] + losses["transformer"], 1e-9),
    ):
        gradients = torch.autograd.grad(total, maps, retain_graph=True)
        for number, gradient in enumerate(gradients, start=1):
            assert_golden(gradient[:, ::5], expected[f"grad{number}{name}"], atol=atol)
    first = CRTCriterion(CRTConfig())(CRTOutput(*maps), label, FIRST)
    assert first["consistency"] == 0 and first["cnn"] == losses["cnn"]


@pytest.fixture(scope="module")
def learner(crt_net) -> CRTLearner:
    return CRTLearner(deepcopy(crt_net), CRTConfig(), VOC12).train()


def test_groups(learner, golden):
    released = json.loads((golden / "crt" / "parameter_groups.json").read_text())
    names = {
        id(parameter): name for branch in learner.net.branches.values() for name, parameter in branch.named_parameters()
    }
    kept = ("resnet50.conv1.", "resnet50.bn1.", "resnet50.layer1.", "resnet50.layer2.")  # which get no gradient there
    expected = [
        (factor, {name for name in released[branch][f"x{factor}"] if not name.startswith(kept)})
        for branch in ("cnn", "deit")
        for factor in (1, 10)
    ]
    groups = learner.groups(lr=1.0, weight_decay=1e-4)
    assert [(group["lr"], {names[id(value)] for value in group["params"]}) for group in groups] == expected
    assert all(group["weight_decay"] == 1e-4 for group in groups)


def test_losses_and_updates_of_three_steps(learner, golden, crt_meta, golden_device):
    with np.load(golden / "crt" / "training_steps.npz") as file:
        expected = dict(file)
    before = {name: value.clone() for name, value in crt_state_dict(learner.net).items()}
    training = build_training(learner, lr=5e-3, momentum=1e-4, weight_decay=1e-4, decay_steps=3)
    for step, golden_losses in enumerate(expected["losses"]):
        image = (uni(crt_meta["seed"] + 30 + step, 2, 3, 224, 336) - 0.45) / 0.225
        label = torch.zeros(2, 20)
        label[0, (3 + step) % 20] = label[0, 14] = label[1, (7 + step) % 20] = 1
        batch = {"image": image.to(golden_device), "label": label.to(golden_device)}
        losses = training_step(training, batch, Moment(step, epoch=step))
        weights = [1, 1, 0.1 if step else 0]
        found = [losses[name] for name in ("cnn", "transformer", "consistency")]
        assert_golden(torch.stack(found), weights * golden_losses, atol=0)
    after = crt_state_dict(learner.net)
    far = {}
    for name, value in before.items():
        for number in (1, 2):
            if f"update{number} {name}" in expected:
                golden_update = expected[f"update{number} {name}"]
                update = (after[name] - value)[SLICES[name]].cpu().numpy()
                far[name] = np.linalg.norm(update - golden_update) / np.linalg.norm(golden_update)
        if name.startswith(tuple(f"resnet50.{part}." for part in expected["frozen_stages"])):
            assert torch.equal(after[name], value), name
    assert far.keys() == SLICES.keys() and max(far.values()) <= 2e-2, far
    for name, places in (("pos_embed", np.s_[0, ::8, ::16]), ("cls_token", np.s_[0, 0, ::8])):
        gradient = getattr(learner.net.transformer, name).grad[places].cpu().numpy()
        golden_gradient = expected[f"grad2 {name}"]
        assert np.linalg.norm(gradient - golden_gradient) <= 2e-2 * np.linalg.norm(golden_gradient), name


def test_one_optimiser_takes_the_steps_of_one_for_each_branch():
    """As the release has them, bit for bit."""

    def net_of_batch(learner: CRTLearner, step: int) -> torch.Tensor:
        label = torch.eye(20)[[step, 5 + step]]
        losses = learner({"image": rnd(step, 2, 3, 224, 224), "label": label}, Moment(step, epoch=step))
        return torch.stack(list(losses.terms.values())).sum()

    config = replace(CRTConfig(), transformer="test_vit", side=224)
    one, two = (CRTLearner(small(), config, VOC12).train() for _ in range(2))
    training = build_training(one, lr=0.01, momentum=0.5, weight_decay=1e-4, decay_steps=2)
    groups = two.groups(lr=0.01, weight_decay=1e-4)
    optimizers = [torch.optim.SGD(part, lr=0.01, momentum=0.5) for part in (groups[:2], groups[2:])]
    for step in range(2):
        training.step(net_of_batch(one, step))
        for optimizer in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("first", group["lr"]) * (1 - step / 2) ** 0.9
        net_of_batch(two, step).backward()
        for optimizer in optimizers:
            optimizer.step()
    for (name, value), other in zip(one.net.named_parameters(), two.net.parameters(), strict=True):
        assert torch.equal(value, other), name
