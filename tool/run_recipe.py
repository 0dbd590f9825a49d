"""Runs a recipe's stages and keeps what each took: logs/<stage>.log, stages.json and summary.json in OUT.

Stages go on after a stop and do what is missing by themselves. What stands here only keeps one that has ended well from
being started again, which would cost minutes: it is left out as long as its command is the same, what it makes is there
and what it reads is as it was, until an earlier one runs again, or a later one finds a fault in what it made.
"""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tool.artifact import reported_unwritable, write_json
from tool.cli import FILE, FOLDER, NOTHING, UserError, brief, duration, what_is_at
from tool.command import Chain, Command, Ended, run_chains
from tool.lock import hold_folder
from tool.recipe import SideBySide, Stage, Steps, all_stages

RECORD = "stages.json"
SUMMARY = "summary.json"
WRONG_INPUT = 2  # the exit code of a stage that names a user's mistake, or a file of its input that is no good


class StageFailed(Exception):
    """A stage that ended with another exit code than 0, as `code`; the message says which, and what to do."""

    def __init__(self, stage: Stage, code: int, log: Path) -> None:
        self.code = code if code > 0 else 128 - code
        end = f"ended with exit code {code}: what it said stands above and in {log}"
        then = "the same command goes on from there"
        if code == WRONG_INPUT:  # which the same command would find again
            then = "once that is put right, the command goes on from there"
        if code < 0:
            memory = ", as a system without free memory does it" if -code == signal.SIGKILL else ""
            end = f"was killed by signal {-code} ({signal.Signals(-code).name}){memory}; its log is {log}"
        super().__init__(f"stage {stage.name} {end}; {then}")


class Record:
    """What each stage of the runs in `out` took so far, and whether it is done.

    recipe: the name of the one that runs now, which the record keeps.
    """

    def __init__(self, out: Path, recipe: str | None = None) -> None:
        self.path, self.recipe = out / RECORD, recipe
        self.stages: dict[str, dict[str, Any]] = {}
        if what_is_at(self.path) == FILE:
            try:
                self.stages = json.loads(self.path.read_text())
                for entry in self.stages.values():
                    entry["command"], entry["done"], float(entry["seconds"]), float(entry["cpu_seconds"])
            except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise UserError(
                    f"{self.path}: expected the record that run.py writes ({brief(str(error))}); remove it, and all"
                    " stages are looked at anew"
                ) from error

    def done(self, stage: Stage) -> bool:
        """Whether the stage has ended well with this command, what it made is there, and what it reads has not changed
        since it began."""
        entry = self.stages.get(stage.name, {})
        same = entry.get("command") == command_line(stage)
        if not (same and entry["done"] is True and what_is_at(stage.makes) != NOTHING):
            return False
        began = entry.get("began") or stage.makes.stat().st_mtime_ns  # an older record has no beginnings
        return all(_changed_last(path) <= began for path in stage.reads if path.exists())

    def begin(self, stage: Stage, earlier: Collection[Stage]) -> None:
        """Note that the stage runs (again), and that all but the `earlier` ones are to run after it: those of other
        recipes, too, which may be made from the same files."""
        before = self.stages.get(stage.name, {})
        if before.get("command") != command_line(stage):
            before = {"seconds": 0.0, "cpu_seconds": 0.0}
        self.look_again(self.stages.keys() - {other.name for other in earlier}, f"{stage.name} ran before it")
        now = {"recipe": self.recipe, "command": command_line(stage), "began": time.time_ns(), "done": False, "why": ""}
        self.stages[stage.name] = {**before, **now}
        self._write()

    def look_again(self, names: Collection[str], why: str) -> None:
        """Let stages run once more, which go on from what is there. why: for who wonders."""
        for entry in (self.stages[name] for name in names if name in self.stages):
            if entry["done"]:
                entry["done"], entry["why"] = False, why

    def end(self, stage: Stage, ended: Ended, earlier: Collection[Stage]) -> None:
        """Add what an attempt took. Where it found a fault in its input, those of the `earlier` stages that made this
        are to look again at each of their files."""
        entry = self.stages[stage.name]
        entry["seconds"] += ended.seconds
        entry["cpu_seconds"] += ended.cpu_seconds
        entry["memory"] = max(ended.memory, entry.get("memory", 0))
        entry["done"] = ended.code == 0
        if ended.code == WRONG_INPUT:
            sources = [other.name for other in earlier if stage.takes_from(other)]
            self.look_again(sources, f"{stage.name} takes what it makes, and ended with exit code {WRONG_INPUT}")
        self._write()

    def why(self, name: str) -> str:
        """Why a stage that was done runs once more, where another one is the reason."""
        return self.stages.get(name, {}).get("why", "")

    def seconds(self, name: str) -> float:
        """How long a stage took so far, all its attempts."""
        return self.stages.get(name, {}).get("seconds", 0.0)

    def cpu_seconds(self, name: str) -> float:
        """Processor time of a stage so far, of all its attempts that were not killed."""
        return self.stages.get(name, {}).get("cpu_seconds", 0.0)

    def memory(self, name: str) -> int:
        """The most memory, in bytes, that a process of a stage had; 0 where that was not noted."""
        return self.stages.get(name, {}).get("memory", 0)

    def _write(self) -> None:
        write_json(self.path, self.stages)


def _changed_last(path: Path) -> int:
    """When a file, or a folder or a file in it, was changed or put there, in nanoseconds.

    By the time of its entry: a copy, or what is unpacked, may have its source's time of change.
    """
    times = [path.stat().st_ctime_ns]
    if path.is_dir() and os.access(path, os.R_OK | os.X_OK):  # the stage says what is wrong with another
        with os.scandir(path) as entries:
            times += [entry.stat().st_ctime_ns for entry in entries if entry.is_file()]
    return max(times)


