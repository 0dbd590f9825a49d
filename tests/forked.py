"""Commands that cost no imports: a process that has imported what they do forks for each of them.

Imports are most of what a command costs on a net as small as the tests'. This file is also that process:
`python tests/forked.py ROOT MODULE ...`, with a command a line, as JSON, on its input.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, BinaryIO

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 600  # seconds for a command, after which it is taken to hang
Changes = Mapping[str, str | None]  # of an environment; None takes a name out


@dataclass
class Started:
    """A command at work, in a session of its own; `said` begins the paths of what it writes."""

    words: Sequence[object]
    said: Path
    pids: SimpleQueue = field(default_factory=SimpleQueue)
    codes: SimpleQueue = field(default_factory=SimpleQueue)

    def has_ended(self) -> bool:
        return not self.codes.empty()

    def kill(self) -> None:
        """End the command, with all its processes and without warning."""
        with suppress(ProcessLookupError):
            os.killpg(self.pids.get(timeout=TIME_LIMIT), signal.SIGKILL)

    def wait(self) -> subprocess.CompletedProcess:
        """What became of it, at its end."""
        code = self.codes.get(timeout=TIME_LIMIT)
        assert code is not None, "the process that forks has died"
        outputs = (Path(f"{self.said}.{name}").read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(self.words, code, *outputs)


class Forker:
    """The process, from the other side. Threads may run commands at the same time; it ends with the `with` block.

    Args:
        modules: imported once, from the code in `root`. env: of the process and of all its commands.
    """

    def __init__(self, modules: Sequence[str], *, env: Mapping[str, str], root: Path = ROOT) -> None:
        self._output = TemporaryDirectory()
        self._started: dict[int, Started] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(root), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )
        threading.Thread(target=self._hand_out, daemon=True).start()

    def __enter__(self) -> "Forker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._output.cleanup()

    def start(self, words: Sequence[object], folder: Path, *, changes: Changes | None = None) -> Started:
        """Start `python words ...` in `folder`, with `changes` of its environment, which its imports do not hear of."""
        with self._lock:
            self._count += 1
            number, said = self._count, Path(self._output.name, str(self._count))
            started = self._started[number] = Started(words, said)
            job = [number, [str(word) for word in words], str(folder), str(said), dict(changes or {})]
            print(json.dumps(job), file=self._process.stdin, flush=True)
        return started

    def run(
        self, words: Sequence[object], folder: Path, *, changes: Changes | None = None
    ) -> subprocess.CompletedProcess:
        """`start` a command and wait for its end."""
        try:
            return self.start(words, folder, changes=changes).wait()
        except Empty:
            self._process.kill()
            raise AssertionError(f"{words}: still running after {TIME_LIMIT} s") from None

    def _hand_out(self) -> None:
        for line in self._process.stdout:
            number, what, value = json.loads(line)
            if what == "pid":
                self._started[number].pids.put(value)
            else:
                self._started.pop(number).codes.put(value)
        for started in self._started.values():
            started.codes.put(None)


def quiet_fork() -> int:
    """`os.fork`, without what Python 3.12 and later say on the command's output where it has threads, which no fork
    has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def has_gpu() -> bool:
    """Whether there is a GPU, which no fork of a process that has looked for one may use."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_available()


def fork_what_forks() -> None:
    """Let multiprocessing fork pools' processes from a fork of this process: a new one would import torch anew."""
    start = util.spawnv_passfds

    def fork_or_start(path: bytes, words: Sequence[str], passed: Sequence[int]) -> int:
        # Not its tracker of resources, and not beside a GPU.
        if "multiprocessing.forkserver" not in words[-1] or has_gpu():
            return start(path, words, passed)
        process = quiet_fork()
        if process == 0:
            leave_to_parent(passed)
            forkserver._forkserver.__init__()  # of what it forks: the parent's is locked while it starts this process
            try:
                exec(words[-1])
            finally:
                os._exit(0)
        return process

    util.spawnv_passfds = fork_or_start


