"""A run goes on only where it is asked to, with the settings it had; its folder says what these are."""

import json
import multiprocessing
import subprocess
import sys

import pytest
import torch

from tool.checkpoint import save_checkpoint
from tool.cli import UserError
from tool.run import claim_folder, find_checkpoint, hold_folder, make_folder

SETTINGS = {"LR": 0.001, "SCALES": [0.5, 1.5], "WEIGHTS": None, "SHUFFLE": True}


def find(folder, *, resume=True, settings=SETTINGS, prefix="", name_flag="EXP_NAME"):
    return find_checkpoint(folder, resume=resume, settings=settings, prefix=prefix, name_flag=name_flag)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that stopped after 12 steps."""
    state = {"step": 12, "settings": SETTINGS, "model": {"weight": torch.arange(3.0)}}
    save_checkpoint(tmp_path / "last.ckpt", state)
    return tmp_path


def refusal(folder, **arguments) -> list[str]:
    """The lines of the message that refuses the run in `folder`."""
    with pytest.raises(UserError) as raised:
        find(folder, **arguments)
    return str(raised.value).split("\n")


# -- the checkpoint to go on from --------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_does_not_exist_starts_afresh_also_where_its_folder_is_there(tmp_path, resume):
    (tmp_path / "log").touch()
    assert find(tmp_path, resume=resume) is None
    assert find(tmp_path / "none", resume=resume) is None


def test_a_run_of_the_same_settings_goes_on(run):
    checkpoint = find(run)
    assert checkpoint["step"] == 12 and checkpoint["settings"] == SETTINGS
    assert torch.equal(checkpoint["model"]["weight"], torch.arange(3.0))


def test_a_run_that_exists_is_not_overwritten_unasked(run):
    before = (run / "last.ckpt").read_bytes()
    (line,) = refusal(run, resume=False, name_flag="--session")
    assert line == f"{run / 'last.ckpt'}: this run exists; pass --resume to go on with it, or another --session"
    assert (run / "last.ckpt").read_bytes() == before


def test_every_setting_that_differs_is_named_with_both_values(run):
    now = {**SETTINGS, "LR": 0.002, "SCALES": [0.5, 1.25], "WEIGHTS": "w.pth", "NEW": 3}
    summary, *lines = refusal(run, settings=now)
    assert str(run / "last.ckpt") in summary and "another EXP_NAME" in summary and "(4):" in summary
    assert [line.strip() for line in lines] == [
        "LR: 0.001 then, 0.002 now",
        "SCALES: [0.5, 1.5] then, [0.5, 1.25] now",
        "WEIGHTS: None then, w.pth now",
        "NEW: None then, 3 now",
    ]


def test_settings_are_named_as_the_user_gives_them(run):
    _, line = refusal(run, settings={**SETTINGS, "LR": 1}, prefix="--")
    assert line.strip() == "--LR: 0.001 then, 1 now"


def test_a_setting_that_no_longer_counts_may_be_anything(run):
    now = {name: value for name, value in SETTINGS.items() if name != "SHUFFLE"}
    assert find(run, settings=now)["step"] == 12


@pytest.mark.parametrize(
    "state",
    [
        {"model": {}, "step": 1},
        {"model": {}, "settings": SETTINGS},
        {"step": 1, "settings": ["LR", 0.001]},
        {"weight": torch.zeros(1)},
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, state):
    save_checkpoint(tmp_path / "last.ckpt", state)
    (line,) = refusal(tmp_path)
    assert f"{tmp_path / 'last.ckpt'} is no checkpoint of this script; take another EXP_NAME" in line


def test_a_file_that_holds_no_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "last.ckpt")
    (line,) = refusal(tmp_path)
    assert "is no checkpoint of this script" in line


def test_a_damaged_checkpoint_is_refused_by_name(run):
    path = run / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    (line,) = refusal(run)
    assert str(path) in line and "damaged" in line


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_folder_is_created_with_its_parents_and_the_arguments_in_it(tmp_path):
    folder = tmp_path / "exps" / "mine"
    make_folder(folder, SETTINGS, flag="EXP_ROOT")
    assert [path.name for path in folder.iterdir()] == ["args.json"]
    assert json.loads((folder / "args.json").read_text()) == SETTINGS


def test_a_folder_that_is_there_keeps_its_files_and_gets_the_new_arguments(run):
    make_folder(run, SETTINGS, flag="EXP_ROOT")
    make_folder(run, {"LR": 3}, flag="EXP_ROOT")
    assert sorted(path.name for path in run.iterdir()) == ["args.json", "last.ckpt"]
    assert json.loads((run / "args.json").read_text()) == {"LR": 3}


@pytest.mark.parametrize("name", ["file", "file/mine"])
def test_a_folder_that_cannot_be_created_is_the_users_mistake(tmp_path, name):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"EXP_ROOT .*file.*: cannot be created \((File exists|Not a directory)\)"):
        make_folder(tmp_path / name, SETTINGS, flag="EXP_ROOT")
    assert (tmp_path / "file").read_text() == "kept"


# -- the record of settings --------------------------------------------------------------------------------------------


def test_a_folder_is_claimed_once_and_again_with_the_same_settings_only(tmp_path):
    record = tmp_path / "settings.json"
    for _ in range(2):
        claim_folder(record, {"scales": [0.5, 1.0], "thr": 0.22}, refusal="made otherwise")
    with pytest.raises(UserError, match=r"made otherwise \(1\):\n  thr: 0.22 then, 0.5 now"):
        claim_folder(record, {"scales": [0.5, 1.0], "thr": 0.5}, refusal="made otherwise")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00"])
def test_a_damaged_record_is_named(tmp_path, content):
    record = tmp_path / "settings.json"
    record.write_bytes(content)
    with pytest.raises(UserError, match=r"settings\.json: "):
        claim_folder(record, {"thr": 0.22}, refusal="made otherwise")
    assert record.read_bytes() == content


# -- one run a folder --------------------------------------------------------------------------------------------------

HOLD = "import sys; from pathlib import Path; from tool.run import hold_folder; hold_folder(Path(sys.argv[1]), '--x')"


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


def test_a_lock_leaves_nothing_behind(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=hold_folder, args=(tmp_path, "--x"))
    process.start()
    process.join()
    assert process.exitcode == 0 and not list(tmp_path.iterdir())
