"""What ends a command before its work has begun, or a training of two processes: run as a user does."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from tests.fault.commands import TIME_LIMIT, assert_ended
from tests.fault.conftest import COUNTS, STEPS, Activity, assert_as_undisturbed, assert_whole
from tests.processes import children, needs_proc
from tests.scripts.conftest import ROOT, corrupt_middle, environment, load, run_by_two

pytestmark = needs_proc


@contextmanager
def started(words, folder):
    """The command as a user starts it, in a session of its own, all of which is gone at the end."""
    words = [str(ROOT / word) if str(word).endswith(".py") else str(word) for word in words]
    env = environment(PYTHONPATH=str(ROOT))
    with open(folder.with_suffix(".stderr"), "w") as errors:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=env, start_new_session=True, stdout=errors, stderr=errors
        )
    try:
        yield process
        assert_ended(process.pid)
    finally:
        for child in (process.pid, *children(process.pid)):
            with suppress(ProcessLookupError):
                os.killpg(child, SIGKILL)
        process.wait()


def said(folder: Path) -> str:
    return folder.with_suffix(".stderr").read_text()


# -- before the work has begun -----------------------------------------------------------------------------------------

COMMANDS = [
    "coco_preparation",
    *("training", "inference", "posteriors", "affinity", "walk", "evaluation", "segmentation", "prediction"),
    *("localisation", "localised"),
    *("submission", "preparation", "relabelling", "label_maps", "ir_labels", "irn", "irn_walk"),
    *("superpixels", "superpixel_maps", "rebalancing", "uss_features", "rebalanced", "merging"),
]
# A signal's own end of a process, or that of a script which has heard it.
CODES = {SIGKILL: {-SIGKILL}, SIGTERM: {-SIGTERM, 128 + SIGTERM}, SIGINT: {-SIGINT, 128 + SIGINT}}


def catches_ctrl_c(process: int) -> bool | None:
    """Whether the process has a handler of its own for Ctrl-C; None where it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
        return caught and bool(int(caught[1], 16) >> (SIGINT - 1) & 1)
    return None


def wait_for_imports(process: int) -> None:
    """Python hears Ctrl-C as soon as it has started, and says a lot; from the import of `tool` on it does not."""
    for hears in (True, False):
        while catches_ctrl_c(process) is not None and catches_ctrl_c(process) != hears:
            time.sleep(0.001)


@pytest.mark.parametrize("number", CODES)
def test_a_command_that_is_ended_as_it_starts_says_nothing_and_leaves_nothing_half_done(
    number, request, commands, chance, rounds, tmp_path
):
    for trial in range(rounds):
        activity, folder = request.getfixturevalue(chance.choice(COMMANDS)), tmp_path / str(trial)
        folder.mkdir()
        with started(activity.words, folder) as process:
            if number == SIGINT:
                wait_for_imports(process.pid)
            time.sleep(chance.uniform(0, 3))
            process.send_signal(number)
            code = process.wait(TIME_LIMIT)
        assert_whole(activity, folder)
        if code != 0:
            COUNTS["faults injected"] += 1
            assert code in CODES[number], said(folder)
            assert "Traceback" not in said(folder), said(folder)
        done = commands.run([*activity.words, *activity.again], folder=folder)
        assert done.returncode == 0, done.stderr
        assert_as_undisturbed(activity, folder)


# -- two processes -----------------------------------------------------------------------------------------------------

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# Each is as long as `training` is, of STEPS.
OTHER = {"TRAIN_SAVE_EVERY=3": "TRAIN_SAVE_EVERY=100", "DATA_WORKERS=0": "DATA_WORKERS=1"}
MORE = {
    "training": ["--save_every", "100", "--num_workers", "1"],
    "affinity": ["--save_every", "100", "--num_workers", "1"],
    "superpixels": ["--save_every", "100", "--num_workers", "1"],
    "rebalancing": ["--max_epoches", "4", "--save_every", "100", "--num_workers", "1"],
    "segmentation": [],
    "localisation": ["--max_epoches", "8", "--save_every", "100", "--num_workers", "1"],
}


def by_two(name: str, activity: Activity, folder: Path) -> Activity:
    """A training by two processes that have a loader process each, run undisturbed."""
    folder.mkdir()
    words = [*(OTHER.get(word, word) for word in activity.words), *MORE[name]]
    start = time.perf_counter()
    run_to_the_end(words, folder)
    return Activity(words, folder, time.perf_counter() - start, ("--resume",))


def run_to_the_end(words, folder):
    """Undisturbed, so by two processes that cost no start."""
    for done in run_by_two(*words, folder=folder):
        assert done.returncode == 0, done.stderr


def steps_done(folder: Path) -> int:
    logs = [path.read_text() for path in folder.glob("exps/*/log")]
    return max([0, *(int(step) for log in logs for step in re.findall(r" step (\d+)/", log))])


def descendants(process: int) -> list[int]:
    own = children(process)
    return own + [below for child in own for below in descendants(child)]


def test_two_processes_stop_after_the_same_step_which_is_saved_and_go_on_to_the_same_weights(
    request, chance, some, rounds, tmp_path
):
    for name in some(MORE):
        activity = by_two(name, request.getfixturevalue(name), tmp_path / name)
        for trial in range(max(rounds // len(MORE), 1)):
            stop_and_go_on(activity, chance, tmp_path / f"{name} {trial}")


def stop_and_go_on(activity, chance, folder):
    last = chance.randint(1, STEPS - 4)
    folder.mkdir()
    with started([*TORCHRUN, *activity.words], folder) as process:
        while steps_done(folder) < last and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3))
        # torchrun alone, which tells all; one of the two; or all processes, loaders among them.
        trainers = children(process.pid)
        told = chance.choice([[process.pid], trainers[:1], trainers[1:], [process.pid, *descendants(process.pid)]])
        number = chance.choice([SIGTERM, SIGINT])
        for one in told:
            with suppress(ProcessLookupError):
                os.kill(one, number)
        code = process.wait(TIME_LIMIT)
    COUNTS["faults injected"] += 1
    assert code in (0, 1), said(folder)  # torchrun's own
    assert f'File "{ROOT}' not in said(folder), said(folder)
    (run,) = (folder / "exps").iterdir()
    assert load(run / "last.ckpt")["step"] == steps_done(folder) >= last
    run_to_the_end([*activity.words, *activity.again], folder)
    assert_as_undisturbed(activity, folder)


def test_a_process_of_two_that_fails_says_why_and_the_other_only_that(training, data, tmp_path):
    copy = data.copy(tmp_path / "data")
    image = copy.images / f"{copy.ids[5]}.jpg"
    corrupt_middle(image)
    words = [str(word).replace(str(data.root), str(copy.root)) for word in (*TORCHRUN, *training.words)]
    (tmp_path / "run").mkdir()
    with started([*words, *MORE["training"]], tmp_path / "run") as process:
        assert process.wait(TIME_LIMIT) == 1
    COUNTS["faults injected"] += 1
    errors = said(tmp_path / "run")
    assert f"error: {image}: cannot be read as an image" in errors, errors
    assert f'File "{ROOT}' not in errors, errors
