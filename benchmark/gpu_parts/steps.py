"""Stage 1's training steps as the parts take them: a net and its batch on the device, without files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn import functional as F

from method import METHODS
from method.base import NetFlags
from method.crt.config import CRTConfig
from method.engine import build_training
from method.hsc import config as hsc
from method.ppc import config as ppc
from network.scn import SCN
from tool.training import Training
from voc12.classes import VOC12

Batch = dict[str, Tensor]
CONFIGURE = {**dict.fromkeys(hsc.CONFIGS, hsc.configure), **dict.fromkeys(ppc.CONFIGS, ppc.configure)}


def make_training(
    method: str,
    device: torch.device,
    *,
    width: float,
    amp: str,
    second_view: int,
    without: Sequence[str] = (),
    compiled: bool = False,
    frozen: bool = True,
    released: bool = False,
) -> Training:
    """A method's net with the same random weights each time; trained from scratch (not `frozen`) as the demo does.

    width, second_view, without: of the methods that have them; crt and msa have small nets of one width, crt crops of
    224, unless `released` says that they have their own; msa a superpixel network of random weights.
    """
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        if method in CONFIGURE:
            config = CONFIGURE[method](method, without=without, second_view=second_view)
        elif method == "crt":
            config = CRTConfig() if released else CRTConfig(transformer="deit_tiny_patch16_224", side=224)
        else:
            scn = Path(folder, "scn.pth")
            torch.save(SCN().state_dict(), scn)
            config = replace(METHODS[method].configure(None), scn=str(scn))
        backbone = METHODS[method].defaults.get("backbone", "resnet38d") if released else "resnet18"
        flags = NetFlags(width=width, frozen=frozen) if method in CONFIGURE else NetFlags(backbone, frozen=frozen)
        learner = METHODS[method].learner(config, flags, VOC12, device=device, amp=amp, compiled=compiled)
    rates = {"lr": 1e-4, "momentum": 5e-4} if frozen else {"lr": 0.05, "momentum": 0.9, "max_gradient": 1.0}
    learner.train()
    return build_training(learner, **rates, weight_decay=5e-4, decay_steps=10**6)


def make_batch(images: int, crop: int, *, seed: int = 0) -> Batch:
    """Blurred images, saliency maps with edges, labels of one to three classes, on the CPU; under `id` their names."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(images, 3, crop // 8, crop // 8, generator=generator)
    image = F.interpolate(image, size=(crop, crop), mode="bilinear")
    label = torch.zeros(images, VOC12.num_classes)
    for row in label:
        classes = torch.randperm(VOC12.num_classes, generator=generator)
        row[classes[: int(torch.randint(1, 4, (), generator=generator))]] = 1
    saliency = (image.mean(dim=1, keepdim=True) > 0).float()
    return {"image": image, "saliency": saliency, "label": label, "id": [f"image {n}" for n in range(images)]}


def inputs_of(batch: Batch, method: str, device: torch.device) -> Batch:
    """What a step of a method takes of a batch, on the device."""
    names = ("image", "label", *METHODS[method].reads)
    return {name: batch[name].to(device, non_blocking=True) for name in names}
