"""The training loop of HSC and of the baselines that the same code trains."""

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from method.hsc.criterion import HSCCriterion, two_scales
from tool.log import LossHistory, RunLog


def training_step(
    net: nn.Module,
    criterion: HSCCriterion,
    optimizer: Optimizer,
    schedule: LRScheduler,
    *,
    image: Tensor,
    saliency: Tensor | None,
    label: Tensor,
) -> dict[str, Tensor]:
    """One optimiser step; the losses, detached, with their sum as `total`.

    Args:
        image: (N, 3, H, W), normalised. saliency: (N, 1, H, W) in 0..1, or None for the plain classifier.
        label: (N, 20), zeros and ones.
    """
    views = two_scales(image, saliency, criterion.config.second_view)
    outputs = [net(view.image) for view in views]
    losses = criterion(outputs, views, label)
    total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    schedule.step()
    return {name: loss.detach() for name, loss in {"total": total, **losses}.items()}


def seed_step(seed: int, step: int) -> None:
    """Seed dropout from (seed, step) alone, so that a resumed run draws what an undisturbed one draws."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))


def train(
    net: nn.Module,
    criterion: HSCCriterion,
    loader: Iterable[dict],
    optimizer: Optimizer,
    schedule: LRScheduler,
    *,
    device: torch.device,
    first_step: int,
    num_steps: int,
    seed: int,
    log: RunLog,
    log_every: int,
    save: Callable[[int], None],
    save_every: int,
) -> dict[str, float]:
    """Train from step `first_step` to `num_steps`; `loader` yields the batches of exactly those steps.

    Args:
        save: called with the number of steps done every `save_every` steps and at the end, never after a loss that
            is not finite.

    Returns:
        Mean losses since the last log line.

    Raises:
        UserError: a loss is not finite.
    """
    net.train()
    history, means = LossHistory(), {}
    images_seen, since = 0, time.perf_counter()
    bar = tqdm(total=num_steps, initial=first_step, desc="train", unit="step", disable=None, dynamic_ncols=True)
    for step, batch in enumerate(loader, start=first_step + 1):
        seed_step(seed, step)
        image, label = (batch[name].to(device, non_blocking=True) for name in ("image", "label"))
        saliency = batch["saliency"].to(device, non_blocking=True) if "saliency" in batch else None
        losses = training_step(net, criterion, optimizer, schedule, image=image, saliency=saliency, label=label)
        history.add(losses, batch["id"])
        images_seen += len(label)
        bar.update()

        save_now = step % save_every == 0 or step == num_steps
        if save_now or step % log_every == 0:
            means = history.drain()
            speed = images_seen / (time.perf_counter() - since)
            images_seen, since = 0, time.perf_counter()
            bar.set_postfix(loss=f"{means['total']:.3f}", images_per_s=f"{speed:.1f}")
            log.line(f"step {step}/{num_steps} " + " ".join(f"{k} {v:.4f}" for k, v in means.items()), console=False)
            log.scalars(step, {f"loss/{name}": value for name, value in means.items()})
            log.scalars(step, {"lr": optimizer.param_groups[0]["lr"], "images_per_s": speed})
        if save_now:
            save(step)
    bar.close()
    return means
