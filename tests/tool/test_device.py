"""Which devices the processes of an inference get, on machines with GPUs and without."""

import re

import pytest
import torch

from tool.cli import UserError
from tool.device import AMP_TYPES, device_names, layout, process_devices
from tool.flags import AMP


def test_the_names_of_precisions_are_those_of_what_there_is():
    assert tuple(AMP_TYPES) == AMP


@pytest.mark.parametrize("amp", AMP)
@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
@pytest.mark.parametrize("override", [None, "0"])
def test_weights_lie_channels_last_for_tensor_cores_alone(monkeypatch, amp, capability, override):
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    else:
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    has_tensor_cores = amp in ("bf16", "fp16") or (capability != (7, 5) and override is None)
    assert (layout(amp, capability) == torch.channels_last) is has_tensor_cores


@pytest.fixture
def machine(monkeypatch):
    """Sets how many GPUs there seem to be, and which of how many processes of torchrun on the machine this one is."""

    def pretend(gpus, local_rank=0, local_world_size=1):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setenv("LOCAL_RANK", str(local_rank))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local_world_size))

    return pretend


@pytest.mark.parametrize(
    ("gpus", "flags", "expected"),
    [
        (0, (None, None, [1]), "cpu"),
        (0, (None, None, [3]), "cpu cpu cpu"),
        (4, (None, None, [1]), "cuda:0"),
        (4, (None, 3, [1]), "cuda:0 cuda:1 cuda:2"),
        (4, (None, 2, [2]), "cuda:0 cuda:1 cuda:0 cuda:1"),
        (4, ("cuda", 2, [2, 1]), "cuda:0 cuda:1 cuda:0"),
        (4, (None, 0, [2]), "cpu cpu"),
        (4, ("cpu", None, [1]), "cpu"),
        (4, ("cuda:2", None, [2]), "cuda:2 cuda:2"),
        (4, ("cuda:2", 1, [1]), "cuda:2"),
    ],
)
def test_gpus_are_taken_from_the_first_and_a_numbered_one_alone(machine, gpus, flags, expected):
    machine(gpus)
    assert process_devices(*flags) == expected.split()


@pytest.mark.parametrize(("local_rank", "expected"), [(0, "cuda:0 cuda:1"), (1, "cuda:2 cuda:3")])
def test_processes_of_torchrun_share_a_machine_s_gpus(machine, local_rank, expected):
    machine(5, local_rank, local_world_size=2)
    assert process_devices(None, 2, [1]) == expected.split()


@pytest.mark.parametrize(
    ("gpus", "place", "count", "expected"),
    [(0, (0, 1), 1, "cpu"), (0, (1, 2), 1, "cpu"), (4, (0, 1), 0, "cpu"), (4, (0, 1), 4, "cuda:0 cuda:1 cuda:2 cuda:3"),
     (4, (1, 2), 2, "cuda:2 cuda:3"), (4, (3, 4), 1, "cuda:3")],
)  # fmt: skip
def test_each_process_of_torchrun_predicts_on_gpus_of_its_own(machine, gpus, place, count, expected):
    machine(gpus, *place)
    assert device_names(count, "GPUS", each=True) == expected.split()


def test_gpus_that_are_not_there_for_each_process_or_that_a_driver_only_shows_are_refused(machine, monkeypatch):
    machine(1, local_world_size=2)
    with pytest.raises(UserError, match=re.escape("GPUS 1: this machine has 0 GPUs for each of 2 processes")):
        device_names(1, "GPUS", each=True)
    machine(1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_names(1, "GPUS") == ["cpu"]
    with pytest.raises(UserError, match="this machine has 0 GPUs"):
        process_devices("cuda", None, [1])


@pytest.mark.parametrize(
    ("gpus", "processes_here", "flags", "expected"),
    [
        (2, 1, (None, 3, [1]), "--n_gpus 3: this machine has 2 GPUs; take 0 (the CPU) to 2"),
        (3, 2, (None, 2, [1]), "--n_gpus 2: this machine has 1 GPUs for each of 2 processes; take 0 (the CPU) to 1"),
        (2, 1, ("cpu", 2, [1]), "--n_gpus 2: --device cpu says otherwise"),
        (2, 1, ("cuda", 0, [1]), "--n_gpus 0: --device cuda says otherwise"),
        (2, 1, ("cuda:1", 2, [1]), "--device cuda:1: one GPU for one process"),
        (2, 2, ("cuda:1", None, [1]), "--device cuda:1: one GPU for one process"),
        (2, 1, (None, 2, [1, 1, 1]), "--n_processes_per_gpu 1 1 1: expected one number, or one for each of 2 GPUs"),
    ],
)
def test_what_does_not_go_together_or_is_not_there_is_refused(machine, gpus, processes_here, flags, expected):
    machine(gpus, local_world_size=processes_here)
    with pytest.raises(UserError, match=re.escape(expected)):
        process_devices(*flags)
