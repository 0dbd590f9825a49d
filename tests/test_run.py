"""run.py on recipes of small scripts: order, logs, record, going on, failure, changes; and the real ones' commands."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import assert_all_end
from tests.scripts.conftest import ROOT, environment, forker

# A stage's script: notes its words, fails or waits while a file says so, and makes the file of its name.
SCRIPT = """
import argparse, json, sys, time
from pathlib import Path

HERE = Path(__file__).parent

def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--scales", nargs="+")
    return parser.parse_args()

def main():
    name = parse_arguments().name
    with open(HERE / "ran", "a") as ran:
        ran.write(" ".join(sys.argv[2:]) + "\\n")
    print("this is", name, flush=True)
    if (HERE / f"{name}.fails").exists():
        print(f"error: {name} cannot go on", file=sys.stderr)
        sys.exit(3)
    while (HERE / f"{name}.waits").exists():
        time.sleep(0.02)
    (HERE / name).write_text(json.dumps({"mIoU": 12.5}))

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
"""
RECIPE = """
from pathlib import Path
from tool.recipe import SideBySide

HERE = Path(__file__).parent

def stages(setup):
    def stage(name, **more):
        return setup.stage(name, str(HERE / "script.py"), {"name": name}, makes=HERE / name, **more)

    pair = SideBySide({"a": [stage("a1"), stage("a2")], "b": [stage("b1")]})
    return [stage("first"), pair, stage("last", mini={"lr": 2}, score="seed_crf")]
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """With a recipe, mine.py, and its script."""
    (tmp_path / "mine.py").write_text(RECIPE)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def words(folder: Path, *flags: object) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), str(folder / "mine.py"), *map(str, flags)]


def run(folder: Path, *flags: object) -> subprocess.CompletedProcess:
    """`python run.py mine.py --mini`, with its files in `folder`/out."""
    return forker().run(words(folder, "--mini", "--out", folder / "out", *flags)[1:], folder)


def ran(folder: Path) -> list[str]:
    """The words of the scripts that ran since the last look."""
    path = folder / "ran"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_stages_run_in_their_order_once_and_leave_logs_and_a_summary(folder):
    done = run(folder)
    assert done.returncode == 0, done.stderr
    first, *pair, last = ran(folder)
    assert (first, last) == ("first", "last --lr 2")
    assert sorted(pair) == ["a1", "a2", "b1"] and pair.index("a1") < pair.index("a2")
    assert "stage 1 of 5: first\n$ python " in done.stdout and "this is last\n" in done.stdout
    assert done.stdout.splitlines()[-3].split() == [
        "last",
        *done.stdout.splitlines()[-3].split()[1:3],
        "12.5",
        "seed_crf",
    ]
    head, said = (folder / "out" / "logs" / "a2.log").read_text().splitlines()
    assert head.endswith(f"$ python {folder}/script.py --name a2") and said == "this is a2"

    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert list(summary) == ["recipe", "scores", "stages"]
    assert summary["recipe"] == "mine" and summary["scores"] == {"seed_crf": 12.5}
    assert [list(stage) for stage in summary["stages"]] == [["name", "seconds", "command"]] * 5
    assert summary["stages"][-1]["command"] == f"python {folder}/script.py --name last --lr 2"
    assert all(stage["seconds"] > 0 for stage in summary["stages"])

    again = run(folder)
    assert ran(folder) == [] and again.stdout.count("done earlier, in") == 5
    assert json.loads((folder / "out" / "summary.json").read_text()) == summary


def test_an_out_that_is_another_recipe_s_or_nothing_is_refused_and_left_as_it_is(folder):
    run(folder)
    summary = (folder / "out" / "summary.json").read_bytes()
    (folder / "mine.py").rename(folder / "other.py")
    done = forker().run([str(ROOT / "run.py"), "other.py", "--mini", "--out", folder / "out"], folder)
    assert done.returncode == 2 and "expected a folder of other's, found a run of mine; name another" in done.stderr
    assert (folder / "out" / "summary.json").read_bytes() == summary
    (folder / "out" / "summary.json").unlink()  # as where the run was stopped
    done = forker().run([str(ROOT / "run.py"), "other.py", "--mini", "--out", folder / "out"], folder)
    assert done.returncode == 2 and "expected a folder of other's, found a run of mine; name another" in done.stderr
    done = forker().run([str(ROOT / "run.py"), "other.py", "--mini", "--out", ""], folder)
    assert done.returncode == 2 and "--out: expected a path, found nothing" in done.stderr
    done = forker().run([str(ROOT / "run.py"), "hsc", "--voc12_root", folder, "--out", folder], folder)
    assert done.returncode == 2 and "expected a folder for results, found that of the data" in done.stderr
    assert not (folder / "stages.json").exists()


