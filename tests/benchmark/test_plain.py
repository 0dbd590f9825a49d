"""The plain way that a training step is timed against computes what ours computes: losses, gradients and banks."""

import torch

from benchmark import plain
from method.hsc.config import HSCConfig
from method.hsc.criterion import HSCCriterion
from tests.golden_inputs import rnd, uni


def test_the_plain_terms_are_ours():
    torch.manual_seed(0)
    criterion, (count, grid) = HSCCriterion(HSCConfig(), num_classes=20), (3, (9, 10))
    label = torch.zeros(count, 20)
    label[0, 3] = label[1, 7] = label[2, 3] = label[2, 19] = 1
    cam, score = uni(1, 2, count, 21, *grid), uni(2, 2, count, 21, *grid) - 0.2
    pseudo = torch.randint(0, 21, (2, count, *grid))

    def banks() -> list[torch.Tensor]:
        return [
            bank.clone()
            for bank in (criterion.banks.region_bank, criterion.banks.class_bank, criterion.banks.pixel_bank)
        ]

    moved = banks()
    found = []
    for terms in (
        lambda *maps: plain.contrast_terms(*maps, moved),
        criterion.contrast_terms,
    ):
        pixel, region = rnd(3, 2, count, 128, *grid).requires_grad_(), rnd(4, 2, count, 256, *grid).requires_grad_()
        losses = terms(pixel, region, cam, score, pseudo, label)
        sum(losses.values()).backward()
        found.append([*losses.values(), pixel.grad, region.grad])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(moved, banks(), rtol=1e-4, atol=1e-6)
