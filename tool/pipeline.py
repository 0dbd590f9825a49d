"""Two pools of processes, one after the other on each image: the network's, and the CRF's beside it."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from tool.cli import UserError, printable

# Jobs handed to a pool beyond those its processes are at, so that none waits for the next.
AHEAD = 2


@dataclass
class Stage:
    """A pool, what it does (`work(image_id, *arguments)`, a module's function), and the jobs that wait for it."""

    name: str
    pool: ProcessPoolExecutor
    workers: int
    work: Callable[..., Any]
    waiting: deque[tuple] = field(default_factory=deque)  # (image_id, *arguments)
    running: dict[Future, str] = field(default_factory=dict)

    def feed(self, jobs: deque[tuple]) -> None:
        """Keep every process busy with `jobs`, and no more of them in the pool than that takes."""
        while jobs and len(self.running) < self.workers + AHEAD:
            image_id, *arguments = jobs.popleft()
            try:
                self.running[self.pool.submit(self.work, image_id, *arguments)] = image_id
            except (BrokenProcessPool, BrokenPipeError) as error:  # the latter while a process is still starting
                raise self.died() from error

    def died(self) -> UserError:
        """What to say when a process of the pool is gone."""
        held = ", ".join(printable(image_id) for image_id in self.running.values()) or "no image yet"
        return UserError(
            f"a {self.name} process died, killed or out of memory; its pool held {held};"
            " run the command again to go on, with fewer processes if memory is short"
        )


def run_stages(first: Stage, second: Stage, *, follow_up: Callable[[str, Any], tuple | None]) -> list[str]:
    """Do all jobs of both stages; each image that leaves the first may become a job of the second.

    The first stage never runs far ahead: jobs that follow it may hold its results, and memory stays flat.

    Args:
        follow_up: from an image's id and what the first stage returned to its job in the second stage, or None.

    Returns:
        A line for each image that a stage refused (its `UserError`); the other images are done.

    Raises:
        UserError: a process died; names the images that its pool held.
    """
    problems = []
    bars = {
        stage.name: tqdm(total=len(stage.waiting), desc=stage.name, unit="image", disable=None, position=row)
        for row, stage in enumerate((first, second))
    }
    following: deque[tuple] = deque()
    while first.waiting or first.running or following or second.waiting or second.running:
        if len(following) < second.workers:
            first.feed(first.waiting)
        second.feed(following)
        second.feed(second.waiting)
        done, _ = wait([*first.running, *second.running], return_when=FIRST_COMPLETED)
        for future in done:
            stage = first if future in first.running else second
            try:
                result = future.result()
            except UserError as error:
                problems.append(str(error))
            except BrokenProcessPool as error:
                raise stage.died() from error
            else:
                job = follow_up(stage.running[future], result) if stage is first else None
                if job is not None:
                    following.append(job)
                    bars[second.name].total += 1
            del stage.running[future]
            bars[stage.name].update()
    for bar in bars.values():
        bar.close()
    return problems
