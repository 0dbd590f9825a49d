"""Two pools of processes do every job; what goes wrong with one image, or kills a process, ends in a message."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import assert_all_end, living, needs_proc
from tool.cli import UserError
from tool.pipeline import Pool, outcomes, run_pools

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="ends what hangs by an alarm")


# What the processes run.


def compute(_: str, seconds: float) -> None:
    while time.process_time() < seconds:
        pass


def write(image_id: str, folder: Path, text: str) -> None:
    (folder / image_id).write_text(text)


def write_after_first(image_id: str, folder: Path, before: Path) -> None:
    (folder / image_id).write_text(f"{(before / image_id).read_text()}, second")


def refuse_b(image_id: str, folder: Path) -> None:
    if image_id.startswith("b"):
        raise UserError(f"{image_id}: no such image")
    (folder / image_id).touch()


def answer(image_id: str) -> str:
    return f"result of {image_id}"


def write_slowly(image_id: str, folder: Path, text: str) -> None:
    time.sleep(0.1)
    write(image_id, folder, text)


def fail(image_id: str) -> None:
    raise ZeroDivisionError(image_id)


def kill_at_b(image_id: str) -> None:
    if image_id == "b":
        os.kill(os.getpid(), signal.SIGKILL)


def large_result_after_a(image_id: str, folder: Path) -> bytes | None:
    """`a` ends while `b` is at work; `b` ends once the result of `a` was taken."""
    if image_id == "a":
        wait_for(folder / "b")
        return None
    (folder / "b").touch()
    wait_for(folder / "a was taken")
    return bytes(10_000_000)  # more than a pipe holds


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def sleep_long(image_id: str) -> None:
    time.sleep(600)


def meet(image_id: str, folder: Path, *others: str) -> None:
    """Ends when the jobs `others` have begun, too."""
    (folder / image_id).touch()
    for other in others:
        wait_for(folder / other)


def refuse_b_or_wait_for_it(image_id: str, folder: Path) -> None:
    if image_id == "b":
        (folder / "b").touch()
        raise UserError("b: no such image")
    wait_for(folder / "b")


def be_killed_with_the_others(image_id: str, folder: Path, *others: str) -> None:
    meet(image_id, folder, *others)
    if image_id == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    sleep_long(image_id)


def say_what_cannot_be_said(image_id: str, folder: Path) -> Callable:
    meet(image_id, folder, "a", "b")
    return lambda: None


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def alarm():
    """After two minutes everything is taken to hang."""

    def give_up(*_):
        raise TimeoutError("the pools hang")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(120)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def stages(first_work, second_work, *, workers=2, start=None):
    """Two pools, whose processes are ended by the run's end."""
    pools = [Pool(name, work, workers, start=start) for name, work in (("cam", first_work), ("crf", second_work))]
    with alarm():
        yield pools
    assert not [process for pool in pools for process in pool.processes.values() if process.is_alive()]


