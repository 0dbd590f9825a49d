"""A learner whose losses compare two scales of each image: what SEAM and the methods on it share."""

from typing import Any, NamedTuple

from torch import nn

from method.learner import Batch, Learner, Losses, Moment
from method.picture import picture
from method.terms.maps import View, two_scales
from tool.dataset import DataSet


class Passes(NamedTuple):
    """The views of a batch, and what the net gives of each."""

    views: list[View]
    outputs: list[Any]


class TwoScaleLearner(Learner):
    """A net on one or two scales of each batch.

    Args:
        criterion: from outputs and views, one a view, labels and the `Moment` to a scalar for each term. Its `pseudo`
            are the pseudo labels of the last step, (2, N, h, w) with background last, or None.
        second_view: the side of view 2, pixels; None: one view only.
    """

    def __init__(
        self,
        net: nn.Module,
        criterion: nn.Module,
        data_set: DataSet,
        *,
        second_view: int | None,
        amp: str = "off",
        compiled: bool = False,
    ) -> None:
        super().__init__(net, criterion.to(next(net.parameters()).device), amp=amp, compiled=compiled)
        self.data_set, self.second_view = data_set, second_view

    def outputs(self, batch: Batch) -> Passes:
        """batch: beside image and label, where saliency is a term, saliency (N, 1, H, W) in 0..1."""
        views = two_scales(batch["image"], batch.get("saliency"), self.second_view)
        return Passes(views, [self.training_net(view.image) for view in views])

    def losses(self, outputs: Passes, batch: Batch, moment: Moment) -> Losses:
        """The criterion's terms. With contrast, `pseudo/background`, the share of background in the pseudo labels, is
        watched: near 0 or 1, contrast has only objects, or only background, to tell apart."""
        label = batch["label"]
        terms = self.criterion(outputs.outputs, outputs.views, label, moment)
        pseudo, cam = self.criterion.pseudo, outputs.outputs[0].cam.detach()
        watched = {} if pseudo is None else {"pseudo/background": (pseudo == label.shape[1]).float().mean()}

        def pictures() -> dict:
            saliency = batch["saliency"][0] if "saliency" in batch else None
            first = None if pseudo is None else pseudo[0, 0]
            return picture(
                batch["image"][0],
                cam[0],
                label[0],
                self.data_set,
                normalisation=self.net.normalisation,
                saliency=saliency,
                pseudo=first,
            )

        return Losses(terms, watched, pictures)
