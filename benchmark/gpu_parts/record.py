"""What a part of `benchmark.gpu` has at hand: its device, its folder, and the record of what it finds."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from tool.artifact import write_json

Figures = dict[str, float | int | str]  # by what they are, units included, as a table's head has them


@dataclass
class Bench:
    """A part's run.

    Attributes:
        device: where it computes. quick: whether it is to be tiny, to see that all of it runs.
        folder: a new one for what it writes, removed afterwards.
    """

    device: torch.device
    quick: bool
    folder: Path
    entries: list[dict] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def note(self, what: str, figures: Figures, *, goal: str | None = None, holds: bool | None = None) -> None:
        """Keep `figures` of `what`; they are in the folder's record.json from here on, whatever comes after."""
        self.entries.append({"what": what, "figures": figures, "goal": goal, "holds": holds})
        write_json(self.folder / "record.json", self.entries)
        words = " ".join(f"{name} {value}" for name, value in figures.items())
        print(f"{what}: {words}" + ("" if holds is not False else " FAILED"), flush=True)

    def check(self, what: str, holds: bool, figures: Figures, *, goal: str = "") -> None:
        """Keep whether something holds that has to, on any device."""
        self.note(what, figures, goal=goal, holds=bool(holds))

    def goal(self, what: str, goal: str, reached: bool, figures: Figures) -> None:
        """Keep a speed with its `goal`, which counts for a GPU at full size."""
        self.note(what, figures, goal=goal, holds=bool(reached) if self.on_gpu and not self.quick else None)

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def peak_memory(self) -> Figures:
        """The largest memory of this process's tensors on the GPU since the last call, GiB."""
        if not self.on_gpu:
            return {}
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        return {"GiB": round(peak, 2)}
