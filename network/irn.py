"""IRN (Ahn, Cho and Kwak, CVPR 2019): edges between an image's objects and, for instances, where each one's centre lies
(paper/method.md, IRN)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.normalisation import Normalisation
from network import RESNETS
from network.backbone_weights import load_body
from network.backbones import build_backbone
from network.names import under_own_names
from network.owners import OF_IRN, require_own
from network.weights import LoadReport, read_weights
from network.whole import load_whole
from tool.cli import UserError
from tool.folder import arguments_of_run
from tool.pairs import Pairs

STRIDE = 4  # pixels of a cell's side
EDGE_CHANNELS = 32
# Of the five taps: a ResNet's, as released; those of the house's other backbones.
RESNET_STRIDES, STRIDES = (4, 4, 8, 16, 16), (4, 4, 8, 8, 8)
ALL_CHANNELS = ((64, 128, 256, 256, 256), 256)  # of the displacement's parts: of each tap, of what they become
GROUPS = {32: 4, 64: 8, 128: 16, 256: 16}  # of a group norm, by its channels
# Under these names the released files repeat tensors: the first stands for the second, in this order.
ALIASES = {
    "stage1.0": "resnet50.conv1",
    "stage1.1": "resnet50.bn1",
    **{f"stage{number}.0": f"resnet50.layer{number - 1}" for number in range(2, 6)},
    **{f"backbone.{number}": f"stage{number + 1}" for number in range(5)},
    "fc_dp7.4": "mean_shift",
    **{f"edge_layers.{number}": f"fc_edge{number + 1}" for number in range(6)},
    **{f"dp_layers.{number}": f"fc_dp{number + 1}" for number in range(7)},
}
NOT_OF_EDGES = ("fc_dp", "mean_shift")
TRAINING_ONLY = ("path_indices", "disp_target")  # of the released wrapper: where its paths are


class MeanShift(nn.Module):
    """Subtracts a displacement's mean, of the training's end, from it; not while training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(2))

    def forward(self, displacement: Tensor) -> Tensor:
        return displacement if self.training else displacement - self.running_mean[:, None, None]


class IRNet(nn.Module):
    """A frozen backbone under heads, by the released names: `resnet50` is its name whichever it is.

    fc_edge1 to fc_edge5, and fc_dp1 to fc_dp5, read five maps. A ResNet of output stride 16 gives them as released: its
    pooled stem and layer1 to layer4. Any other backbone gives its `levels`, of output stride 8: MobileNetV2 features.1,
    3, 6, 13 and 18, each the last of a stride; timm's nets the five maps that timm lists; ResNet-38 b2_2, b3_2 and its
    taps. The first of these has stride 2: each two by two cells of it become their mean.

    backbone: of `network.backbones.build_backbone`, as width. displacement: whether it has those heads; they share no
    parameter that trains with the edges', which are the same without them.

    Raises `UserError` for a backbone that is not there, or has not five maps at strides 2 or 4, 4, 8, 8 and 8.
    """

    RATES: ClassVar[dict[str, int]] = {"fc_edge": 1, "fc_dp": 10}  # of the heads, by their names' beginnings

    def __init__(self, backbone: str = "resnet50", *, width: float = 1.0, displacement: bool = False) -> None:
        super().__init__()
        is_resnet = backbone in RESNETS
        body = build_backbone(backbone, width=width, output_stride=16 if is_resnet else 8)
        self.resnet50, self.strides = body, RESNET_STRIDES if is_resnet else STRIDES
        self.resnet50.requires_grad_(False)
        self.has_displacement = displacement
        if displacement:
            self.mean_shift = MeanShift()
        taps = (body.first_channels, body.low_channels, *body.channels)
        for number, channels in enumerate(taps, start=1):
            setattr(self, f"fc_edge{number}", nn.Sequential(*_layer(channels, EDGE_CHANNELS)))
        self.fc_edge6 = nn.Conv2d(5 * EDGE_CHANNELS, 1, 1)
        if displacement:
            parts, joined = ALL_CHANNELS
            for number, both in enumerate(zip(taps, parts, strict=True), start=1):
                setattr(self, f"fc_dp{number}", nn.Sequential(*_layer(*both)))
            self.fc_dp6 = nn.Sequential(*_layer(sum(parts[2:]), joined))
            last = nn.Conv2d(joined, 2, 1, bias=False)
            self.fc_dp7 = nn.Sequential(*_layer(sum(parts[:2]) + joined, joined), nn.ReLU(), last)
        self.train()

    @property
    def normalisation(self) -> Normalisation:
        """What turns pixels into the input."""
        return self.resnet50.normalisation

    def train(self, mode: bool = True) -> "IRNet":
        """`nn.Module.train`, but the backbone stays in evaluation mode."""
        super().train(mode)
        self.resnet50.eval()
        return self

    def taps(self, image: Tensor) -> list[Tensor]:
        """The backbone's maps at the net's `strides`, without gradient, from `image` (N, 3, H, W)."""
        with torch.no_grad():
            first, *others = self.resnet50.levels(image)
            if first.shape[2:] != others[0].shape[2:]:
                first = F.avg_pool2d(first, 2, ceil_mode=True)
            return [first, *others]

    def edges(self, taps: list[Tensor]) -> Tensor:
        """Logits of there being an edge, float32 (N, 1, h, w), a quarter of the image's size (rounded up)."""
        size = taps[1].shape[2:]
        parts = [
            _resized(getattr(self, f"fc_edge{number}")(tap), self.strides[number - 1] // STRIDE, size)
            for number, tap in enumerate(taps, start=1)
        ]
        return self.fc_edge6(torch.cat(parts, dim=1)).float()

    def displacement(self, taps: list[Tensor]) -> Tensor:
        """From each cell to its object's centre, in cells: float32 (N, 2, h, w), along y and x."""
        fine, middle = taps[1].shape[2:], taps[2].shape[2:]
        first, second, third, fourth, fifth = (
            getattr(self, f"fc_dp{number}")(tap) for number, tap in enumerate(taps, start=1)
        )
        factor = self.strides[-1] // self.strides[2]
        coarse = [_resized(third, 1, middle), *(_resized(each, factor, middle) for each in (fourth, fifth))]
        joined = _resized(self.fc_dp6(torch.cat(coarse, dim=1)), 2, fine)
        parts = [_resized(first, 1, fine), _resized(second, 1, fine), joined]
        return self.mean_shift(self.fc_dp7(torch.cat(parts, dim=1)).float())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Edges' logits and, from a net that has them, displacements of `image` (N, 3, H, W), normalised."""
        taps = self.taps(image)
        return self.edges(taps), self.displacement(taps) if self.has_displacement else None


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 1, bias=False), nn.GroupNorm(GROUPS[outputs], outputs)


