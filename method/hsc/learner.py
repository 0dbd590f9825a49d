"""HSC, and the baselines that the same code trains, at work."""

from typing import NamedTuple

from torch import nn

from method.hsc.config import HSCConfig
from method.hsc.criterion import HSCCriterion
from method.learner import Batch, Learner, Losses, Moment
from method.picture import picture
from method.terms.maps import View, two_scales
from network.resnet38_cls import ClsOutput
from network.resnet38_hsc import HSCNet, HSCOutput
from tool.dataset import DataSet


class Passes(NamedTuple):
    """The views of a batch, and what the net gives of each."""

    views: list[View]
    outputs: list[HSCOutput] | list[ClsOutput]


class HSCLearner(Learner):
    """The net of a config on one or two scales of each batch."""

    def __init__(
        self, net: nn.Module, config: HSCConfig, data_set: DataSet, *, amp: str = "off", compiled: bool = False
    ) -> None:
        of_net = {"region_channels": net.region_channels} if isinstance(net, HSCNet) else {}
        criterion = HSCCriterion(config, num_classes=data_set.num_classes, normalisation=net.normalisation, **of_net)
        super().__init__(net, criterion.to(next(net.parameters()).device), amp=amp, compiled=compiled)
        self.config, self.data_set = config, data_set

    def outputs(self, batch: Batch) -> Passes:
        """batch: beside image and label, where saliency is a term, saliency (N, 1, H, W) in 0..1."""
        views = two_scales(batch["image"], batch.get("saliency"), self.config.second_view)
        return Passes(views, [self.training_net(view.image) for view in views])

    def losses(self, outputs: Passes, batch: Batch, moment: Moment) -> Losses:
        """The config's terms. With contrast, `pseudo/background`, the share of background in the pseudo labels, is
        watched: near 0 or 1, contrast has only objects, or only background, to tell apart."""
        label = batch["label"]
        terms = self.criterion(outputs.outputs, outputs.views, label)
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
