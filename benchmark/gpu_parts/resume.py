"""The real training command on the device: told to stop, gone on with, and by one process under torchrun.

With deterministic kernels: with others two runs of the same are a third of a weight apart after 60 steps.
"""

import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import torch

from benchmark.generated import generate
from benchmark.gpu_parts.record import Bench
from benchmark.gpu_parts.steps import inputs_of, make_batch, make_training
from method.engine import training_step
from tool.places import ROOT

TOLERANCE = 1e-4
GOAL = f"within {TOLERANCE:.0e}"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]


def run(bench: Bench) -> None:
    size = 64 if bench.quick else 128
    data = generate(bench.folder / "data", size=size, train=8, train_aug=8)
    steps = 4 if bench.quick else 60
    flags = [
        *["--data_root", data.images, "--saliency_root", data.saliency, "--labels", data.labels],
        *["--train_list", data.train_aug, "--work_dir", bench.folder, "--weights", "none", "--from_scratch"],
        *["--momentum", 0.9, "--lr", 0.01, "--clip_grad", 1, "--num_workers", 0, "--log_every", 1],
        *["--width", 1 / 16, "--batch_size", 4, "--crop_size", 64, "--resize_size", 48, 80, "--view2_size", 48],
        *["--max_iters", steps, "--iter_size", 1, "--save_every", 10**6, "--device", bench.device],
    ]
    assert_ends(train(*flags, "--session", "whole"), 0)
    if bench.on_gpu:  # tests/scripts/test_train.py shows it of a CPU
        assert_ends(train(*flags, "--session", "again"), 0)
        apart = largest_difference(bench.folder, "whole", "again")
        bench.check("the same run twice", apart <= TOLERANCE, figure(apart), goal=GOAL)
    stopped_and_resumed(bench, flags)
    under_torchrun(bench, flags)
    restored_in_place(bench)


def train(*flags: object, launcher: tuple[str, ...] | list[str] = ()) -> subprocess.Popen:
    words = [sys.executable, *launcher, "-m", "benchmark.gpu_parts.deterministic", "train_voc.py", *map(str, flags)]
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"}
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def assert_ends(process: subprocess.Popen, code: int) -> str:
    """What a command said that has to end with `code`."""
    said = process.communicate()[0]
    if process.returncode != code:
        raise RuntimeError(f"expected exit code {code}, found {process.returncode}: {said[-2000:]}")
    return said


def figure(apart: float) -> dict[str, str]:
    return {"weights apart, at most": f"{apart:.1e}"}


def largest_difference(folder: Path, session: str, other: str) -> float:
    """Between the weights of two runs."""
    states = [
        torch.load(folder / name / f"{name}.pth", map_location="cpu", weights_only=True) for name in (session, other)
    ]
    return max(float((states[0][key].double() - states[1][key].double()).abs().max()) for key in states[0])


def stopped_and_resumed(bench: Bench, flags: list) -> None:
    """SIGTERM amid training saves; gone on with, the weights are those of the run that was left alone."""
    process = train(*flags, "--session", "stopped")
    log, due = bench.folder / "stopped" / "log", "step 1/" if bench.quick else "step 40/"
    while process.poll() is None and not (log.exists() and due in log.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said = assert_ends(process, 143)
    saved = (bench.folder / "stopped" / "last.ckpt").exists() and not (
        bench.folder / "stopped" / "stopped.pth"
    ).exists()
    bench.check("SIGTERM saves the step", saved, {"exit code": 143, "said": said.strip().split("\n")[-1][:80]})
    assert_ends(train(*flags, "--session", "stopped", "--resume"), 0)
    apart = largest_difference(bench.folder, "whole", "stopped")
    bench.check("a run stopped and gone on with", apart <= TOLERANCE, figure(apart), goal=GOAL)


def under_torchrun(bench: Bench, flags: list) -> None:
    assert_ends(train(*flags, "--session", "torchrun", launcher=TORCHRUN), 0)
    apart = largest_difference(bench.folder, "whole", "torchrun")
    what = f"one process under torchrun ({'NCCL' if bench.on_gpu else 'gloo'})"
    bench.check(what, apart <= TOLERANCE, figure(apart), goal=GOAL)


def restored_in_place(bench: Bench) -> None:
    """20 steps twice from one state, with deterministic kernels: equal bit for bit?"""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    training = make_training("hsc", bench.device, width=1 / 16, amp="off", second_view=48, frozen=False)
    inputs = inputs_of(make_batch(4, 64), "hsc", bench.device)
    training_step(training, inputs)
    state, found = deepcopy(training.state()), []
    for _ in range(2):
        training.restore(deepcopy(state))
        for _ in range(2 if bench.quick else 20):
            training_step(training, inputs)
        found.append([value.detach().cpu().clone() for value in training.objective.net.state_dict().values()])
    torch.use_deterministic_algorithms(False)
    same = all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    bench.note("the same steps twice, deterministic kernels", {"bit for bit": "equal" if same else "not equal"})
