"""MSA's classifier (2024): class maps rebuilt by superpixel associations (DCR), and spread along the pixels' affinities
(AP). paper/method.md, MSA.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from data.normalisation import IMAGENET, Normalisation
from network import DCR, RESNETS
from network.backbones import batch_norms, build_backbone, drop_nothing
from network.names import under_first_names, under_own_names
from network.owners import OF_SCN
from network.pixel_affinity import propagate
from network.scn import OFFSETS, SLOPE
from network.superpixel import up
from network.taps import Taps
from network.weights import BACKBONE, LoadReport, load_released_state_dict, read_weights
from tool.cli import UserError

STRIDE = 16  # of the maps, the side of a superpixel
SQUEEZE = 16  # the gates' middle has so many times fewer channels
# **Q** of COCO's images, for VOC's too.
COCO_STATISTICS = Normalisation((0.471, 0.448, 0.408), (0.234, 0.239, 0.242))
# The released files have a ResNet under `model.` and once more under these names.
ALIASES = {
    "stage1.0": "model.conv1",
    "stage1.1": "model.bn1",
    **{f"stage{number + 1}.0": f"model.layer{number}" for number in range(1, 5)},
}


class MSAOutput(NamedTuple):
    """score (N, K + 1), the means of the class maps as they were before they were rebuilt; logits (N, K + 1, H / 16,
    W / 16), the class maps; both raw, float32, background in channel 0, which no loss reads."""

    score: Tensor
    logits: Tensor


def _convolution(
    inputs: int, outputs: int, size: int, *, stride: int = 1, norm: bool = False, leaky: bool = True
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=0 if size == 1 else 1, bias=not norm)
    parts = [conv, *([nn.BatchNorm2d(outputs)] if norm else []), *([nn.LeakyReLU(SLOPE)] if leaky else [])]
    return nn.Sequential(*parts)


def _gate(channels: int) -> nn.Sequential:
    middle = max(channels // SQUEEZE, 1)
    return nn.Sequential(
        nn.Conv2d(channels, middle, 1, bias=False), nn.ReLU(), nn.Conv2d(middle, channels, 1, bias=False), nn.Sigmoid()
    )


def _through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _mean(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, 1, 1)."""
    return x.mean((2, 3), keepdim=True)


class MSAClassifier(nn.Module):
    """A backbone of output stride 16, and what its two nets share.

    frozen: its batch norms keep their statistics, though their affine trains; else they train as they are, and nothing
    is dropped. normalisation: of the input of a backbone that wants ImageNet's; another has its own.
    """

    training_only_layers: tuple[str, ...] = ()
    background_first = False  # in no fc8

    def __init__(self, backbone: str, *, frozen: bool, normalisation: Normalisation) -> None:
        super().__init__()
        self.name = backbone
        self.backbone = build_backbone(backbone, output_stride=STRIDE)
        self.frozen = frozen
        own = self.backbone.normalisation
        self.normalisation = normalisation if own == IMAGENET else own
        if not frozen:
            drop_nothing(self)

    @property
    def channels(self) -> Taps:
        return self.backbone.channels

    def train(self, mode: bool = True) -> "MSAClassifier":
        """`nn.Module.train`, but a frozen backbone's norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            for norm in batch_norms(self.backbone):
                norm.eval()
        return self

    def parameters_by_name(self) -> list[list[nn.Parameter]]:
        """What trains: the backbone's weights and biases, norms' too, and the other weights and biases."""
        named = [(name, value) for name, value in self.named_parameters() if value.requires_grad]
        return [
            [value for name, value in named if (name.startswith(BACKBONE), name.endswith("bias")) == (inside, is_bias)]
            for inside in (True, False)
            for is_bias in (False, True)
        ]


class MSANet(MSAClassifier):
    """The classifier with DCR: features and class maps are rebuilt from each cell's nine neighbours, by weights that
    the superpixels' association and the features say.

    dcr: **Q** "association": as the method is described, which the release cannot run; the features do not learn from
    the weights. "features": the weights come from the features alone, which learn from them, as in every copy of the
    network that runs.
    leaky_scores: **Q** as released a leaky relu stands between the neighbours' scores and their softmax, too.
    """

    def __init__(
        self,
        backbone: str,
        *,
        num_classes: int,
        dcr: str = "association",
        leaky_scores: bool = True,
        frozen: bool = True,
        normalisation: Normalisation = COCO_STATISTICS,
    ) -> None:
        super().__init__(backbone, frozen=frozen, normalisation=normalisation)
        self.dcr = dcr
        by_association = dcr == "association"
        _, before, last = self.channels
        self.get_qfeats = nn.Sequential(
            _convolution(OFFSETS, 32, 4, stride=4, norm=True),
            _convolution(32, 128, 4, stride=4, norm=True),
            _convolution(128, 128, 3),
        ).requires_grad_(by_association)
        self.x4_feats = nn.Sequential(_convolution(before, 128, 1, norm=True))
        self.x5_feats = nn.Sequential(_convolution(last, 128, 1, norm=True))
        read = 256 if by_association else 128
        self.get_tran_conv5, self.get_tran_conv4 = (
            nn.Sequential(_convolution(read, 256, 3), _convolution(256, OFFSETS, 1, leaky=leaky_scores))
            for _ in range(2)
        )
        self.ala2, self.ala1 = _gate(last), _gate(before)
        self.classifier = nn.Sequential(nn.Conv2d(last, num_classes + 1, 1, bias=False))
        self.train()

    def forward(
        self, image: Tensor, association: Tensor | None = None, *, steps: int = 0, threshold: float = 0.6
    ) -> MSAOutput:
        """
        Args:
            image: (N, 3, H, W), normalised, sides multiples of 16. association: (N, 9, H, W), of the superpixel network
            for the same pixels; None where `dcr` is "features". steps, threshold: of AP (`pixel_affinity.propagate`).
        """
        first, second, third = self.backbone.stages
        x4 = _through((*first, *second), image)
        of_association = self.get_qfeats(association) if self.dcr == "association" else None
        weights4 = self.weights_of(x4, of_association, self.x4_feats, self.get_tran_conv4)
        x4 = up(x4 * self.ala1(_mean(x4)), weights4, 1)
        x5 = _through(third, x4)
        weights5 = self.weights_of(x5, of_association, self.x5_feats, self.get_tran_conv5)
        x5 = x5 * self.ala2(_mean(x5).detach())
        maps = self.classifier(x5).float()
        logits = propagate(up(maps, weights5, 1), x4, steps=steps, threshold=threshold)
        return MSAOutput(maps.mean((2, 3)), logits)

    def weights_of(self, x: Tensor, of_association: Tensor | None, features: nn.Module, predictor: nn.Module) -> Tensor:
        """The weights of each cell's nine neighbours, (N, 9, h, w), sums 1, float32."""
        if of_association is None:
            found = predictor(features(x))
        else:
            found = predictor(torch.cat([features(x.detach()), of_association], dim=1))
        return found.float().softmax(dim=1)


