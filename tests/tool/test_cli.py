"""A user's mistake ends in one message and exit code 2; flags are read as users type them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tool.cli import (
    MAX_PROBLEMS_SHOWN,
    UserError,
    add_switch,
    brief,
    pace,
    positive,
    printable,
    raise_problems,
    require_file,
    require_folder,
    run_script,
    script_parser,
)

ROOT = Path(__file__).resolve().parents[2]


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2007_000032 é 図", "2007_000032 é 図"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("turned \u202e round", r"turned \u202e round"),
        (os.fsdecode(b"not UTF-8 \xff"), r"not UTF-8 \udcff"),
    ],
)
def test_what_does_not_show_is_escaped_and_all_else_left(text, shown):
    assert printable(text) == shown


def test_what_a_file_holds_is_brief_however_deep_it_is():
    value = "ha"
    for _ in range(8):
        value = [value] * 20
    assert len(brief(value)) < 10**4 and brief([[1, 2], ["a"]]) == "[[1, 2], ['a']]"


def test_every_problem_is_in_the_message():
    with pytest.raises(UserError) as raised:
        raise_problems("the data is faulty", ["a: missing", "b\n: empty"])
    assert str(raised.value).split("\n") == ["the data is faulty (2):", "  a: missing", r"  b\n: empty"]


@pytest.mark.parametrize(
    ("seconds", "images", "shown"),
    [
        (9.5, 2, "in 9.5 s (0.21 images/s)"),
        (12.2, 6, "in 12 s (0.49 images/s)"),
        (200.2, 20_000, "in 3 min 20 s (100 images/s)"),
        (2 * 3600 + 5 * 60 + 10, 0, "in 2 h 5 min"),
        (3590, 0, "in 1 h 0 min"),
        (9.96, 0, "in 10 s"),
        (59.6, 0, "in 1 min 0 s"),
        (119.6, 0, "in 2 min 0 s"),
    ],
)
def test_a_phase_says_its_time_and_the_images_a_second(monkeypatch, seconds, images, shown):
    monkeypatch.setattr("tool.cli.time.perf_counter", lambda: 1000 + seconds)
    assert pace(1000, images) == shown


def test_no_problems_raise_nothing():
    raise_problems("the data is faulty", [])


def test_problems_beyond_fifty_are_counted():
    with pytest.raises(UserError) as raised:
        raise_problems("faulty", [f"image {number}." for number in range(MAX_PROBLEMS_SHOWN + 7)])
    first, *shown, last = str(raised.value).split("\n")
    assert first == f"faulty ({MAX_PROBLEMS_SHOWN + 7}):"
    assert shown == [f"  image {number}." for number in range(MAX_PROBLEMS_SHOWN)]
    assert last == "  ... and 7 more"


# -- exit codes --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def sigterm_is_taken_as_before():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def run_and_exit(main, capsys):
    with pytest.raises(SystemExit) as raised:
        run_script(main)
    output = capsys.readouterr()
    assert output.out == ""
    return raised.value.code, output.err


def test_a_users_mistake_is_one_message_and_exit_code_2(capsys):
    def main():
        raise_problems("--list \x1b[2Ja.txt", ["b: missing"])

    assert run_and_exit(main, capsys) == (2, "error: --list \\x1b[2Ja.txt (1):\n  b: missing\n")


def test_an_interrupt_is_exit_code_130(capsys):
    def main():
        raise KeyboardInterrupt

    assert run_and_exit(main, capsys) == (130, "interrupted\n")


def test_an_error_of_ours_keeps_its_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_script(main)


def test_a_script_that_ends_well_just_ends(capsys):
    run_script(lambda: print("done"))
    assert capsys.readouterr().out == "done\n"


def start(main, **options):
    """A process whose script's `main` has these lines; output and errors come as text."""
    body = "".join(f"    {line}\n" for line in main.splitlines())
    code = f"import os, sys, time\nfrom tool.cli import UserError, run_script\ndef main():\n{body}run_script(main)"
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": {**os.environ, "PYTHONUNBUFFERED": ""}}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **{**usual, **options})


@pytest.fixture
def start_file(tmp_path):
    """Starts a program of these lines, from a file as a user's are."""

    def start(lines):
        (tmp_path / "program.py").write_text(lines)
        words = [sys.executable, str(tmp_path / "program.py")]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.parametrize(("lines", "code"), [(1, 0), (10**6, 141)], ids=["at the end", "amid the work"])
