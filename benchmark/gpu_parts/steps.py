"""Stage 1's training steps as the parts take them: a net and its batch on the device, without files."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from method.hsc.build import Training, build_training, configure
from method.hsc.config import HSCConfig
from network.build import build_network
from tool.device import place

Batch = dict[str, Tensor]


def method_config(
    method: str, *, second_view: int, crf_backend: str = "auto", without: Sequence[str] = ()
) -> HSCConfig:
    return configure(
        method, without=without, overlap=0.5, foreground_share=0.5, second_view=second_view, crf_backend=crf_backend
    )


def make_training(
    config: HSCConfig, device: torch.device, *, width: float, amp: str, compiled: bool = False, frozen: bool = True
) -> Training:
    """A net with the same random weights each time; trained from scratch (not `frozen`) as the demo does."""
    torch.manual_seed(0)
    net = place(build_network(config.network, width=width, frozen=frozen, **config.net), device, amp)
    rates = {"lr": 1e-4, "momentum": 5e-4} if frozen else {"lr": 0.05, "momentum": 0.9, "max_gradient": 1.0}
    training = build_training(net, config, **rates, weight_decay=5e-4, max_step=10**6, amp=amp, compiled=compiled)
    net.train()
    return training


def make_batch(images: int, crop: int, *, seed: int = 0) -> Batch:
    """Blurred images, saliency maps with edges, labels of one to three classes, on the CPU; under `id` their names."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(images, 3, crop // 8, crop // 8, generator=generator)
    image = F.interpolate(image, size=(crop, crop), mode="bilinear")
    label = torch.zeros(images, 20)
    for row in label:
        row[torch.randperm(20, generator=generator)[: int(torch.randint(1, 4, (), generator=generator))]] = 1
    saliency = (image.mean(dim=1, keepdim=True) > 0).float()
    return {"image": image, "saliency": saliency, "label": label, "id": [f"image {n}" for n in range(images)]}


def inputs_of(batch: Batch, config: HSCConfig, device: torch.device) -> Batch:
    """What `training_step` takes of a batch, on the device."""
    inputs = {name: batch[name].to(device, non_blocking=True) for name in ("image", "saliency", "label")}
    if "sal" not in config.terms:
        inputs["saliency"] = None
    return inputs
