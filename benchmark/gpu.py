"""Everything that a GPU has to show, by one command: is it right, how fast is it, what bounds it.

    python -m benchmark.gpu --out exps/gpu
    python -m benchmark.gpu --out exps/gpu --only step crf
    python -m benchmark.gpu --out exps/gpu --device cpu --quick      the same code on a CPU, tiny, in some minutes

Parts run one after the other, those that are not timed side by side, each in a process of its own and with its own
limit of time: one that fails, hangs or runs out of memory costs only itself. After each part DIR has gpu.json (all
figures), gpu.md (the tables, for paper/gpu.md) and gpu.log (what the parts said). Exit code 1 where a part did not
end well, a check failed or a goal was missed. docs/gpu.md says how to run it on a bare machine.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmark.gpu_parts import PARTS, Part
from benchmark.gpu_parts.table import outcome_line, tables
from tool.artifact import atomic_file, write_json
from tool.cli import UserError, add_switch, cores, path_value, run_script, script_parser

# Parts are forked from a process that has imported all that they need, once, and does nothing else: no GPU is in use.
FORKED = multiprocessing.get_context("forkserver")
CORES_PER_PART = 2
LINES_SHOWN = 15  # of what a part said that did not end well
QUICK_LIMIT = 600  # seconds for a part of the quick form, on a machine that others use too
EXAMPLES = """\
  # on a machine with a GPU, within twelve minutes
  python -m benchmark.gpu --out exps/gpu
  # some parts again
  python -m benchmark.gpu --out exps/gpu_again --only infer segment
  # the same code on a CPU, tiny
  python -m benchmark.gpu --out exps/gpu_on_cpu --device cpu --quick
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Prove and measure everything on a GPU.", examples=EXAMPLES, prog="python -m benchmark.gpu")
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=path_value, required=True, help="folder for gpu.json, gpu.md and gpu.log")
    run.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(%(default)s)")
    add_switch(run, "--quick", default=False, help="tiny nets and few images, to see that all of it runs (False)")
    run.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    run.add_argument("--minutes", type=float, default=12.0, help="no part runs longer than that (%(default)s)")
    args = parser.parse_args()
    if args.device == "cpu" and not args.quick:
        raise UserError("--device cpu: takes hours at full size; add --quick")
    return args


@dataclass
class Run:
    """A part at work: its process, which leads a group of its own, and the folder of what it writes."""

    part: Part
    folder: Path
    process: BaseProcess
    started: float
    deadline: float

    def kill(self) -> None:
        """End the part and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # which may not lead its group yet
        self.process.join()

    def outcome(self) -> dict | None:
        """What became of the part, once it has ended or is over its time."""
        code, now = self.process.exitcode, time.monotonic()
        if code is None and now < self.deadline:
            return None
        self.kill()  # what it may have left behind, too
        ended = "over its time" if code is None else "well" if code == 0 else f"exit code {code}"
        record = self.folder / "record.json"
        entries = json.loads(record.read_text()) if record.exists() else []
        return {"name": self.part.name, "ended": ended, "seconds": round(now - self.started, 1), "entries": entries}


def run_part(name: str, **settings: object) -> None:
    """What a part's process does. It imports torch, which this one has no use for."""
    from benchmark.gpu_parts import process

    process.run_part(name, **settings)


def start(part: Part, args: argparse.Namespace, scratch: Path, deadline: float) -> Run:
    folder = scratch / part.name
    folder.mkdir()
    (folder / "log").touch()
    threads = 1 if args.device == "cpu" else None if part.timed else CORES_PER_PART  # beside others
    settings = {"device": args.device, "quick": args.quick, "folder": folder, "threads": threads}
    process = FORKED.Process(target=run_part, args=(part.name,), kwargs=settings)
    process.start()
    now = time.monotonic()
    limit = QUICK_LIMIT if args.quick else part.limit
    return Run(part, folder, process, now, min(now + limit, deadline))


def may_start(part: Part, running: list[Run], *, quick: bool) -> bool:
    """Timed parts run alone; of the others so many that each has some cores. Quickly, a core each will do."""
    if quick:
        return len(running) < cores()
    if part.timed or any(run.part.timed for run in running):
        return not running
    return len(running) < max(cores() // CORES_PER_PART, 1)


def write(out: Path, report: dict, log: str) -> None:
    """The report so far, and what the last part said."""
    write_json(out / "gpu.json", report)
    with atomic_file(out / "gpu.md") as file:
        file.write(tables(report).encode())
    with open(out / "gpu.log", "a") as file:
        file.write(log)


def run_parts(parts: list[Part], args: argparse.Namespace, scratch: Path) -> dict:
    """Run `parts`; the report, which is in the folder after each of them too."""
    began, report = (
        time.monotonic(),
        {"device": args.device, "quick": args.quick, "date": time.strftime("%F"), "parts": []},
    )
    deadline = began + 60 * args.minutes
    # Side by side the longest first; else first whether it is right.
    waiting, running = deque(sorted(parts, key=lambda part: -part.limit) if args.quick else parts), []
    try:
        while waiting or running:
            while waiting and may_start(waiting[0], running, quick=args.quick) and time.monotonic() < deadline:
                running.append(start(waiting.popleft(), args, scratch, deadline))
            if not running:  # no time is left
                part = waiting.popleft()
                done = [(None, {"name": part.name, "ended": "not run, no time was left", "seconds": 0, "entries": []})]
            else:
                done = [(run, outcome) for run in running if (outcome := run.outcome()) is not None]
            for run, outcome in done:
                log = "" if run is None else (run.folder / "log").read_text(errors="replace")
                report["parts"] = sorted([*report["parts"], outcome], key=lambda part: list(PARTS).index(part["name"]))
                report["seconds"] = round(time.monotonic() - began, 1)
                write(args.out, report, f"\n===== {outcome['name']}\n{log}")
                print(outcome_line(outcome), flush=True)
                if outcome["ended"] != "well":
                    print("\n".join(f"    {line}" for line in log.splitlines()[-LINES_SHOWN:]), flush=True)
                if run is not None:
                    running.remove(run)
                    shutil.rmtree(run.folder)
            time.sleep(0.05)
    finally:
        for run in running:
            run.kill()
    return report


def main() -> None:
    args = parse_arguments()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "gpu.log").write_text("")
    except OSError as error:
        raise UserError(f"--out {args.out}: cannot be written ({error.strerror})") from error
    if args.device == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    else:  # Not at the top: it imports torch, which takes seconds.
        from tool.device import resolve_device

        resolve_device(args.device)
    parts = [PARTS[name] for name in PARTS if name in (args.only or PARTS)]
    FORKED.set_forkserver_preload(["benchmark.gpu_parts.process"])
    with tempfile.TemporaryDirectory() as scratch:
        report = run_parts(parts, args, Path(scratch))
    print(f"{report['seconds']:.0f} s in all; {args.out / 'gpu.md'}")
    well = all(part["ended"] == "well" for part in report["parts"])
    if not well or any(entry["holds"] is False for part in report["parts"] for entry in part["entries"]):
        sys.exit(1)


if __name__ == "__main__":
    run_script(main)
