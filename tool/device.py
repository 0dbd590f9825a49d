"""Which device a script computes on."""

import torch
from torch import nn

from tool.cli import UserError

# --amp: what the network's convolutions and products are computed in.
AMP_TYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """A context that computes as `amp`, a key of `AMP_TYPES`, says."""
    return torch.autocast(device.type, AMP_TYPES[amp], enabled=amp != "off")


def place(net: nn.Module, device: torch.device, amp: str) -> nn.Module:
    """`net`, moved to `device` in place; for half precision on a GPU its weights lie as its tensor cores want them."""
    if device.type == "cuda" and amp != "off":
        return net.to(device, memory_format=torch.channels_last)
    return net.to(device)


def device_names(count: int, flag: str) -> list[str]:
    """The first `count` GPUs by name; the CPU for none, and for one where there is none.

    Raises `UserError`, naming `flag`, if there are fewer.
    """
    there = torch.cuda.device_count()
    if count > max(there, 1):
        most = there or "1 (the CPU, too)"
        raise UserError(f"{flag} {count}: this machine has {there} GPUs; take 0 (the CPU) to {most}")
    return [f"cuda:{gpu}" for gpu in range(min(count, there))] or ["cpu"]


def resolve_device(name: str | None, flag: str = "--device") -> torch.device:
    """The device `name`, or the first GPU where there is one, else the CPU.

    Raises:
        UserError: the name is no device, or the device is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"{flag} {name}: expected cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"{flag} {name}: expected cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"{flag} {name}: this machine has {torch.cuda.device_count()} GPUs; use --device cpu")
    return device
