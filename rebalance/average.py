"""The moving average of a net's weights over its training's steps."""

import copy

import torch
from torch import Tensor, nn


class Average:
    """A net whose floating entries, parameters and statistics, follow those of one that trains; integers stay.

    PyTorch's AveragedModel moves integers too, as its rounding has it.

    decay: what of the average a step leaves.
    """

    def __init__(self, net: nn.Module, *, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """avg <- decay avg + (1 - decay) net, after a step."""
        average, current = (_floating(each) for each in (self.net, net))
        torch._foreach_mul_(average, self.decay)
        torch._foreach_add_(average, current, alpha=1 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        return self.net.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.net.load_state_dict(state)


def _floating(net: nn.Module) -> list[Tensor]:
    """Each of the net's floating tensors once, though it may have several names."""
    return [tensor for part in (net.parameters(), net.buffers()) for tensor in part if tensor.is_floating_point()]