class CAMNet(MSAClassifier):
    """The baseline: a 1x1 classifier on the backbone. With `frozen` the layers up to stride 8 do not train.

    **Q** `ala1` and `ala2` are in the released files and never used; steps of AP are taken as arguments alone.
    """

    def __init__(
        self,
        backbone: str,
        *,
        num_classes: int,
        frozen: bool = True,
        normalisation: Normalisation = COCO_STATISTICS,
    ) -> None:
        super().__init__(backbone, frozen=frozen, normalisation=normalisation)
        _, before, last = self.channels
        for layer in self.backbone.stages[0]:
            layer.requires_grad_(not frozen)
        self.classifier = nn.Conv2d(last, num_classes + 1, 1, bias=False)
        self.ala2 = nn.Conv2d(last, last, 1, bias=False).requires_grad_(False)
        self.ala1 = nn.Conv2d(before, before, 1, bias=False).requires_grad_(False)
        self.train()

    def forward(
        self, image: Tensor, association: Tensor | None = None, *, steps: int = 0, threshold: float = 0.6
    ) -> MSAOutput:
        """`image` (N, 3, H, W), normalised. The others are those of `MSANet`, and decide nothing."""
        first, second, third = self.backbone.stages
        maps = self.classifier(_through((*first, *second, *third), image)).float()
        return MSAOutput(maps.mean((2, 3)), maps)


# A layer of each that no other net has.
KINDS: dict[type[MSAClassifier], str] = {MSANet: "ala1.0", CAMNet: "ala1"}


# -- weights -----------------------------------------------------------------------------------------------------------


def msa_state_dict(net: MSAClassifier) -> dict[str, Tensor]:
    """The state of `net` under the released names, a ResNet twice; the tensors are the net's own."""
    released = {}
    for name, value in net.state_dict().items():
        released["model." + name.removeprefix(BACKBONE) if name.startswith(BACKBONE) else name] = value
    if net.name not in RESNETS:
        return released
    again = {
        alias + name.removeprefix(meant): value
        for alias, meant in ALIASES.items()
        for name, value in released.items()
        if name.startswith(f"{meant}.")
    }
    return {**released, **again}


def load_msa(net: MSAClassifier, path: str | Path) -> LoadReport:
    """Put the weights of --weights `path` into `net`: a trained classifier's, its backbone once or twice, or a
    backbone's alone, as torchvision or timm has it. Raises as `read_weights` and `load_msa_state_dict`."""
    source = f"--weights {path}"
    state = under_first_names(read_weights(path, "--weights"), ALIASES, source=source)
    if OF_SCN in state:
        raise UserError(
            f"{source}: expected a classifier's, as train_voc.py writes them, found a superpixel network's, which"
            " is for --scn"
        )
    return replace(load_msa_state_dict(net, state, source=source), source=str(path))


def load_msa_state_dict(net: MSAClassifier, state: Mapping[str, Tensor], *, source: str) -> LoadReport:
    """Copy into `net` what `state` has, whatever stands before the backbone's names; of a file that is no classifier of
    MSA the backbone alone. `source` names its origin.

    Raises `UserError`, and leaves the net as it was, for a file of the other kind of classifier, without the backbone,
    or with tensors that do not fit.
    """
    own = [name.removeprefix(BACKBONE) for name in net.state_dict()]
    state = under_own_names(state, own, source=source)
    found = next((kind for kind in KINDS if f"{KINDS[kind]}.weight" in state), None)
    if found is not None and not isinstance(net, found):
        made = "on" if found is MSANet else "off"
        raise UserError(
            f"{source}: expected {KINDS[type(net)]}.weight, found {KINDS[found]}.weight, of the classifier that"
            f" --sp_cam {made} makes"
        )
    others = [] if found is not None else [name for name in state if name.startswith("classifier.")]
    state = {name: value for name, value in state.items() if name not in others}
    first = "get_tran_conv4.0.0.weight"
    if isinstance(net, MSANet) and first in state and state[first].shape[1:2] != net.state_dict()[first].shape[1:2]:
        made = DCR[1] if net.dcr == DCR[0] else DCR[0]
        raise UserError(f"{source}: expected a classifier of --dcr {net.dcr}, found one of --dcr {made}; pass that")
    report = load_released_state_dict(net, state, source=source)
    return replace(report, unexpected=[*report.unexpected, *others])
