"""What the other parts leave out, by the commands of recipes, shortened: superpixels, MSA, IRN, AffinityNet, DHR, CRT's
localisation. They run side by side: most of their time is the start of their commands."""

import json
import subprocess
import sys
import time

from benchmark.gpu_parts.record import Bench
from tool.places import ROOT

SHORT = ["data.val=12", "data.test=6", "data.train=24"]
RUNS = {
    "msa_image+irn+dhr": [
        # A net of fewer steps finds nothing but background, and masks without a class are refused.
        *SHORT,
        "data.train_aug=96",
        "train.max_epoches=12",
        *(f"{stage}.max_epoches=1" for stage in ("scn", "irn_train", "dhr")),
    ],
    "ppc+affinity+deeplabv3plus": [
        *SHORT,
        "data.train_aug=48",
        "train_seam.max_iters=4",
        "train.max_iters=4",
        *(f"{stage}.max_epoches=1" for stage in ("aff_train", "dhr")),
    ],
    "crt_cub": ["train.max_epoches=1"],
}


def run(bench: Bench) -> None:
    began = time.perf_counter()
    running = {name: start(bench, name) for name in RUNS}
    for name, process in running.items():
        code = process.wait()
        figures = {"by then, s": round(time.perf_counter() - began, 1)}
        if code == 0 and not bench.quick:
            figures["scores"] = len(json.loads((bench.folder / name / "summary.json").read_text())["scores"])
        elif code:
            figures["said"] = (bench.folder / f"{name}.txt").read_text()[-200:].replace("\n", " ")
        bench.check(name, code == 0 and (bench.quick or figures["scores"] > 0), figures)


def start(bench: Bench, name: str) -> subprocess.Popen:
    changes = ["--list"] if bench.quick else ["--set", *RUNS[name]]
    words = [sys.executable, "run.py", name, "--mini", "--out", str(bench.folder / name), *changes]
    with open(bench.folder / f"{name}.txt", "w") as said:
        return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=said)
