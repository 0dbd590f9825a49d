"""The training loop of HSC and of the baselines that the same code trains."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from method.hsc.build import Training
from method.hsc.criterion import two_scales
from tool.log import LossHistory, RunLog
from tool.metric import mean_average_precision
from voc12.dataset import load_rgb
from voc12.transforms import normalise


def training_step(
    training: Training, *, image: Tensor, saliency: Tensor | None, label: Tensor, step: int
) -> dict[str, Tensor]:
    """One optimiser step; the losses, detached, with their sum as `total`.

    Args:
        step: steps done before.
        image: (N, 3, H, W), normalised. saliency: (N, 1, H, W) in 0..1, or None for the plain classifier.
        label: (N, 20), zeros and ones.
    """
    net, criterion, optimizer, schedule = training
    views = two_scales(image, saliency, criterion.config.second_view)
    outputs = [net(view.image) for view in views]
    losses = criterion(outputs, views, label, step=step)
    total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    schedule.step()
    # The total comes last: where a loss is not finite, the term that it came from is named first.
    return {name: loss.detach() for name, loss in {**losses, "total": total}.items()}


def seed_step(seed: int, step: int) -> None:
    """Seed dropout from (seed, step) alone, so that a resumed run draws what an undisturbed one draws."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))


def train(
    training: Training,
    loader: Iterable[dict],
    *,
    device: torch.device,
    steps: range,
    seed: int,
    log: RunLog,
    log_every: int,
    save: Callable[[int], None],
    save_every: int,
) -> dict[str, float]:
    """Train over `steps` (counted from 0 for a fresh run); `loader` yields the batches of exactly those.

    Args:
        save: called with the number of steps done every `save_every` steps and at the end, never after a loss that
            is not finite.

    Returns:
        Mean losses since the last log line.

    Raises:
        UserError: a loss is not finite.
    """
    training.net.train()
    history, means = LossHistory(), {}
    images_seen, since = 0, time.perf_counter()
    bar = tqdm(total=steps.stop, initial=steps.start, desc="train", unit="step", disable=None, dynamic_ncols=True)
    for step, batch in zip(range(steps.start + 1, steps.stop + 1), loader, strict=True):
        seed_step(seed, step)
        image, label = (batch[name].to(device, non_blocking=True) for name in ("image", "label"))
        saliency = batch["saliency"].to(device, non_blocking=True) if "saliency" in batch else None
        losses = training_step(training, image=image, saliency=saliency, label=label, step=step - 1)
        history.add(losses, batch["id"])
        images_seen += len(label)
        bar.update()

        save_now = step % save_every == 0 or step == steps.stop
        if save_now or step % log_every == 0:
            means = history.drain()
            speed = images_seen / (time.perf_counter() - since)
            images_seen, since = 0, time.perf_counter()
            bar.set_postfix(loss=f"{means['total']:.3f}", images_per_s=f"{speed:.1f}")
            log.line(f"step {step}/{steps.stop} " + " ".join(f"{k} {v:.4f}" for k, v in means.items()), console=False)
            log.scalars(step, {f"loss/{name}": value for name, value in means.items()})
            log.scalars(step, {"lr": training.optimizer.param_groups[0]["lr"], "images_per_s": speed})
        if save_now:
            save(step)
    bar.close()
    return means


@torch.inference_mode()
def classifier_precision(
    net: nn.Module, ids: Sequence[str], *, image_root: Path, labels: dict[str, np.ndarray], device: torch.device
) -> float:
    """Mean average precision, 0..1, of the net's image scores on whole images `<image_root>/<id>.jpg`."""
    net.eval()
    scores = []
    for image_id in tqdm(ids, desc="score image labels", unit="image", disable=None):
        image = normalise(load_rgb(image_root / f"{image_id}.jpg"))[None].to(device)
        scores.append(net(image).logits[0].cpu().numpy())
    truth = np.stack([labels[image_id] for image_id in ids])
    return mean_average_precision(np.stack(scores)[:, : truth.shape[1]], truth)
