"""CRT's two branches (Huo, Su, Wu, arXiv 2209.15211): a ResNet and a ViT on windows, each with class maps of its own.

paper/method.md, CRT.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.normalisation import IMAGENET
from network import RESNETS
from network.backbones import batch_norms, build_backbone, drop_nothing, fix_norms
from network.download import read_or_download
from network.names import under_first_names
from network.vit import GRID, PATCH, SIDE, ViT
from network.weights import LoadReport, misfits, read_weights
from network.whole import check_whole
from tool.cli import UserError, first_few, raise_problems

WINDOW_STRIDE = SIDE // 2
PASSES = 3  # of the transformer's blocks
WINDOWS_AT_ONCE = 8  # on a CPU, whose caches hold their tokens
# The released file of the CNN has its tensors under other names again: what begins so, and what that stands for.
ALIASES = {
    **{f"backbone.{number}": f"stage{number + 1}" for number in range(4)},
    "newly_added.0": "classifier",
    "stage1.0": "resnet50.conv1",
    "stage1.1": "resnet50.bn1",
    "stage1.4": "resnet50.layer1",
    **{f"stage{number}.0": f"resnet50.layer{number}" for number in (2, 3, 4)},
}


class CRTOutput(NamedTuple):
    """The raw maps of N images of H x W, K classes, float32: cnn (N, K, ceil(H / 16), ceil(W / 16)) of a ResNet, at an
    eighth of the image's size of any other backbone; transformer (N, K, H / 16, W / 16)."""

    cnn: Tensor
    transformer: Tensor


class CNNBranch(nn.Module):
    """A ResNet of output stride 16, or another backbone of output stride 8, and a 1x1 classifier, under the released
    names, which say resnet50 of any.

    With `frozen` conv1 to layer2, or the other backbone's stem, keep their weights, and all batch norms their
    statistics, though those behind learn their affine.
    """

    def __init__(self, name: str, *, num_classes: int, frozen: bool) -> None:
        super().__init__()
        self.is_resnet = name in RESNETS
        self.resnet50 = build_backbone(name, output_stride=16 if self.is_resnet else 8)
        self.classifier = nn.Conv2d(self.resnet50.channels.conv6, num_classes, 1, bias=False)
        self.frozen = frozen
        if frozen:
            for part in self.kept:
                part.requires_grad_(False)

    @property
    def kept(self) -> tuple[nn.Module, ...]:
        """What a frozen net keeps as it was loaded."""
        return (*self.resnet50.stem, self.resnet50.layer2) if self.is_resnet else self.resnet50.stem

    def train(self, mode: bool = True) -> "CNNBranch":
        """`nn.Module.train`, but a frozen net's norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            for part in self.kept:
                fix_norms(part)
            for norm in batch_norms(self):
                norm.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """The raw maps, float32 (N, K, ceil(H / 16), ceil(W / 16)), or at an eighth of the size, of `image` (N, 3, H,
        W), normalised as ImageNet's."""
        image = self.resnet50.normalisation.of_others(image, IMAGENET)
        return self.classifier(self.resnet50(image).conv6).float()

    def foreground_cam(self, image: Tensor) -> Tensor:
        """The maps that seeds are made of: without what is negative."""
        return self(image).relu()