@pytest.fixture
def folders(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    return tmp_path / "first", tmp_path / "second"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_job_of_both_stages_is_done_and_the_second_follows_the_first(folders):
    made, followed = folders
    new = [f"new {number}" for number in range(12)]
    (made / "old").write_text("old")
    with stages(write, write_after_first) as (first, second):
        first.waiting = deque((image_id, made, "first") for image_id in new)
        second.waiting = deque([("old", followed, made)])
        problems = run_pools(
            first, second, follow_up=lambda image_id, _: (image_id, followed, made) if image_id != "new 3" else None
        )
    assert problems == []
    assert names(made) == sorted([*new, "old"])
    assert names(followed) == sorted({*new, "old"} - {"new 3"})
    assert (followed / "old").read_text() == "old, second"
    assert (followed / "new 7").read_text() == "first, second"


def test_no_jobs_at_all_are_no_problem():
    with stages(fail, fail) as (first, second):
        assert run_pools(first, second, follow_up=lambda image_id, result: None) == []


def test_a_stage_that_only_has_second_jobs_does_them(folders):
    made, followed = folders
    write("old", made, "old")
    with stages(fail, write_after_first) as (first, second):
        second.waiting.append(("old", followed, made))
        assert run_pools(first, second, follow_up=lambda image_id, result: None) == []
    assert names(followed) == ["old"]


def test_images_that_a_stage_refuses_are_reported_and_the_others_done(folders):
    made, followed = folders
    with stages(refuse_b, refuse_b) as (first, second):
        first.waiting = deque((image_id, made) for image_id in ("a", "b1", "b2", "c", "d"))
        second.waiting = deque([("b3", followed)])
        followed_up = []

        def follow_up(image_id, result):
            followed_up.append(image_id)
            return image_id, followed

        problems = run_pools(first, second, follow_up=follow_up)
    assert sorted(problems) == [f"{image_id}: no such image" for image_id in ("b1", "b2", "b3")]
    assert names(made) == names(followed) == sorted(followed_up) == ["a", "c", "d"]


def test_an_error_of_ours_is_not_taken_for_the_users():
    with stages(fail, fail) as (first, second):
        first.waiting.append(("a",))
        with pytest.raises(ZeroDivisionError):
            run_pools(first, second, follow_up=lambda image_id, result: None)


@pytest.mark.parametrize("stage", ["cam", "crf"])
def test_a_process_that_is_killed_ends_the_run_with_the_image_it_was_at(stage):
    with stages(kill_at_b, kill_at_b) as (first, second):
        (first if stage == "cam" else second).waiting.extend([("a",), ("b",), ("c",)])
        with pytest.raises(UserError, match=f"a {stage} process died.*it was at b;") as raised:
            run_pools(first, second, follow_up=lambda image_id, result: None)
    assert "run the command again" in str(raised.value)


def test_a_process_killed_amid_its_result_makes_nobody_wait_for_the_rest(tmp_path):
    with stages(large_result_after_a, fail) as (first, second):
        first.waiting.extend([("a", tmp_path), ("b", tmp_path)])

        def kill_b_amid_its_result(image_id, result):
            (tmp_path / "a was taken").touch()
            (connection,) = first.running
            assert first.running[connection] == ["b"] and connection.poll(None)
            first.processes[connection].kill()
            first.processes[connection].join()

        with pytest.raises(UserError, match=r"a cam process died.*it was at b;"):
            run_pools(first, second, follow_up=kill_b_amid_its_result)


def test_a_process_killed_at_its_start_ends_the_run_alike():
    with stages(answer, fail, start=be_killed) as (first, second):
        first.waiting.append(("a",))
        with pytest.raises(UserError, match=r"a cam process died.*it was at no image;"):
            run_pools(first, second, follow_up=lambda image_id, result: None)


def test_an_error_does_not_wait_for_what_runs():
    with stages(fail, sleep_long) as (first, second):
        first.waiting.append(("a",))
        second.waiting.append(("b",))
        with pytest.raises(ZeroDivisionError):
            run_pools(first, second, follow_up=lambda image_id, result: None)


def test_no_more_processes_are_started_than_jobs_wait_for_one(folders):
    made, _ = folders
    with stages(write, fail, workers=3) as (first, second):
        first.waiting.extend([("a", made, ""), ("b", made, "")])
        assert run_pools(first, second, follow_up=lambda image_id, result: None) == []
    assert len(first.processes) == 2 and not second.processes
    assert names(made) == ["a", "b"]


def test_the_second_stage_gets_what_the_first_returned_and_few_results_wait_for_it(folders):
    _, followed = folders
    waiting = []
    with stages(answer, write_slowly, workers=1) as (first, second):
        first.waiting = deque((str(number),) for number in range(20))

        def follow_up(image_id, result):
            waiting.append(len(waiting) + 1 - len(names(followed)))
            return image_id, followed, result

        assert run_pools(first, second, follow_up=follow_up) == []
    assert len(names(followed)) == 20
    assert (followed / "7").read_text() == "result of 7"
    # One at each process and one between them; without a bound all twenty would wait.
    assert max(waiting) <= 3


# -- several jobs at a time --------------------------------------------------------------------------------------------


@contextmanager
def one_process(work, jobs):
    """A pool of one process that does two jobs at a time."""
    pool = Pool("cam", work, 1, threads=2)
    pool.waiting.extend(jobs)
    with alarm():
        yield pool
    assert len(pool.processes) == 1


def test_a_process_does_as_many_jobs_at_a_time_as_it_has_threads(tmp_path):
    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("e",)]  # each waits for the other
    with one_process(meet, [(name, tmp_path, *others) for name, *others in pairs]) as pool:
        assert run_pools(pool) == []
    assert names(tmp_path) == list("abcde")


