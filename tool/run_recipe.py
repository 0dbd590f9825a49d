"""Runs a recipe's stages and keeps what each took: logs/<stage>.log, stages.json and summary.json in OUT.

Stages go on after a stop and do what is missing by themselves. What stands here only keeps one that has ended well from
being started again, which would cost minutes: it is left out as long as its command is the same and what it makes is
there, until an earlier one runs again.
"""

import json
import shlex
import signal
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tool.artifact import atomic_file, reported_unwritable
from tool.cli import FILE, FOLDER, NOTHING, UserError, brief, duration, what_is_at
from tool.command import Chain, Ended, Job, run_chains
from tool.lock import hold_folder
from tool.recipe import Stage, Steps, all_stages

RECORD = "stages.json"


class StageFailed(Exception):
    """A stage that ended with another exit code than 0, as `code`; the message says which, and what to do."""

    def __init__(self, stage: Stage, code: int, log: Path) -> None:
        self.code = code if code > 0 else 128 - code
        end = f"ended with exit code {code}: what it said stands above and in {log}"
        then = "the same command goes on from there"
        if code == 2:  # a user's mistake, which the same command would make again
            then = "once that is put right, the command goes on from there"
        if code < 0:
            memory = ", as a system without free memory does it" if -code == signal.SIGKILL else ""
            end = f"was killed by signal {-code} ({signal.Signals(-code).name}){memory}; its log is {log}"
        super().__init__(f"stage {stage.name} {end}; {then}")


class Record:
    """What each stage of the runs in `out` took so far, and whether it is done."""

    def __init__(self, out: Path) -> None:
        self.path = out / RECORD
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
        """Whether the stage has ended well with this command, and what it made is there, newer than what it reads."""
        entry = self.stages.get(stage.name, {})
        same = entry.get("command") == command_line(stage)
        if not (same and entry["done"] is True and what_is_at(stage.makes) != NOTHING):
            return False
        made = stage.makes.stat().st_mtime_ns
        return all(path.stat().st_mtime_ns <= made for path in stage.reads if path.exists())

    def begin(self, stage: Stage, later: Sequence[Stage]) -> None:
        """Note that the stage runs (again), and that those that come later are to run after it."""
        before = self.stages.get(stage.name, {})
        if before.get("command") != command_line(stage):
            before = {"seconds": 0.0, "cpu_seconds": 0.0}
        self.stages[stage.name] = {**before, "command": command_line(stage), "done": False}
        for other in later:
            self.stages.get(other.name, {})["done"] = False
        self._write()

    def end(self, stage: Stage, ended: Ended) -> None:
        """Add what an attempt took."""
        entry = self.stages[stage.name]
        entry["seconds"] += ended.seconds
        entry["cpu_seconds"] += ended.cpu_seconds
        entry["memory"] = max(ended.memory, entry.get("memory", 0))
        entry["done"] = ended.code == 0
        self._write()

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
        with atomic_file(self.path) as file:
            file.write(json.dumps(self.stages, indent=1).encode())


def command_line(stage: Stage) -> str:
    """The stage's command as a shell takes it."""
    return f"python {shlex.join(stage.words)}"


def run_stages(
    steps: Steps, out: Path, *, chosen: Collection[str] | None = None, before: Steps = (), then: Steps = ()
) -> Record:
    """Run the stages that are not done, or those `chosen` by name in any case, with their files in `out`.

    `before` and `then` are steps of the same recipe that other calls run before and after these. Raises `SystemExit`
    with a stage's exit code if it fails, after a line that says so.
    """
    logs = out / "logs"
    if (found := what_is_at(out)) not in (FOLDER, NOTHING):
        raise UserError(f"--out {out}: expected a folder, found {found}; name another")
    with reported_unwritable(f"--out {logs}"):
        logs.mkdir(parents=True, exist_ok=True)
    hold_folder(logs, "--out")
    record = Record(out)
    every = all_stages([*before, *steps, *then])
    titles = {stage.name: f"stage {number} of {len(every)}: {stage.name}" for number, stage in enumerate(every, 1)}

    def runs(stage: Stage) -> bool:
        return stage.name in chosen if chosen is not None else not record.done(stage)

    def chain(stages: Sequence[Stage], afterwards: Sequence[Stage]) -> Chain:
        for number, stage in enumerate(stages, 1):
            if not runs(stage):
                if chosen is None:
                    print(f"{titles[stage.name]}, done earlier, in {duration(record.seconds(stage.name))}", flush=True)
                continue
            record.begin(stage, [*stages[number:], *afterwards])
            if stage.score is not None:  # a score that is asked for alone may be the first file there
                with reported_unwritable(f"--out {stage.makes.parent}"):
                    stage.makes.parent.mkdir(parents=True, exist_ok=True)
            log = logs / f"{stage.name}.log"
            ended = yield Job(stage.words, titles[stage.name], log)
            record.end(stage, ended)
            if ended.code != 0:
                raise StageFailed(stage, ended.code, log)
            if what_is_at(stage.makes) == NOTHING:
                raise UserError(f"stage {stage.name}: expected it to make {stage.makes}, found nothing there")

    for number, step in enumerate(steps, 1):
        chains = {"": [step]} if isinstance(step, Stage) else step.chains
        afterwards = all_stages([*steps[number:], *then])
        idle = {name: stages for name, stages in chains.items() if not any(map(runs, stages))}
        for stages in idle.values():
            next(chain(stages, afterwards), None)  # says that they are done
        busy = {name: chain(stages, afterwards) for name, stages in chains.items() if name not in idle}
        try:
            run_chains(busy)
        except StageFailed as failure:
            print(f"error: {failure}" if failure.code > 128 else failure, file=sys.stderr)
            sys.exit(failure.code)
    return record


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
