"""The loss of a segmentation net's scores against a label map, over all processes."""

from torch import Tensor
from torch.nn import functional as F

from tool.dataset import IGNORE
from tool.distributed import sum_over_processes, world_size


def segmentation_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross entropy over the labelled pixels of the global batch, 0 where there are none.

    logits: (N, L, H, W), float or bfloat16. label: int64 (N, H, W) of 0..L - 1, or 255 where a pixel is left out.

    With several processes each returns its own pixels' share, so scaled that the mean over processes, which is what
    they train on, is that of the global batch.
    """
    total = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="sum")
    count = sum_over_processes((label != IGNORE).sum())
    return total * world_size() / count.clamp(min=1)
