"""Sums of rows of a table, as many and as weighted as each result wants: what the lattice's filters are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tool.limits import lacked_memory

OLDEST_OF_TRITON = (7, 0)  # compute capability: V100 and newer


@dataclass
class Gather:
    """out[i] = the sum of weights[k] x values[sources[k]] over k from starts[i] to the next start; weights None: 1."""

    sources: Tensor
    starts: Tensor
    weights: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """`values`: float32 (Q, C), to (number of starts, C)."""
        kernel = gather_kernel(values.device) if values.is_cuda else None
        if kernel is not None:
            return kernel(self.sources, self.starts, self.weights, values.contiguous())
        return F.embedding_bag(self.sources, values, self.starts, mode="sum", per_sample_weights=self.weights)


@cache
def gather_kernel(device: torch.device) -> Callable[..., Tensor] | None:
    """The kernel for `device`, a GPU, from indices, starts, weights and values to sums; None where Triton cannot
    compile it. Raises what says that the memory is too small, which tells nothing of that.

    PyTorch's own gives each row a warp, whose threads take a column each: of few labels most have none.
    """
    try:
        if torch.cuda.get_device_capability(device) < OLDEST_OF_TRITON:  # where its compiler may end the process
            return None
        from tool.crf.gather_kernel import gathered

        one = torch.zeros(1, dtype=torch.int32, device=device)
        gathered(one, one, None, torch.zeros(1, 1, device=device))
    except Exception as error:  # no Triton in this PyTorch, no C compiler on this machine, a GPU that it does not know
        if lacked_memory(error):
            raise
        return None
    return gathered