def test_a_reader_of_the_output_that_leaves_is_an_error_only_amid_the_work(lines, code):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(f"for _ in range({lines}): print('a line')", stdout=writer)
    os.close(writer)
    assert (process.communicate()[1], process.returncode) == ("", code)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_cannot_be_written_is_one_message_and_exit_code_2():
    with open("/dev/full", "w") as full:
        process = start("print('a line')", stdout=full)
    assert process.communicate()[1] == "error: the standard output cannot be written: No space left on device\n"
    assert process.returncode == 2


def test_a_script_runs_without_any_output():
    process = start("print('a line')", preexec_fn=lambda: os.close(1))
    assert (process.communicate()[1], process.returncode) == ("", 0)


@pytest.mark.parametrize("closed", [(0,), (2,), (1, 2), (0, 1, 2)])
def test_a_script_whose_streams_are_closed_runs_and_says_nothing_into_its_files(closed, tmp_path):
    lines = f"with open({str(tmp_path / 'file')!r}, 'wb') as file: os.write(2, b'said'), file.write(b'content')"
    process = start(
        f"{lines}\nprint('a line', file=sys.stderr)", preexec_fn=lambda: [os.close(number) for number in closed]
    )
    process.communicate()
    assert process.returncode == 0
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_terminal_that_lacks_characters_gets_them_escaped():
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = start(r"print('\u56f3 \udcff'); raise UserError('\u56f3\n \udcff')", env=env)
    assert process.communicate() == ("\\u56f3 \\udcff\n", "error: \\u56f3\n \\udcff\n")
    assert process.returncode == 2


# -- SIGTERM -----------------------------------------------------------------------------------------------------------

# It says when it is ready, and on its way out does what a script of ours does: something.
WAITING = """
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    print("unwound", flush=True)
    time.sleep({})
"""


def test_a_script_that_is_terminated_unwinds_as_from_ctrl_c_with_exit_code_143():
    process = start(WAITING.format(0))
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate() == ("unwound\n", "")
    assert process.returncode == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_the_interpreters_own_end_ends_it_and_says_nothing(number, start_file):
    code = "import tool, atexit, time\nfrom tool.cli import run_script\n"
    code += "atexit.register(lambda: (print('ready', flush=True), time.sleep(60)))\nrun_script(lambda: None)"
    process = start_file(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert (process.communicate()[1], process.returncode) == ("", -number)


@pytest.mark.parametrize(("script", "quiet"), [(True, True), (False, False)])
def test_ctrl_c_amid_the_imports_of_a_script_ends_it_quietly_and_is_left_to_any_other_program(
    script, quiet, start_file
):
    code = "import tool, time\nprint('ready', flush=True)\ntime.sleep(60)\n" + "# run_script\n" * script
    process = start_file(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert ("KeyboardInterrupt" not in process.communicate()[1]) == quiet
    assert process.returncode == -signal.SIGINT


def test_a_second_sigterm_ends_a_script_that_does_not_come_to_its_end():
    process = start(WAITING.format(60))
    for line in ("ready\n", "unwound\n"):
        assert process.stdout.readline() == line
        process.terminate()
    process.communicate()
    assert process.returncode == -signal.SIGTERM


LOADING = """
import multiprocessing
from torch.utils.data import DataLoader
context = multiprocessing.get_context("fork")
started = context.Event()
child = context.Process(target=lambda: (started.set(), time.sleep(60)))
child.start()
started.wait()
child.terminate()
child.join()
batches = iter(DataLoader(range(10**6), num_workers=2, multiprocessing_context=context))
next(batches)
print(child.exitcode, flush=True)
time.sleep(60)
"""


def test_forked_processes_end_on_sigterm_and_with_a_script_that_is_terminated():
    process = start(LOADING, start_new_session=True)
    assert process.stdout.readline() == f"{-signal.SIGTERM}\n"
    process.terminate()
    assert process.communicate() == ("", "")  # comes when the last process that holds the pipes has ended
    assert process.returncode == 143
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


# -- flags -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def parser():
    parser = script_parser("A script.", examples="", prog="script")
    add_switch(parser, "--curve", "--all", default=False, help="score every threshold")
    add_switch(parser, "--bar", default=True, help="show a bar")
    parser.add_argument("--size", type=positive, default=3)
    parser.add_argument("--kind", choices=["red", "blue"])
    parser.add_argument("--names", nargs="+")
    return parser


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ([], False),
        (["--curve"], True),
        (["--all"], True),
        (["--curve", "--size", "1"], True),
        *((["--curve", text], True) for text in ("True", "true", "TRUE", "1", "yes", "on")),
        *((["--curve", text], False) for text in ("False", "false", "0", "no", "off")),
    ],
)
def test_a_switch_works_bare_and_with_a_value(parser, typed, value):
    assert parser.parse_args(typed).curve is value


