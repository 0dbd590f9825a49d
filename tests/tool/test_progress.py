"""Progress where there is no terminal: lines, not too many of them, of one process alone."""

import pytest

from tool import progress
from tool.progress import Bar


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test moves on."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_long_work_says_where_it_is_and_when_it_ends(clock, capsys):
    for number in Bar(range(10), desc="walk", unit="image"):
        clock[0] += 60
        assert number < 10
    assert capsys.readouterr().out == "walk: 5 of 10 images, 5 min 0 s left\nwalk: 10 of 10 images, 0.0 s left\n"


def test_a_run_that_goes_on_reckons_by_its_own_steps_and_shows_its_losses(clock, capsys):
    with Bar(total=400, initial=100, desc="train", unit="step") as bar:
        for _ in range(100):
            clock[0] += 4
            bar.set_postfix(loss="0.250")
            bar.update()
    assert capsys.readouterr().out == "train: 175 of 400 steps, 15 min 0 s left, loss=0.250\n"


def test_short_work_and_a_process_beside_the_one_that_speaks_say_nothing(clock, capfd):
    assert list(Bar(range(5), desc="check", unit="image")) == [*range(5)]
    for _ in Bar(range(5), desc="check", unit="image", shown=False):
        clock[0] += 1000
    assert capfd.readouterr() == ("", "")


def test_work_of_unknown_length_says_how_much_is_done(clock, capsys):
    for _ in Bar(iter(range(2)), desc="read", unit="file"):
        clock[0] += 301
    assert capsys.readouterr().out == "read: 1\nread: 2\n"
