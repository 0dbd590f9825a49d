"""SGD's parameter groups and polynomial schedule, as this field's classifiers and segmenters train."""

import copy
import itertools
from collections import defaultdict
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def parameter_groups(
    model: nn.Module, *, head_layers: Collection[nn.Module], lr: float, weight_decay: float
) -> list[dict]:
    """Four groups: backbone weights (lr x 1), backbone biases (x 2), head weights (x 10), head biases (x 20).

    Biases are not decayed. Only parameters that require a gradient are in, so a frozen layer is in none; a trained
    norm's scale counts as a weight. A head layer is one of `head_layers` or lies inside one.
    """
    in_head = {id(module) for layer in head_layers for module in layer.modules()}
    groups = [
        {"params": [], "lr": lr * factor, "weight_decay": 0.0 if bias else weight_decay}
        for factor, bias in ((1, False), (2, True), (10, False), (20, True))
    ]
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                groups[2 * (id(module) in in_head) + (name == "bias")]["params"].append(parameter)
    return groups


class PortableSGD(torch.optim.SGD):
    """SGD that never makes the host wait for a GPU, with a state that goes on on any device.

    On GPUs a step is one fused kernel, which looks itself whether fp16's scaler found gradients that are not finite.
    """

    def __init__(self, groups: list[dict], *, lr: float, momentum: float, nesterov: bool = False) -> None:
        on_gpu = all(parameter.is_cuda for group in groups for parameter in group["params"])
        super().__init__(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=on_gpu or None)

    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"] if group["fused"] and group["momentum"] else ():
                # The kernel would begin one itself, and leave it undefined where the first gradient is not finite.
                if parameter.grad is not None and self.state[parameter].get("momentum_buffer") is None:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        super().step(closure)

    def state_dict(self) -> dict[str, Any]:
        """Of plain SGD, whichever computes here."""
        state = super().state_dict()
        return {**state, "param_groups": [{**group, "fused": None} for group in state["param_groups"]]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        fused = self.param_groups[0]["fused"]
        groups = [{**group, "fused": fused} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})


def lie_as_weights(optimizer: Optimizer) -> None:
    """Let what `optimizer` remembers of its weights lie in memory as they do, which a state of another device need not.

    SGD's fused kernel asks for it; without it Adam takes the weights one by one.
    """
    for parameter, entry in optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                entry[name] = torch.empty_like(parameter).copy_(value)


def memory_of(optimizer: Optimizer) -> list[dict[str, Tensor]]:
    """What `optimizer` will remember of each of its parameters, in the groups' order, after a first gradient: tensors
    of the parameter's own kind and shape, and others as they are (Adam's step). Their values mean nothing.

    Found by a step of an optimiser like it on small stand-ins, so that it holds for any.
    """
    small = (2, 3)
    dry = copy.copy(optimizer)
    stand_ins = [[torch.zeros(small, dtype=p.dtype) for p in group["params"]] for group in optimizer.param_groups]
    dry.state = defaultdict(dict)
    dry.param_groups = [
        {**group, "params": params, "fused": None, "foreach": None}
        for group, params in zip(optimizer.param_groups, stand_ins, strict=True)
    ]
    for stand_in in itertools.chain(*stand_ins):
        stand_in.grad = torch.zeros_like(stand_in)
    dry.step()
    return [
        {
            name: parameter if value.shape == small else value
            for name, value in dry.state[stand_in].items()
            if value is not None
        }
        for group, params in zip(optimizer.param_groups, stand_ins, strict=True)
        for parameter, stand_in in zip(group["params"], params, strict=True)
    ]


def polynomial_schedule(optimizer: Optimizer, *, max_step: int, power: float = 0.9, every: int = 1) -> LambdaLR:
    """Rate of step k (from 0): the group's own times (1 - k / max_step) ** power, constant once k reaches max_step.

    The released optimiser stops changing the rate there, so the last rate is that of step max_step - 1, not 0. It
    changes at each `every`-th step alone.
    """

    def factor(step: int) -> float:
        step = min(step, max_step - 1)
        return (1 - (step - step % every) / max_step) ** power

    return LambdaLR(optimizer, factor)
