"""Weights from a file or the web: ImageNet's or a classifier's into backbones, trained ones into segmentation nets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from network import CAFFE_RESNET101, PRETRAINED
from network.download import download, read_or_download
from network.foreign import HEAD
from network.names import is_counter, under_own_names
from network.weights import (
    LoadReport,
    load_released_state_dict,
    misfits,
    read_weights,
    released_state_dict,
)
from network.whole import check_whole, load_whole
from tool.cli import UserError, first_few, printable, raise_problems
from tool.distributed import first_alone

WEIGHTS_KEY = "MODEL_BACKBONE_WEIGHTS"
STEM = ("conv1.", "bn1.")
BEHIND_STEM = ("layer1.0.conv1.", "layer1.0.downsample.")  # that reads the stem's channels, 64 or 128
STEM_NAMES = {False: "the 7x7 stem", True: "the stem of three convolutions"}  # by MODEL_BACKBONE_DEEPBASE


@dataclass(frozen=True)
class BackboneReport:
    """What came of loading a backbone's weights from `source`, in the backbone's names, batch counters not counted.

    loaded: tensors that were. at_random: those of a stem of three convolutions, where the file has the 7x7 one. unused:
    names in the file that were not loaded: of layers that no backbone has, such as classifiers, and of that 7x7 stem.
    """

    source: str
    loaded: list[str]
    at_random: list[str]
    unused: list[str]

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.at_random)
        but = ", all but the stem" if self.at_random else ""
        lines = [f"{self.source}: {len(self.loaded)} of the backbone's {total} tensors loaded{but}"]
        if self.at_random:
            lines.append(
                f"  left at random, as the file has {STEM_NAMES[False]}, not {STEM_NAMES[True]}"
                f" ({len(self.at_random)}): {', '.join(self.at_random)}"
            )
        if self.unused:
            lines.append(f"  in the file but not used ({len(self.unused)}): {first_few(self.unused)}")
        return "\n".join(printable(line) for line in lines)


def load_backbone(net: nn.Module, backbone_name: str, path: str | Path | None) -> BackboneReport:
    """Copy pretrained weights into `net.backbone`, and say which tensors that were.

    `path`: a file of torchvision's or timm's names, or one of stage 1 (`.params`, or a classifier's checkpoint); or
    None: what `download` gives. torchvision's have the 7x7 stem; a net with the stem of three convolutions
    (`deep_base`) keeps that at random, and so the convolutions behind it that read its channels.

    Raises:
        UserError: no such file, no download, or tensors that do not fit otherwise; the net is then as it was.
    """
    if path is None:
        asked, without = f"{WEIGHTS_KEY} None", "MODEL_BACKBONE_PRETRAIN to False"
        source, state = download(backbone_name, asked=asked, weights=WEIGHTS_KEY, without=without)
    else:
        source, state = f"{WEIGHTS_KEY} {path}", read_weights(path, WEIGHTS_KEY)
    own = without_head(net)
    state = under_own_names(state, own, source=source)
    at_random: set[str] = set()
    if _deep_stem(own) and _deep_stem(state) is False:
        wrong = misfits(state, own)
        at_random = {
            name
            for name in own
            if name.startswith(STEM) or (name.startswith(BEHIND_STEM) and (name in wrong or name not in state))
        }
    else:
        _check_stem(state, own, source=source)

    layers = {name.split(".")[0] for name in own}
    unused = [
        name
        for name in state
        if name.split(".")[0] not in layers or (at_random and (name in at_random or name.startswith(STEM)))
    ]
    usable = {name: value for name, value in state.items() if name not in unused}
    check_whole(
        usable,
        {name: value for name, value in own.items() if name not in at_random},
        source=source,
        advice=f"expected weights of {backbone_name}; check MODEL_BACKBONE and MODEL_BACKBONE_WIDTH",
    )
    net.backbone.load_state_dict(usable, strict=False)
    return BackboneReport(
        source=source,
        loaded=[name for name in own if name in usable and not is_counter(name)],
        at_random=[name for name in own if name in at_random and not is_counter(name)],
        unused=[name for name in unused if not is_counter(name)],
    )


def load_body(body: nn.Module, name: str, weights: str | Path, *, flag: str) -> LoadReport:
    """Put into `body`, the backbone `name` alone, its weights: of a file, whose other layers are left, or `PRETRAINED`.

    `flag` names the argument. Raises `UserError` for a file that is missing or damaged, or lacks some of them.
    """
    source, state = read_or_download(name, weights, flag)
    own = body.state_dict()
    state = under_own_names(state, own, source=source)
    layers = {each.split(".")[0] for each in own}
    left = {each for each in state if each not in own and each.split(".")[0] not in layers}
    return load_whole(body, state, source=source, advice=f"expected the backbone's weights, {name}'s", left=left)


def without_head(net: nn.Module) -> dict[str, Tensor]:
    """The backbone's state by name, less that of a head which hangs on it (`DeepLabMSC`)."""
    head = {id(value) for layer in net.head_layers for value in layer.state_dict(keep_vars=True).values()}
    state = net.backbone.state_dict(keep_vars=True)
    return {name: value.detach() for name, value in state.items() if id(value) not in head}


def load_caffe(net: nn.Module, path: str | Path | None) -> LoadReport:
    """Copy into `net`, a `DeepLabMSC` on a Caffe-style backbone, what the file has of it, and say what it lacks.

    `path`: as `read_weights` takes it, under the released names with any prefix or none; the head may be missing.

    Raises `UserError` for no such file, one without the backbone's convolutions, and tensors that do not fit.
    """
    if path is None:
        raise UserError(
            f"{WEIGHTS_KEY} None: {CAFFE_RESNET101} has no weights for download: set {WEIGHTS_KEY} to"
            " deeplabv1_resnet101-coco.pth, MODEL_BACKBONE to resnet101 for torchvision's, or MODEL_BACKBONE_PRETRAIN"
            " to False"
        )
    own, source = net.weights.state_dict(), f"{WEIGHTS_KEY} {path}"
    state = under_own_names(read_weights(path, WEIGHTS_KEY), own, source=source)
    convolutions = [name for name, value in without_head(net).items() if value.ndim == 4]
    if not any(name in state for name in convolutions):
        raise UserError(
            f"{source}: expected a Caffe-style ResNet-101 ({first_few(convolutions)}), found {first_few(list(state))};"
            " torchvision's is read with MODEL_BACKBONE=resnet101"
        )
    raise_problems(f"{source}: tensors that do not fit the net", list(misfits(state, own).values()))
    net.weights.load_state_dict({name: state[name] for name in own if name in state}, strict=False)
    return LoadReport.of(source, state, own)


def load_deeplab(net: nn.Module, path: str | Path) -> None:
    """Copy a segmentation checkpoint into `net`, which it must fit wholly; batch counters may be missing.

    `path`: TEST_CKPT's, as `read_weights` takes it, under the released names with any prefix.

    Raises:
        UserError: no such file, damaged, or of another net; that is then as it was.
    """
    state, source = read_weights(path, "TEST_CKPT"), f"TEST_CKPT {path}"
    if any(name.endswith(HEAD) for name in state):
        raise UserError(
            f"{source}: expected a segmentation network's weights, as train.py writes them, found those of a classifier"
            " of stage 1, which inference.py reads; train.py starts from them as MODEL_BACKBONE_WEIGHTS"
        )
    own = net.weights.state_dict()
    state = under_own_names(state, own, source=source)
    for prefix in ("backbone.", ""):  # as the net's version has it
        _check_stem(state, own, source=source, prefix=prefix)
    advice = "was it trained with another MODEL_NAME, MODEL_BACKBONE, MODEL_NUM_CLASSES or MODEL_ASPP setting?"
    load_whole(net.weights, state, source=source, advice=advice)


def start_from(weights: str, load: Callable[[], object]) -> object:
    """A line on the weights that a fresh run starts from: those that `load` puts into its net, of the file `weights` or
    with `PRETRAINED`, which the first process downloads before the others ask for it; with none its random ones."""
    if weights == "none":
        return "random weights"
    with first_alone(weights == PRETRAINED):
        return load()


def load_pretrained(net: nn.Module, backbone_name: str) -> LoadReport:
    """Copy the weights that torchvision or timm has for a classifier's backbone into it; raises as `download`."""
    source, state = read_or_download(backbone_name, PRETRAINED, "--weights")
    state = under_own_names(state, released_state_dict(net), source=source)
    return load_released_state_dict(net, state, source=source)


def _deep_stem(state: Mapping[str, Tensor], prefix: str = "") -> bool | None:
    """Whether a ResNet's stem is the one of three convolutions; None if `state` has no such stem at all."""
    if f"{prefix}conv1.0.weight" in state:
        return True
    return False if f"{prefix}conv1.weight" in state else None


def _check_stem(state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, source: str, prefix: str = "") -> None:
    """Raise `UserError` if file and net have the two different stems of a ResNet."""
    found, expected = _deep_stem(state, prefix), _deep_stem(own, prefix)
    if {found, expected} == {True, False}:
        raise UserError(
            f"{source}: this checkpoint has {STEM_NAMES[found]}, the net {STEM_NAMES[expected]}: set"
            f" MODEL_BACKBONE_DEEPBASE to {found}"
        )
