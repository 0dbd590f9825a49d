"""Jobs done by processes: pools of them, and two pools that work on each image one after the other, side by side."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from multiprocessing import connection as pipes
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple

from tool.cli import UserError, printable
from tool.limits import reported_limits
from tool.progress import Bar

# oneDNN keeps what it prepared for the last 1024 shapes of an input, some megabytes each, and images come in ever new
# sizes: a network's process on a CPU would grow to gigabytes. Fewer than one image's scales have (some 160) would cost
# time. Processes of pools inherit this.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
# A network's threads sleep while they wait for each other: spinning, as by default, they take the cores from the CRF
# processes beside them, and inference takes twice as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Processes are forked from one that does nothing else: a fork of this one could not use a GPU. It imports once what
# takes long, and all of them need.
_FORKED = multiprocessing.get_context("forkserver")
_SLOW_IMPORTS = ("numpy", "cv2", "torch")


class ProcessDied(Exception):
    """A process of `pool` ended by itself, killed or out of memory; `keys` are those of the jobs it was at."""

    def __init__(self, pool: "Pool", keys: Sequence[Any] = ()):
        super().__init__(pool.name, keys)
        self.pool, self.keys = pool, list(keys)


class Outcome(NamedTuple):
    """What became of a job: its result, or what it raised."""

    pool: "Pool"
    key: Any
    result: Any
    error: Exception | None


class Pool:
    """Processes that do some jobs each at a time. All end with the `with` block, at once, whatever they are at.

    Each has a pipe of its own and no lock is shared, so that what a killed one leaves half said makes nobody wait: that
    is where the pool of `concurrent.futures` can hang. They also end when this process is killed, and Ctrl-C is left to
    it.

    Args:
        name: what its processes are, in messages.
        work: a function of a module; called with a job's key and arguments, which are pickled, as its result is.
        size: the most processes; one is started when a job would have to wait for it.
        threads: how many jobs a process does at a time, each in a thread of its own. More than one pays where `work`
            mostly waits, or computes without Python's lock.
        start: called once in each process before its first job, in the first of its threads.

    Attributes:
        waiting: the jobs still to be done, (key, *arguments).
    """

    def __init__(
        self,
        name: str,
        work: Callable[..., Any],
        size: int,
        *,
        threads: int = 1,
        start: Callable[[], Any] | None = None,
    ):
        self.name, self.work, self.size, self.threads, self.start = name, work, size, threads, start
        self.waiting: deque[tuple] = deque()
        self.processes: dict[Connection, BaseProcess] = {}
        self.started: set[Connection] = set()
        self.running: dict[Connection, list[Any]] = {}  # the keys of the jobs of each process that has some

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.terminate()
        for connection, process in self.processes.items():
            process.join()
            connection.close()

    def feed(self, jobs: deque[tuple]) -> None:
        """Hand `jobs` to the processes that are free; start more where that is not enough. Raises `ProcessDied`."""
        while jobs and self.started:
            connection = min(self.started, key=lambda each: len(self.running.get(each, ())))
            keys = self.running.get(connection, [])
            if len(keys) == self.threads:
                break
            job = jobs.popleft()
            self.running[connection] = [*keys, job[0]]
            try:
                connection.send(job)
            except ConnectionError as error:
                raise ProcessDied(self, self.running[connection]) from error
        # A process takes no job before it has started: the job would wait for it, though another may be free sooner.
        starting = len(self.processes) - len(self.started)
        self._start(-(-len(jobs) // self.threads) - starting)

    def start_all(self) -> None:
        """Start all processes now, in the main thread; any thread may feed them then. Raises `ProcessDied`."""
        self._start(self.size)

    def _start(self, wanted: int) -> None:
        for _ in range(min(wanted, self.size - len(self.processes))):
            self._start_process()

    def _start_process(self) -> None:
        ours, theirs = _FORKED.Pipe()
        # Daemons are ended at this process's exit where an error has passed the `with` block by.
        process = _FORKED.Process(target=_serve, args=(theirs, self.work, self.start, self.threads), daemon=True)
        _FORKED.set_forkserver_preload([name for name in _SLOW_IMPORTS if name in sys.modules])
        with _signals_later():
            try:
                process.start()
            except (ConnectionError, EOFError) as error:  # whoever forks them was killed
                raise ProcessDied(self) from error
            theirs.close()  # or the end of the process would not end the pipe
            self.processes[ours] = process

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Do the jobs that wait: the key and the result of each, as they are done. Raises what a job raised, and
        `ProcessDied`."""
        while self.waiting or self.running:
            self.feed(self.waiting)
            for done in outcomes(self):
                if done.error is not None:
                    raise done.error
                yield done.key, done.result

    def receive(self, connection: Connection) -> Outcome | None:
        """The outcome that waits in `connection`; None from a process that has started.

        Raises `ProcessDied`, and the `UserError` that kept a process from starting.
        """
        keys = self.running.pop(connection, [])
        try:
            message = connection.recv()
        except (EOFError, OSError) as error:  # the latter amid a message
            raise ProcessDied(self, keys) from error
        if isinstance(message, UserError):
            raise message
        if message is None:
            self.started.add(connection)
            return None
        outcome = Outcome(self, *message)
        keys.remove(outcome.key)
        if keys:
            self.running[connection] = keys
        return outcome


