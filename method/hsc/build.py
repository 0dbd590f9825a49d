"""From a command line to what the engine trains: the method's config, its net, criterion and optimiser, their state."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from method.hsc.config import METHODS, HSCConfig, mend
from method.hsc.criterion import HSCCriterion, Objective
from network.resnet38_hsc import HSCNet
from network.weights import load_released_state_dict, released_state_dict
from tool.distributed import one_over_processes
from tool.optim import PortableSGD, parameter_groups, polynomial_schedule


def configure(
    method: str,
    *,
    without: list[str],
    overlap: float,
    foreground_share: float,
    second_view: int,
    crf_backend: str,
    sane: Sequence[str] = (),
) -> HSCConfig:
    """The config of `method` with the paper's ablation switches and the command line's numbers applied.

    Args:
        method: a key of `METHODS`. without: some of `config.ABLATIONS`.
        overlap: tau. foreground_share: alpha. second_view: side of view 2 in pixels, where the method has one.
        crf_backend: of the pseudo labels, one of `tool.flags.CRF_BACKENDS`.
        sane: oddities to mend, keys of `config.SANE`.
    """
    config = mend(METHODS[method], sane)
    return replace(
        config,
        terms=config.terms - set(without),
        bank=config.bank and "bank" not in without,
        cross=config.cross and "cross" not in without,
        second_view=second_view if config.second_view is not None else None,
        crf_backend=crf_backend,
        saliency=replace(config.saliency, overlap=overlap, foreground_share=foreground_share),
    )


class Training(NamedTuple):
    """Everything that a step changes, what it computes, and the norm that its gradient is cut to, if to any."""

    net: nn.Module
    criterion: HSCCriterion
    objective: nn.Module  # an `Objective` of the two, or what makes several processes' one
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: GradScaler  # does nothing but with fp16, whose gradients would vanish
    max_gradient: float | None

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it: tensors and plain values, the net under its released names."""
        return {
            "model": released_state_dict(self.net),
            "criterion": self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; raises `UserError` if the net differs."""
        load_released_state_dict(self.net, state["model"], source="last.ckpt")
        self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])


def build_training(
    net: nn.Module,
    config: HSCConfig,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    max_step: int,
    max_gradient: float | None = None,
    amp: str = "off",
    compiled: bool = False,
) -> Training:
    """`net` with its criterion (on the net's device) and the released optimiser.

    Args:
        lr: of backbone weights. momentum: **Q** 5e-4 as released, 0.9 is the sane value. max_step: steps over which
            the rate decays. max_gradient: the largest norm of a step's gradient, over all weights; None: any.
            amp: what the net's forward pass computes in, one of `tool.flags.AMP`. compiled: compile it, once
            for each view's shape.
    """
    device = next(net.parameters()).device
    groups = parameter_groups(net, head_layers=net.head_layers, lr=lr, weight_decay=weight_decay)
    optimizer = PortableSGD(groups, lr=lr, momentum=momentum)
    schedule = polynomial_schedule(optimizer, max_step=max_step)
    scaler = GradScaler(device.type, enabled=amp == "fp16")
    of_net = {"region_channels": net.region_channels} if isinstance(net, HSCNet) else {}
    criterion = HSCCriterion(config, normalisation=net.normalisation, **of_net).to(device)
    if compiled:  # as one graph, where the compiler would cut it at the buckets of several processes' gradients
        torch._dynamo.config.optimize_ddp = False
    # The net alone is compiled: it is most of the work, and the criterion's collectives would break its graph.
    forward = torch.compile(net, dynamic=False) if compiled else net
    objective = one_over_processes(Objective(forward, criterion, amp))
    return Training(net, criterion, objective, optimizer, schedule, scaler, max_gradient)
