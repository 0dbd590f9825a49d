"""What the other parts leave out, by the commands of recipes, shortened: superpixels, MSA, IRN, AffinityNet, DHR, CRT's
localisation."""

import json
import time

from benchmark.generated import run as run_command
from benchmark.gpu_parts.record import Bench

SHORT = ["data.train_aug=48", "data.val=12", "data.test=6", "data.train=24"]
RUNS = {
    "msa_image+irn+dhr": [*SHORT, *(f"{stage}.max_epoches=1" for stage in ("scn", "train", "irn_train", "dhr"))],
    "ppc+affinity+deeplabv3plus": [
        *(*SHORT, "train_seam.max_iters=4", "train.max_iters=4"),
        *(f"{stage}.max_epoches=1" for stage in ("aff_train", "dhr")),
    ],
    "crt_cub": ["train.max_epoches=1"],
}


def run(bench: Bench) -> None:
    for name, changes in RUNS.items():
        out = bench.folder / name
        start = time.perf_counter()
        run_command("run.py", name, "--mini", "--out", out, *(["--list"] if bench.quick else ["--set", *changes]))
        seconds = {"s": round(time.perf_counter() - start, 1)}
        scores = {} if bench.quick else json.loads((out / "summary.json").read_text())["scores"]
        bench.check(name, bench.quick or bool(scores), seconds | {"scores": len(scores)})
