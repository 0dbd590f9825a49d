"""Training DeepLab on label maps: what a step does, what it changes, and what is logged."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.normalisation import Normalisation
from tool.dataset import DataSet
from tool.device import autocast
from tool.distributed import one_over_processes, sum_over_processes, world_size
from tool.label_loss import segmentation_loss
from tool.log import RunLog
from tool.optim import PortableSGD, parameter_groups, polynomial_schedule
from tool.training import Training

LOG_EVERY = 20  # steps
PICTURE_EVERY = 200  # steps


def build_training(
    net: nn.Module,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    power: float,
    num_steps: int,
    lr_decay: int | None = None,
) -> Training:
    """`net`, which has its first weights, with SGD at rate `lr` (heads x 10, biases x 2), times
    (1 - i / (num_steps + 1))^power at step i from 0; with `lr_decay`, as deeplab-pytorch has it, times
    (1 - i / num_steps)^power, where i is the step in which each `lr_decay` steps began."""
    groups = parameter_groups(net, head_layers=net.head_layers, lr=lr, weight_decay=weight_decay)
    optimizer = PortableSGD(groups, lr=lr, momentum=momentum)
    last = num_steps + (lr_decay is None)
    schedule = polynomial_schedule(optimizer, max_step=last, power=power, every=lr_decay or 1)
    return Training(one_over_processes(net), {"model": net}, optimizer, schedule)


def loss_of_scales(logits: Sequence[Tensor], label: Tensor) -> Tensor:
    """The sum of `segmentation_loss` over a net's `logits`, (N, L, h, w) of any sizes, for each of which the label map
    (N, H, W) is brought to its grid."""
    losses = [segmentation_loss(scores, nearest_labels(label, scores.shape[2:])) for scores in logits]
    return torch.stack(losses).sum()


def nearest_labels(label: Tensor, size: Sequence[int]) -> Tensor:
    """A label map (N, H, W) at `size` (h, w), as PIL's nearest picks it: row i is row floor((i + 1/2) H / h)."""
    if label.shape[1:] == tuple(size):
        return label
    rows, columns = (_picked(old, new, label.device) for old, new in zip(label.shape[1:], size, strict=True))
    return label[:, rows[:, None], columns]


@lru_cache(maxsize=16)
def _picked(old: int, new: int, device: torch.device) -> Tensor:
    """Which of `old` rows `new` ones are. Kept, as a copy to a GPU makes the host wait; summed up as PIL does, whose
    rounding decides where a place lies between two rows."""
    places = np.cumsum([old / new / 2, *[old / new] * (new - 1)])
    return torch.from_numpy(places.astype(np.int64)).to(device)


def make_step(
    training: Training,
    *,
    amp: str,
    normalisation: Normalisation,
    data_set: DataSet,
    log: RunLog | None,
    iter_size: int = 1,
) -> Callable[[dict, int], dict[str, Tensor]]:
    """From a loader's batch and the number of steps done before it to the loss of the step that it makes, over all
    processes' images.

    Args:
        amp: what the net's products are computed in, one of `tool.flags.AMP`; weights, statistics and the loss stay
            float32.
        normalisation: what made the net's input; undone for pictures. data_set: that the labels are of.
        log: where every `PICTURE_EVERY`-th step shows its first image; None for a process that says nothing.
        iter_size: each batch passes the net in this many parts, and the step's loss is the mean of theirs. Part i holds
            every iter_size-th image from i on, so that several processes have the parts of one.
    """
    device = next(training.objective.parameters()).device

    def take_step(batch: dict, step: int) -> dict[str, Tensor]:
        is_shown = log is not None and (step + 1) % PICTURE_EVERY == 0
        image, label = (batch[name].to(device, non_blocking=True) for name in ("image", "label"))
        totals, shown = [], []

        def losses() -> Iterator[Tensor]:
            for part in range(iter_size):
                with autocast(device, amp):
                    output = training.objective(image[part::iter_size])
                logits = (output,) if isinstance(output, Tensor) else output
                loss = loss_of_scales(logits, label[part::iter_size]) / iter_size
                totals.append(loss.detach())
                if is_shown and part == 0:
                    shown.append(logits[-1][:1].detach())
                yield loss
                del output, logits, loss  # before the next part's are made

        training.step(losses())
        if is_shown:
            (scores,) = F.interpolate(shown[0].float(), label.shape[1:], mode="bilinear")
            parts = pictures(normalisation.rounded(image[0]), label[0], scores, data_set)
            log.picture(step + 1, "image, label, prediction", parts)
        return {"total": sum_over_processes(torch.stack(totals).sum()) / world_size()}

    return take_step


def pictures(image: Tensor, label: Tensor, logits: Tensor, data_set: DataSet) -> Tensor:
    """An image, its labels and its prediction side by side, uint8 (3, H, 3 W), in the data set's colours.

    image: uint8 (3, H, W). label: int64 (H, W). logits: (L, H, W).
    """
    palette = torch.from_numpy(data_set.palette).to(image.device)
    maps = [palette[labels].permute(2, 0, 1) for labels in (label, logits.argmax(0))]
    return torch.cat([image, *maps], dim=2)
