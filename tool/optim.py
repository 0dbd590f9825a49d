"""SGD's parameter groups and polynomial schedule, as this field's classifiers and segmenters train."""

from collections.abc import Collection

from torch import nn
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


def polynomial_schedule(optimizer: Optimizer, *, max_step: int, power: float = 0.9) -> LambdaLR:
    """Rate of step k (from 0): the group's own times (1 - k / max_step) ** power, constant once k reaches max_step.

    The released optimiser stops changing the rate there, so the last rate is that of step max_step - 1, not 0.
    """
    return LambdaLR(optimizer, lambda step: (1 - min(step, max_step - 1) / max_step) ** power)
