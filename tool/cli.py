"""What every script's command line shares: user errors, boolean flags, path checks."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

MAX_PROBLEMS_SHOWN = 50


class UserError(Exception):
    """A mistake in the input: its message says the file or flag, what was expected, what was found, what to do."""


def printable(text: object) -> str:
    """`text` on one line, control characters escaped, so that a file name cannot write to the terminal."""
    return re.sub(r"[^\x20-\x7e\u00a0-\U0010ffff]", lambda match: repr(match[0])[1:-1], str(text))


def raise_problems(summary: str, problems: Sequence[str]) -> None:
    """Raise one `UserError` that lists every problem (the first 50, and how many more); nothing if there are none."""
    if not problems:
        return
    shown = [f"  {printable(problem)}" for problem in problems[:MAX_PROBLEMS_SHOWN]]
    if len(problems) > MAX_PROBLEMS_SHOWN:
        shown.append(f"  ... and {len(problems) - MAX_PROBLEMS_SHOWN} more")
    raise UserError("\n".join([f"{summary} ({len(problems)}):", *shown]))


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; a `UserError` ends it with one message and exit code 2, Ctrl-C with 130."""
    try:
        main()
    except UserError as error:
        # A loader's worker process puts its traceback before the message. File names in the message may hold control
        # characters; its own line breaks stay.
        message = str(error).split("UserError: ")[-1].strip()
        lines = [printable(line) for line in message.split("\n")]
        print("\n".join([f"error: {lines[0]}", *lines[1:]]), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) left; that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def boolean(text: str) -> bool:
    """`True`, `yes`, `1` ... and their opposites, as users of the released scripts type them."""
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return values[text.lower()]


def add_switch(parser: argparse._ActionsContainer, *names: str, default: bool, help: str) -> None:
    """Add a boolean flag that works bare (`--eval`) and with a value (`--eval False`)."""
    parser.add_argument(*names, nargs="?", const=True, default=default, type=boolean, metavar="True|False", help=help)


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def require_folder(path: str | Path, flag: str, what: str) -> Path:
    """`path` as a `Path`, or a `UserError` naming `flag`. `what` says what the folder should hold."""
    path = Path(path)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing there"
        raise UserError(f"{flag} {path}: expected a folder ({what}), found {found}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"{flag} {path}: the folder cannot be read; check its permissions")
    return path


def require_file(path: str | Path, flag: str, what: str) -> Path:
    """`path` as a `Path`, or a `UserError` naming `flag`. `what` says what the file should be."""
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise UserError(f"{flag} {path}: expected a file ({what}), found {found}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{flag} {path}: the file cannot be read; check its permissions")
    return path
