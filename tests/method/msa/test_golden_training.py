"""MSA's training: three golden steps of each kind, and the polynomial SGD."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from data import DATASETS
from method.engine import build_training, training_step
from method.msa.config import CONFIGS
from method.msa.learner import MSALearner
from tests.golden_inputs import assert_golden, rnd
from tests.superpixel.golden_net import filled_scn
from tool.optim import PortableSGD, polynomial_schedule
from tool.training import Training

pytestmark = pytest.mark.golden
KINDS = {"image": "msa_image", "saliency": "msa_sal"}
SLICES = {
    "classifier.0.weight": np.s_[:, ::64],
    "ala2.2.weight": np.s_[::128, ::16],
    "x4_feats.0.0.weight": np.s_[::8, ::64],
    "get_qfeats.1.0.weight": np.s_[::8, ::4],
    "get_tran_conv4.0.0.weight": np.s_[::16, ::16],
    "get_tran_conv5.1.0.bias": np.s_[:],
    "model.layer4.2.conv3.weight": np.s_[::128, ::32],
    "model.layer3.0.bn1.weight": np.s_[::4],
    "model.layer1.0.conv2.weight": np.s_[::8, ::8],
    "model.bn1.bias": np.s_[::2],
}


def batch_of(step: int, meta: dict) -> dict[str, torch.Tensor]:
    seed, side = meta["seed"], meta["train_size"]
    image = rnd(seed + 100 + step, 2, 3, side, side)
    image[1, :, :, 128:] = 0
    label = torch.zeros(2, 20)
    for number, classes in enumerate(((1 + (3 + step) % 20, 15), (1 + (7 + step) % 20,))):
        label[number, [index - 1 for index in classes]] = 1
    small = rnd(seed + 110 + step, 2, 1, 5, 5)
    grey = 200 * F.interpolate(small, (side, side), mode="bilinear", align_corners=False)
    return {"image": image, "label": label, "saliency": grey.clamp(0, 255).floor() / 255}


@pytest.mark.parametrize("kind", KINDS)
def test_golden_steps(kind, golden, msa_meta, msa_net, golden_device):
    expected = np.load(golden / "msa" / "training_steps.npz")
    config = replace(CONFIGS[KINDS[kind]], steps=msa_meta["beta"], threshold=msa_meta["gama"])
    net = deepcopy(msa_net)
    scn = filled_scn(msa_meta["salt"], golden_device)
    learner = MSALearner(net, config, DATASETS["voc12"], scn=scn).train()
    training = build_training(
        learner,
        lr=1e-3,
        momentum=4e-5,
        weight_decay=4e-5,
        decay_steps=3,
        power=config.power,
        nesterov=True,
        max_gradient=1,
    )
    weights = {name.replace("backbone.", "model."): value for name, value in net.named_parameters()}
    before = {name: weights[name].detach().clone() for name in SLICES}
    for step in range(3):
        batch = {name: value.to(golden_device) for name, value in batch_of(step, msa_meta).items()}
        losses = training_step(training, batch)
        found = [losses[name] for name in ("total", "cls", "ipc")]
        assert_golden(torch.stack(found), expected[f"{kind}_losses"][step])
    for number, (name, part) in enumerate(SLICES.items()):
        change = (weights[name].detach() - before[name]).cpu().numpy()
        golden_change = expected[f"{kind}_update {name}"]
        assert np.linalg.norm(change[part].reshape(golden_change.shape) - golden_change) <= 2e-2 * np.linalg.norm(
            golden_change
        ), name
        np.testing.assert_allclose(np.linalg.norm(change), expected[f"{kind}_norms"][number], rtol=2e-2)
    assert_golden(net.x4_feats[0][1].running_mean, expected[f"{kind}_running_mean_x4"])
    assert not any("scn" in name or "deconv" in name for name in training.state()["model"])  # it is frozen, and no part


@pytest.mark.parametrize("kind", KINDS)
def test_golden_rates_and_weights_of_the_optimiser(kind, golden, msa_meta):
    expected = np.load(golden / "msa" / "optimizer.npz")
    momentum, decay, nesterov = expected["momentum_argument"].tolist()
    weights = [nn.Parameter(rnd(msa_meta["seed"] + 40 + number, 4, 3)) for number in range(4)]
    groups = [
        {"params": [weight], "lr": lr, "weight_decay": group_decay}
        for weight, lr, group_decay in zip(weights, (0.01, 0.02, 0.1, 0.2), (decay, 0, decay, 0), strict=True)
    ]
    optimizer = PortableSGD(groups, lr=0.01, momentum=momentum, nesterov=bool(nesterov))
    schedule = polynomial_schedule(optimizer, max_step=6, power=CONFIGS[KINDS[kind]].power)
    training = Training(nn.Module(), {}, optimizer, schedule)
    for step in range(8):
        assert_golden([group["lr"] for group in optimizer.param_groups], expected[f"{kind}_lrs"][step])
        training.step(sum((number + 1) * weight.square().sum() for number, weight in enumerate(weights)))
        assert_golden(torch.stack([weight.detach() for weight in weights]), expected[f"{kind}_params"][step])
