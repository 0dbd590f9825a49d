"""Which device a script computes on."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tool.cli import UserError
from tool.torchrun import local_rank, local_world_size

# The types of `tool.flags.AMP`.
AMP_TYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """A context that computes as `amp`, a key of `AMP_TYPES`, says."""
    return torch.autocast(device.type, AMP_TYPES[amp], enabled=amp != "off")


def place(net: nn.Module, device: torch.device, amp: str) -> nn.Module:
    """`net`, moved to `device` in place; on a GPU its weights lie as its units want them.

    A GPU becomes this thread's own: nothing that names none asks the first one, or takes memory there.

    Raises `UserError` for bf16 on a GPU that has no such units.
    """
    if device.type == "cpu":
        return net.to(device)
    if device.index is not None:
        torch.cuda.set_device(device)
    if amp == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("bf16: this GPU has no units for it; take fp16, where there is that choice, or off")
    return net.to(device, memory_format=layout(amp, torch.cuda.get_device_capability(device)))


def layout(amp: str, capability: tuple[int, int]) -> torch.memory_format:
    """How convolutions want their weights on a GPU of that compute capability: channels last for tensor cores, in half
    precision or TF32, which there is from 8.0 on; not in float32, whose kernels for that are slow."""
    has_tf32 = capability >= (8, 0) and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
    return torch.channels_last if amp != "off" or has_tf32 else torch.contiguous_format


def place_for_inference(net: nn.Module, device: torch.device, amp: str) -> nn.Module:
    """`net`, in place on `device` as `place` puts it, for passes inside `autocast` of the same `amp` alone.

    Its convolutions and linear layers get the type that these compute in: `autocast` would make them anew in each pass,
    as it keeps what it made only of weights that learn. What is computed is the same, bit for bit.
    """
    place(net, device, amp).requires_grad_(False)
    for layer in net.modules():
        if amp != "off" and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            for parameter in layer.parameters(recurse=False):
                parameter.data = parameter.data.to(AMP_TYPES[amp])
    return net


def copied_to(value: Tensor, device: torch.device) -> Tensor:
    """`value`, of the CPU, on `device`; the host does not wait for a GPU to take it."""
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)


def numbers_on(values: Sequence[int], device: torch.device) -> Tensor:
    """`values`, int64, on `device`; the host does not wait for a GPU to take them, as it does where a list indexes."""
    return copied_to(torch.tensor(values, dtype=torch.long), device)


_of_thread = threading.local()


@contextmanager
def on_own_stream(device: torch.device) -> Iterator[None]:
    """The block's work for a GPU goes to this thread's own stream, beside that of other threads; on a CPU: nothing.

    What one thread makes in such blocks is for itself, or for the CPU: no stream waits for another's.
    """
    if device.type == "cpu":
        yield
        return
    torch.cuda.set_device(device)  # each thread has its own, the first GPU if nothing is said
    if not hasattr(_of_thread, "stream"):
        _of_thread.stream = torch.cuda.Stream(device)
        # By the thread that started the process the net was put there on the default stream, which may not be through.
        _of_thread.stream.wait_stream(torch.cuda.default_stream(device))
    with torch.cuda.stream(_of_thread.stream):
        yield


def images_at_once(device: str) -> int:
    """How many images a process that infers on `device` works at: on a GPU one is read, one computed, one written."""
    return 1 if device == "cpu" else 3


def usable_gpus() -> int:
    """How many GPUs this machine has for PyTorch, whose count has those, too, that a driver too old for it shows."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device_names(count: int, flag: str, *, each: bool = False) -> list[str]:
    """The first `count` GPUs by name; the CPU for none, and for one where there is none.

    each: so many for each process that torchrun started on this machine, after those of the processes before it.

    Raises `UserError`, naming `flag`, if there are fewer.
    """
    processes = local_world_size() if each else 1
    there = usable_gpus() // processes
    if count > (there if usable_gpus() else 1):
        share = f" for each of {processes} processes" if processes > 1 else ""
        most = there if usable_gpus() else "1 (the CPU, too)"
        raise UserError(f"{flag} {count}: this machine has {there} GPUs{share}; take 0 (the CPU) to {most}")
    first = local_rank() * count if each else 0
    return [f"cuda:{gpu}" for gpu in range(first, first + min(count, there))] or ["cpu"]


def resolve_device(name: str | None) -> torch.device:
    """The device of --device `name`, or the first GPU where there is one, else the CPU.

    Raises:
        UserError: the name is no device, or the device is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: expected cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: expected cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= usable_gpus():
        raise UserError(f"--device {name}: this machine has {usable_gpus()} GPUs; use --device cpu")
    return device


def process_devices(name: str | None, n_gpus: int | None, processes: Sequence[int]) -> list[str]:
    """The device of each process that infers on this machine, as --device, --n_gpus and --n_processes_per_gpu ask.

    What torchrun starts on a machine shares its GPUs, `n_gpus` for each.

    Args:
        name: of `resolve_device`; cuda:N is that GPU alone. n_gpus: 0 is the CPU; None: a GPU where there is one.
        processes: how many a GPU has, one number for all or one for each; on the CPU the first counts.

    Raises:
        UserError: fewer GPUs are there, or the three do not go together.
    """
    device = resolve_device(name)
    n_gpus = n_gpus if n_gpus is not None else int(device.type == "cuda")
    there = usable_gpus() // local_world_size()
    if not 0 <= n_gpus <= there:
        share = f" for each of {local_world_size()} processes" if local_world_size() > 1 else ""
        raise UserError(f"--n_gpus {n_gpus}: this machine has {there} GPUs{share}; take 0 (the CPU) to {there}")
    if name is not None and (n_gpus > 0) != (device.type == "cuda"):
        raise UserError(f"--n_gpus {n_gpus}: --device {name} says otherwise; leave one of them out")
    if device.index is not None and (n_gpus > 1 or local_world_size() > 1):
        raise UserError(f"--device {name}: one GPU for one process; take --device cuda and --n_gpus")
    if len(processes) not in (1, n_gpus):
        given = " ".join(map(str, processes))
        raise UserError(f"--n_processes_per_gpu {given}: expected one number, or one for each of {n_gpus} GPUs")
    if n_gpus == 0:
        return ["cpu"] * processes[0]
    counts = list(processes) * (n_gpus if len(processes) == 1 else 1)
    first = local_rank() * n_gpus if device.index is None else device.index
    gpus = [(turn, gpu) for gpu, count in enumerate(counts, start=first) for turn in range(count)]
    return [f"cuda:{gpu}" for _, gpu in sorted(gpus)]  # in turns: where few are started, they are on different ones
