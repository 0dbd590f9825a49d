"""The demo's chain of commands, from nothing to a score, on the device."""

import json
import time

from benchmark.generated import run as run_command
from benchmark.gpu_parts.record import Bench


def run(bench: Bench) -> None:
    out = bench.folder / "demo"
    start = time.perf_counter()
    run_command("demo.py", "--quick", "--methods", "cls", "--out", out)
    seconds = time.perf_counter() - start
    table = json.loads((out / "table.json").read_text())
    scored = [row["crf"] for row in table["seeds"].values()] + list(table["segmentation"].values())
    bench.check("demo.py --quick", len(scored) >= 3, {"s": round(seconds, 1), "scores": len(scored)})
