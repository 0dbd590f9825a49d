"""One run a folder: who writes into it keeps others out, and commands that share it take turns."""

import multiprocessing
import subprocess
import sys

import pytest

from tool.cli import UserError
from tool.folder import make_folder
from tool.lock import hold_folder, turn_in

HOLD = "import sys; from pathlib import Path; from tool.lock import hold_folder; hold_folder(Path(sys.argv[1]), '--x')"


def holder(folder):
    """Another process that holds `folder` until its input ends, and has a forked child that lives longer."""
    wait = "import os; print('held', flush=True); os.fork() or __import__('time').sleep(20); sys.stdin.read()"
    command = [sys.executable, "-c", f"{HOLD}; {wait}", folder]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_held_by_one_process_until_that_is_killed_whatever_its_forks_do(tmp_path):
    with holder(tmp_path) as first:
        second = subprocess.run([sys.executable, "-c", HOLD, tmp_path], capture_output=True, text=True)
        assert f"UserError: --x {tmp_path}: another run is writing into it" in second.stderr
        first.kill()
        first.wait()
        subprocess.run([sys.executable, "-c", HOLD, tmp_path], check=True)


def test_a_process_may_hold_a_folder_again_that_another_name_leads_to_and_one_that_is_not_there_yet(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    script = f"{HOLD}; hold_folder(Path(sys.argv[1]) / 'link', '--x'); hold_folder(Path(sys.argv[1]) / 'none', '--x')"
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_runs_folder_is_held_from_its_creation_on(tmp_path):
    with holder(tmp_path) as first:
        with pytest.raises(UserError, match=r"--x .*: another run is writing into it"):
            make_folder(tmp_path, {"LR": 0.001}, flag="--x")
        first.kill()
    assert not (tmp_path / "args.json").exists()


def test_a_lock_leaves_nothing_behind(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=hold_folder, args=(tmp_path, "--x"))
    process.start()
    process.join()
    assert process.exitcode == 0 and not list(tmp_path.iterdir())


def test_commands_that_share_a_folder_take_turns_whatever_becomes_of_one(tmp_path):
    enter = "import sys, time; from pathlib import Path; from tool.lock import turn_in\n"
    enter += "with turn_in(Path(sys.argv[1])): print('in', flush=True)"
    command = [sys.executable, "-c", f"{enter}; time.sleep(60)", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "in\n"
        command[2] = enter
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=1)
            first.kill()
            assert second.stdout.readline() == "in\n"
    with turn_in(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
