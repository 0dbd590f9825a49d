"""A step of stage 1's training, of any method."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.amp import GradScaler

from method.learner import FIRST, Batch, Learner, Losses, Moment
from tool.distributed import means_over_processes, one_over_processes
from tool.log import RunLog
from tool.optim import PortableSGD, polynomial_schedule
from tool.training import Training


def build_training(
    learner: Learner,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    decay_steps: int,
    power: float = 0.9,
    nesterov: bool = False,
    max_gradient: float | None = None,
) -> Training:
    """`learner`, which is on its device, with SGD and the polynomial schedule.

    Args:
        lr: of backbone weights. momentum: **Q** 5e-4 as released, 0.9 is the sane value. decay_steps: over which the
            rate decays, by `power`. nesterov: whether the momentum is Nesterov's.
        max_gradient: the largest norm of a step's gradient, over all weights; None: any.
    """
    groups = learner.groups(lr=lr, weight_decay=weight_decay)
    optimizer = PortableSGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    device = next(learner.parameters()).device
    return Training(
        objective=one_over_processes(learner),
        saved=learner.saved(),
        optimizer=optimizer,
        schedule=polynomial_schedule(optimizer, max_step=decay_steps, power=power),
        scaler=GradScaler(device.type, enabled=learner.amp == "fp16"),
        max_gradient=max_gradient,
    )


def training_step(
    training: Training,
    batch: Batch,
    moment: Moment = FIRST,
    *,
    show: Callable[[dict[str, Tensor]], None] | None = None,
) -> dict[str, Tensor]:
    """One optimiser step; the losses of all processes' images, detached, their sum as `total`, and what is watched.

    batch: as `Learner.forward` takes it. show: called with the step's pictures, where the method has some.
    """
    losses: Losses = training.objective(batch, moment)
    if show is not None and losses.pictures is not None:
        show(losses.pictures())
    total = torch.stack(list(losses.terms.values())).sum()
    training.step(total)
    # The total comes last: where a loss is not finite, the term that it came from is named first.
    return means_over_processes({**losses.terms, "total": total, **losses.watched})


def make_step(
    training: Training, *, steps_per_epoch: int, seed: int, log: RunLog | None, picture_every: int
) -> Callable[[dict, int], dict[str, Tensor]]:
    """From a loader's batch and the number of steps done before it to the losses of the step that it makes.

    Every `picture_every`-th step logs a picture of its first image, and waits for the device to do so. log: None for a
    process that says nothing.
    """
    device = next(training.objective.parameters()).device

    def take_step(batch: dict, step: int) -> dict[str, Tensor]:
        tensors = {name: value for name, value in batch.items() if name != "id"}
        on_device = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}

        def log_pictures(parts: dict[str, Tensor]) -> None:
            log.picture(step + 1, ", ".join(parts), torch.cat(list(parts.values()), dim=2))

        is_due = log is not None and (step + 1) % picture_every == 0
        moment = Moment(step, step // steps_per_epoch, seed)
        return training_step(training, on_device, moment, show=log_pictures if is_due else None)

    return take_step