class TransformerBranch(ViT):
    """A ViT whose blocks run three times on windows of 224 x 224, and a 3x3 head on each window's tokens.

    pad_multiples: **Q** as released, seeds' inputs get zeros right and below also where their sides are multiples of
    112; False: only where they are not.
    """

    def __init__(self, name: str, *, num_classes: int, pad_multiples: bool = True) -> None:
        super().__init__(name, passes=PASSES)
        self.head = nn.Conv2d(self.dim, num_classes, 3, padding=1)
        self.pad_multiples = pad_multiples

    def forward(self, image: Tensor) -> Tensor:
        """The raw maps, float32 (N, K, H / 16, W / 16), of `image` (N, 3, H, W), normalised as ImageNet's, whose sides
        are multiples of 112 from 224 on."""
        return self._merged(image, with_attention=False)

    def foreground_cam(self, image: Tensor) -> Tensor:
        """The maps that seeds are made of, (N, K, ceil(H / 16), ceil(W / 16)) of an image of any size: each window's
        weighted by what the class token pays to its patches; merged, then without what is negative."""
        height, width = image.shape[2:]
        right, below = (self._padded(side) - side for side in (width, height))
        merged = self._merged(F.pad(image, (0, right, 0, below)), with_attention=True)
        return merged[:, :, : -(-height // PATCH), : -(-width // PATCH)].relu()

    def _padded(self, side: int) -> int:
        strides = side // WINDOW_STRIDE + 1 if self.pad_multiples else -(-side // WINDOW_STRIDE)
        return max(strides * WINDOW_STRIDE, SIDE)

    def _merged(self, image: Tensor, *, with_attention: bool) -> Tensor:
        image = self.normalisation.of_others(image, IMAGENET)
        windows, grid = cut_windows(image)
        # Each of a CPU's chunks stays in its caches; a GPU takes all at once, and so does training, whose graph is one.
        at_once = WINDOWS_AT_ONCE if image.device.type == "cpu" and not self.training else len(windows)
        maps = torch.cat([self._window_maps(part, with_attention) for part in windows.split(at_once)])
        return merge_windows(maps, grid)

    def _window_maps(self, windows: Tensor, with_attention: bool) -> Tensor:
        tokens = super().forward(windows, with_attention=with_attention)
        maps = self.head(tokens.patches.transpose(1, 2).unflatten(2, (GRID, GRID))).float()
        return maps if tokens.attention is None else maps * tokens.attention.view(-1, 1, GRID, GRID)


def cut_windows(image: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """The windows of 224 x 224 of `image` (N, 3, H, W) at stride 112, row by row, (n_h * n_w * N, 3, 224, 224): the
    first of all images, the second of all images, ...; and (n_h, n_w)."""
    windows = image.unfold(2, SIDE, WINDOW_STRIDE).unfold(3, SIDE, WINDOW_STRIDE)
    return windows.permute(2, 3, 0, 1, 4, 5).flatten(0, 2), (windows.shape[2], windows.shape[3])


def merge_windows(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps (n_h * n_w * N, K, 14, 14) of windows as `cut_windows` orders them, laid on one grid at stride 7, (N, K, 7
    (n_h + 1), 7 (n_w + 1)): in each cell the mean of the windows that cover it."""
    rows, columns = grid
    size, step = (GRID // 2 * (rows + 1), GRID // 2 * (columns + 1)), GRID // 2

    def summed(values: Tensor) -> Tensor:
        """(windows, N, C, 14, 14) -> (N, C, h, w)"""
        return F.fold(values.flatten(2).permute(1, 2, 0), size, kernel_size=GRID, stride=step)

    each = maps.unflatten(0, (rows * columns, -1))
    return summed(each) / summed(torch.ones_like(each[:, :1, :1]))


class CRTNet(nn.Module):
    """Both branches, with random weights, in training mode.

    backbone: the CNN's, of `network.backbones.build_backbone`. transformer: a ViT's name in timm. frozen: keep of the
    CNN what the recipe keeps (`CNNBranch`), else all trains and nothing is dropped. branch: whose maps seeds are made
    of, transformer or cnn. pad_multiples: of `TransformerBranch`.
    """

    normalisation = IMAGENET

    def __init__(
        self,
        backbone: str,
        transformer: str,
        *,
        num_classes: int,
        frozen: bool = True,
        branch: str = "transformer",
        pad_multiples: bool = True,
    ) -> None:
        super().__init__()
        self.cnn = CNNBranch(backbone, num_classes=num_classes, frozen=frozen)
        self.transformer = TransformerBranch(transformer, num_classes=num_classes, pad_multiples=pad_multiples)
        self.branch = branch
        if not frozen:
            drop_nothing(self)
        self.train()

    @property
    def branches(self) -> dict[str, nn.Module]:
        return {"cnn": self.cnn, "transformer": self.transformer}

    @property
    def training_only_layers(self) -> tuple[str, ...]:
        """Those of the other branch than seeds are made of."""
        other = next(branch for name, branch in self.branches.items() if name != self.branch)
        return tuple(sorted({name.split(".")[0] for name in other.state_dict()}))

    def forward(self, image: Tensor) -> CRTOutput:
        """`image` (N, 3, H, W), normalised, sides multiples of 112 from 224 on."""
        return CRTOutput(self.cnn(image), self.transformer(image))

    def foreground_cam(self, image: Tensor) -> Tensor:
        """The maps of the branch that seeds are made of, float32 (N, K, ceil(H / 16), ceil(W / 16)), not negative."""
        return self.branches[self.branch].foreground_cam(image)


# -- weights -----------------------------------------------------------------------------------------------------------


def crt_state_dict(net: CRTNet) -> dict[str, Tensor]:
    """The state of both branches under their released names, none of which they share; the net's own tensors."""
    return {name: value for branch in net.branches.values() for name, value in branch.state_dict().items()}


def load_crt_state_dict(net: CRTNet, state: Mapping[str, Tensor], *, source: str) -> LoadReport:
    """Copy into `net` what `state` has under released names; `source` names its origin.

    Raises `UserError`, and leaves the net as it was, where `state` has neither branch, or tensors that do not fit.
    """
    own = crt_state_dict(net)
    common = [name for name in own if name in state]
    if not any(own[name].ndim == 4 for name in common):
        raise UserError(
            f"{source}: expected weights of CRT, as train_voc.py --method crt writes them, res152_cam.pth or"
            f" deits_cam.pth, found {first_few(list(state)) or 'nothing'}"
        )
    raise_problems(
        f"{source}: tensors that do not fit; was it made with another --backbone, --transformer or --data_set?",
        list(misfits(state, own).values()),
    )
    for branch in net.branches.values():
        branch.load_state_dict({name: state[name] for name in branch.state_dict() if name in state}, strict=False)
    return LoadReport.of(source, state, own)


def load_crt(net: CRTNet, path: str | Path) -> LoadReport:
    """Put the weights of --weights `path` into the branches that it holds, one or both. Raises as `read_weights` and
    `load_crt_state_dict`."""
    state = under_first_names(read_weights(path, "--weights"), ALIASES, source=f"--weights {path}")
    return load_crt_state_dict(net, state, source=str(path))


def load_cnn(cnn: CNNBranch, name: str, path: str | Path, *, flag: str) -> LoadReport:
    """Put what training starts from into `cnn`, on the backbone `name`: torchvision's or timm's file or download
    (`network.PRETRAINED`), whose classifier is left out, or a trained branch's, whose classifier comes too where it
    fits.

    Raises `UserError` for a file that is missing, damaged or of another net, and where there is no download.
    """
    source, read = read_or_download(name, path, flag)
    state = under_first_names(read, ALIASES, source=source)
    layers = {each.split(".")[0] for each in cnn.resnet50.state_dict()}
    state = {f"resnet50.{each}" if each.split(".")[0] in layers else each: value for each, value in state.items()}
    own = cnn.state_dict()
    fits = "classifier.weight" in state and not misfits(state, {"classifier.weight": own["classifier.weight"]})
    heads = [each for each in state if not (each.startswith("resnet50.") or (fits and each == "classifier.weight"))]
    left = [each for each in heads if not cnn.is_resnet or each.startswith(("fc.", "classifier."))]
    wanted = {each: value for each, value in own.items() if fits or not each.startswith("classifier.")}
    state = {each: value for each, value in state.items() if each not in left}
    check_whole(state, wanted, source=source, advice=f"expected weights of {name}; check --backbone")
    cnn.load_state_dict(state, strict=False)
    return LoadReport(
        source, loaded=list(wanted), missing=[each for each in own if each not in wanted], unexpected=left
    )
