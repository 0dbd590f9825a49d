"""The training loop of HSC and of the baselines that the same code trains."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from method.hsc.build import Training
from method.hsc.criterion import two_scales
from tool.device import autocast
from tool.distributed import average_gradients, sum_over_processes, world_size
from tool.log import RunLog
from tool.loop import run_steps
from tool.metric import mean_average_precision
from voc12.dataset import load_rgb
from voc12.transforms import normalise


def training_step(training: Training, *, image: Tensor, saliency: Tensor | None, label: Tensor) -> dict[str, Tensor]:
    """One optimiser step; the losses of all processes' images, detached, with their sum as `total`.

    Args:
        image: (N, 3, H, W), normalised. saliency: (N, 1, H, W) in 0..1, or None for the plain classifier.
        label: (N, 20), zeros and ones.
    """
    net, forward, criterion, optimizer, schedule, scaler, max_gradient, amp = training
    views = two_scales(image, saliency, criterion.config.second_view)
    with autocast(image.device, amp):
        outputs = [forward(view.image) for view in views]
    losses = criterion(outputs, views, label)
    total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(total).backward()
    average_gradients(net.parameters())
    if max_gradient is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), max_gradient)
    scaler.step(optimizer)
    scaler.update()
    schedule.step()
    # The total comes last: where a loss is not finite, the term that it came from is named first.
    names = [*losses, "total"]
    means = sum_over_processes(torch.stack([*losses.values(), total])) / world_size()
    return dict(zip(names, means, strict=True))


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
    save_due: Callable[[int], bool],
) -> dict[str, float]:
    """Train over `steps`, batches of `loader`; arguments, losses returned and errors as those of `run_steps`."""

    def take_step(batch: dict, _: int) -> dict[str, Tensor]:
        image, label = (batch[name].to(device, non_blocking=True) for name in ("image", "label"))
        saliency = batch["saliency"].to(device, non_blocking=True) if "saliency" in batch else None
        return training_step(training, image=image, saliency=saliency, label=label)

    training.net.train()
    return run_steps(
        take_step,
        loader,
        optimizer=training.optimizer,
        steps=steps,
        seed=seed,
        log=log,
        log_every=log_every,
        save=save,
        save_due=save_due,
    )


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