def _wait_for_forker() -> None:
    """Wait, at exit, for the process that forks: the time of a pool's processes counts as their command's then."""
    stop = getattr(forkserver._forkserver, "_stop", None)  # Python has no other way
    if stop is not None:
        stop()


util.Finalize(None, _wait_for_forker, exitpriority=-1)  # below 0: once all processes have ended


def queue_of(items: Iterable[Any]) -> SimpleQueue:
    """`items`, of which each process of a pool takes one at its start."""
    queue = _FORKED.SimpleQueue()
    for item in items:
        queue.put(item)
    return queue


def outcomes(*pools: Pool) -> Iterator[Outcome]:
    """Wait until something happens in `pools`, which are at work, and yield what was done. Raises `ProcessDied`."""
    owners = {connection: pool for pool in pools for connection in pool.processes}
    for connection in pipes.wait(list(owners)):
        outcome = owners[connection].receive(connection)
        if outcome is not None:
            yield outcome


@contextmanager
def _signals_later() -> Iterator[None]:
    """A process started in the block starts whole, since what ends this one waits, and never hears of Ctrl-C."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    resource_tracker.ensure_running()  # its start would lift the block
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _serve(connection: Connection, work: Callable[..., Any], start: Callable[[], Any] | None, threads: int) -> None:
    """What a process of a pool does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        try:
            with reported_limits():
                start()
        except UserError as error:
            connection.send(error)
            return
    taking, saying = threading.Lock(), threading.Lock()  # of this process's own threads

    def do_jobs() -> None:
        try:
            with suppress(EOFError, OSError):  # the parent is gone
                while True:
                    with taking:
                        job = connection.recv()
                    # Nothing here holds on to an error, which holds what its job had on a GPU.
                    _say(connection, saying, _outcome(work, job))
        except BaseException:  # a thread that ended alone would leave the parent waiting
            traceback.print_exc()
            os._exit(1)

    with suppress(OSError):
        connection.send(None)
    for _ in range(threads - 1):
        threading.Thread(target=do_jobs, daemon=True).start()
    do_jobs()


def _outcome(work: Callable[..., Any], job: tuple) -> tuple[Any, Any, Exception | None]:
    """The job's key, its result, or what it raised."""
    try:
        with reported_limits(at=_named(job[0])):
            return job[0], work(*job), None
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()  # the parent raises the error without what led to it
        return job[0], None, error


def _named(key: Any) -> str:
    """What a job is called in a message: its image; a number says nothing."""
    return printable(key) if isinstance(key, str) else ""


def _say(connection: Connection, saying: threading.Lock, outcome: tuple[Any, Any, Exception | None]) -> None:
    with saying:
        try:
            with reported_limits(at=_named(outcome[0])):
                connection.send(outcome)  # which needs the memory of a large result once more, before it says anything
        except UserError as error:
            connection.send((outcome[0], None, error))


def _end_with_parent() -> None:
    pipes.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def run_pools(
    first: Pool, second: Pool | None = None, *, follow_up: Callable[[str, Any], tuple | None] | None = None
) -> list[str]:
    """Do the jobs that wait for the pools, keyed by image, and end them; an image that leaves the first may go on.

    The first pool never runs far ahead: jobs that follow it may hold its results, and memory stays flat.

    Args:
        second: None where the first does all.
        follow_up: from an image's id and what the first pool made of it to its job in the second, or None; without a
            second pool it is told so.

    Returns:
        A line for each image that a pool refused (its `UserError`); the other images are done.

    Raises:
        UserError: a process died; names the image that it was at.
    """
    try:
        with first, second or nullcontext():
            return _run_stages(first, second, follow_up)
    except ProcessDied as died:
        held = ", ".join(map(printable, died.keys)) or "no image"
        raise UserError(
            f"a {died.pool.name} process died, killed or out of memory; it was at {held}; run the command again to go"
            " on, with fewer processes if memory is short"
        ) from died


def _run_stages(first: Pool, second: Pool | None, follow_up: Callable[[str, Any], tuple | None] | None) -> list[str]:
    problems = []
    pools = [first] if second is None else [first, second]
    with ExitStack() as stack:
        bars = {
            pool: stack.enter_context(Bar(total=len(pool.waiting), desc=pool.name, unit="image", position=row))
            for row, pool in enumerate(pools)
        }
        following: deque[tuple] = deque()
        while following or any(pool.waiting or pool.running for pool in pools):
            if second is None or len(following) < second.size:
                first.feed(first.waiting)
            if second is not None:
                second.feed(following)
                second.feed(second.waiting)
            for pool, image_id, result, error in outcomes(*pools):
                bars[pool].update()
                if isinstance(error, UserError):
                    problems.append(str(error))
                elif error is not None:
                    raise error
                elif follow_up is not None and pool is first and (job := follow_up(image_id, result)) is not None:
                    following.append(job)
                    bars[second].total += 1
    return problems
