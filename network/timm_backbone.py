"""Any convolutional net of timm as a backbone of output stride 8 or 16, under timm's own names."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.normalisation import Normalisation
from network import TIMM
from network.depthwise import mend_depthwise
from network.taps import Levels, Stages, Taps
from tool.cli import UserError

EXAMPLES = "resnet50, convnext_tiny, efficientnet_b0, regnety_002"
# timm's classes of nets that list their maps and run their parts one after the other.
CHAINS = ("FeatureListNet", "EfficientNetFeatures", "MobileNetV3Features")


class TimmBackbone(nn.Module):
    """timm's net `name` (`resnet50`, `resnet50.a1_in1k`) with random weights, its strides after `output_stride`, 8 or
    16, turned into dilation.

    The taps are the last three of the maps that timm lists, which had strides 8, 16 and 32: of either sign where the
    net's stages end without an activation. At output stride 8 they lie on one grid, an eighth of the image's size,
    rounded up. What timm computes behind the last map (`conv_head`) is left out.

    In `state_dict` and `load_state_dict` the names are those of the whole net in timm, so that its files fit.

    Raises `UserError` for a name that timm does not have, and for a net that it cannot build so. `flag` names the
    argument in messages.
    """

    def __init__(self, name: str, *, output_stride: int = 8, flag: str = "--backbone") -> None:
        super().__init__()
        self.name, self.net = name, _features(name, output_stride, flag)
        channels: list[int] = self.net.feature_info.channels()
        self.channels = Taps(*channels[-3:])
        # A net that cuts its image into patches (ConvNeXt) leaves out what is no whole one: its maps would lie awry.
        self.patch = output_stride if any(map(_cuts_patches, self.net.modules())) else None
        self.normalisation = Normalisation(*(tuple(self.net.pretrained_cfg[key]) for key in ("mean", "std")))
        # What timm calls `stages.0` in the whole net, and `stages_0` where it lists a net's maps.
        self._flat = {whole: flat for whole, flat in _flattened(name).items() if hasattr(self.net, flat)}
        if mend_depthwise(self.net):  # on a CPU depthwise convolutions are up to twice as fast so
            self.to(memory_format=torch.channels_last)
        self.register_state_dict_post_hook(_to_timms_names)
        self.register_load_state_dict_pre_hook(_from_timms_names)

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        """The layers up to the first map that timm lists, of stride 2 or 4."""
        first: str = self.net.feature_info.module_name()[0]
        return tuple(_up_to(self.net, _renamed(first, self._flat).split(".")))

    @property
    def stages(self) -> Stages:
        """As `Stages` says. Raises `UserError` for a net that is no chain of its parts."""
        if type(self.net).__name__ not in CHAINS:
            raise UserError(
                f"--backbone {TIMM}{self.name}: expected a net whose parts run one after the"
                f" other, for example {EXAMPLES}, found one whose parts do not"
            )
        names = [_renamed(name, self._flat) for name in self.net.feature_info.module_name()[-3:]]
        parts = [tuple(_up_to(self.net, name.split("."))) for name in names]
        first, second, third = parts
        return first, second[len(first) :], third[len(second) :]

    def forward(self, image: Tensor) -> Taps:
        """`image` (N, 3, H, W), normalised, to its three taps."""
        if self.patch is not None:
            height, width = image.shape[2:]
            image = F.pad(image, (0, -width % self.patch, 0, -height % self.patch))
        return Taps(*self.net(image)[-3:])

    @property
    def low_channels(self) -> int:
        """Of c2. Raises `UserError` for a net that has not five maps, of strides 2, 4, 8, 8 and 8."""
        if (reductions := self.net.feature_info.reduction()) != [2, 4, 8, 8, 8]:
            raise UserError(
                f"--backbone {TIMM}{self.name}: expected a net with maps at strides 2, 4, 8, 8 and 8, found"
                f" {', '.join(map(str, reductions))}; take for example {TIMM}resnet50, {TIMM}efficientnet_b0"
            )
        return self.net.feature_info.channels()[1]

    @property
    def first_channels(self) -> int:
        """Of c1."""
        return self.net.feature_info.channels()[0]

    def levels(self, image: Tensor) -> Levels:
        """All five maps of `image`, of a net with `low_channels`."""
        return Levels(*self.net(image))


def download_from_timm(name: str) -> Mapping[str, Tensor]:
    """timm's weights of its whole net `name`, from its cache or the web. Raises whatever goes wrong."""
    import timm

    return timm.create_model(name, pretrained=True).state_dict()


def _features(name: str, output_stride: int, flag: str) -> nn.Module:
    import timm  # not at the top: it takes as long as torch, in each process

    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        advice = f"did you mean {', '.join(near)}?" if near else f"it has for example {EXAMPLES}"
        raise UserError(f"{flag} {TIMM}{name}: timm {timm.__version__} has no net of this name; {advice}")
    try:
        net = timm.create_model(name, features_only=True, output_stride=output_stride)
        reductions = net.feature_info.reduction()
    except RuntimeError as error:  # of a tag, behind the dot, that is none
        raise UserError(f"{flag} {TIMM}{name}: {error}") from error
    except Exception as error:  # each net says in its own way that it does not do this
        raise UserError(_unfit(name, output_stride, flag)) from error
    if reductions[-3:] != [8, output_stride, output_stride]:
        raise UserError(_unfit(name, output_stride, flag))
    return net


def _cuts_patches(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.stride[0] > 1
        and layer.kernel_size == layer.stride
        and layer.padding == (0, 0)
    )


def _unfit(name: str, output_stride: int, flag: str) -> str:
    return (
        f"{flag} {TIMM}{name}: expected a convolutional net that timm builds with features_only and"
        f" output_stride={output_stride}, found one that it does not; take for example {EXAMPLES}"
    )


def _flattened(name: str) -> dict[str, str]:
    """By the names `part.layer` of the layers of a net's sequences, `part_layer`."""
    import timm

    try:
        with torch.device("meta"):
            whole = timm.create_model(name)
    except RuntimeError:  # some versions of timm compute as they build some nets
        whole = timm.create_model(name)
    parts = {part: module for part, module in whole.named_children() if isinstance(module, nn.Sequential)}
    return {f"{part}.{layer}": f"{part}_{layer}" for part, module in parts.items() for layer in module._modules}


def _up_to(module: nn.Module, path: Sequence[str]) -> Iterator[nn.Module]:
    """The parts of `module` in their order, up to the one at `path`, which is the last."""
    first, *rest = path
    for name, part in module.named_children():
        if name == first:
            yield from _up_to(part, rest) if rest else (part,)
            return
        yield part


def _renamed(name: str, beginnings: Mapping[str, str]) -> str:
    """`name` with its beginning replaced, if it is one of `beginnings`."""
    found = next((part for part in beginnings if f"{name}.".startswith(f"{part}.")), None)
    return name if found is None else beginnings[found] + name[len(found) :]


def _to_timms_names(module: TimmBackbone, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    whole = {flat: whole for whole, flat in module._flat.items()}
    for key in [key for key in state if key.startswith(f"{prefix}net.")]:  # one after the other, so in their order
        state[prefix + _renamed(key.removeprefix(f"{prefix}net."), whole)] = state.pop(key)


def _from_timms_names(module: TimmBackbone, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    hung_on = module._modules.keys() - {"net"}  # such as DeepLabMSC's head, whose names are its own
    for key in [key for key in state if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        if name.split(".")[0] not in hung_on:
            state[f"{prefix}net.{_renamed(name, module._flat)}"] = state.pop(key)
