"""A user's mistake ends in one message and exit code 2; flags are read as users type them."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from tool.cli import (
    MAX_PROBLEMS_SHOWN,
    UserError,
    add_switch,
    positive,
    printable,
    raise_problems,
    require_file,
    require_folder,
    run_script,
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
    ],
)
def test_control_characters_are_escaped_and_all_else_left(text, shown):
    assert printable(text) == shown


def test_every_problem_is_in_the_message():
    with pytest.raises(UserError) as raised:
        raise_problems("the data is faulty", ["a: missing", "b\n: empty"])
    assert str(raised.value).split("\n") == ["the data is faulty (2):", "  a: missing", r"  b\n: empty"]


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


def test_a_reader_of_the_output_that_leaves_is_no_error():
    code = "from tool.cli import run_script; run_script(lambda: [print('a line') for _ in range(10**6)])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 0


# -- flags -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(prog="script")
    add_switch(parser, "--curve", "--all", default=False, help="score every threshold")
    add_switch(parser, "--bar", default=True, help="show a bar")
    parser.add_argument("--size", type=positive, default=3)
    return parser


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ([], False),
        (["--curve"], True),
        (["--all"], True),
        (["--curve", "--size", "1"], True),
        *((["--curve", text], True) for text in ("True", "true", "TRUE", "1", "yes")),
        *((["--curve", text], False) for text in ("False", "false", "0", "no")),
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
    ],
)
def test_a_flag_that_is_mistyped_is_named(parser, typed, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(typed)
    assert message in capsys.readouterr().err


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
    ],
)
def test_paths_that_are_not_what_was_expected_are_refused(tmp_path, require, name, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message):
        require(tmp_path / name, "--flag", "what it holds")
