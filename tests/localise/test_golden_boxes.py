"""Boxes, scores and kinds of error against the golden numbers: a net's part is given."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from localise.boxes import box_of, ious
from localise.scores import KINDS, Found, scores_of
from tests.golden_inputs import rnd

pytestmark = pytest.mark.golden
SIDE, CLASSES = 224, 200


@pytest.fixture(scope="module")
def wsol(golden):
    return np.load(golden / "crt" / "wsol.npz")


@pytest.fixture(scope="module")
def maps_and_logits(wsol, crt_meta):
    """Of the README: maps (N, 200, 14, 14), and logits (N, 200) with the true class best, second best, or neither."""
    label, seed = torch.from_numpy(wsol["label"].astype(int)), crt_meta["seed"]
    count = len(label)
    small = rnd(seed + 96, count, CLASSES, 5, 5)
    maps = F.interpolate(small, (14, 14), mode="bilinear", align_corners=False).relu()
    logits = rnd(seed + 97, count, CLASSES)
    for image, true in enumerate(label.tolist()):
        if image % 3 == 0:
            logits[image, true] = 9
        if image % 3 == 1:
            logits[image, true] = logits[image].topk(2).values[1] + 1e-3
    return maps.numpy(), logits.numpy()


def boxes(maps, classes, threshold=0.1):
    return np.array(
        [box_of(each[index], threshold=threshold, side=SIDE) for each, index in zip(maps, classes, strict=True)]
    )


@pytest.mark.parametrize("threshold", [0.1, 0.2])
def test_golden_boxes(wsol, maps_and_logits, threshold):
    found = boxes(maps_and_logits[0], wsol["label"], threshold)
    assert np.array_equal(found, wsol[f"boxes_{threshold}"])


def test_golden_scores(wsol, maps_and_logits):
    maps, logits = maps_and_logits
    label = wsol["label"].astype(int)
    true = logits[np.arange(len(label)), label]
    found = Found((logits > true[:, None]).sum(axis=1), boxes(maps, label), boxes(maps, logits.argmax(axis=1)))
    scores = scores_of(found, [box[None] for box in wsol["true_boxes"]])
    np.testing.assert_allclose(scores["iou"], wsol["iou"], rtol=1e-6)
    names = {name.removeprefix("score_") for name in wsol.files if name.startswith("score_")}
    assert names == scores.keys() - {"iou"} and set(KINDS) < names
    for name in names:
        assert np.array_equal(scores[name], wsol[f"score_{name}"]), name
    assert 0.5 in wsol["iou"]  # which tells GT-known from Top-1


def test_golden_iou_of_int16_does_not_overflow(wsol):
    box = np.array([0, 0, 223, 223], np.int16)
    assert ious(box, box) == 1
