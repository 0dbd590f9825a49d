"""Whatever cannot be written: it is named, what was there before stays whole, and the command goes on afterwards."""

import os
import shutil
import signal
import time
from contextlib import contextmanager, suppress

import pytest

from tests.fault.conftest import COUNTS, assert_as_undisturbed, assert_whole, files_in
from tests.scripts.conftest import contents

ALL = [
    *("coco_preparation", "coco_generation"),
    *("training", "inference", "posteriors", "affinity", "walk", "evaluation", "segmentation", "prediction"),
    *("localisation", "localised"),
    *("submission", "preparation", "relabelling", "generation", "ir_labels", "irn", "irn_walk"),
    *("superpixels", "superpixel_maps", "rebalancing", "uss_features", "rebalanced", "merging"),
]
TRAININGS = ["training", "affinity", "irn", "superpixels", "segmentation", "localisation", "rebalancing"]


@pytest.fixture
def activities(request, chance, rounds):
    """As many as there are rounds, each as often as the others."""
    names = chance.sample(ALL, len(ALL)) * (1 + rounds // len(ALL))
    return [request.getfixturevalue(name) for name in names[:rounds]]


@pytest.fixture
def folder(tmp_path):
    """Empties and returns a folder to work in."""

    def empty():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "run").mkdir()
        return tmp_path / "run"

    return empty


def assert_named(done, folder):
    """One message, which says what could not be written, and no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    first = done.stderr.partition("error: ")[2]
    outputs = ("exps", "shared memory", "scores.json", "evallog.txt", "results.tgz", "lists", "labels", "mini")
    assert any(name in first for name in (*outputs, str(folder))), done.stderr


def assert_goes_on(activity, commands, folder):
    done = commands.run([*activity.words, *activity.again], folder=folder)
    assert done.returncode == 0, done.stderr
    assert_as_undisturbed(activity, commands.seen(folder))


def test_files_that_cannot_grow_are_named_and_the_command_goes_on_when_they_can(activities, commands, chance, folder):
    for activity in activities:
        work = folder()
        # From nothing to nearly all of the largest file, each size of files as often as the others.
        sizes = sorted({path.stat().st_size for path in files_in(activity.folder).values()})
        limit = chance.randint(0, chance.choice(sizes) - 1)
        done = commands.run(activity.words, folder=work, file_limit=limit)
        COUNTS["faults injected"] += 1
        assert_named(done, work)
        assert_whole(activity, work)
        assert_goes_on(activity, commands, work)


def test_a_checkpoint_that_cannot_be_replaced_stays_and_the_run_goes_on_from_it(
    request, commands, chance, folder, some
):
    for name in some(TRAININGS):
        activity, work = request.getfixturevalue(name), folder()

        def stop_after_a_checkpoint(group, work=work):
            with suppress(ProcessLookupError):  # it has ended by itself
                while not list(work.rglob("last.ckpt")):
                    os.kill(group, 0)
                    time.sleep(0.01)
                os.kill(group, signal.SIGTERM)

        done = commands.run(activity.words, folder=work, disturb=stop_after_a_checkpoint)
        assert list(work.rglob("last.ckpt")), done.stderr
        (last,) = work.rglob("last.ckpt")
        before = last.read_bytes()
        limit = chance.randint(len(before) // 8, len(before) // 2)
        COUNTS["faults injected"] += 1
        assert_named(commands.run([*activity.words, *activity.again], folder=work, file_limit=limit), work)
        assert last.read_bytes() == before
        assert not list(work.rglob("*.tmp"))
        assert_goes_on(activity, commands, work)


def test_a_score_that_does_not_fit_into_the_log_leaves_the_log_as_it_was(evaluation, commands, chance, folder, rounds):
    entry = (evaluation.folder / "evallog.txt").read_bytes()
    for _ in range(rounds):
        log = folder() / "evallog.txt"
        log.write_bytes(entry * 8)
        (evaluation_json,) = evaluation.folder.glob("*.json")
        assert evaluation_json.stat().st_size < 8 * len(entry)
        COUNTS["faults injected"] += 1
        limit = chance.randint(8 * len(entry), 9 * len(entry) - 1)
        assert_named(commands.run(evaluation.words, folder=log.parent, file_limit=limit), log.parent)
        assert log.read_bytes() == entry * 8


def test_a_full_disk_is_named_and_the_command_goes_on_when_there_is_space(
    activities, commands, can_mount, chance, folder
):
    if not can_mount:
        pytest.skip("NOT TESTED: a full disk, as this user may not mount a small one (unshare --mount)")
    for activity in activities:
        work = folder()
        pages = sum(1 + path.stat().st_size // 4096 for path in files_in(activity.folder).values())
        size = 4096 * (1 + chance.randint(0, pages * 3 // 4))
        commands.mount("mount", "-t", "tmpfs", "-o", f"size={size}", "none", work)
        filler = commands.seen(work) / "filler"
        try:
            filler.write_bytes(bytes(4096))  # no disk is smaller than that
            done = commands.run(activity.words, folder=work)
            COUNTS["faults injected"] += 1
            assert_named(done, work)
            filler.unlink()
            assert_whole(activity, commands.seen(work))
            commands.mount("mount", "-o", "remount,size=500m", work)
            assert_goes_on(activity, commands, work)
        finally:
            commands.mount("umount", "-l", work)


@contextmanager
def read_only(folder, commands, can_mount):
    """Nothing in the folder can be written by the commands."""
    if os.geteuid():
        folder.chmod(0o555)
    elif can_mount:
        commands.mount("mount", "--bind", folder, folder)
        commands.mount("mount", "-o", "remount,bind,ro", folder)
    else:
        pytest.skip("NOT TESTED: folders that are read-only, which nothing is for root without mounts")
    try:
        yield
    finally:
        folder.chmod(0o755) if os.geteuid() else commands.mount("umount", "-l", folder)


def test_a_read_only_folder_is_named_and_nothing_in_it_changed(activities, commands, can_mount, folder, chance):
    for activity in activities:
        work = folder()
        with read_only(work, commands, can_mount):
            COUNTS["faults injected"] += 1
            assert_named(commands.run(activity.words, folder=work), work)
        assert contents(work) == {}
        shutil.copytree(activity.folder, work, dirs_exist_ok=True)
        if not activity.again:
            chance.choice([path for path in files_in(work).values() if path.suffix != ".json"]).unlink()
        before = contents(work)
        with read_only(work, commands, can_mount):
            COUNTS["faults injected"] += 1
            done = commands.run([*activity.words, *activity.again], folder=work)
        assert "Traceback" not in done.stderr
        assert done.returncode == 2, done.stdout
        assert contents(work) == before


def test_what_stands_in_a_files_or_folders_place_is_named_and_left_alone(activities, commands, chance, folder):
    for activity in activities:
        work = folder()
        names = [name for name, path in files_in(activity.folder).items() if "events" not in name and path]
        places = [*names, *{name.rpartition("/")[0] for name in names if "/" in name}]
        name = chance.choice(places)
        place = work / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name in names:
            place.mkdir()
            (place / "precious").touch()
        else:
            place.write_text("precious")
        before = contents(place.parent)
        COUNTS["faults injected"] += 1
        done = commands.run(activity.words, folder=work)
        assert_named(done, work)
        after = contents(place.parent)
        assert {name: after[name] for name in before} == before
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        for parent in place.parents:
            if parent == work or any(parent.iterdir()):
                break
            parent.rmdir()
        assert_goes_on(activity, commands, work)
