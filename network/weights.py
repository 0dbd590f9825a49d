"""Weights in and out of the nets, under the released names: a net's state-dict names without the leading `backbone.`"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from network import EPS_SEAM, TIMM
from network.foreign import FIRST, HEAD, LAST, has_form_of_seam, head_advice, with_head_rolled
from network.mxnet_params import read_params
from network.names import is_counter, under_own_names
from network.owners import CLASSIFIER, OF_DHR, OWNERS, whose
from tool.checkpoint import load_checkpoint
from tool.cli import UserError, first_few, printable, raise_problems
from tool.weights_file import MXNET, SAFETENSORS, kind_of_weights, require_weights

BACKBONE = "backbone."
WRAPPERS = ("state_dict", "model")  # keys under which most code, and our last.ckpt, keep the state dict
AVERAGE = "average"  # beside "model" in DHR's last.ckpt: what the trained net is, as last.pth has it
# ResNet-38d's last norm, which tells how wide a net is; with --width 1 it has so many channels.
WIDEST, WIDEST_CHANNELS = "bn7.weight", 4096


@dataclass(frozen=True)
class LoadReport:
    """What came of loading `source`: names that were loaded, that the net has and `source` lacks (they keep their
    values; batch counters not counted), and that `source` has and the net does not (left alone). `background` says
    where the head of a file of SEAM's form has that channel, `foreign.FIRST` or `LAST`."""

    source: str
    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    background: str | None = None

    @classmethod
    def of(cls, source: str, state: Collection[str], own: Collection[str]) -> "LoadReport":
        """What comes of loading those names of `state` that a net has, `own`."""
        return cls(
            source=source,
            loaded=[name for name in own if name in state],
            missing=[name for name in own if name not in state and not is_counter(name)],
            unexpected=[name for name in state if name not in own],
        )

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors loaded"]
        if self.background == FIRST:
            lines.append(
                f"  {HEAD}: background is taken to be its first channel, as in SEAM (f8_3, f8_4 and f9 are there,"
                f" proj_fc and extra_F not); where it is the last, as in EPS with SEAM, pass --network {EPS_SEAM}"
                " beside --method"
            )
        if self.missing:
            lines.append(f"  not in the file, left as they were ({len(self.missing)}): {first_few(self.missing)}")
        if self.unexpected:
            lines.append(f"  in the file but not in the network ({len(self.unexpected)}): {first_few(self.unexpected)}")
        return "\n".join(printable(line) for line in lines)


def released_state_dict(net: nn.Module) -> dict[str, torch.Tensor]:
    """The state of `net` under the released names and in the released order of `fc8`; the tensors are the net's own,
    not copies, but for an `fc8` of another order."""
    state = {name.removeprefix(BACKBONE): value for name, value in net.state_dict().items()}
    return with_head_rolled(state, 1) if net.background_first else state


