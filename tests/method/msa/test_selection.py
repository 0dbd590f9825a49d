"""Which weights a run ends with: those that scored best, above the least score, else the last."""

import pytest
import torch

from method.selection import LEAST, Selection
from tests.method.test_contract import start


def scored(learner, value: float) -> None:
    """As if a step had moved the weights."""
    with torch.no_grad():
        learner.net.classifier[0].weight.fill_(value)


@pytest.mark.parametrize(("scores", "kept"), [((0.3, 0.5, 0.4), 1), ((0.3, 0.3), 0), ((0.1, LEAST), None), ((), None)])
def test_the_first_best_above_the_least_is_kept(scores, kept, tmp_path):
    learner, _ = start("msa_image")
    selection = Selection(tmp_path)
    for number, score in enumerate(scores):
        scored(learner, number)
        selection.offer(learner, score)
        resumed = Selection(tmp_path)  # as a run that goes on between two epochs
        resumed.load_state_dict(selection.state_dict())
        selection = resumed
    scored(learner, 9)
    assert (selection.take(learner) is None) == (kept is None)
    assert learner.net.classifier[0].weight.unique().tolist() == [9 if kept is None else kept]
    assert (tmp_path / "best.pth").exists() == (kept is not None)
