"""The names of a checkpoint under which a net knows its tensors, whatever wrapped the net that was saved."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from tool.cli import UserError, raise_problems

# What torch's own wrappers (data parallel, compiled, sharded, checkpointed) put before a module's names, which may be
# amid a net's. No layer of ours is called so.
TORCH_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def is_counter(name: str) -> bool:
    """Whether it is a batch norm's count of its batches, which nothing computes with."""
    return name.endswith("num_batches_tracked")


def under_own_names(state: Mapping[str, Tensor], own: Collection[str], *, source: str) -> dict[str, Tensor]:
    """`state` without what wrappers put before the names `own` of a net; names that are none of `own` may stay longer.

    A prefix is what stands before at least half of `own`, as `model.backbone.`; what is under its beginnings (`model.`,
    and nothing) belongs to the net too: in a net's plain state dict only the backbone has a prefix.

    Raises `UserError` if the net is there more than once, or a name of `own` from two names in the file.
    """
    bare = {name: ".".join(part for part in name.split(".") if part not in TORCH_WRAPPERS) for name in state}
    counts = Counter(prefix for name in bare.values() for prefix, rest in _splits(name) if rest in own)
    half = sum(not is_counter(name) for name in own) / 2
    prefixes = [prefix for prefix, count in counts.items() if count >= half] or [""]
    if len(prefixes) > 1:
        named = ", ".join(map(repr, prefixes))
        raise UserError(
            f"{source}: the network is in it {len(prefixes)} times, under {named}; save one alone:"
            f" torch.save({{name: value for name, value in state.items() if {max(prefixes, key=len)!r} in name}}, path)"
        )
    beginnings = sorted((p for p in {*counts, prefixes[0]} if prefixes[0].startswith(p)), key=len, reverse=True)
    found: dict[str, str] = {}  # names in the file by the net's
    twice = []
    for name, short in bare.items():
        prefix = next((p for p in beginnings if short.startswith(p)), "")
        short = short.removeprefix(prefix)
        if short in found and short in own:
            twice.append(f"{short}: {found[short]} and {name}")
        found[name if short in found else short] = name
    raise_problems(f"{source}: two tensors for one of the network's; save the file without one of them", twice)
    return {short: state[name] for short, name in found.items()}


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every beginning of a dotted name, the empty one first, with what comes after it."""
    parts = name.split(".")
    for number in range(len(parts)):
        yield "".join(f"{part}." for part in parts[:number]), ".".join(parts[number:])


def under_first_names(read: Mapping[str, Tensor], aliases: Mapping[str, str], *, source: str) -> dict[str, Tensor]:
    """`read`, a file that has tensors under several names, under the first of each, without what torch's wrappers put
    before them.

    aliases: what the other names begin with, and what that stands for; applied in turn. Raises `UserError` where two
    names of one tensor have different ones.
    """
    state: dict[str, Tensor] = {}
    differ = []
    for name, value in read.items():
        first = ".".join(part for part in name.split(".") if part not in TORCH_WRAPPERS)
        for alias, meant in aliases.items():
            if f"{first}.".startswith(f"{alias}."):
                first = meant + first[len(alias) :]
        if first in state and not _are_equal(state[first], value):
            differ.append(f"{first}: {name} is another")
        state.setdefault(first, value)
    raise_problems(f"{source}: expected one tensor under each of its names, found two", differ)
    return state


def _are_equal(one: Tensor, other: Tensor) -> bool:
    is_same = one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()
    return is_same or torch.equal(one, other)