def test_a_switch_that_is_on_is_switched_off_by_a_value(parser):
    assert parser.parse_args([]).bar is True
    assert parser.parse_args(["--bar", "False"]).bar is False


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--curve", "maybe"], "--curve/--all: expected True or False, got 'maybe'"),
        (["--size", "0"], "--size: expected a whole number of at least 1, got '0'"),
        (["--size", "-3"], "--size: expected a whole number of at least 1, got '-3'"),
        (["--size", "1.5"], "--size: expected a whole number of at least 1, got '1.5'"),
        (["--size", "many"], "--size: expected a whole number of at least 1, got 'many'"),
        (["--siez", "3"], "error: unrecognized arguments: --siez 3; did you mean --size?"),
        (["--sies=3"], "error: unrecognized arguments: --sies=3; did you mean --size?"),
        (["--siz", "3"], "error: unrecognized arguments: --siz 3; did you mean --size?"),
        (["--names", "a", "--names=b"], "error: argument --names: given twice; put all of its values behind one"),
        (["three"], "error: unrecognized arguments: three"),
        (["--kind", "blou"], "); did you mean blue?"),
        (["--kind", "x"], "error: argument --kind: invalid choice: 'x'"),
        (["--kind", "\x1b[2J"], "error: argument --kind: invalid choice: "),
    ],
)
def test_a_flag_that_is_mistyped_is_named_in_one_line(parser, typed, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(typed)
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1 and "\x1b" not in said


def test_a_positive_number_is_read(parser):
    assert parser.parse_args(["--size", "12"]).size == 12


# -- paths -------------------------------------------------------------------------------------------------------------


def test_paths_that_are_there_come_back(tmp_path):
    (tmp_path / "list.txt").touch()
    assert require_folder(str(tmp_path), "--out", "results") == tmp_path
    assert require_file(str(tmp_path / "list.txt"), "--list", "ids") == tmp_path / "list.txt"


@pytest.mark.parametrize(
    ("require", "name", "message"),
    [
        (require_folder, "none", r"--flag .*none: expected a folder \(what it holds\), found nothing there"),
        (require_folder, "file", r"--flag .*file: expected a folder \(what it holds\), found a file"),
        (require_file, "none", r"--flag .*none: expected a file \(what it holds\), found nothing there"),
        (require_file, "folder", r"--flag .*folder: expected a file \(what it holds\), found a folder"),
        (require_file, "pipe", r"--flag .*pipe: expected a file \(what it holds\), found a pipe or a device"),
        (require_file, "/dev/null", r"--flag /dev/null: expected a file \(what it holds\), found a pipe or a device"),
        (require_file, "file/below", r"--flag .*below: expected a file \(what it holds\), found nothing there"),
        (require_file, "circle", r"--flag .*circle: .* a path that cannot be followed \(Too many levels of symbolic"),
        (require_file, "x" * 4000, r"--flag .*xxx: .*found a path that cannot be followed \(File name too long\)"),
        (require_folder, "x" * 4000, r"--flag .*xxx: .*found a path that cannot be followed \(File name too long\)"),
        (
            require_folder,
            "a\0b",
            r"--flag .*: expected a folder .*that cannot be followed \(.*embedded null (byte|character)",
        ),
    ],
)
def test_paths_that_are_not_what_was_expected_are_refused(tmp_path, require, name, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=message):
        require(tmp_path / name, "--flag", "what it holds")


@pytest.mark.parametrize("require", [require_folder, require_file])
def test_an_empty_string_is_not_the_current_folder(require):
    with pytest.raises(UserError, match=r"--flag : expected .* found nothing there"):
        require("", "--flag", "what it holds")


def test_a_link_to_a_file_is_one(tmp_path):
    (tmp_path / "list.txt").touch()
    (tmp_path / "link").symlink_to("list.txt")
    assert require_file(tmp_path / "link", "--list", "ids") == tmp_path / "link"
