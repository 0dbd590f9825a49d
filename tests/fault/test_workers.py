"""A process that dies or fails while it helps a command: it and its image are named, nothing hangs or is left out."""

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fault.conftest import COUNTS, assert_as_undisturbed, assert_whole, files_in
from tests.processes import needs_proc
from tests.scripts.conftest import corrupt_middle

pytestmark = needs_proc


def helpers(group):
    """The processes that the command has started, loaders and pools' alike, without multiprocessing's own tracker."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, of_group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
            tracks = "resource_tracker" in (process / "cmdline").read_text()
            if int(of_group) == group and state != "Z" and int(process.name) != group and not tracks:
                found.append(int(process.name))
    return sorted(found)


def kill_a_helper(chance, seconds, killed):
    """Kills one of the command's processes so many seconds after the first is there; notes it in `killed`."""

    def disturb(group):
        while not helpers(group):
            if not Path(f"/proc/{group}/exe").exists():  # ended
                return
            time.sleep(0.002)
        time.sleep(seconds)
        there = helpers(group)
        if there:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(there), signal.SIGKILL)
                killed.append(group)

    return disturb


# Of each command's message: which process it was, and what it was at.
MESSAGES = {
    "training": r"error: a loader process .*; it was at ({ids}|no image);",
    "affinity": r"error: a loader process .*; it was at ({ids}|no image);",
    "superpixels": r"error: a loader process .*; it was at ({ids}|no image);",
    "superpixel_maps": r"error: a superpixels process died, killed or out of memory; it was at ({ids}|no image);",
    "rebalancing": (
        r"error: a (loader process .*; it was at ({ids}|no image)|CRF process died(, | at ({ids}),).* memory);"
    ),
    "uss_features": r"error: a features process died, killed or out of memory; it was at ({ids}|no image);",
    "rebalanced": r"error: a (predict|crf) process died, killed or out of memory; it was at ({ids}|no image);",
    "segmentation": r"error: a loader process .*; it was at ({ids}|no image);",
    "localisation": r"error: a loader process .*; it was at (\d+|no image);",
    "localised": r"error: a loader process .*; it was at (\d+|no image);",
    "inference": r"error: a (cam|seed) process died, killed or out of memory; it was at ({ids}|no image);",
    "merging": r"error: a seed process died, killed or out of memory; it was at ({ids}|no image);",
    "posteriors": r"error: a crf process died, killed or out of memory; it was at ({ids}|no image);",
    "walk": r"error: a (walk|crf) process died, killed or out of memory; it was at ({ids}|no image);",
    "ir_labels": r"error: a crf process died, killed or out of memory; it was at ({ids}|no image);",
    "irn": r"error: a loader process .*; it was at ({ids}|no image);",
    "irn_walk": r"error: a walk process died, killed or out of memory; it was at ({ids}|no image);",
    "prediction": r"error: a (predict|crf) process died, killed or out of memory; it was at ({ids}|no image);",
    "evaluation": r"error: a worker process was killed, .*; it was at (one of \d+ files, ({ids}) \d.npy to |no file)",
}


def with_helpers(activity):
    """The command's words with two loader processes."""
    words = ["DATA_WORKERS=2" if word == "DATA_WORKERS=0" else word for word in activity.words]
    if "--num_workers" in words:
        words[words.index("--num_workers") + 1] = "2"
    return words


@pytest.fixture
def names(chance, rounds):
    """As many commands as there are rounds, each as often as the others."""
    return (chance.sample(list(MESSAGES), len(MESSAGES)) * (1 + rounds // len(MESSAGES)))[:rounds]


def test_a_process_that_is_killed_is_named_with_its_image_and_the_command_goes_on(
    names, request, commands, data, chance, tmp_path
):
    for number, name in enumerate(names):
        activity, folder = request.getfixturevalue(name), tmp_path / str(number)
        folder.mkdir()
        killed = []
        disturb = kill_a_helper(chance, chance.uniform(0, activity.seconds / 2), killed)
        done = commands.run(with_helpers(activity), folder=folder, disturb=disturb)
        assert_whole(activity, folder)
        if done.returncode == 0:  # it was done, or did not need that process any more
            assert_as_undisturbed(activity, folder)
            continue
        COUNTS["faults injected"] += 1
        assert killed and done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        ids = "|".join(map(re.escape, all_ids(data)))
        assert re.search(MESSAGES[name].format(ids=ids), done.stderr), done.stderr
        done = commands.run([*activity.words, *activity.again], folder=folder)
        assert done.returncode == 0, done.stderr
        assert_as_undisturbed(activity, folder)


def all_ids(data):
    return sorted(path.stem for path in data.images.iterdir())


# Commands that read images, some of which process each by itself.
DAMAGED = [
    *("training", "inference", "affinity", "walk", "irn", "irn_walk", "superpixels", "superpixel_maps", "rebalancing"),
    *("segmentation", "prediction", "uss_features", "rebalanced"),
]


def test_an_image_that_is_damaged_after_the_check_is_named_and_none_is_left_out(
    request, commands, data, chance, tmp_path, some
):
    for name in some(DAMAGED):
        activity, folder = request.getfixturevalue(name), tmp_path / name
        copy = data.copy(folder / "data")
        words = [str(word).replace(str(data.root), str(copy.root)) for word in activity.words]
        ids = (copy.root / ("val.txt" if name == "prediction" else "train_aug.txt")).read_text().split()
        image = copy.images / f"{chance.choice(ids)}.jpg"
        whole = image.read_bytes()
        corrupt_middle(image)  # which neither header nor end shows
        work = folder / "work"
        work.mkdir()
        COUNTS["faults injected"] += 1
        done = commands.run(words, folder=work)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert f"{image.name}: " in done.stderr
        if name in ("inference", "walk", "irn_walk", "superpixel_maps", "prediction", "rebalanced"):
            assert "the others are done" in done.stderr
            assert {path.stem for path in work.rglob("*.png")} == set(ids) - {image.stem}
        image.write_bytes(whole)
        done = commands.run([*words, *activity.again], folder=work)
        assert done.returncode == 0, done.stderr
        left = files_in(work)
        assert set(left) == activity.files
        for made in left:
            if made.endswith((".png", ".npy", ".pth")):
                assert left[made].read_bytes() == (activity.folder / made).read_bytes(), made
