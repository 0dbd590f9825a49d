"""Whatever ends a command, and whenever: what is there is whole, and started again it ends as if nothing was."""

import re
import shutil
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from tests.fault.commands import after
from tests.fault.conftest import COUNTS, assert_as_undisturbed, assert_whole
from tests.fault.test_workers import with_helpers
from tests.processes import needs_proc
from tests.scripts.conftest import load

pytestmark = needs_proc

# What a command that a signal reaches ends with, and with what words.
CODES = {SIGKILL: -SIGKILL, SIGTERM: 128 + SIGTERM, SIGINT: 128 + SIGINT}


def assert_left(done, number, activity, folder):
    """The command ended with the signal, said no more than that, and saved what training had done."""
    if done.returncode == -SIGTERM:  # Python's own end hears nothing any more
        assert_as_undisturbed(activity, folder)
        return
    assert done.returncode == CODES[number], done.stderr
    if number == SIGKILL:
        return
    assert "Traceback" not in done.stderr
    assert (done.stderr.strip().endswith("interrupted")) == (number == SIGINT), done.stderr
    if "stopping after this step" in done.stderr:
        (run,) = (folder / "exps").iterdir()
        lines = re.findall(r"step (\d+)/\d+ ", (run / "log").read_text())
        assert load(run / "last.ckpt")["step"] == int(lines[-1])


@pytest.mark.parametrize(
    "name",
    [
        *("training", "inference", "posteriors", "affinity", "walk", "ir_labels", "irn", "irn_walk"),
        *("evaluation", "segmentation", "prediction", "localisation", "localised"),
        *("superpixels", "superpixel_maps", "rebalancing", "uss_features", "rebalanced", "merging"),
    ],
)
def test_a_command_that_is_ended_again_and_again_leaves_the_files_of_one_that_was_not(
    name, request, commands, chance, rounds, tmp_path
):
    activity = request.getfixturevalue(name)
    numbers = [SIGKILL, SIGTERM] * rounds + [SIGINT] * (rounds // 5)
    chance.shuffle(numbers)
    if rounds == 1:  # one of both, to be quick
        numbers.pop()
    folder = tmp_path / "run"
    folder.mkdir()
    while numbers:
        number = numbers[-1]
        # Ctrl-C reaches all processes; SIGTERM and SIGKILL the command alone or all, as a job's manager sends them.
        whole_group = number == SIGINT or chance.random() < 0.5
        ending = after(chance.uniform(0, activity.seconds), number, whole_group=whole_group)
        done = commands.run([*with_helpers(activity), *activity.again], folder=folder, disturb=ending)
        if done.returncode == 0:  # before the signal; a new one from the beginning
            assert_as_undisturbed(activity, folder)
            shutil.rmtree(folder)
            folder.mkdir()
            continue
        numbers.pop()
        COUNTS["faults injected"] += 1
        assert_left(done, number, activity, folder)
        assert_whole(activity, folder)
    done = commands.run([*activity.words, *activity.again], folder=folder)
    assert done.returncode == 0, done.stderr
    assert_as_undisturbed(activity, folder)
