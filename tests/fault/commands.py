"""Commands started at no cost and ended at any moment: a process that has imported everything forks for each."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.processes import living
from tests.scripts.conftest import MODULES, ROOT, command, environment

TIME_LIMIT = 300  # seconds for one command, after which it is taken to hang
LEAVE_LIMIT = 20  # seconds from a signal to the end of what it ends

MORE_MODULES = ("segmentation.submission", "voc12.mini", "voc12.relabel")
# Imports what the scripts do, and then forks for each line it reads, a command: its process in a session of its own.
# Folders are mounted where it is told to, which nobody else sees if `unshare` started it.
FORKER = """
import importlib, json, os, resource, subprocess, sys

def run(job):
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):  # pipes, which no limit on files' sizes concerns
        os.dup2(os.open(f"{job['output']}.{name}", os.O_WRONLY), descriptor)
    os.chdir(job["folder"])
    if job["file_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"], resource.RLIM_INFINITY))
    run_command(job["words"], sys.argv[1])

sys.path[0] = sys.argv[1]
from tests.forked import end_with, run_command
for module in sys.argv[2:]:
    importlib.import_module(module)
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if "mount" in job:
        done = subprocess.run(job["mount"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(json.dumps([done.returncode, done.stdout]), flush=True)
        continue
    process = os.fork()
    if process == 0:
        end_with(lambda: run(job))
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@dataclass
class Done:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


class Forker:
    """Starts commands, one at a time; `private` where it may mount folders, which then only its commands see."""

    def __init__(self, folder: Path, *, private: bool = False):
        self.output = folder / "output"
        self.pipes = {}
        for name in ("stdout", "stderr"):
            os.mkfifo(f"{self.output}.{name}")
            self.pipes[name] = os.open(f"{self.output}.{name}", os.O_RDONLY | os.O_NONBLOCK)
        words = ["unshare", "--mount", "--propagation", "private"] if private else []
        self.process = subprocess.Popen(
            [*words, sys.executable, "-c", FORKER, str(ROOT), *MODULES, *MORE_MODULES],
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        assert self._answer() == "ready"

    def _answer(self, seconds: float = TIME_LIMIT) -> str | None:
        """The next line it writes; None if none comes in time."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().strip() if ready else None

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(TIME_LIMIT)
        for pipe in self.pipes.values():
            os.close(pipe)

    def mount(self, *words: object) -> None:
        """Run `mount` or `umount` where the commands live."""
        self.process.stdin.write(json.dumps({"mount": [str(word) for word in words]}) + "\n")
        code, said = json.loads(self._answer())
        assert code == 0, said

    def seen(self, folder: Path) -> Path:
        """`folder` as the commands see it, with what is mounted there."""
        return Path(f"/proc/{self.process.pid}/root") / folder.relative_to("/")

    def run(
        self,
        words: Sequence[object],
        *,
        folder: Path = ROOT,
        file_limit: int | None = None,
        disturb: Callable[[int], object] = lambda group: None,
    ) -> Done:
        """Run a command (script and arguments, or -m, module and arguments) to its end.

        file_limit: bytes beyond which no file grows. disturb: called with the command's process group once it runs.
        """
        job = {"words": [str(word) for word in words], "folder": str(folder)}
        job |= {"output": str(self.output), "file_limit": file_limit}
        self.process.stdin.write(json.dumps(job) + "\n")
        group = int(self._answer())
        try:
            disturb(group)
            code = self._answer()
            if code is None:
                os.killpg(group, signal.SIGKILL)
                self._answer()  # or the next command would take it for its own
                raise AssertionError(f"{words[0]} hangs:\n{self._said('stderr')}")
            assert_ended(group)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        return Done(int(code), self._said("stdout"), self._said("stderr"))

    def _said(self, name: str) -> str:
        """What the command wrote; a pipe holds 64 KiB."""
        said = b""
        with suppress(BlockingIOError):
            while part := os.read(self.pipes[name], 2**16):
                said += part
        return said.decode()


def assert_ended(group: int) -> None:
    """All processes of the group end by themselves."""
    deadline = time.monotonic() + LEAVE_LIMIT
    while there := living(group):
        assert time.monotonic() < deadline, there
        time.sleep(0.02)


def words_of(script: str, flags: Mapping[str, object]) -> list[str]:
    """The words of a script's command, for `Forker.run`."""
    return command(script, flags)[1:]


def catches_sigterm(process: int) -> bool:
    """Whether the process has a handler of its own, or has ended."""
    try:
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    except FileNotFoundError:
        return True
    return caught is None or bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def after(seconds: float, number: signal.Signals, *, whole_group: bool) -> Callable[[int], None]:
    """What sends a signal to a command, or to all its processes, so many seconds after it knows what to do then."""

    def disturb(group: int) -> None:
        while not catches_sigterm(group):
            time.sleep(0.001)
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            (os.killpg if whole_group else os.kill)(group, number)

    return disturb
