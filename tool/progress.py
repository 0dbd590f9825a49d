"""How far long work is: a bar on a terminal, lines elsewhere."""

import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from tool.cli import duration

SAY_EVERY = 300  # seconds


class Bar(tqdm):
    """tqdm's bar, of which nothing stays; where there is no terminal, as in a Slurm job's file, a line of standard
    output every `SAY_EVERY` seconds.

    shown: False for a process that says nothing, beside the one that does. The other arguments are tqdm's.
    """

    def __init__(self, *arguments: Any, shown: bool = True, **options: Any) -> None:
        super().__init__(*arguments, disable=None if shown else True, leave=False, **options)
        self.writes = shown and self.disable
        self.what, self.units = options.get("desc") or "done", f"{options.get('unit', 'it')}s"
        self.began, self.first = time.monotonic(), self.n
        self.due = self.began + SAY_EVERY

    def __iter__(self) -> Iterator[Any]:
        if not self.writes:
            yield from super().__iter__()
            return
        for item in self.iterable:
            yield item
            self.update()

    def update(self, n: float | None = 1) -> bool | None:
        if not self.writes:
            return super().update(n)
        self.n += n
        now = time.monotonic()
        if now >= self.due:
            self.due = now + SAY_EVERY
            self._write(now)
        return None

    def _write(self, now: float) -> None:
        line = f"{self.what}: {self.n}"
        if self.total is not None:
            left = (self.total - self.n) * (now - self.began) / max(self.n - self.first, 1)
            line += f" of {self.total} {self.units}, {duration(left)} left"
        about = getattr(self, "postfix", None)
        print(f"{line}, {about}" if about else line, flush=True)