def test_what_is_missing_changed_or_asked_for_runs_and_what_comes_after_it(folder):
    run(folder)
    ran(folder)
    (folder / "a2").unlink()
    run(folder)
    assert ran(folder) == ["a2", "last --lr 2"]
    run(folder, "--set", "last.lr=3", "last.--scales=1 2")
    assert ran(folder) == ["last --lr 3 --scales 1 2"]
    run(folder, "--set", "last.lr=")
    assert ran(folder) == ["last"]
    asked = run(folder, "--stages", "a1")
    assert ran(folder) == ["a1"] and "not done" in asked.stdout
    run(folder)
    assert sorted(ran(folder)) == ["a2", "last --lr 2"]


def test_a_stage_that_fails_ends_it_with_its_message_and_exit_code_and_the_same_command_goes_on(folder):
    (folder / "b1.fails").touch()
    (folder / "a1.waits").touch()
    done = run(folder)
    assert done.returncode == 3
    assert "error: b1 cannot go on\n" in done.stderr and "Traceback" not in done.stderr
    log = folder / "out" / "logs" / "b1.log"
    assert done.stderr.splitlines()[-1].startswith(
        f"stage b1 ended with exit code 3: what it said stands above and in {log}"
    )
    assert log.read_text().splitlines()[-1] == "error: b1 cannot go on"
    assert done.stderr.endswith("; the same command goes on from there\n")
    assert "last --lr 2" not in ran(folder)
    (folder / "b1.fails").unlink()
    (folder / "a1.waits").unlink()
    assert run(folder).returncode == 0
    assert sorted(ran(folder)) == ["a1", "a2", "b1", "last --lr 2"]


