"""Commands side by side: what they say stays whole, and they end with the one that runs them and with each other."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import assert_all_end
from tool.cli import cores

ROOT = Path(__file__).resolve().parents[2]
# Runs chains of commands, {name: [what Python is to run, ...]}, and says when one is through.
OUTER = """
import json, sys
from tool.cli import UserError, run_script
from tool.command import Command, run_chains
def chain(name, commands):
    for command in commands:
        if code := (yield Command(["-c", command])).code:
            raise UserError(f"{name}: exit code {code}")
    print(f"<{name} is through>", flush=True)
chains = json.loads(sys.argv[1])
run_script(lambda: run_chains({name: chain(name, commands) for name, commands in chains.items()}))
"""
# Says that it is ready, and leaves a file when it is told to end.
SAVING = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    open({path!r}, "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
print("ready", flush=True)
time.sleep(60)
"""
# Three lines, each in two halves.
HALVES = """
import sys, time
for number in range(3):
    for half in ("line ", f"{number}\\n"):
        sys.stdout.write(half)
        time.sleep(0.05)
"""
BAR = """
import time
from tqdm import tqdm
for _ in tqdm(range(8), desc="train", leave=False, mininterval=0):
    time.sleep(0.05)
"""
needs_two_cores = pytest.mark.skipif(cores() < 2, reason="on one core one runs after the other")


def start(chains, **options) -> subprocess.Popen:
    """The process that runs `chains`, in a session of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(
        [sys.executable, "-c", OUTER, json.dumps(chains)], cwd=ROOT, start_new_session=True, **options
    )


def lines_of(name: str, out: str) -> list[str]:
    """What a chain's commands said, and the word that it is through."""
    lines = (line for line in out.splitlines() if "$ python" not in line)
    return [line for line in lines if line.startswith(f"{name} | ") or line == f"<{name} is through>"]


@needs_two_cores
def test_lines_stay_whole_with_the_name_of_their_chain_whose_commands_keep_their_order():
    process = start({"a": [HALVES, "print('last')"], "b": [HALVES]})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    said = [f"line {number}" for number in range(3)]
    assert lines_of("a", out) == [*(f"a | {line}" for line in [*said, "last"]), "<a is through>"]
    assert lines_of("b", out) == [*(f"b | {line}" for line in said), "<b is through>"]
    assert "a | $ python -c 'print('\"'\"'last'\"'\"')'" in out.splitlines()  # can be copied


@needs_two_cores
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_all_save_however_the_process_that_runs_them_ends(number, code, tmp_path):
    process = start({name: [SAVING.format(path=str(tmp_path / name)), "print('more')"] for name in "ab"})
    said = set()
    while not {"a | ready", "b | ready"} <= said:
        said.add(process.stdout.readline().rstrip("\n"))
    # A terminal tells all processes of Ctrl-C, who sends another signal only the outer one.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert_all_end(process.pid)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    assert "more" not in out and "through" not in out  # nothing else is begun


@needs_two_cores
def test_where_one_fails_the_others_save_and_end(tmp_path):
    waiting = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
    process = start({"good": [SAVING.format(path=str(tmp_path / "saved"))], "bad": [f"{waiting}raise SystemExit(3)"]})
    while process.stdout.readline() != "good | ready\n":
        pass
    (tmp_path / "go").touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert (tmp_path / "saved").exists()
    assert err == "error: bad: exit code 3\n"


@needs_two_cores
def test_each_has_one_thread_where_there_are_others_and_the_users_number_alone():
    command = "import os; print(os.environ.get('OMP_NUM_THREADS'))"
    environment = {**os.environ, "OMP_NUM_THREADS": "7"}
    out, _ = start({"a": [command], "b": [command]}, env=environment).communicate(timeout=60)
    assert "a | 1" in out and "b | 1" in out
    out, _ = start({"a": [command]}, env=environment).communicate(timeout=60)
    assert "\n7\n" in out


def test_on_one_core_one_chain_runs_after_the_other():
    only = min(os.sched_getaffinity(0))
    process = start({name: [HALVES] for name in "ab"}, preexec_fn=lambda: os.sched_setaffinity(0, {only}))
    out, _ = process.communicate(timeout=60)
    said = [line for line in out.splitlines() if line and not line.startswith("$ ")]
    lines = [f"line {number}" for number in range(3)]
    assert [line for line in said if line in lines or "through" in line] == [
        *(*lines, "<a is through>"),
        *(*lines, "<b is through>"),
    ]


@needs_two_cores
def test_a_terminal_shows_the_bars_of_all_in_one_line():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # rows, columns
    process = start({"a": [BAR], "b": [BAR]}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the end of a terminal that all have left
        while said := os.read(ours, 4096):
            shown += said
    os.close(ours)
    assert process.wait() == 0
    pieces = [piece for piece in shown.decode().split("\r\x1b[K") if "through" not in piece]
    both = [piece for piece in pieces if "a: train" in piece and "b: train" in piece]
    assert both and all("\n" not in piece and len(piece) <= 120 for piece in both), both


def test_alone_a_command_has_the_terminal_for_its_bars_and_the_log_keeps_its_lines(tmp_path):
    command = f"{BAR}\nprint('trained')"
    outer = f"""
from pathlib import Path
from tool.command import Command, run_chains
def chain():
    yield Command(["-c", {command!r}], "the title", Path({str(tmp_path / "log")!r}))
run_chains({{"": chain()}})
"""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 70, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen([sys.executable, "-c", outer], cwd=ROOT, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):
        while said := os.read(ours, 4096):
            shown += said
    os.close(ours)
    assert process.wait() == 0
    bars = [piece for piece in shown.decode().split("\r") if "train: " in piece]
    assert "train: 100%" in shown.decode() and len(bars) > 3 and max(map(len, bars)) <= 70
    assert shown.decode().rstrip().endswith("trained")
    assert [line for line in (tmp_path / "log").read_text().splitlines() if "%|" in line] == []
    assert (tmp_path / "log").read_text().endswith("\ntrained\n")