def test_the_refusal_of_one_thread_leaves_the_others_at_work(tmp_path):
    with one_process(refuse_b_or_wait_for_it, [(name, tmp_path) for name in "abc"]) as pool:
        assert run_pools(pool) == ["b: no such image"]


def test_a_process_that_is_killed_names_all_images_that_it_was_at(tmp_path):
    jobs = [("a", tmp_path, "b"), ("b", tmp_path, "a"), ("c", tmp_path)]
    named = pytest.raises(UserError, match=r"it was at a, b;")
    with one_process(be_killed_with_the_others, jobs) as pool, named:
        run_pools(pool)


def test_what_cannot_be_said_ends_the_process_and_leaves_nobody_waiting(tmp_path):
    reported = pytest.raises(UserError, match="a cam process died")
    with one_process(say_what_cannot_be_said, [("a", tmp_path), ("b", tmp_path)]) as pool, reported:
        run_pools(pool)


def test_jobs_go_to_the_process_that_has_the_fewest(tmp_path):
    with alarm(), Pool("image", meet, 2, threads=2) as pool:
        pool.feed(deque([("x", tmp_path)] * 4))  # starts both
        while len(pool.started) < 2:
            list(outcomes(pool))
        pool.feed(deque([("a", tmp_path, "b"), ("b", tmp_path, "a")]))
        assert sorted(map(len, pool.running.values())) == [1, 1]


# -- what ends the processes -------------------------------------------------------------------------------------------

AT_WORK = """
import sys
from pathlib import Path
from tests.tool.test_pipeline import Pool, run_pools, write_and_sleep
from tool.cli import run_script

def main():
    first, second = (Pool(name, write_and_sleep, 2) for name in ("cam", "crf"))
    first.waiting.extend((name, Path(sys.argv[1])) for name in "ab")
    second.waiting.extend((name, Path(sys.argv[1])) for name in "cd")
    run_pools(first, second, follow_up=lambda image_id, result: None)

if __name__ == "__main__":
    run_script(main)
"""


def write_and_sleep(image_id: str, folder: Path) -> None:
    (folder / image_id).touch()
    sleep_long(image_id)


@contextmanager
def at_work(folder, *, processes):
    """A command in a session of its own, of whose four processes so many are at a job at least."""
    command = [sys.executable, "-c", AT_WORK, str(folder)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with alarm(), subprocess.Popen(command, cwd=ROOT, start_new_session=True, text=True, **streams) as command:
        try:
            while len(list(folder.iterdir())) < processes or len(living(command.pid)) < 3:
                assert command.poll() is None
                time.sleep(0.01)
            yield command
        finally:
            if living(command.pid):
                os.killpg(command.pid, signal.SIGKILL)


@needs_proc
@pytest.mark.parametrize("processes", [0, 4], ids=["while they start", "at work"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_command_that_started_it(tmp_path, number, processes):
    with at_work(tmp_path, processes=processes) as command:
        command.send_signal(number)
        assert command.wait(60) != 0
        assert_all_end(command.pid)


@needs_proc
@pytest.mark.parametrize("processes", [0, 4], ids=["while they start", "at work"])
def test_ctrl_c_which_reaches_all_processes_ends_them_with_one_line(tmp_path, processes):
    with at_work(tmp_path, processes=processes) as command:
        os.killpg(command.pid, signal.SIGINT)
        assert command.communicate(timeout=60) == ("", "interrupted\n")
        assert command.returncode == 130
        assert_all_end(command.pid)


def test_the_time_of_a_pools_processes_counts_as_the_commands():
    program = """
from collections import deque
from tests.tool.test_pipeline import compute
from tool.pipeline import Pool, outcomes

if __name__ == "__main__":
    jobs = deque([("key", 1.5)])
    with Pool("pool", compute, 1) as pool:
        while jobs or pool.running:
            pool.feed(jobs)
            list(outcomes(pool))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0 and usage.ru_utime + usage.ru_stime > 1.5