def test_a_stage_that_says_what_the_user_did_wrong_goes_on_only_once_that_is_put_right(folder):
    (folder / "script.py").write_text(SCRIPT.replace("sys.exit(3)", "sys.exit(2)"))
    (folder / "last.fails").touch()
    flags = ["--set", f"last.scales={folder / 'a2'}"]
    done = run(folder, *flags)
    assert done.returncode == 2
    assert done.stderr.endswith("; once that is put right, the command goes on from there\n")
    (folder / "last.fails").unlink()
    ran(folder)
    assert run(folder, *flags).returncode == 0
    # What it names is looked at again, as a file in there may be what is wrong.
    assert ran(folder) == ["a2", f"last --lr 2 --scales {folder / 'a2'}"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stage_ends_with_it_and_the_same_command_goes_on(folder, number, code):
    (folder / "last.waits").touch()
    process = subprocess.Popen(
        words(folder, "--mini", "--out", folder / "out"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.stdout.readline() != "this is last\n":
        assert process.poll() is None
    held = run(folder)
    assert held.returncode == 2 and "another run is writing into it" in held.stderr
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code and "run.py" not in errors
    assert errors.count("interrupted") == (number == signal.SIGINT)
    assert_all_end(process.pid)
    (folder / "last.waits").unlink()
    ran(folder)
    assert run(folder).returncode == 0
    assert ran(folder) == ["last --lr 2"]


def test_it_is_quick_to_see_that_all_is_done(folder):
    """Of a stage that is done nothing is started: its script could not be."""
    run(folder)
    (folder / "script.py").write_text("raise SystemExit('started')")
    assert run(folder).returncode == 0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["mine.py", "--mini", "--set", "last.lrr=3"], "last: {}/script.py: unrecognized arguments: --lrr 3"),
        (["cls", "--mini", "--set", "train.session_nam=x"], "train: train_voc.py: unrecognized arguments: --sess"),
        (["mine.py", "--mini", "--set", "last.lr=3", "--set", "last.lr=4"], "--set last.lr=4: expected one value"),
        (["cls", "--mini", "--set", "deeplab.EXP_NAME="], "--set deeplab.EXP_NAME: expected one word, found none"),
        (["cls", "--mini", "--set", "train.session=a b"], "--set train.session: expected one word, found a b"),
        (["mine.py", "--mini", "--set", "last.lr=x"], "last: {}/script.py: argument --lr: invalid float"),
        (["mine.py", "--mini", "--set", "lats.lr=3"], "first, a1, a2, b1, last; did you mean last?"),
        (["mine.py", "--mini", "--set", "lr=3"], "error: --set lr=3: expected STAGE.FLAG=VALUE"),
        (["mine.py", "--mini", "--set", "last.lr='"], "error: --set last.lr=': expected words as a shell takes them"),
        (["mine.py", "--mini", "--stages", "third"], "error: --stages third: no stage of mine.py"),
        (["mine.py", "--mini", "--voc12_root", "."], "error: --mini: it generates its own data"),
        (["mine.py"], "error: --voc12_root: expected the folder of VOC 2012"),
        (["mine.py", "--voc12_root", "nowhere"], "error: --voc12_root {}/nowhere: expected a folder"),
        (["mine.py", "--mini", "--out", "mine.py"], "error: --out {}/mine.py: expected a folder, found a file"),
        (["cls", "--mini", "--set", "infer.work_dir=X"], "error: --set infer.work_dir: run.py sets it"),
        (["cls", "--mini", "--set", "deeplab.TRAIN_MINEPOCH=9"], "TRAIN_MINEPOCH: expected TRAIN_ITERATION alone"),
        (["cls", "--mini", "--set", "deeplab.config=x"], "--set deeplab.config: expected keys alone, which"),
        (["hcs", "--mini"], ", or a FILE.py; did you mean hsc?"),
        (["nowhere.py", "--mini"], "error: recipe nowhere.py: expected a file"),
        (["script.py", "--mini"], "error: {}/script.py: expected a function stages(setup), as in recipes/hsc.py"),
        (["wrong.py", "--mini"], "error: {}/wrong.py, line 2: NameError: name 'stage' is not defined"),
        (["broken.py", "--mini"], "error: {}/broken.py, line 1: expected ':'"),
        (["none.py", "--mini"], "none.py: expected stages(setup) to return a list of stages, found NoneType"),
        (["mixed.py", "--mini"], "mixed.py: expected stages(setup) to return a list of stages, found int in it"),
        (["empty.py", "--mini"], "empty.py: expected stages(setup) to return a list of stages, found an empty list"),
        (["bytes.py", "--mini"], "error: {}/bytes.py, line 1: "),
        (["cls", "--mini", "--set", "train.help=True"], "stage train: train_voc.py: its flags make it end"),
        (["cls", "--mini", "--set", "deeplab.TRAIN_LRR=1"], "--set TRAIN_LRR: unknown key; did you mean TRAIN_LR?"),
        (["cls", "--mini", "--set", "train.method=hcs"], "); did you mean hsc?"),
        (["dhr", "--mini", "--set", "dhr.tau=5"], "stage dhr: rebalance/train.py: --tau 5.0: expected a number from"),
        (["crt", "--mini", "--set", "infer_aug.scales=0"], "stage infer_aug: inference.py: --scales 0.0: expected"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_anything_runs(folder, flags, expected):
    (folder / "wrong.py").write_text("def stages(setup):\n    return [stage('a')]\n")
    (folder / "broken.py").write_text("def stages(setup)\n")
    for name, value in {"none": "None", "mixed": "[1]", "empty": "[]"}.items():
        (folder / f"{name}.py").write_text(f"def stages(setup):\n    return {value}\n")
    (folder / "bytes.py").write_bytes(b"\xff\xfe\0")
    before = sorted(folder.iterdir())
    done = forker().run(["run.py", *flags], folder)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1, done.stderr
    assert expected.format(folder) in done.stderr and "Traceback" not in done.stderr
    assert sorted(path for path in folder.iterdir() if path.name != "__pycache__") == before


def test_paths_of_changes_are_taken_from_the_clones_folder_wherever_it_starts(folder):
    (folder / "set.json").write_text('{"names": ["background", "cup"]}')
    below = os.path.relpath(folder / "set.json", ROOT)
    done = forker().run(["run.py", "cls", "--mini", "--list", "--set", f"deeplab.DATA_SET={below}"], folder)
    assert done.returncode == 0 and f"DATA_SET={below}" in done.stdout, done.stderr


def test_a_record_that_is_damaged_is_named(folder):
    run(folder)
    (folder / "out" / "stages.json").write_text('{"first": 1}')
    done = run(folder)
    assert done.returncode == 2 and "stages.json: expected the record that run.py writes" in done.stderr


@pytest.mark.parametrize("name", ["cls", "eps", "eps_seam", "hsc"])
@pytest.mark.parametrize("data", [["--mini"], ["--voc12_root", "VOC2012", "--saliency_root", "elsewhere"]])
def test_a_recipe_lists_commands_that_their_scripts_take_and_a_shell_too(name, data, tmp_path):
    done = forker().run(["run.py", name, *data, "--out", tmp_path / "out", "--list"], ROOT)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line, comments=True) for line in done.stdout.splitlines()]
    commands = [line for line in lines if line]
    assert all(line[0] == "python" for line in commands) and not (tmp_path / "out").exists()
    scripts = [line[2] if line[1] == "-m" else line[1] for line in commands]
    training = ["train_voc.py"] * (2 if name in ("hsc", "eps_seam") and data == ["--mini"] else 1)
    assert scripts == [
        *(["voc12.mini"] if data == ["--mini"] else []),
        *["voc12.prepare", *training, "inference.py", "eval.py", "eval.py", "inference.py"],
        *["segmentation/experiment/train.py", "segmentation/experiment/test.py", "tool.report"],
    ]
    assert ("elsewhere" in done.stdout) == (name != "cls" and data != ["--mini"])


@pytest.mark.parametrize("data", [["--mini"], ["--cub_root", "CUB"]])
def test_the_recipe_of_other_data_lists_its_commands(data, tmp_path):
    done = forker().run(["run.py", "crt_cub", *data, "--out", tmp_path / "out", "--list"], ROOT)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line, comments=True) for line in done.stdout.splitlines()]
    scripts = [line[2] if line[1] == "-m" else line[1] for line in lines if line]
    generated = ["cub.mini"] if data == ["--mini"] else []
    assert scripts == [*generated, "cub.prepare", "localise/train.py", "localise/test.py", "localise/test.py"]
    last = "model_epoch6.pth" if data == ["--mini"] else "model_epoch60.pth"
    assert last in done.stdout and ("--cub_root CUB " in done.stdout) == (data != ["--mini"])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["crt_cub"], "--cub_root: expected the folder of CUB-200-2011, found none"),
        (["crt_cub", "--voc12_root", "."], "--voc12_root: crt_cub is about CUB-200-2011; give --cub_root instead"),
        (["cls", "--cub_root", "."], "--cub_root: cls is about VOC 2012; give --voc12_root instead"),
        (["crt_cub", "--mini", "--cub_root", "."], "--mini: it generates its own data"),
        (["crt_cub", "--cub_root", "nowhere"], "nowhere: expected a folder (CUB-200-2011, with images.txt in it)"),
        (["crt_cub", "--mini", "--set", "train.backbone=vgg"], "stage train: localise/train.py: "),
        (["other.py", "--mini"], "DATA: expected one of voc12_root, coco14_root, cub_root, found 'bird'"),
    ],
)
def test_data_that_a_recipe_is_not_about_is_refused(folder, flags, expected):
    (folder / "other.py").write_text(f"DATA = 'bird'\n{RECIPE}")
    done = forker().run(["run.py", *flags], folder)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1, done.stderr
    assert expected in done.stderr and "Traceback" not in done.stderr


def test_a_stage_may_give_several_figures(folder):
    figures = RECIPE.replace('score="seed_crf")', 'figures={"first_figure": "mIoU", "again": "mIoU"})')
    (folder / "mine.py").write_text(figures)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "12.5 first_figure, 12.5 again" in done.stdout and "   per cent" in done.stdout
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert summary["scores"] == {"first_figure": 12.5, "again": 12.5}


def test_the_short_run_of_the_page_has_flags_and_stages_as_they_are():
    page = (ROOT / "docs" / "reproduce.md").read_text()
    shown, output = re.search(r"^\$ python (run\.py .*?--set.*?)\n\n(.*?)```", page, re.DOTALL | re.MULTILINE).groups()
    command = [sys.executable, *shlex.split(shown.replace("\\\n", " ")), "--list"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"$ {done.stdout.splitlines()[1]}\n" in output
    stages = [line[2:] for line in done.stdout.splitlines() if line.startswith("# ")]
    assert [line.split()[0] for line in output.split("mIoU, per cent\n")[1].splitlines()[: len(stages)]] == stages
