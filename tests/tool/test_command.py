"""One command of the project runs another: it ends with it, and its failure has a name."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tool.cli import UserError
from tool.command import run_python

ROOT = Path(__file__).resolve().parents[2]
INNER = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    print("saved", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
print("ready", flush=True)
time.sleep(60)
"""
OUTER = f"""
from tool.cli import run_script
from tool.command import run_python
run_script(lambda: run_python("-c", {INNER!r}))
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_command_saves_however_the_one_that_runs_it_ends(number, code):
    process = subprocess.Popen(
        [sys.executable, "-c", OUTER], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert "ready\n" in iter(process.stdout.readline, "")
    # A terminal tells all processes of Ctrl-C, who sends another signal only the outer one.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    assert process.communicate(timeout=60)[0] == "saved\n"
    assert process.returncode == code


def test_a_command_that_fails_is_named(capsys):
    with pytest.raises(UserError, match=r"eval\.py ended with exit code 2; what it said stands above"):
        run_python("eval.py", "--list", "none where there is this")
    assert capsys.readouterr().out == "\n$ python eval.py --list 'none where there is this'\n"
