"""SEAM and PPC at work."""

from torch import nn

from method.ppc.config import PPCConfig
from method.ppc.criterion import PPCCriterion
from method.two_scales import TwoScaleLearner
from tool.dataset import DataSet


class PPCLearner(TwoScaleLearner):
    """The net of a config on two scales of each batch."""

    def __init__(
        self, net: nn.Module, config: PPCConfig, data_set: DataSet, *, amp: str = "off", compiled: bool = False
    ) -> None:
        criterion = PPCCriterion(config)
        super().__init__(net, criterion, data_set, second_view=config.second_view, amp=amp, compiled=compiled)
