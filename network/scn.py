"""The superpixel network (SCN): the SpixelFCN of Yang et al. (CVPR 2020), as MSA trains it (paper/method.md, MSA)."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.normalisation import IMAGENET, Normalisation
from network.fold import fold_norms
from network.names import under_own_names
from network.owners import OF_SCN, require_own
from network.weights import LoadReport, misfits, read_weights
from tool.cli import raise_problems
from tool.device import place_for_inference

SLOPE = 0.1  # of the leaky relu
OFFSETS = 9  # of the cells around a pixel, its own in the middle
CHANNELS = (16, 32, 64, 128, 256)  # of the levels, each half the one before
UNUSED = ("pred_mask1", "pred_mask2", "pred_mask3")  # **Q** in the checkpoint, and never used


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE)
    )


def _deconv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE))


class SCN(nn.Module):
    """A U-Net of five levels that says of each pixel to which of nine cells it belongs, under the released names."""

    normalisation: Normalisation = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        before = 3
        for level, channels in enumerate(CHANNELS):
            setattr(self, f"conv{level}a", _conv(before, channels, stride=1 if level == 0 else 2))
            setattr(self, f"conv{level}b", _conv(channels, channels))
            before = channels
        for level in reversed(range(len(CHANNELS) - 1)):
            channels = CHANNELS[level]
            setattr(self, f"deconv{level}", _deconv(CHANNELS[level + 1], channels))
            setattr(self, f"conv{level}_1", _conv(2 * channels, channels))
            setattr(self, f"pred_mask{level}", nn.Conv2d(channels, OFFSETS, 3, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """The association, float32 (N, 9, H, W), of `image` (N, 3, H, W), normalised, H and W multiples of 16."""
        levels = []
        for level in range(len(CHANNELS)):
            image = getattr(self, f"conv{level}b")(getattr(self, f"conv{level}a")(image))
            levels.append(image)
        for level in reversed(range(len(CHANNELS) - 1)):
            both = torch.cat([levels[level], getattr(self, f"deconv{level}")(image)], dim=1)
            image = getattr(self, f"conv{level}_1")(both)
        return F.softmax(self.pred_mask0(image).float(), dim=1)


def parameter_groups(net: SCN) -> list[list[nn.Parameter]]:
    """Biases and weights of `net`, norms' too, in two groups."""
    named = list(net.named_parameters())
    return [[value for name, value in named if name.endswith("bias") == is_bias] for is_bias in (True, False)]


def load_scn(net: SCN, path: str | Path, flag: str = "--weights") -> LoadReport:
    """Put trained weights into `net`, with or without `module.` before their names, with or without the unused heads.

    Raises `UserError` as `read_weights`, and for a file of another net or one that lacks tensors.
    """
    own = net.state_dict()
    state = under_own_names(read_weights(path, flag), own, source=str(path))
    require_own(state, OF_SCN, source=f"{flag} {path}")
    raise_problems(f"{flag} {path}: tensors that do not fit the superpixel network", list(misfits(state, own).values()))
    report = LoadReport.of(str(path), state, own)
    raise_problems(
        f"{flag} {path}: expected a trained superpixel network, these tensors are missing",
        [name for name in report.missing if name.split(".")[0] not in UNUSED],
    )
    net.load_state_dict({name: value for name, value in state.items() if name in own}, strict=False)
    return report


def frozen_scn(path: str | Path, amp: str, device: torch.device, *, flag: str = "--weights") -> SCN:
    """The net with the weights at `path`, of `flag`, as a process asks it on `device`. Raises as `load_scn`."""
    net = SCN()
    load_scn(net, path, flag)
    return place_for_inference(fold_norms(net.eval()), device, amp)