def load_released_state_dict(net: nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> LoadReport:
    """Copy into `net` what `state` has under the net's released names, `fc8` in the released order; `source` names the
    origin in messages.

    Raises `UserError`, and leaves the net as it was, if no convolution of the backbone is in `state` or if tensors of
    the same name differ in shape or kind (all of them are named).
    """
    own_names = {name.removeprefix(BACKBONE): name for name in net.state_dict()}
    own = released_state_dict(net)
    convolutions = [name for name, value in net.backbone.state_dict().items() if value.ndim == 4]
    if not any(name in state for name in convolutions):
        raise UserError(
            f"{source}: fits nowhere: expected weights of the backbone ({first_few(convolutions)}), found "
            f"{first_few(list(state)) or 'nothing'}; name the net that they are of with --backbone, one of timm's as"
            f" {TIMM}NAME, or other --weights"
        )

    wrong = misfits(state, own)
    if WIDEST in wrong and state[WIDEST].shape != own[WIDEST].shape:
        made, asked = (f"{state[WIDEST].numel() / WIDEST_CHANNELS:g}", f"{own[WIDEST].numel() / WIDEST_CHANNELS:g}")
        raise UserError(
            f"{source}: made with --width {made}, the network here has --width {asked}; pass --width {made}"
        )
    if HEAD in wrong and state[HEAD].ndim and len(state[HEAD]) != len(own[HEAD]):
        wrong[HEAD] += f"; {head_advice(len(state[HEAD]), len(own[HEAD]))}"
    # A shallow net's tensors are a deep one's, too, by name and shape.
    layers = {name.split(".")[0] for name in net.backbone.state_dict()}
    deeper = {name: f"{name}: not in the network" for name in state.keys() - own.keys() if name.split(".")[0] in layers}
    raise_problems(
        f"{source}: tensors that do not fit; was it made with another --network, --backbone or --width?",
        [*wrong.values(), *(deeper[name] for name in state if name in deeper)],
    )
    common = [name for name in own if name in state]
    if net.background_first:
        state = with_head_rolled(state, -1)
    # Not strict: what is missing is reported, not refused, as pretrained weights have no heads.
    net.load_state_dict({own_names[name]: state[name] for name in common}, strict=False)
    return LoadReport.of(source, state, own)


def load_weights(net: nn.Module, path: str | Path, *, background_last: bool = False) -> LoadReport:
    """Load a checkpoint file into `net` and say what was loaded, missing and left.

    A head with background first, by `foreign.has_form_of_seam` and unless the caller knows better (`background_last`),
    or last, is put into the net's order.

    `path`: as `read_weights` takes it. Names are the released ones, or those of `net`, with any prefix
    (`names.under_own_names`).

    Raises `UserError` for a file that is missing, damaged or not of this form, and as `load_released_state_dict`.
    """
    read = read_weights(path, "--weights")
    own = released_state_dict(net)
    # DHR's has a whole backbone, which is read as one alone.
    if (found := whose(read)) not in (None, CLASSIFIER, OWNERS[OF_DHR]):
        raise UserError(f"--weights {path}: expected a classifier's, as train_voc.py writes them, found {found}")
    state = under_own_names(read, own.keys(), source=str(path))
    of_seam = has_form_of_seam(state, own)
    is_first = of_seam and not background_last
    if is_first != net.background_first:
        state = with_head_rolled(state, -1 if is_first else 1)
    background = (FIRST if is_first else LAST) if of_seam else None
    return replace(load_released_state_dict(net, state, source=str(path)), background=background)


def read_weights(path: str | Path, flag: str) -> dict[str, torch.Tensor]:
    """The tensors by name in a file of weights; MXNet's have their released names. `flag` names it in messages.

    `path`: an MXNet parameter file (`.params`), a safetensors file, or what `torch.save` wrote: a state dict, bare or
    in a dict. Code in a file is never run.

    Raises `UserError` for a file that is missing, damaged, not of these forms, or holds values that are not finite.
    """
    path = require_weights(path, flag)
    kind = kind_of_weights(path, flag)
    if kind == MXNET:
        state = {released_name(name): torch.from_numpy(array) for name, array in read_params(path, flag).items()}
    else:
        state = read_safetensors(path, flag) if kind == SAFETENSORS else read_state_dict(path, flag)
    raise_problems(
        f"{flag} {path}: weights that are not finite (NaN or infinite); take an earlier checkpoint, or train again",
        [name for name, value in state.items() if value.is_floating_point() and not _is_finite(value)],
    )
    return state


def _is_finite(value: torch.Tensor) -> bool:
    return bool((value.float() if value.element_size() == 1 else value).isfinite().all())  # torch has none for 8 bits


# arg:res4b5_branch2a_weight, aux:bn2a_branch2a_moving_mean, arg:conv1a_weight, arg:bn7_gamma
_MXNET_NAME = re.compile(
    r"(?:arg|aux):(?:(?P<kind>res|bn)(?P<stage>\d)(?:a|b(?P<block>\d+))_(?P<branch>branch[0-9a-z]+)|(?P<layer>conv1a|bn7))"
    r"_(?P<leaf>weight|gamma|beta|moving_mean|moving_var)"
)
_LEAVES = {
    "weight": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"
}  # fmt: skip


def released_name(mxnet_name: str) -> str:
    """The released name of a parameter of MXNet's ResNet-38, or the name as it is (the ImageNet classifier's)."""
    match = _MXNET_NAME.fullmatch(mxnet_name)
    if match is None:
        return mxnet_name
    layer = match["layer"]
    if layer is None:
        block = f"b{match['stage']}" + (f"_{match['block']}" if match["block"] else "")
        layer = f"{block}.{'conv' if match['kind'] == 'res' else 'bn'}_{match['branch']}"
    return f"{layer}.{_LEAVES[match['leaf']]}"


def read_state_dict(path: str | Path, flag: str) -> dict[str, torch.Tensor]:
    """The tensors by name in a file of `torch.save`, bare, under `WRAPPERS` or under the one key that has such.

    Raises `UserError` naming `flag` for a file that is missing, damaged or not of this form. Runs nothing in it.
    """
    content = load_checkpoint(Path(path), flag)
    while isinstance(content, dict) and (key := _key_of_state_dict(content, path, flag)) is not None:
        content = content[key]
    if not isinstance(content, dict) or not content:
        found = "an empty dict" if content == {} else type(content).__name__
        raise UserError(f"{flag} {path}: expected a state dict (tensors by name), found {found}")
    raise_problems(
        f"{flag} {path}: expected a state dict (tensors by name, bare or under {' or '.join(WRAPPERS)}), found",
        [
            f"{name!r}: {type(value).__name__}"
            for name, value in content.items()
            if not (isinstance(name, str) and isinstance(value, torch.Tensor))
        ],
    )
    return dict(content)


def _key_of_state_dict(content: Mapping[Any, Any], path: str | Path, flag: str) -> Any:
    """The key under which a dict keeps a state dict, or None; `UserError` where several do."""
    if (known := next((key for key in (AVERAGE, *WRAPPERS) if isinstance(content.get(key), dict)), None)) is not None:
        return known
    keys = [key for key, value in content.items() if isinstance(value, dict) and value and _all_tensors(value)]
    if len(keys) > 1:
        raise UserError(
            f"{flag} {path}: expected a state dict, found {len(keys)}, {first_few(list(map(repr, keys)))}; save one by"
            f" itself: torch.save(torch.load({str(path)!r})[{keys[0]!r}], path)"
        )
    return keys[0] if keys else None


def _all_tensors(state: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, torch.Tensor) for value in state.values())


def read_safetensors(path: Path, flag: str) -> dict[str, torch.Tensor]:
    """The tensors by name in a safetensors file; `UserError` naming `flag` where it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"{flag} {path}: expected a safetensors file, found a damaged one ({error});"
            " download, copy or train it again"
        ) from error


def misfits(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The names in both whose tensors `own` cannot take over from `state`, each with what to say about it."""
    return {
        name: f"{name}: {_describe(state[name])} in the file, {_describe(value)} in the network"
        for name, value in own.items()
        if name in state and not _fits(state[name], value)
    }


def _fits(value: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether copying `value` keeps its meaning: shape, dense layout, floating point or not.

    A batch counter, the only number alone, may have been cast with all the rest.
    """
    return (
        value.shape == own.shape
        and value.layout == torch.strided
        and (value.is_floating_point() == own.is_floating_point() or own.ndim == 0)
    )


def _describe(value: torch.Tensor) -> str:
    layout = "" if value.layout == torch.strided else f"{value.layout} ".removeprefix("torch.")
    return f"{layout}{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
