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
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple, TextIO

from tool.artifact import reported_unwritable
from tool.cli import INTERRUPTED, cores, printable
from tool.places import ROOT

PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets once its parent is gone
CURSOR_MOVES = re.compile(r"\x1b\[\d*[A-K]")
BAR = re.compile(r"\d%\||\d\w+ \[")  # of tqdm, with a total and without


class Command(NamedTuple):
    """One of the project's commands: its words without `python`, a line to show before it, and the file that keeps
    what it says (none keeps nothing)."""

    command: Sequence[object]
    title: str = ""
    log: Path | None = None

    @property
    def shown(self) -> str:
        return f"$ python {shlex.join(map(str, self.command))}"


class Ended(NamedTuple):
    """How a job ended: its exit code (negative: the signal that killed it), its seconds, and those of processors; the
    most memory that one of its processes had, in bytes."""

    code: int
    seconds: float
    cpu_seconds: float
    memory: int


Chain = Generator[Command, Ended, None]


def run_chains(chains: Mapping[str, Chain]) -> None:
    """Run the jobs that each of `chains` yields, one after the other, and the chains beside each other.

    A chain is sent how its job ended, and raises what is to end all. Side by side each command has one thread, its
    chain's name stands before each of its lines, and the bars of all share a line. A chain alone, and each in turn
    where there is one core, has the machine, and the terminal with its bars.

    Whatever ends this process ends the commands first, which save what they have done. If this process is killed, they
    get SIGTERM. Commands run in the project's folder; what they say goes where this process's output goes, and into
    their logs, without the bars.
    """
    if len(chains) > 1 and cores() > 1:
        _run([_Lane(name, chain, columns=_columns() // len(chains) - len(name) - 4) for name, chain in chains.items()])
    else:
        for chain in chains.values():
            _run([_Lane("", chain, columns=_columns())])


def _run(lanes: Sequence["_Lane"]) -> None:
    with selectors.DefaultSelector() as selector:
        try:
            for lane in lanes:
                lane.start(next(lane.chain, None), selector)
            while selector.get_map():
                _pass_on(lanes, selector)
        except BaseException as end:
            if not isinstance(end, KeyboardInterrupt):  # a terminal's, which all hear
                for lane in lanes:
                    if lane.process is not None:  # not terminate(), which takes away how one that has ended did so
                        with suppress(ProcessLookupError):
                            os.kill(lane.process.pid, signal.SIGTERM)
            while selector.get_map():  # what they say last; a full pipe would keep them from ending
                with suppress(Exception, SystemExit):  # the first reason to end is the one to tell
                    _pass_on(lanes, selector, start_more=False)
            if isinstance(end, KeyboardInterrupt) and any(lane.code == INTERRUPTED for lane in lanes):
                sys.exit(INTERRUPTED)  # the command has said that it was
            raise


class _Stream(NamedTuple):
    """The two ends of what a command writes to, as descriptors, and the stream of this process that it leads to."""

    ours: int
    theirs: int
    leads_to: TextIO


class _Lane:
    """A chain's jobs, of which one runs at a time, and what that one says. A lane without a name is alone."""

    def __init__(self, name: str, chain: Chain, *, columns: int) -> None:
        self.name, self.chain, self.columns = name, chain, columns
        self.process: subprocess.Popen | None = None
        self.code: int | None = None  # of the job that ended last
        self.bar = ""

    def start(self, job: Command | None, selector: selectors.BaseSelector) -> None:
        """Start the next job, if there is one."""
        if job is None:
            return
        self.job, self.started = job, time.perf_counter()
        if not self.name:
            print()
        for line in filter(None, (job.title, job.shown)):
            self.write(line, sys.stdout)
        self.log = None
        if job.log is not None:
            with reported_unwritable(job.log):
                self.log = open(job.log, "ab", buffering=0)  # noqa: SIM115, open as long as the command
                self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {job.shown}\n".encode(errors="backslashreplace"))
        streams = self.open_streams()
        threads = {"OMP_NUM_THREADS": "1"} if self.name else {}
        prctl = ctypes.CDLL(None).prctl
        self.process = subprocess.Popen(
            [sys.executable, *map(str, job.command)],
            cwd=ROOT,
            env={**os.environ, **threads, "PYTHONUNBUFFERED": "1"},
            stdout=streams[-1].theirs,
            stderr=streams[0].theirs,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        )
        for stream in streams:
            os.close(stream.theirs)
            selector.register(stream.ours, selectors.EVENT_READ, _Speech(self, stream.leads_to))
        self.open = len(streams)

    def open_streams(self) -> list[_Stream]:
        """What a command is to write to: the first takes its errors, the last its output; one takes both where they
        share a terminal."""
        on_terminal = sys.stderr.isatty()
        # A terminal of its own, for its bars; alone on one, also for its lines, which are to come between the bars.
        ours, theirs = pty.openpty() if on_terminal else os.pipe()
        if on_terminal:
            ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, max(self.columns, 1), 0, 0))
        streams = [_Stream(ours, theirs, sys.stderr)]
        if self.name or not (on_terminal and sys.stdout.isatty()):
            streams.append(_Stream(*os.pipe(), sys.stdout))
        return streams

    def write(self, text: str, stream: TextIO) -> None:
        if self.name and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        print(f"{self.name} | {text}" if self.name else text, file=stream, flush=True)

    def wait(self) -> Ended:
        """How the job ended, once it has left all streams."""
        assert self.process is not None
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.code, self.process, self.bar = self.process.returncode, None, ""
        if self.log is not None:
            self.log.close()
        seconds, memory = time.perf_counter() - self.started, usage.ru_maxrss * 1024  # which Linux counts in KiB
        return Ended(self.code, seconds, usage.ru_utime + usage.ru_stime, memory)


class _Speech:
    """What a command writes to one stream, cut into whole lines and the bars between them."""

    def __init__(self, lane: _Lane, stream: TextIO) -> None:
        self.lane, self.stream, self.rest = lane, stream, b""

    def hear(self, said: bytes) -> None:
        """Pass on what is whole by now, or at once where the lane is alone; nothing said means the end."""
        if not self.lane.name and said:
            self.stream.buffer.write(said)
            self.stream.flush()
        *whole, self.rest = re.split(rb"[\r\n]+", self.rest + said) if said else (self.rest, b"")
        for piece in whole:
            text = CURSOR_MOVES.sub("", piece.decode(errors="replace")).rstrip()
            if BAR.search(text) and self.stream is sys.stderr:
                self.lane.bar = text.strip()
            elif text:
                self.keep(printable(text))

    def keep(self, line: str) -> None:
        """Write a whole line to the log, and to the stream where several lanes share it."""
        if self.lane.log is not None:
            with reported_unwritable(self.lane.log.name):
                self.lane.log.write(f"{line}\n".encode(errors="backslashreplace"))
        if self.lane.name:
            self.lane.write(line, self.stream)


def _columns() -> int:
    return shutil.get_terminal_size().columns


def _pass_on(lanes: Sequence[_Lane], selector: selectors.BaseSelector, *, start_more: bool = True) -> None:
    """Wait until a command says something or ends, pass it on, and go on with its chain."""
    # Of what has come on both streams of a command the error is last, as where it was said.
    for key, _ in sorted(selector.select(), key=lambda ready: ready[0].data.stream is sys.stderr):
        speech: _Speech = key.data
        try:
            said = os.read(key.fd, 1 << 16)
        except OSError:  # of a terminal that all have left
            said = b""
        if not said:
            selector.unregister(key.fd)
            os.close(key.fd)
        try:
            speech.hear(said)
        finally:
            lane = speech.lane
            lane.open -= not said
            if lane.open == 0:
                ended = lane.wait()
                with suppress(StopIteration):
                    job = lane.chain.send(ended)
                    if start_more:
                        lane.start(job, selector)
    if len(lanes) > 1 and sys.stderr.isatty():
        bars = "  ".join(f"{lane.name}: {lane.bar}" for lane in lanes if lane.bar)
        print(f"\r\x1b[K{bars}", end="", file=sys.stderr, flush=True)
