"""The training loop of HSC and of the baselines that the same code trains."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from data.images import load_rgb
from data.normalisation import IMAGENET, Normalisation
from method.hsc.build import Training
from method.hsc.config import BACKGROUND, NUM_LABELS
from tool.distributed import sum_over_processes, world_size
from tool.log import RunLog
from tool.loop import run_steps
from tool.metric import mean_average_precision
from tool.plot import blend, heat_colours, label_colours
from voc12.classes import VOC12


def training_step(
    training: Training,
    *,
    image: Tensor,
    saliency: Tensor | None,
    label: Tensor,
    show: Callable[[Tensor, Tensor | None], None] | None = None,
) -> dict[str, Tensor]:
    """One optimiser step; the losses of all processes' images, detached, with their sum as `total`.

    After it, with contrast, as `pseudo/background`, the share of background in the pseudo labels: near 0 or 1, contrast
    has only objects, or only background, to tell apart.

    Args:
        image: (N, 3, H, W), normalised. saliency: (N, 1, H, W) in 0..1, or None for the plain classifier.
        label: (N, 20), zeros and ones.
        show: called with the CAMs of `image` that the step is computed from, (N, 20 or 21, h, w), and the pseudo
            labels of `image` made from them, (N, h, w), or None.
    """
    net, criterion, objective, optimizer, schedule, scaler, max_gradient = training
    losses, cam = objective(image, saliency, label)
    pseudo = criterion.pseudo
    if show is not None:
        show(cam, None if pseudo is None else pseudo[0])
    total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(total).backward()
    if max_gradient is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), max_gradient)
    scaler.step(optimizer)
    scaler.update()
    schedule.step()
    # The total comes last: where a loss is not finite, the term that it came from is named first.
    figures = {**losses, "total": total}
    if pseudo is not None:
        figures["pseudo/background"] = (pseudo == BACKGROUND).float().mean()
    means = sum_over_processes(torch.stack(list(figures.values()))) / world_size()
    return dict(zip(figures, means, strict=True))


def train(
    training: Training,
    loader: Iterable[dict],
    *,
    device: torch.device,
    steps: range,
    seed: int,
    log: RunLog | None,
    log_every: int,
    picture_every: int,
    save: Callable[[int], None],
    save_due: Callable[[int], bool],
) -> dict[str, float]:
    """Train over `steps`, batches of `loader`; the other arguments, the losses returned and errors are `run_steps`'.

    Every `picture_every`-th step logs a picture of its first image, and waits for the device to do so.
    """

    def take_step(batch: dict, step: int) -> dict[str, Tensor]:
        image, label = (batch[name].to(device, non_blocking=True) for name in ("image", "label"))
        saliency = batch["saliency"].to(device, non_blocking=True) if "saliency" in batch else None

        def log_picture(cam: Tensor, pseudo: Tensor | None) -> None:
            saliency_map, pseudo_label = (None if maps is None else maps[0] for maps in (saliency, pseudo))
            maps = {"saliency": saliency_map, "pseudo": pseudo_label}
            parts = picture(image[0], cam[0], label[0], **maps, normalisation=training.net.normalisation)
            log.picture(step + 1, ", ".join(parts), torch.cat(list(parts.values()), dim=2))

        is_due = log is not None and (step + 1) % picture_every == 0
        show = log_picture if is_due else None
        return training_step(training, image=image, saliency=saliency, label=label, show=show)

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


def picture(
    image: Tensor,
    cam: Tensor,
    label: Tensor,
    *,
    saliency: Tensor | None,
    pseudo: Tensor | None,
    normalisation: Normalisation = IMAGENET,
) -> dict[str, Tensor]:
    """What a step sees of an image: the image, the CAM of its first class as heat over it, what else is given.

    Args:
        image: (3, H, W), normalised by `normalisation`. saliency: (1, H, W) in 0..1, or None.
        cam: the net's, (C, h, w); of 21 channels, the last of them background, shares of the softmax count, as in
            inference. The class's largest score gets the last colour.
        label: (20,), zeros and ones, the classes in VOC order. pseudo: pseudo labels (h, w), 0..20, or None.

    Returns:
        Pictures, uint8 (3, H, W), of "image", "CAM", "saliency" and "pseudo label", in this order.
    """
    size = image.shape[1:]
    scores = (cam.softmax(0) if len(cam) > len(label) else cam)[int(label.argmax())]
    scores = F.interpolate(scores[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    scores = (scores / (scores.max() + 1e-5)).nan_to_num()  # a loss that is no number is reported after this step
    pixels = normalisation.truncated(image).permute(1, 2, 0).cpu().numpy()
    parts = {"image": pixels, "CAM": blend(pixels, heat_colours(scores.cpu().numpy()), opacity=0.6)}
    if saliency is not None:
        parts["saliency"] = (saliency * 255).to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
    if pseudo is not None:
        labels = F.interpolate(((pseudo + 1) % NUM_LABELS)[None, None].float(), size)[0, 0]  # VOC's: background is 0
        parts["pseudo label"] = blend(pixels, label_colours(labels.byte().cpu().numpy(), VOC12), opacity=0.6)
    return {name: torch.from_numpy(part).permute(2, 0, 1) for name, part in parts.items()}


@torch.inference_mode()
def classifier_precision(
    net: nn.Module, ids: Sequence[str], *, image_root: Path, labels: dict[str, np.ndarray], device: torch.device
) -> float:
    """Mean average precision, 0..1, of the net's image scores on whole images `<image_root>/<id>.jpg`."""
    net.eval()
    scores = []
    for image_id in tqdm(ids, desc="score image labels", unit="image", disable=None, leave=False):
        image = net.normalisation(load_rgb(image_root / f"{image_id}.jpg"))[None].to(device)
        scores.append(net(image).logits[0].cpu().numpy())
    truth = np.stack([labels[image_id] for image_id in ids])
    return mean_average_precision(np.stack(scores)[:, : truth.shape[1]], truth)
