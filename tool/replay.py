"""Work on a GPU that is recorded once and then replayed, so that the host need not start each of its kernels again."""

from collections.abc import Callable

import torch
from torch import Tensor


class Replay:
    """`function` of tensors on one GPU, recorded (a CUDA graph) at the first call; later calls only replay it.

    It has to take tensors of the first call's shapes and types each time, compute without a gradient, never make the
    host wait, and keep nothing that it allocates. The first call waits for the GPU.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.graph: torch.cuda.CUDAGraph | None = None

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensor:
        if self.graph is None:
            self._record(inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.output.clone()

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = [given.clone() for given in inputs]
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(inputs[0].device)
        stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
        with torch.cuda.stream(stream):
            self.function(*self.inputs)  # libraries set themselves up at their first call
        # Other threads go on with what they do, as a loader's that pins memory.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self.output = self.function(*self.inputs)
        self.graph = graph
