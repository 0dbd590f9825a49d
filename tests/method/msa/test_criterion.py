"""IPC's loss against its definition, cell by cell, its oddities, and what decides which patches count."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from method.msa.config import CONFIGS, IPCConfig, MSAConfig
from method.msa.criterion import MSACriterion, patches, rebuilding_loss, rebuilt_target
from network.msa import MSAOutput
from tests.golden_inputs import rnd, uni


def naive_loss(maps: np.ndarray, target: np.ndarray, config: IPCConfig) -> float:
    """maps (N, K, h, w), target (N, C, h, w), written from the definition."""
    side = round(config.patches**0.5)
    height, width = maps.shape[2] // side, maps.shape[3] // side
    parts = []
    for row in range(side):
        for column in range(side):
            rows, columns = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
            parts += [(maps[n, :, rows, columns], target[n, :, rows, columns]) for n in range(len(maps))]
    kept = []
    for cam, colours in parts:
        inside = (colours.sum(0) != 0).astype(float)
        background = 1 - cam.max(0)
        foreground = (1 - background) * inside if config.foreground_inside else 1 - background * inside
        kept.append(foreground.max() > config.threshold and (background * inside).max() > config.threshold)
    kept = kept if any(kept) else [True] * len(parts)
    error = cells = 0.0
    for (cam, colours), is_kept in zip(parts, kept, strict=True):
        shares = np.concatenate([1 - cam.max(0, keepdims=True), cam])
        inside = [(y, x) for y in range(height) for x in range(width) if is_kept and colours[:, y, x].sum() != 0]
        unit = {(y, x): colours[:, y, x] / np.linalg.norm(colours[:, y, x]) for y, x in inside}
        prototypes = [
            sum(share[place] * unit[place] for place in inside) / (sum(share[place] for place in inside) + 1e-5)
            for share in shares
        ]
        for place in inside:
            rebuilt = sum(share[place] * prototype for share, prototype in zip(shares, prototypes, strict=True))
            squares = (rebuilt - unit[place]) ** 2
            error += squares.mean() if config.mean_over_channels else squares.sum()
        cells += len(inside)
    return error / (cells + 1e-3)


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("oddities", [{}, {"foreground_inside": True}, {"mean_over_channels": True}])
def test_the_loss_is_the_definition_and_each_oddity_changes_it(number, oddities):
    maps, target = uni(1, 2, 3, 7, 9) * (uni(2, 2, 3, 7, 9) > 0.5), rnd(3, 2, 3, 7, 9)
    target[0, :, :, 5:] = 0
    maps[0, :, :, :5] *= 0.05  # the foreground that 1 - bg M sees there is beside the image alone
    config = IPCConfig(patches=number, threshold=0.1, **oddities)
    found, kept = rebuilding_loss(maps, target, config=config)
    expected = naive_loss(maps.double().numpy(), target.double().numpy(), config)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    if oddities:
        plain, as_released = rebuilding_loss(maps, target, config=IPCConfig(patches=number, threshold=0.1))
        assert float(plain) != pytest.approx(float(found), rel=1e-3)
        assert (float(kept) < float(as_released)) == ("foreground_inside" in oddities)


def test_maps_smaller_than_the_grid_of_patches_are_one_patch_and_what_is_over_is_dropped():
    maps = rnd(1, 2, 3, 7, 8)
    cut = patches(maps, 9)
    assert cut.shape == (18, 3, 2, 2)
    assert torch.equal(cut[2], maps[0, :, :2, 2:4]) and torch.equal(cut[17], maps[1, :, 4:6, 4:6])
    assert patches(rnd(1, 2, 3, 2, 8), 9).shape == (2, 3, 2, 8)


def test_no_patch_with_both_means_that_all_count():
    config = IPCConfig(patches=1, threshold=0.5)
    maps, target = torch.zeros(2, 3, 4, 4), rnd(1, 2, 3, 4, 4)
    loss, kept = rebuilding_loss(maps, target, config=config)
    assert float(kept) == 0 and float(loss) == pytest.approx(naive_loss(maps.numpy(), target.numpy(), config), rel=1e-4)


def test_an_image_that_is_padding_alone_costs_nothing_and_gives_no_nan():
    logits = rnd(1, 1, 4, 4, 4).requires_grad_()
    criterion = MSACriterion(CONFIGS["msa_sal"])
    target = rebuilt_target(torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64), None)
    terms, _ = criterion(MSAOutput(logits.mean((2, 3)), logits), target, torch.tensor([[1.0, 0, 1]]))
    assert terms["ipc"] == 0
    sum(terms.values()).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("saliency", [None, 0.0, 1.0])
def test_saliency_of_one_value_is_a_target_like_another(saliency):
    image = rnd(1, 1, 3, 48, 48)
    grey = None if saliency is None else torch.full((1, 1, 48, 48), saliency)
    target = rebuilt_target(image, grey, None)
    assert target.shape == (1, 3 if saliency is None else 2, 3, 3)
    if saliency is not None:
        assert torch.equal(target, torch.tensor([saliency, 1 - saliency])[None, :, None, None].expand(1, 2, 3, 3))
    loss, _ = rebuilding_loss(uni(2, 1, 2, 3, 3), target, config=IPCConfig(patches=1))
    assert torch.isfinite(loss)


def test_alpha_weighs_ipc_and_0_leaves_cls_alone():
    output, label = MSAOutput(rnd(1, 2, 4), rnd(2, 2, 4, 3, 3)), torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    target = rnd(3, 2, 3, 3, 3)

    def terms(config: MSAConfig) -> dict:
        return MSACriterion(config)(output, target, label)[0]

    released = CONFIGS["msa_image"]
    without = terms(replace(released, ipc=replace(released.ipc, weight=0.0)))
    double = terms(replace(released, ipc=replace(released.ipc, weight=0.6)))
    assert without["ipc"] == 0 and torch.allclose(double["ipc"], 2 * terms(released)["ipc"])
    assert without["cls"] == double["cls"]