def _resized(values: Tensor, factor: int, size: torch.Size) -> Tensor:
    """Values (N, C, h, w) of a layer, resized, cut to `size`, and only then without what is negative."""
    if factor > 1:
        values = F.interpolate(values, scale_factor=factor, mode="bilinear", align_corners=False)
    return F.relu(values[..., : size[0], : size[1]])


def edge_affinities(logits: Tensor, pairs: Pairs) -> Tensor:
    """1 - the largest edge, sigma(logit), on the path of each pair, (N, P) in [0, 1], from `logits` (N, 1, h, w).

    The paths' maxima are found among the ranks of an image's cells, small integers: the largest rank says which cell
    is the largest, so that there is one look-up a pair to differentiate, and no copy of the paths.
    """
    values, order = logits.flatten(1).sort(dim=1)
    numbers = torch.arange(order.shape[1], device=order.device, dtype=_smallest_integer(order.shape[1]))
    ranks = torch.empty_like(order, dtype=numbers.dtype).scatter_(1, order, numbers.expand_as(order))
    ranks = ranks.view(len(logits), *logits.shape[2:])
    # As sigma(-x), which is 1 - sigma(x): next to 1 nothing of it is lost.
    return torch.sigmoid(-values.gather(1, path_maxima(ranks, pairs).long()))


def path_maxima(values: Tensor, pairs: Pairs) -> Tensor:
    """The largest of `values` (N, h, w) on the path of each pair, (N, P)."""
    parts = [values.new_zeros(len(values), 0)]
    for (rows, columns), path in zip(pairs.starts, pairs.paths, strict=True):
        on_path = (values[:, rows.start + y : rows.stop + y, columns.start + x : columns.stop + x] for y, x in path)
        largest = next(on_path).clone()
        for each in on_path:
            torch.maximum(largest, each, out=largest)
        parts.append(largest.flatten(1))
    return torch.cat(parts, dim=1)


def _smallest_integer(count: int) -> torch.dtype:
    return torch.int16 if count < 2**15 else torch.int32


def with_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state`, of `IRNet`, with the names under which the released files repeat its tensors."""
    result = dict(state)
    for alias, prefix in ALIASES.items():
        for name, value in list(result.items()):
            if name.startswith(f"{prefix}."):
                result[alias + name.removeprefix(prefix)] = value
    return result


def without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state`, of a released file, under the names that `IRNet` has, where it has them."""
    beginnings = tuple(f"{alias}." for alias in ALIASES)
    return {name: value for name, value in state.items() if not name.startswith((*beginnings, *TRAINING_ONLY))}


def load_first_weights(net: IRNet, weights: str | Path, backbone: str) -> LoadReport:
    """Put into `net` what its training starts from: its backbone's weights, of ImageNet (torchvision's file, or
    `PRETRAINED`) or of a classifier. Raises `UserError` for a file that lacks some of them."""
    return load_body(net.resnet50, backbone, weights, flag="--weights")


def load_trained(net: IRNet, path: str | Path) -> LoadReport:
    """Put trained weights, ours or released ones, into `net`. Raises `UserError` for a file that lacks some, as one of
    another net does, or, where `net` has displacement, one without it or without its mean."""
    source = f"--weights {path}"
    state = without_aliases(under_own_names(read_weights(path, "--weights"), net.state_dict(), source=str(path)))
    require_own(state, OF_IRN, source=source)
    if net.has_displacement and "fc_dp7.3.weight" not in state:
        raise UserError(
            f"{source}: expected the weights of an IRN with displacement, which instances need; found one"
            " without; train one with refine/irn/train.py --displacement"
        )
    shift = state.get("mean_shift.running_mean")
    if net.has_displacement and isinstance(shift, Tensor) and not shift.any():
        session = arguments_of_run(path).get("session", "<session>")
        raise UserError(
            f"{source}: expected an IRN with its mean displacement, which instances need: refine/irn/train.py"
            f" writes {session}.pth at its end, with it; found 0, as in last.ckpt"
        )
    left = set() if net.has_displacement else {name for name in state if name.startswith(NOT_OF_EDGES)}
    return load_whole(net, state, source=source, advice="was it trained with another --backbone?", left=left)
