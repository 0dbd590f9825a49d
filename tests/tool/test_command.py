"""One command of the project runs another: it ends with it, and says how it ended and what it took."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

import pytest

from tests.processes import assert_all_end
from tool import command
from tool.command import Command, run_chains

ROOT = Path(__file__).resolve().parents[2]
# Says that it is ready, and leaves a file when it is told to end.
INNER = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    open(sys.argv[1], "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
print("ready", flush=True)
time.sleep(60)
"""
OUTER = f"""
import sys
from tool.cli import run_script
from tool.command import Command, run_chains
def chain():
    yield Command(["-c", {INNER!r}, sys.argv[1]])
run_script(lambda: run_chains({{"": chain()}}))
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_command_saves_however_the_one_that_runs_it_ends(number, code, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", OUTER, str(tmp_path / "saved")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert "ready\n" in iter(process.stdout.readline, "")
    # A terminal tells all processes of Ctrl-C, who sends another signal only the outer one.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert_all_end(process.pid)
    assert (tmp_path / "saved").exists()


def test_a_chain_is_told_how_its_command_ended_and_the_log_keeps_what_it_said(tmp_path, capfd):
    ends = []
    busy = "import sys, time; sum(range(10**7)); time.sleep(0.2); print('half', end='', flush=True); sys.exit(' done')"

    def chain():
        ends.append((yield Command(["-c", busy], "a title", tmp_path / "log")))

    run_chains({"": chain()})
    (ended,) = ends
    assert ended.code == 1 and 0 < ended.cpu_seconds < ended.seconds and ended.seconds > 0.2
    said, complained = capfd.readouterr()
    assert said.startswith("\na title\n$ python -c 'import sys, time;") and said.endswith("half")
    assert complained == " done\n"
    head, *lines = (tmp_path / "log").read_text().splitlines()
    assert head[20:].startswith("$ python -c") and sorted(lines) == [" done", "half"]


def test_of_what_has_come_on_both_streams_the_error_is_the_last_line_of_the_log(tmp_path):
    """Where both are there before either is heard, whichever stream is asked first."""
    with (tmp_path / "log").open("wb") as log, DefaultSelector() as selector:
        lane = command._Lane("b", iter(()), columns=80)
        lane.log, lane.open = log, 2
        for stream, said in ((sys.stderr, b"error: wrong\n"), (sys.stdout, b"this is it\n")):
            ours, theirs = os.pipe()
            os.write(theirs, said)
            selector.register(ours, EVENT_READ, command._Speech(lane, stream))
        command._pass_on([lane], selector)
    assert (tmp_path / "log").read_text() == "this is it\nerror: wrong\n"