def command_line(stage: Stage) -> str:
    """The stage's command as a shell takes it."""
    return f"python {shlex.join(stage.words)}"


def check_out(out: Path, recipe: str) -> None:
    """Raise `UserError` where `out` has another recipe's run, ended or not, whose record and scores would be lost; of
    those combined from one's seeds all may share it."""
    found = [entry.get("recipe") for entry in Record(out).stages.values()]
    if what_is_at(out / SUMMARY) == FILE:  # older records do not say whose they are
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):  # it is of no use to anyone
            found.append(json.loads((out / SUMMARY).read_text())["recipe"])
    for other in found:
        if other is not None and str(other).split("+")[0] != recipe.split("+")[0]:
            raise UserError(f"--out {out}: expected a folder of {recipe}'s, found a run of {other}; name another")


def run_stages(
    steps: Steps,
    out: Path,
    *,
    recipe: str | None = None,
    chosen: Collection[str] | None = None,
    before: Steps = (),
    then: Steps = (),
) -> Record:
    """Run the stages that are not done, or those `chosen` by name in any case, with their files in `out`.

    `recipe` is its name, for the record; `before` and `then` are steps of the same recipe that other calls run before
    and after these. Raises `SystemExit` with a stage's exit code if it fails, after a line that says so.
    """
    logs = out / "logs"
    if (found := what_is_at(out)) not in (FOLDER, NOTHING):
        raise UserError(f"--out {out}: expected a folder, found {found}; name another")
    with reported_unwritable(f"--out {logs}"):
        logs.mkdir(parents=True, exist_ok=True)
    hold_folder(logs, "--out")
    record = Record(out, recipe)
    running = _Running(record, logs, chosen, all_stages([*before, *steps, *then]))
    for number, step in enumerate(steps, 1):
        try:
            running.run(step, all_stages([*steps[number:], *then]))
        except StageFailed as failure:
            print(f"error: {failure}" if failure.code > 128 else failure, file=sys.stderr)
            sys.exit(failure.code)
    return record


@dataclass(frozen=True)
class _Running:
    """How a call of `run_stages` runs a step. every: stage of the recipe, in order."""

    record: Record
    logs: Path
    chosen: Collection[str] | None
    every: Sequence[Stage]

    def run(self, step: Stage | SideBySide, afterwards: Sequence[Stage]) -> None:
        """Run a step, after which the recipe has the stages `afterwards`. Raises `StageFailed`."""
        chains = {"": [step]} if isinstance(step, Stage) else step.chains
        idle = {name: stages for name, stages in chains.items() if not any(map(self.is_due, stages))}
        for stages in idle.values():
            next(self.chain(stages, afterwards), None)  # says that they are done
        run_chains({name: self.chain(stages, afterwards) for name, stages in chains.items() if name not in idle})

    def is_due(self, stage: Stage) -> bool:
        return stage.name in self.chosen if self.chosen is not None else not self.record.done(stage)

    def chain(self, stages: Sequence[Stage], afterwards: Sequence[Stage]) -> Chain:
        """One after the other those of `stages` that are due; the recipe has `afterwards` after them."""
        for number, stage in enumerate(stages, 1):
            title = f"stage {self.every.index(stage) + 1} of {len(self.every)}: {stage.name}"
            if not self.is_due(stage):
                if self.chosen is None:
                    print(f"{title}, done earlier, in {duration(self.record.seconds(stage.name))}", flush=True)
                continue
            if why := self.record.why(stage.name):
                title += f", once more: {why}"
            later = {other.name for other in (*stages[number - 1 :], *afterwards)}
            earlier = [other for other in self.every if other.name not in later]
            self.record.begin(stage, earlier)
            if stage.score is not None:  # a score that is asked for alone may be the first file there
                with reported_unwritable(f"--out {stage.makes.parent}"):
                    stage.makes.parent.mkdir(parents=True, exist_ok=True)
            log = self.logs / f"{stage.name}.log"
            ended = yield Command(stage.words, title, log)
            self.record.end(stage, ended, earlier)
            if ended.code != 0:
                raise StageFailed(stage, ended.code, log)
            if what_is_at(stage.makes) == NOTHING:
                raise UserError(f"stage {stage.name}: expected it to make {stage.makes}, found nothing there")


def summarise(recipe: str, steps: Steps, record: Record) -> dict[str, Any]:
    """What summary.json holds: the scores in per cent, and the seconds and the command of each stage done."""
    done = [stage for stage in all_stages(steps) if record.done(stage)]
    return {
        "recipe": recipe,
        "scores": {name: score for stage in done for name, score in _scores(stage).items()},
        "stages": [
            {"name": stage.name, "seconds": round(record.seconds(stage.name), 3), "command": command_line(stage)}
            for stage in done
        ],
    }


def _scores(stage: Stage) -> dict[str, float]:
    """The scores, in per cent, in the file that eval.py or test.py wrote: mIoU, of a curve the best, and others."""
    if stage.score is None and not stage.figures:
        return {}
    path = stage.makes
    try:
        found = json.loads(path.read_text())
        miou = found["best_mIoU"] if "best_mIoU" in found else found["mIoU"] if stage.score else None
        named = {name: float(found[key]) for name, key in stage.figures.items()}
        return named if stage.score is None else {stage.score: float(miou), **named}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: expected the scores that a stage wrote ({brief(str(error))}); remove it") from error