def leave_to_parent(passed: Sequence[int]) -> None:
    """Close what this fork has of its parent's files, but for the standard streams and `passed`."""
    for descriptor in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - {0, 1, 2, *passed}:
        with suppress(OSError):  # of the folder itself
            os.close(descriptor)
    # Of its own: what waits in the parent's is for that to write.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))


def fork_commands(root: str) -> None:
    """Let `subprocess` fork the project's commands from a fork of this process, as `demo.py` starts one a stage."""

    class Popen(subprocess.Popen):
        def __init__(self, args: Sequence[str], *more: object, **options: Any) -> None:
            if list(args[:1]) == [sys.executable] and (args[1] == "-m" or args[1].endswith(".py")):
                options["preexec_fn"] = self.instead_of_exec(args[1:], options.get("preexec_fn"), options.get("env"))
            super().__init__(args, *more, **options)

        def instead_of_exec(
            self, words: Sequence[str], before: Callable[[], object] | None, env: Mapping[str, str] | None
        ) -> Callable[[], None]:
            """What the fork does where it would start Python: it never returns."""

            def run() -> None:
                if before is not None:
                    before()
                leave_to_parent(())
                atexit._clear()  # the parent's, as are the helpers of multiprocessing
                resource_tracker._resource_tracker.__init__()
                forkserver._forkserver.__init__()
                gc.enable()  # which `subprocess` has off while it forks
                signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it
                if env is not None:
                    os.environ.clear()
                    os.environ.update(env)
                end_with(lambda: run_command(words, root))

            return run

    subprocess.Popen = Popen


def run_command(words: Sequence[str], root: str) -> None:
    """Run the script, the module or the code (`-c`) of a command line in this process."""
    fork_what_forks()
    fork_commands(root)
    if "TORCHELASTIC_RUN_ID" in os.environ and not has_gpu():
        # Before the script: processes that train together get threads, which no fork has.
        forkserver.ensure_running()
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.modules["__main__"] = ModuleType("__main__")
        exec(words[1], sys.modules["__main__"].__dict__)
    elif words[0] == "-m":
        sys.argv = list(words[1:])
        sys.modules.pop(words[1], None)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(str(Path(root, words[0])), run_name="__main__")


def end_with(run: Callable[[], None]) -> None:
    """Run, and end this process as Python does, but for taking down what is imported: copying torch takes a second."""
    code = 0
    try:
        run()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def fork(words: Sequence[str], root: str, folder: str, output: str, changes: Changes) -> int:
    """The process that runs a command."""
    process = os.fork()
    if process == 0:
        os.setsid()
        for name, value in changes.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for source, descriptor in ((os.devnull, 0), (f"{output}.stdout", 1), (f"{output}.stderr", 2)):
            os.dup2(os.open(source, os.O_RDWR | os.O_CREAT), descriptor)
        os.chdir(folder)
        end_with(lambda: run_command(words, root))
    return process


def main() -> None:
    root, *modules = sys.argv[1:]
    sys.path[0] = root
    for module in modules:
        importlib.import_module(module)
    commands = os.fdopen(os.dup(0), "rb", buffering=0)
    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    running: dict[int, int] = {}  # a command's number by its process
    try:
        serve(root, commands, ended, running)
    finally:  # they would not hear of Ctrl-C
        for process in running:
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)


def serve(root: str, commands: BinaryIO, ended: int, running: dict[int, int]) -> None:
    """Fork for each command that comes, and say what became of it, until no more come."""
    with selectors.DefaultSelector() as selector:
        selector.register(commands, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not commands:
                    os.read(ended, 4096)
                elif line := commands.readline():
                    number, words, *rest = json.loads(line)
                    process = fork(words, root, *rest)
                    running[process] = number
                    print(json.dumps([number, "pid", process]), flush=True)
                else:
                    return
            report_ended(running)


def report_ended(running: dict[int, int]) -> None:
    """Say which commands have ended, and how."""
    for process in list(running):
        pid, status = os.waitpid(process, os.WNOHANG)
        if pid:
            print(json.dumps([running.pop(process), "code", os.waitstatus_to_exitcode(status)]), flush=True)


if __name__ == "__main__":
    main()
