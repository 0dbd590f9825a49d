"""What the other parts leave out, by the commands of recipes, shortened: superpixels, MSA, IRN, AffinityNet, DHR, CRT's
localisation. They run side by side: most of their time is the start of their commands."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from benchmark.generated import run as run_command
from benchmark.gpu_parts.record import Bench
from tool.cli import UserError

SHORT = ["data.val=12", "data.test=6", "data.train=24"]
RUNS = {
    "msa_image+irn+dhr": [
        # A net of fewer steps finds nothing but background, and masks without a class are refused.
        *(*SHORT, "data.train_aug=96", "train.max_epoches=12"),
        *(f"{stage}.max_epoches=1" for stage in ("scn", "irn_train", "dhr")),
    ],
    "ppc+affinity+deeplabv3plus": [
        *(*SHORT, "data.train_aug=48", "train_seam.max_iters=4", "train.max_iters=4"),
        *(f"{stage}.max_epoches=1" for stage in ("aff_train", "dhr")),
    ],
    "crt_cub": ["train.max_epoches=1"],
}


def run(bench: Bench) -> None:
    def run_recipe(name: str) -> dict[str, float]:
        out = bench.folder / name
        start = time.perf_counter()
        changes = ["--list"] if bench.quick else ["--set", *RUNS[name]]
        run_command("run.py", name, "--mini", "--out", out, *changes)
        scores = {} if bench.quick else json.loads((out / "summary.json").read_text())["scores"]
        return {"s": round(time.perf_counter() - start, 1), "scores": len(scores)}

    with ThreadPoolExecutor(len(RUNS)) as pool:
        waiting = {name: pool.submit(run_recipe, name) for name in RUNS}
        for name, future in waiting.items():
            try:
                figures = future.result()
                bench.check(name, bench.quick or figures["scores"] > 0, figures)
            except UserError as error:  # the others are still to be heard
                bench.check(name, False, {"said": str(error)[-200:].replace("\n", " ")})
