"""Loader processes: they outlive the signals that a run gets, their deaths are told, and none keeps it from ending."""

import os
import re
import signal
import time
from multiprocessing import active_children

import pytest
from torch.utils.data import DataLoader, Dataset

from tests.scripts.conftest import ROOT, forker
from tests.tool.test_loop import Run
from tool.cli import run_script
from tool.reading import Reading, of_processes, outlive_signals, started


class Numbers(Dataset):
    """Ten samples; the process that loads number 7 dies, killed or of itself, or does not where `killed` is None."""

    def __init__(self, killed: bool | None):
        self.killed = killed
        self.reading = Reading([f"image {number}" for number in range(10)])

    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> dict:
        with self.reading.of(number):
            if number == 7 and self.killed is not None:
                os.kill(os.getpid(), signal.SIGKILL) if self.killed else os._exit(1)
        return {"number": number, "id": str(number)}


def run_with_dying_loader(killed: bool) -> None:
    loader = DataLoader(Numbers(killed), batch_size=1, num_workers=2)
    run_script(lambda: Run([1.0] * 10).go(range(10), save_every=1, loader=loader, save=print))


@pytest.mark.parametrize("killed", [True, False])
def test_a_loader_process_that_dies_ends_the_run_with_one_line_of_advice(killed):
    script = f"from tests.tool.test_reading import run_with_dying_loader; run_with_dying_loader({killed})"
    done = forker().run(["-c", script], ROOT)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert re.match(r"error: a loader process (is killed by signal: Killed|exited unexpectedly|died)", line)
    assert "it was at image 7;" in line
    for advice in ("--num_workers", "DATA_WORKERS", "--resume"):
        assert advice in line
    saved = [int(step) for step in done.stdout.split()]
    assert saved == list(range(1, len(saved) + 1)) and len(saved) < 8


def run_with_death_between_batches() -> None:
    def read() -> None:
        batches = started(DataLoader(Numbers(None), batch_size=1, num_workers=1), then="; go on")
        next(batches)
        (process,) = active_children()
        process.kill()
        time.sleep(1)
        print("a step")
        next(batches)

    run_script(read)


def test_a_death_is_raised_to_who_waits_for_a_batch_alone():
    script = "from tests.tool.test_reading import run_with_death_between_batches; run_with_death_between_batches()"
    done = forker().run(["-c", script], ROOT)
    assert (done.returncode, done.stdout) == (2, "a step\n"), done.stderr
    assert re.fullmatch(r"error: a loader process is killed by signal: Killed; it was at .*; go on\n", done.stderr)


def test_loader_processes_are_forked_whatever_python_does_by_itself():
    """From Python 3.14 on it starts them anew, and each imports torch."""
    assert of_processes(0) == {"num_workers": 0, "multiprocessing_context": None}
    assert DataLoader([1], **of_processes(1)).multiprocessing_context.get_start_method() == "fork"


def test_a_loader_process_outlives_the_signals_that_all_processes_get():
    batches = started(DataLoader(Numbers(None), num_workers=1, worker_init_fn=outlive_signals))
    (process,) = active_children()
    for number in (signal.SIGTERM, signal.SIGINT):  # in whatever state it is
        os.kill(process.pid, number)
    assert [int(batch["number"]) for batch in batches] == list(range(10))
    process.join(20)
    assert process.exitcode == 0


def run_with_stopped_loader() -> None:
    """Its loader process is stopped, and told to end by another than the run, when the run has been told to."""
    loader = DataLoader(Numbers(None), num_workers=1, worker_init_fn=outlive_signals)

    def save(step):
        print(step)
        if step == 1:
            signal.raise_signal(signal.SIGTERM)
        else:
            (process,) = active_children()
            for number in (signal.SIGSTOP, signal.SIGTERM):
                os.kill(process.pid, number)

    run_script(lambda: Run([1.0] * 10).go(range(10), save_every=1, loader=loader, save=save))


def test_a_loader_process_that_answers_no_more_keeps_no_run_from_ending():
    script = "from tests.tool.test_reading import run_with_stopped_loader; run_with_stopped_loader()"
    started = forker().start(["-c", script], ROOT)
    try:
        done = started.wait()
    finally:
        started.kill()
    assert (done.returncode, done.stdout.split()) == (128 + signal.SIGTERM, ["1", "2"])
