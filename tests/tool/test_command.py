"""One command of the project runs another: it goes with it, and its failure has a name."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tool.cli import UserError
from tool.command import run_python

ROOT = Path(__file__).resolve().parents[2]
# Says when it has begun and what ends it.
INNER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("saved", flush=True)))
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_is_told_to_end_however_the_one_that_runs_it_ends(number):
    outer = "from tool.cli import run_script; from tool.command import run_python"
    outer += f"; run_script(lambda: run_python('-c', {INNER!r}))"
    with subprocess.Popen([sys.executable, "-c", outer], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.stdout.readline() != "begun\n":
            assert process.poll() is None
        process.send_signal(number)
        assert process.stdout.read() == "saved\n"


def test_a_command_that_fails_is_named(capsys):
    with pytest.raises(UserError, match=r"eval\.py ended with exit code 2; what it said stands above"):
        run_python("eval.py", "--list", "none where there is this")
    assert capsys.readouterr().out == "\n$ python eval.py --list 'none where there is this'\n"
