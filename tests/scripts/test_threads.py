"""Threads: free cores decide at a run's start, the run's own number when it goes on, and its user over both."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tests.scripts.conftest import ROOT, TINY, environment, forker, load, run, words_of
from tool.cli import cores
from tool.threads import busy_cores, free_cores, take_threads

# user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice: guests' ticks are users' already
BEFORE = """cpu  9 9 9 9 9 9 9 9 9 9
cpu0 100 0 50 800 10 1 1 0 100 0
cpu1 500 5 50 300 10 1 1 0 0 0
cpu10 0 0 0 100 0 0 0 0 0 0
intr 99
"""
AFTER = """cpu  19 9 9 9 9 9 9 9 9 9
cpu0 110 0 55 803 12 1 1 4 110 0
cpu1 500 5 50 300 30 1 1 0 0 0
cpu10 20 0 0 100 0 0 0 0 0 0
intr 199
"""


@pytest.mark.parametrize(
    ("own", "busy"),
    [
        ({0}, 19 / 24),  # 10 user, 5 system, 4 stolen; 3 idle, 2 waiting for a disk
        ({1}, 0),
        ({10}, 1),
        ({0, 1, 10}, 19 / 24 + 1),
        ({7}, 0),  # a container shows other numbers: nothing is known of it
    ],
)
def test_busy_is_all_but_idle_and_waiting_on_the_own_cores(own, busy):
    assert busy_cores(BEFORE, AFTER, own) == pytest.approx(busy)


def test_cores_that_count_nothing_are_free():
    assert busy_cores(BEFORE, BEFORE, {0, 1}) == 0


@contextmanager
def all_cores_busy() -> Iterator[None]:
    """A process on each core that never rests."""
    spin = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"
    words = [sys.executable, "-c", spin]
    spinning = [
        subprocess.Popen([*words, str(core)], stdout=subprocess.PIPE) for core in sorted(os.sched_getaffinity(0))
    ]
    try:
        for process in spinning:
            process.stdout.readline()
        yield
    finally:
        for process in spinning:
            process.kill()
            process.communicate()


def test_the_users_number_counts_whatever_the_checkpoint_had(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the tests were started with
    assert take_threads({"threads": 7}) == "1 thread (OMP_NUM_THREADS)"


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({}, 64),
    ],
    ids=str,
)
def test_a_container_has_no_more_cores_than_its_share_of_time(files, share, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("tool.cli.CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(64)}, raising=False)
    assert cores() == share
    assert free_cores() <= share


needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="keeps cores busy one by one")


@needs_affinity
def test_no_core_is_free_where_each_has_a_process_that_never_rests():
    with all_cores_busy():
        assert free_cores() < 0.25


def train(data, work_dir, *, threads: int | None = None) -> str:
    """Train a step, or go on, with `threads` as the user's number, or none; how many it took, and why."""
    flags = {**TINY, **data.for_training(), "--work_dir": work_dir, "--max_iters": 1, "--resume": ()}
    if threads is None:
        done = forker().run(["train_voc.py", *words_of(flags)], ROOT, changes={"OMP_NUM_THREADS": None})
    else:  # which torch reads as it starts
        done = run("train_voc.py", flags, env=environment(threads))
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if " x cpu, " in line)
    return line.split(" x cpu, ")[1]


@needs_affinity
@pytest.mark.skipif(cores() < 2, reason="two threads on one core")
def test_a_run_takes_the_free_cores_and_goes_on_with_the_number_that_it_had(data, tmp_path):
    last = tmp_path / "hsc" / "last.ckpt"
    assert train(data, tmp_path, threads=2) == "2 threads (OMP_NUM_THREADS)"
    assert load(last)["threads"] == 2
    with all_cores_busy():
        assert train(data, tmp_path) == "2 threads (as before)"
        older = {name: value for name, value in load(last).items() if name != "threads"}
        torch.save(older, last)
        assert train(data, tmp_path).startswith("1 thread (0.")


# Has no user's word on how threads wait, or the one given, before a pool is imported.
POOL = """
import os, sys
os.environ.pop("OMP_WAIT_POLICY", None)
os.environ.update({"OMP_WAIT_POLICY": word for word in sys.argv[1:]})
from tool.pipeline import Pool, outcomes
if __name__ == "__main__":
    with Pool("environment", os.getenv, 1) as pool:
        pool.waiting.append(("OMP_WAIT_POLICY",))
        found = []
        while not found:
            pool.feed(pool.waiting)
            found += outcomes(pool)
    print(found[0].result)
"""


@pytest.mark.parametrize(("users", "expected"), [([], "PASSIVE"), (["ACTIVE"], "ACTIVE")])
def test_threads_of_pools_sleep_while_they_wait_unless_the_user_says_otherwise(users, expected, tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    done = subprocess.run(
        [sys.executable, script, *users],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"{expected}\n"
