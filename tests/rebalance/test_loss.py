"""DHR's losses: the golden ones, with their gradients, and what counts in them."""

import numpy as np
import pytest
import torch

from rebalance.boxes import Box
from rebalance.loss import rebalance_losses
from tests.golden_inputs import assert_golden, rnd
from tests.rebalance.scenes import DATA_SETS, golden_maps


@pytest.mark.golden
@pytest.mark.parametrize("name", ["labels", "labels_no_background"])
def test_losses_and_gradients_are_the_golden_ones(golden, dhr_meta, golden_device, name):
    with np.load(golden / "dhr" / f"{name}.npz") as file:
        expected = dict(file)
    data_set = DATA_SETS[name]
    seed = dhr_meta["seed"] + (1000 if data_set.background else 2000)
    cams, logits = (maps.requires_grad_() for maps in golden_maps(seed, data_set, golden_device)[:2])
    labels, tags = (torch.from_numpy(expected[key]).long().to(golden_device) for key in ("label", "image_labels"))
    losses = rebalance_losses(cams, logits, labels, tags, [Box(*box) for box in expected["boxes"].tolist()])
    losses["total"].backward()
    assert_golden([losses[key].detach().cpu() for key in ("cls", "seg", "total")], expected["losses"])
    assert_golden(cams.grad, expected["grad_cams"])
    assert_golden(logits.grad[:, ::4, ::4, ::4], expected["grad_logits"])


def test_a_batch_without_a_labelled_pixel_learns_from_tags_alone():
    logits = rnd(0, 2, 5, 8, 8).requires_grad_()
    tags = torch.eye(2, 4)
    losses = rebalance_losses(rnd(1, 2, 4, 2, 2), logits, torch.full((2, 32, 32), 255), tags, [Box(0, 0, 32, 32)] * 2)
    losses["total"].backward()
    assert losses["seg"] == 0 and losses["total"] == losses["cls"] and (logits.grad == 0).all()


def test_cams_beside_the_box_do_not_count():
    cams = rnd(1, 1, 4, 8, 8)
    others = cams.clone()
    others[..., 4:] = 100
    arguments = rnd(2, 1, 5, 8, 8), torch.zeros(1, 32, 32).long(), torch.ones(1, 4), [Box(0, 0, 19, 32)]
    assert rebalance_losses(cams, *arguments)["cls"] == rebalance_losses(others, *arguments)["cls"]
