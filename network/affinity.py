"""AffinityNet (Ahn and Kwak, CVPR 2018): features whose distance says whether near cells belong together."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from network.backbones import build_backbone
from network.classifier import Classifier
from network.names import under_own_names
from network.owners import OF_AFFINITY_NET, require_own
from network.weights import (
    LoadReport,
    load_released_state_dict,
    read_weights,
    released_state_dict,
)
from tool.cli import raise_problems
from tool.pairs import Pairs

CHANNELS = (64, 128, 256)  # of what conv4, conv5 and conv6 become, at any width
HEADS = ("f8_3", "f8_4", "f8_5", "f9")


class PairDistance(Function):
    """The mean absolute difference of the features of each pair's cells.

    Nothing but the features is kept for the gradient: the differences of all pairs are 34 times as large, and read from
    memory again they cost more time than computed again.
    """

    @staticmethod
    def forward(ctx, features: Tensor, pairs: Pairs) -> Tensor:
        """features (N, C, h, w) -> (N, P)."""
        ctx.save_for_backward(features)
        ctx.pairs = pairs
        parts = []
        for image in _in_cache(features):
            means = [
                (image[(..., *end)] - image[(..., *start)]).abs_().mean(1).flatten(1) for start, end in _both(pairs)
            ]
            parts.append(torch.cat(means, dim=1) if means else image.new_zeros(len(image), 0))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (features,) = ctx.saved_tensors
        result = torch.zeros_like(features)
        sizes = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in ctx.pairs.starts]
        images = zip(*map(_in_cache, (features, result, gradient / features.shape[1])), strict=True)
        for image, part, of_image in images:
            for (start, end), of_offset in zip(_both(ctx.pairs), of_image.split(sizes, dim=1), strict=True):
                sign = (image[(..., *end)] - image[(..., *start)]).sign_()
                change = sign.mul_(of_offset.view(len(image), 1, *sign.shape[2:]))
                part[(..., *end)] += change
                part[(..., *start)] -= change
        return result, None


def _in_cache(values: Tensor) -> tuple[Tensor, ...]:
    """Image by image on a CPU, whose cache holds the differences of one."""
    return values.split(1) if values.device.type == "cpu" else (values,)


def _both(pairs: Pairs) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    return list(zip(pairs.starts, pairs.ends, strict=True))


def affinities(features: Tensor, pairs: Pairs) -> Tensor:
    """exp(-mean over channels |x(i + o) - x(i)|) of each pair, (N, P) in (0, 1], float32 as `features` (N, C, h, w)."""
    return torch.exp(-PairDistance.apply(features, pairs))


class AffNet(Classifier):
    """Backbone and heads of AffinityNet, under the released names. Nothing is detached: all learns from the pairs."""

    def __init__(self, backbone: nn.Module, *, frozen: bool = True) -> None:
        super().__init__(backbone, frozen=frozen)
        layers = [nn.Conv2d(*both, 1, bias=False) for both in zip(backbone.channels, CHANNELS, strict=True)]
        self.f8_3, self.f8_4, self.f8_5 = layers
        self.f9 = nn.Conv2d(sum(CHANNELS), sum(CHANNELS), 1, bias=False)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)
        self.finish()

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        """The layers that learn at the head's rate."""
        return tuple(getattr(self, name) for name in HEADS)

    def features(self, image: Tensor) -> Tensor:
        """float32 (N, 448, h, w), an eighth of `image` (N, 3, H, W), normalised."""
        return self.head(*self.backbone(image))

    def head(self, conv4: Tensor, conv5: Tensor, conv6: Tensor) -> Tensor:
        """The features from the backbone's taps."""
        parts = [F.elu(self.f8_3(conv4)), F.elu(self.f8_4(conv5)), F.elu(self.f8_5(conv6))]
        return F.elu(self.f9(torch.cat(parts, dim=1))).float()

    def forward(self, image: Tensor, pairs: Pairs) -> Tensor:
        """The affinities, float32 (N, P), of the `pairs` of the grid of `image` (N, 3, H, W)."""
        return affinities(self.features(image), pairs)


def build_affinity_net(*, backbone: str = "resnet38d", width: float = 1.0, frozen: bool = True) -> AffNet:
    """With random weights, in training mode; arguments and errors are `network.build.build_network`'s."""
    return AffNet(build_backbone(backbone, width=width), frozen=frozen)


def load_first_weights(net: AffNet, path: str | Path) -> LoadReport:
    """Put into `net` what its training starts from: ImageNet's or a classifier's weights of the backbone, or all of
    AffinityNet's. Raises as `read_weights` and `load_released_state_dict`."""
    state = _read(net, path)
    if OF_AFFINITY_NET not in state:
        state = {name: value for name, value in state.items() if name.split(".")[0] not in HEADS}
    return load_released_state_dict(net, state, source=str(path))


def load_trained(net: AffNet, path: str | Path) -> LoadReport:
    """Put trained weights into `net`. Raises as `load_first_weights`, and for a file that lacks some: another net's."""
    state = _read(net, path)
    require_own(state, OF_AFFINITY_NET, source=f"--weights {path}")
    report = load_released_state_dict(net, state, source=str(path))
    raise_problems(f"--weights {path}: expected a trained AffinityNet, these tensors are missing", report.missing)
    return report


def _read(net: AffNet, path: str | Path) -> dict[str, Tensor]:
    return under_own_names(read_weights(path, "--weights"), released_state_dict(net), source=str(path))
