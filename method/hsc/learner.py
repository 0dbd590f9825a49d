"""HSC, and the baselines that the same code trains, at work."""

from torch import nn

from method.hsc.config import HSCConfig
from method.hsc.criterion import HSCCriterion
from method.two_scales import TwoScaleLearner
from network.hsc import HSCNet
from tool.dataset import DataSet


class HSCLearner(TwoScaleLearner):
    """The net of a config on one or two scales of each batch."""

    def __init__(
        self, net: nn.Module, config: HSCConfig, data_set: DataSet, *, amp: str = "off", compiled: bool = False
    ) -> None:
        of_net = {"region_channels": net.region_channels} if isinstance(net, HSCNet) else {}
        criterion = HSCCriterion(config, num_classes=data_set.num_classes, normalisation=net.normalisation, **of_net)
        super().__init__(net, criterion, data_set, second_view=config.second_view, amp=amp, compiled=compiled)
