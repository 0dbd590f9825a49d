"""Pairs of near cells of a grid, whose affinities AffinityNet and IRN learn and walk along (paper/method.md,
AffinityNet and IRN).

A pair is a start and the cell at an offset from it, to the right or below, so that each two cells occur once.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

RADIUS = 5  # cells, of AffinityNet and of both walks; IRN learns from pairs of 10


@dataclass(frozen=True)
class Pairs:
    """The pairs of a grid of `height` x `width` cells: offset after offset and, for each, its starts row by row.

    radius: each offset (dy, dx) is shorter. **Q** Starts keep away from the borders left, right and below, so that all
    have all offsets and no pair starts nearer; sane, with `everywhere`: any two cells inside the grid are a pair.
    """

    height: int
    width: int
    radius: int
    everywhere: bool = False

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        """(dy, dx): to the right, then row by row below; 34 for radius 5, 152 for 10, none below 2."""
        r = self.radius
        below = [(dy, dx) for dy in range(1, r) for dx in range(1 - r, r) if dy**2 + dx**2 < r**2]
        return [*((0, dx) for dx in range(1, r)), *below]

    @cached_property
    def paths(self) -> list[list[tuple[int, int]]]:
        """Of each offset the cells (y, x) between start and end, both included, as seen from the start: those nearer
        than a cell to the straight line, in the box that the two span."""
        return [
            [
                (y, x)
                for y in range(dy + 1)
                for x in range(min(dx, 0), max(dx, 0) + 1)
                if (dy * x - dx * y) ** 2 < dy**2 + dx**2
            ]
            for dy, dx in self.offsets
        ]

    @cached_property
    def starts(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each offset's starts."""
        return [self._starts(dy, dx) for dy, dx in self.offsets]

    def _starts(self, dy: int, dx: int) -> tuple[slice, slice]:
        if self.everywhere:
            bounds = (0, self.height - dy), (max(-dx, 0), self.width - max(dx, 0))
        else:
            bounds = (0, self.height - self.radius + 1), (self.radius - 1, self.width - self.radius + 1)
        (top, bottom), (left, right) = bounds
        return slice(top, max(top, bottom)), slice(left, max(left, right))

    @cached_property
    def ends(self) -> list[tuple[slice, slice]]:
        """Rows and columns of the other cells."""
        return [
            (slice(rows.start + dy, rows.stop + dy), slice(columns.start + dx, columns.stop + dx))
            for (dy, dx), (rows, columns) in zip(self.offsets, self.starts, strict=True)
        ]

    @property
    def index(self) -> np.ndarray:
        """int64 (2, P): the numbers of both cells of each pair, row by row."""
        cells = np.arange(self.height * self.width).reshape(self.height, self.width)
        both = [[cells[place].ravel() for place in places] for places in (self.starts, self.ends)]
        return np.stack([np.concatenate([*parts, cells[:0].ravel()]) for parts in both])

    def __len__(self) -> int:
        return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in self.starts)


def pairs_of(height: int, width: int, *, radius: int = RADIUS, everywhere: bool = False) -> Pairs:
    """The pairs of a grid, of `radius` or, as released, where the smaller side is below 2 `radius` + 1 cells, of what
    half of it allows: none below 5 cells. With `everywhere` the radius is the same on any grid."""
    smaller = min(height, width)
    is_small = smaller < 2 * radius + 1 and not everywhere
    return Pairs(height, width, (smaller - 1) // 2 if is_small else radius, everywhere)
