"""A net of the HSC family, trained step by step on tensors."""

from torch import Tensor, nn

from method import engine
from method.hsc.config import HSCConfig
from method.hsc.learner import HSCLearner
from tool.training import Training
from voc12.classes import VOC12


def build_training(
    net: nn.Module,
    config: HSCConfig,
    *,
    max_step: int,
    amp: str = "off",
    compiled: bool = False,
    **rates: float | None,
) -> Training:
    learner = HSCLearner(net, config, VOC12, amp=amp, compiled=compiled)
    return engine.build_training(learner, decay_steps=max_step, **rates)


def training_step(
    training: Training, *, image: Tensor, saliency: Tensor | None, label: Tensor, **options
) -> dict[str, Tensor]:
    batch = {"image": image, "label": label, **({} if saliency is None else {"saliency": saliency})}
    return engine.training_step(training, batch, **options)
