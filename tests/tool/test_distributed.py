"""Alone, each function is the identity; processes that torchrun starts find their places and their sum."""

import json
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed

from tests.scripts.conftest import ROOT, assert_succeeded, environment, run_by_two
from tool.cli import UserError
from tool.distributed import (
    first_alone,
    found_by_all,
    join_processes,
    leave_processes,
    rank,
    sum_over_processes,
    wait_for_all,
    world_size,
)
from tool.torchrun import started_by_torchrun

TIME_LIMIT = 240  # seconds, after which a process ends itself and with it the others

needs_alarm = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="ends what hangs by an alarm")


def run_processes(module: str, folder: Path) -> None:
    """Run `python -m module folder` in two processes that train together, each of which calls `end_what_hangs`."""
    for done in run_by_two("-m", module, folder):
        assert_succeeded(done)


def end_what_hangs() -> None:
    signal.alarm(TIME_LIMIT)


# -- alone -------------------------------------------------------------------------------------------------------------


def test_alone_a_process_is_the_only_one_and_keeps_its_device():
    assert not started_by_torchrun()
    for name in ("cpu", "cuda:3"):
        assert join_processes(torch.device(name)) == torch.device(name)
    assert (rank(), world_size()) == (0, 1)
    leave_processes()
    leave_processes()
    assert (rank(), world_size()) == (0, 1)


def test_one_gpu_is_not_named_for_several_processes(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--device cuda:1: one GPU for one process; take --device cuda"):
        join_processes(torch.device("cuda:1"))


def test_alone_the_sum_is_the_value_without_its_gradient():
    value = torch.tensor([1.5, -2.0], requires_grad=True)
    total = sum_over_processes(value * 2)
    assert total.tolist() == [3.0, -4.0]
    assert not total.requires_grad
    assert sum_over_processes(torch.tensor(2**40)).item() == 2**40


# -- two processes -----------------------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """What one of two processes finds, as `<rank>.json` in `folder`."""
    end_what_hangs()
    found = {"started": started_by_torchrun(), "before": [rank(), world_size()]}
    found["device"] = str(join_processes(torch.device("cpu")))
    number = rank()
    found["joined"] = [number, world_size()]
    weight = torch.tensor([1.0, 10.0], requires_grad=True)
    value = weight * (number + 1)
    total = sum_over_processes(value)
    value.sum().backward()
    found |= {"sum": total.tolist(), "value": value.tolist(), "gradient": weight.grad.tolist()}
    found["sum_has_gradient"] = total.requires_grad
    found["count"] = sum_over_processes(torch.tensor(2**40 + number)).item()
    found["scalar"] = sum_over_processes(torch.tensor(0.25 + number)).item()
    found["shared"] = found_by_all(
        range(5), lambda item, square: [square, number], read=lambda item: item * item, what="squares"
    )
    with first_alone(True):
        if number == 0:
            time.sleep(0.5)  # in which the other would look, if it did not wait
            (folder / "download").touch()
        found["there"] = (folder / "download").exists()
    leave_processes()
    found["left"] = [rank(), world_size()]
    (folder / f"{number}.json").write_text(json.dumps(found))


@needs_alarm
def test_two_processes_find_their_places_and_the_same_sum_and_part_again(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.tool.test_distributed", tmp_path],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=2 * TIME_LIMIT,
    )
    assert_succeeded(done)
    for number in (0, 1):
        assert json.loads((tmp_path / f"{number}.json").read_text()) == {
            "started": True,
            "before": [0, 1],
            "device": "cpu",
            "joined": [number, 2],
            "sum": [3.0, 30.0],
            "value": [1.0 * (number + 1), 10.0 * (number + 1)],
            "gradient": [number + 1, number + 1],
            "sum_has_gradient": False,
            "count": 2**41 + 1,
            "scalar": 1.5,
            "shared": [[0, 0], [1, 1], [4, 0], [9, 1], [16, 0]],
            "there": True,
            "left": [0, 1],
        }


def wait_long(folder: Path) -> None:
    """One process waits for another longer than an exchange between them may take."""
    end_what_hangs()
    join_processes(torch.device("cpu"))
    wait_for_all()
    # Not when they join, which takes as long as it takes. Older versions of PyTorch have another name for it.
    is_new = hasattr(distributed, "set_timeout")
    set_timeout = distributed.set_timeout if is_new else distributed.distributed_c10d._set_pg_timeout
    set_timeout(timedelta(seconds=1))
    if rank() == 1:
        time.sleep(3)
        (folder / "work").touch()
    wait_for_all()
    assert (folder / "work").exists()
    leave_processes()


@needs_alarm
def test_a_process_waits_for_one_that_works_as_long_as_that_takes(tmp_path):
    code = "import sys; from tests.tool import test_distributed as test; test.wait_long(test.Path(sys.argv[1]))"
    for done in run_by_two("-c", code, tmp_path):
        assert_succeeded(done)


if __name__ == "__main__":
    report(Path(sys.argv[1]))
