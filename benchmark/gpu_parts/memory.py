"""Training on a GPU whose memory is nearly full: one line that says what to do."""

import torch

from benchmark.generated import generate
from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.resume import train

LEFT_FREE = 3 * 2**30  # bytes, for a run that needs four times as much


def run(bench: Bench) -> None:
    if not bench.on_gpu:
        bench.note("full memory is one line", {"said": "needs a GPU"})
        return
    data = generate(bench.folder / "data", size=500, train=12, train_aug=12)
    free, _ = torch.cuda.mem_get_info(bench.device)
    held = torch.empty(max(free - LEFT_FREE, 0), dtype=torch.uint8, device=bench.device)
    process = train(
        *["--data_root", data.images, "--saliency_root", data.saliency, "--labels", data.labels, "--weights", "none"],
        *["--train_list", data.train_aug, "--work_dir", bench.folder, "--max_iters", 1, "--device", bench.device],
    )
    said = process.communicate()[0]
    del held
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    holds = process.returncode == 2 and len(lines) == 1 and "memory is too small" in lines[0]
    figures = {"exit code": process.returncode, "said": (lines or said.strip().splitlines() or [""])[-1][:160]}
    bench.check("full memory is one line", holds, figures)
