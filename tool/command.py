"""Commands that run other commands of the project, one after the other or side by side."""

import ctypes
import os
import pty
import re
import selectors
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Any, TextIO

from tool.cli import UserError, cores, printable

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets once its parent is gone
CURSOR_MOVES = re.compile(r"\x1b\[\d*[A-K]")
BAR = re.compile(r"\d%\||\d\w+ \[")  # of tqdm, with a total and without


def run_python(*command: object) -> None:
    """Show one of the project's commands, without `python`, and run it in the project's folder, to its end.

    Whatever ends this process ends the command first, which saves what it has done; `subprocess.run` would kill it.
    If this process is killed, the command gets SIGTERM. What it says goes where this process's output goes.

    Raises `UserError` if the command fails.
    """
    print(f"\n{_shown(command)}", flush=True)
    process = _start(command)
    try:
        process.wait()
    except BaseException as end:
        _end([process], end)
        process.wait()
        raise
    _raise_failure(command, process)


def run_side_by_side(chains: Mapping[str, Iterator[Sequence[object]]]) -> None:
    """Run the commands that each of `chains` yields, one after the other, and the chains beside each other.

    Each command has one thread. Its chain's name stands before each of its lines; the bars of all share a line.
    All end as the command of `run_python` does, and where one fails. A chain alone, and each in turn where there is one
    core, has the machine and the terminal as `run_python` gives them.

    Raises `UserError` if a command fails.
    """
    if len(chains) == 1 or cores() == 1:
        for chain in chains.values():
            for command in chain:
                run_python(*command)
        return
    lanes = [_Lane(name, chain, len(chains)) for name, chain in chains.items()]
    with selectors.DefaultSelector() as selector:
        try:
            for lane in lanes:
                lane.start_next(selector)
            while selector.get_map():
                _pass_on(lanes, selector)
        except BaseException as end:
            _end([lane.process for lane in lanes if lane.process is not None], end)
            while selector.get_map():  # what they say last; a full pipe would keep them from ending
                _pass_on(lanes, selector, start_more=False)
            raise


def _shown(command: Sequence[object]) -> str:
    return f"$ python {shlex.join(map(str, command))}"


def _start(command: Sequence[object], **options: Any) -> subprocess.Popen:
    prctl = ctypes.CDLL(None).prctl
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        **options,
    )


def _end(processes: Sequence[subprocess.Popen], end: BaseException) -> None:
    if not isinstance(end, KeyboardInterrupt):  # a terminal's, which all hear
        for process in processes:
            process.terminate()


def _raise_failure(command: Sequence[object], process: subprocess.Popen) -> None:
    if process.returncode != 0:
        name = command[1] if command[0] == "-m" else command[0]
        raise UserError(f"{name} ended with exit code {process.returncode}; what it said stands above")


class _Lane:
    """A chain's commands, of which one runs at a time, and what that one says."""

    def __init__(self, name: str, chain: Iterator[Sequence[object]], count: int) -> None:
        self.name, self.chain = name, chain
        self.columns = shutil.get_terminal_size().columns // count
        self.process: subprocess.Popen | None = None
        self.bar = ""

    def start_next(self, selector: selectors.BaseSelector) -> None:
        """Start the next command, if there is one."""
        self.command = next(self.chain, None)
        if self.command is None:
            return
        self.write(_shown(self.command), sys.stdout)
        out, their_out = os.pipe()
        err, their_err = pty.openpty() if sys.stderr.isatty() else os.pipe()  # a terminal of its own, for its bars
        if sys.stderr.isatty():
            ioctl(their_err, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self.columns - len(self.name) - 4, 0, 0))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.process = _start(self.command, stdout=their_out, stderr=their_err, env=environment)
        for ours, theirs, stream in ((out, their_out, sys.stdout), (err, their_err, sys.stderr)):
            os.close(theirs)
            selector.register(ours, selectors.EVENT_READ, _Speech(self, stream))
        self.open = 2

    def write(self, text: str, stream: TextIO) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        print(f"{self.name} | {text}", file=stream, flush=True)


class _Speech:
    """What a command writes to one stream, cut into whole lines and the bars between them."""

    def __init__(self, lane: _Lane, stream: TextIO) -> None:
        self.lane, self.stream, self.rest = lane, stream, b""

    def hear(self, said: bytes) -> None:
        """Pass on what is whole by now; nothing said means the end."""
        *whole, self.rest = re.split(rb"[\r\n]+", self.rest + said) if said else (self.rest, b"")
        for piece in whole:
            text = CURSOR_MOVES.sub("", piece.decode(errors="replace")).rstrip()
            if BAR.search(text) and self.stream is sys.stderr:
                self.lane.bar = text.strip()
            elif text:
                self.lane.write(printable(text), self.stream)


def _pass_on(lanes: Sequence[_Lane], selector: selectors.BaseSelector, *, start_more: bool = True) -> None:
    """Wait until a command says something or ends, pass it on, and go on with its chain."""
    for key, _ in selector.select():
        speech: _Speech = key.data
        try:
            said = os.read(key.fd, 1 << 16)
        except OSError:  # of a terminal that all have left
            said = b""
        speech.hear(said)
        if said:
            continue
        selector.unregister(key.fd)
        os.close(key.fd)
        lane = speech.lane
        lane.open -= 1
        if lane.open == 0:
            process, lane.process, lane.bar = lane.process, None, ""
            process.wait()
            if start_more:
                _raise_failure(lane.command, process)
                lane.start_next(selector)
    if sys.stderr.isatty():
        bars = "  ".join(f"{lane.name}: {lane.bar}" for lane in lanes if lane.bar)
        print(f"\r\x1b[K{bars}", end="", file=sys.stderr, flush=True)
