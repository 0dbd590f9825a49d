"""Which weights a run ends with where it scores seeds on masks between epochs: those that scored best."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from method.learner import Learner
from network.weights import LoadReport
from tool.checkpoint import save_weights

LEAST = 0.22  # a score that is not above it keeps nothing


class Selection:
    """The best score so far, which a checkpoint holds, and its weights in `best.pth` of the run's folder.

    Where none was above `LEAST` the run ends with its last weights.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "best.pth"
        self.best = 0.0

    def offer(self, learner: Learner, score: float) -> None:
        """Keep the weights of `learner` if `score`, in 0..1, is the best so far."""
        if score > max(self.best, LEAST):
            save_weights(self.path, learner.released()[""])
            self.best = score

    def take(self, learner: Learner) -> LoadReport | None:
        """Put the best weights into `learner`; None where none were kept. Raises `UserError` if their file is gone."""
        return learner.load(self.path) if self.best else None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.best = state_dict["best"]
