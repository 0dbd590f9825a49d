"""Two stages of processes do every job; what goes wrong with one image, or kills a process, ends in a message."""

import multiprocessing
import os
import signal
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tool.cli import UserError
from tool.pipeline import AHEAD, Stage, run_stages

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="ends what hangs by an alarm")


# What the processes run.


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


@contextmanager
def stages(first_work, second_work, *, workers=2):
    """Two stages with pools of their own; after a minute everything is taken to hang."""

    def give_up(*_):
        raise TimeoutError("the stages hang")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    context = multiprocessing.get_context("spawn")
    try:
        with (
            ProcessPoolExecutor(workers, context) as first_pool,
            ProcessPoolExecutor(workers, context) as second_pool,
        ):
            yield Stage("cam", first_pool, workers, first_work), Stage("crf", second_pool, workers, second_work)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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
        problems = run_stages(
            first, second, follow_up=lambda image_id, _: (image_id, followed, made) if image_id != "new 3" else None
        )
    assert problems == []
    assert names(made) == sorted([*new, "old"])
    assert names(followed) == sorted({*new, "old"} - {"new 3"})
    assert (followed / "old").read_text() == "old, second"
    assert (followed / "new 7").read_text() == "first, second"


def test_no_jobs_at_all_are_no_problem():
    with stages(fail, fail) as (first, second):
        assert run_stages(first, second, follow_up=lambda image_id, result: None) == []


def test_a_stage_that_only_has_second_jobs_does_them(folders):
    made, followed = folders
    write("old", made, "old")
    with stages(fail, write_after_first) as (first, second):
        second.waiting.append(("old", followed, made))
        assert run_stages(first, second, follow_up=lambda image_id, result: None) == []
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

        problems = run_stages(first, second, follow_up=follow_up)
    assert sorted(problems) == [f"{image_id}: no such image" for image_id in ("b1", "b2", "b3")]
    assert names(made) == names(followed) == sorted(followed_up) == ["a", "c", "d"]


def test_an_error_of_ours_is_not_taken_for_the_users():
    with stages(fail, fail) as (first, second):
        first.waiting.append(("a",))
        with pytest.raises(ZeroDivisionError):
            run_stages(first, second, follow_up=lambda image_id, result: None)


@pytest.mark.parametrize("stage", ["cam", "crf"])
def test_a_process_that_is_killed_ends_the_run_with_the_images_it_held(stage):
    with stages(kill_at_b, kill_at_b, workers=1) as (first, second):
        (first if stage == "cam" else second).waiting.extend([("b",), ("c",), ("d",), ("e",), ("f",)])
        with pytest.raises(UserError, match=f"a {stage} process died.*held b, c") as raised:
            run_stages(first, second, follow_up=lambda image_id, result: None)
    assert "run the command again" in str(raised.value)


def test_a_process_killed_while_results_are_looked_at_ends_the_run_alike():
    with stages(kill_at_b, kill_at_b, workers=1) as (first, second):
        # More jobs than are handed out at once, so that some are still to be handed to the pool that broke.
        first.waiting.extend([("a",), ("b",), *((f"c{number}",) for number in range(2 * AHEAD))])

        def follow_up(image_id, result):
            # `a` is done and `b` kills its process: the pool is broken before it is fed again.
            time.sleep(2)

        with pytest.raises(UserError, match=r"a cam process died.*held b, c0"):
            run_stages(first, second, follow_up=follow_up)


def test_pools_are_not_handed_more_than_keeps_them_busy(folders):
    made, _ = folders
    with stages(write, fail, workers=1) as (first, second):
        first.waiting = deque((str(number), made, "") for number in range(20))
        first.feed(first.waiting)
        assert len(first.running) == 1 + AHEAD
        assert run_stages(first, second, follow_up=lambda image_id, result: None) == []
    assert len(names(made)) == 20


def test_the_second_stage_gets_what_the_first_returned_and_few_results_wait_for_it(folders):
    _, followed = folders
    waiting = []
    with stages(answer, write_slowly, workers=1) as (first, second):
        first.waiting = deque((str(number),) for number in range(20))

        def follow_up(image_id, result):
            waiting.append(len(waiting) + 1 - len(names(followed)))
            return image_id, followed, result

        assert run_stages(first, second, follow_up=follow_up) == []
    assert len(names(followed)) == 20
    assert (followed / "7").read_text() == "result of 7"
    # Those in both pools and one a process between them; without a bound all twenty would wait.
    assert max(waiting) <= 2 * (1 + AHEAD) + 1
