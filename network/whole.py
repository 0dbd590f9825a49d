"""Weights that a net takes as a whole or not at all."""

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from network.names import is_counter
from network.weights import LoadReport, misfits
from tool.cli import UserError, first_few, printable


def check_whole(state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, source: str, advice: str) -> None:
    """Raise `UserError` with the first few, and the number, of tensors missing, unexpected and misfitting."""
    faults = {
        "missing": [name for name in own if name not in state and not is_counter(name)],
        "unexpected": [name for name in state if name not in own],
        "of another shape or kind": list(misfits(state, own).values()),
    }
    if any(faults.values()):
        lines = [f"  {fault} ({len(found)}): {printable(first_few(found))}" for fault, found in faults.items() if found]
        raise UserError("\n".join([f"{source}: does not fit the net; {advice}", *lines]))


def load_whole(
    net: nn.Module, state: Mapping[str, Tensor], *, source: str, advice: str, left: Collection[str] = ()
) -> LoadReport:
    """Copy into `net` all of `state` but the names `left`. Raises as `check_whole`, and leaves the net as it was."""
    usable = {name: value for name, value in state.items() if name not in left}
    own = net.state_dict()
    check_whole(usable, own, source=source, advice=advice)
    net.load_state_dict(usable, strict=False)  # batch counters may be missing
    return LoadReport.of(source, state, own)
