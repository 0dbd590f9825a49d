"""Every loss term, its gradients and the banks it leaves, against the golden numbers."""

import numpy as np
import pytest
import torch

from method.hsc.config import ConsistencyConfig, HSCConfig
from method.hsc.criterion import HSCCriterion
from method.terms.classification import min_pool_loss
from method.terms.consistency import consistency_losses
from method.terms.maps import resize
from method.terms.saliency import saliency_loss
from tests.golden_inputs import assert_golden, rnd, uni

BANKS = {"class": (20, (21, 256)), "roi": (22, (2, 256)), "pixel": (24, (21, 128))}
pytestmark = pytest.mark.golden
BANK_BUFFERS = {"class": "class_bank", "roi": "region_bank", "pixel": "pixel_bank"}


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "losses.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def maps(meta, golden_device):
    s, n = meta["seed"], 3
    label = torch.zeros(n, 20)
    for image, classes in enumerate(((3, 14), (7,), (0, 14))):
        label[image, list(classes)] = 1
    values = {
        "cam1": 2 * rnd(s + 2, n, 21, 24, 24),
        "cam2": 2 * rnd(s + 3, n, 21, 16, 16),
        "rv1": uni(s + 4, n, 21, 24, 24),
        "rv2": uni(s + 5, n, 21, 16, 16),
        "p1": rnd(s + 6, n, 128, 24, 24).relu(),
        "p2": rnd(s + 7, n, 128, 16, 16).relu(),
        "r1": rnd(s + 8, n, 256, 24, 24),
        "r2": rnd(s + 9, n, 256, 16, 16),
        "saliency": (uni(s + 10, n, 1, 192, 192) > 0.5) * uni(s + 11, n, 1, 192, 192),
        "img2": (uni(s + 12, n, 3, 128, 128) - 0.45) / 0.225,
        "label": label,
    }
    return {name: value.to(golden_device) for name, value in values.items()}


def load_golden_banks(criterion: HSCCriterion, seed: int) -> None:
    for name, (offset, shape) in BANKS.items():
        rows = torch.stack([rnd(seed + offset + view, *shape) for view in range(2)])
        getattr(criterion.banks, BANK_BUFFERS[name]).copy_(rows)


def criterion_with_golden_banks(seed: int, device: torch.device) -> HSCCriterion:
    criterion = HSCCriterion(HSCConfig(), num_classes=20).to(device)
    load_golden_banks(criterion, seed)
    return criterion


@pytest.mark.parametrize("overlap", [0.4, 0.5])
def test_saliency_loss_and_predicted_map(maps, expected, overlap):
    loss, predicted = saliency_loss(
        maps["cam1"], maps["saliency"], maps["label"], overlap=overlap, foreground_share=0.5
    )
    assert_golden(loss, expected[f"eps_{overlap}"])
    assert_golden(predicted, expected[f"eps_pred_{overlap}"])


def test_min_pool(maps, expected):
    assert_golden(min_pool_loss(maps["rv1"], maps["label"]), expected["min_pool"])


def test_consistency(maps, expected):
    config = ConsistencyConfig()
    er, ecr = consistency_losses(
        maps["cam1"],
        maps["cam2"],
        maps["rv1"],
        maps["rv2"],
        maps["label"],
        hardest_share=config.hardest_share,
        spared_channel=config.spared_channel,
    )
    assert_golden(er, expected["er"])
    assert_golden(ecr, expected["ecr"])


def test_contrast_terms_gradients_and_banks_over_two_calls(maps, expected, meta, golden_device):
    criterion = criterion_with_golden_banks(meta["seed"], golden_device)
    cam = torch.stack([resize(maps["rv1"], (16, 16)), maps["rv2"]])
    pixel = torch.stack([resize(maps["p1"], (16, 16)), maps["p2"]]).requires_grad_()
    region = torch.stack([resize(maps["r1"], (16, 16)), maps["r2"]]).requires_grad_()
    pseudo = torch.stack([torch.from_numpy(expected[f"pseudo{view}"]).long() for view in (1, 2)]).to(golden_device)

    for call in (1, 2):
        losses = criterion.contrast_terms(pixel, region, cam, cam, pseudo, maps["label"])
        for name, loss in losses.items():
            assert_golden(loss.detach(), expected[f"{name}_{call}"].squeeze())
            if call == 1:
                features = pixel if name == "psc" else region
                (gradient,) = torch.autograd.grad(loss, features)
                for view in range(2):
                    assert_golden(gradient[view][:, ::32], expected[f"{name}_grad{view + 1}"], atol=1e-8)
        for name, buffer in BANK_BUFFERS.items():
            for view in range(2):
                rows = getattr(criterion.banks, buffer)[view]
                assert_golden(rows, expected[f"bank_{name}{view + 1}_{call}"])


def test_whole_chain_from_refined_cams_to_terms(maps, expected, meta, golden_device):
    losses = criterion_with_golden_banks(meta["seed"], golden_device).contrast(
        [maps["rv1"], maps["rv2"]], [maps["p1"], maps["p2"]], [maps["r1"], maps["r2"]], maps["img2"], maps["label"]
    )
    for name, loss in losses.items():
        assert_golden(loss.detach(), expected[f"hsc_{name}"].squeeze(), rtol=1e-4)
