"""What every script's command line shares: user errors, exit codes, boolean flags, path checks."""

import argparse
import difflib
import math
import os
import re
import reprlib
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tool import require_system
from tool.places import hint, is_file, is_folder

MAX_PROBLEMS_SHOWN = 50
NAMES_SHOWN = 6
CGROUP = Path("/sys/fs/cgroup")  # where a container finds its limits
INTERRUPTED = 130  # the exit code after Ctrl-C
# What `what_is_at` finds.
FILE, FOLDER, DEVICE, NOTHING = "a file", "a folder", "a pipe or a device", "nothing there"


class UserError(Exception):
    """A mistake in the input: its message says the file or flag, what was expected, what was found, what to do."""


def printable(text: object) -> str:
    """`text` on one line, all that does not show escaped, so that a file name cannot write to the terminal.

    Names that are not UTF-8 come as surrogates, which no file or terminal takes: they are escaped too.
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


# More than anything has that is meant to be read in a line.
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 2
_BRIEF.maxlist = _BRIEF.maxtuple = 20
_BRIEF.maxstring = _BRIEF.maxother = 200


def brief(value: Any) -> str:
    """What a file holds, which may be anything, at a length that a line takes; text as it is."""
    return value[:200] if isinstance(value, str) else _BRIEF.repr(value)


def raise_problems(summary: str, problems: Sequence[str]) -> None:
    """Raise one `UserError` that lists every problem (the first 50, and how many more); nothing if there are none."""
    if not problems:
        return
    shown = [f"  {printable(problem)}" for problem in problems[:MAX_PROBLEMS_SHOWN]]
    if len(problems) > MAX_PROBLEMS_SHOWN:
        shown.append(f"  ... and {len(problems) - MAX_PROBLEMS_SHOWN} more")
    raise UserError("\n".join([f"{summary} ({len(problems)}):", *shown]))


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; what ends it early gives the exit code.

    A `UserError`, or a limit of the machine that is met, gives one message and 2, Ctrl-C 130. SIGTERM unwinds the
    script as Ctrl-C does, so that it ends its child processes and removes its temporary files, and gives 143. A reader
    of the output (head, less) that leaves before the work is done gives 141, as of any command that SIGPIPE ends; one
    that leaves at the end is no error.
    """
    require_system()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, _terminate)
    if before[signal.SIGINT] is signal.SIG_DFL:  # so that it ends the imports (`tool`)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Loader processes are forked; they take SIGTERM as all processes do.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    _open_standard_streams()
    sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal that has not all characters, as stderr is anyway
    try:
        try:
            main()
        except UserError as error:
            # A loader's worker process puts its traceback before the message.
            _print_error(str(error).split("UserError: ")[-1].strip())
            sys.exit(2)
        except BrokenPipeError:
            sys.exit(141)
        except Exception as error:
            _print_error(_limit_of(error))
            sys.exit(2)
        finally:
            # What ours raise amid the interpreter's own end, it prints and drops.
            for number, handler in before.items():
                signal.signal(number, handler)
            _flush_output()
    except KeyboardInterrupt:  # also amid what comes last
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _limit_of(error: Exception) -> str:
    """What to say of a limit of the machine that `error` tells of; any other error goes on as it was."""
    from tool.limits import reported_limits  # which uses this file

    try:
        with reported_limits():
            raise error
    except UserError as limit:
        return str(limit)


def _open_standard_streams() -> None:
    """Put the null device where the caller closed a stream: a file would get its number, and all that is said."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, open as long as the script


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the script at once
    sys.exit(128 + number)


def _print_error(message: str) -> None:
    """Print `message`, which may hold file names with control characters; its own line breaks stay."""
    lines = [printable(line) for line in message.split("\n")]
    print("\n".join([f"error: {lines[0]}", *lines[1:]]), file=sys.stderr)


def _flush_output() -> None:
    """Write out what was printed: left to the interpreter's end, a failure gives neither message nor exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own flush
        if not isinstance(error, BrokenPipeError):
            _print_error(f"the standard output cannot be written: {error.strerror}")
            sys.exit(2)


def boolean(text: str) -> bool:
    """`True`, `yes`, `1` ... and their opposites, as users of the released scripts type them."""
    values = {
        **dict.fromkeys(("true", "yes", "on", "1"), True),
        **dict.fromkeys(("false", "no", "off", "0"), False),
    }
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return values[text.lower()]


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """For the end of a message about the name `found`: the one of the `known` that is like it, if there is one."""
    near = difflib.get_close_matches(found, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as a `UserError` is said, in one line, not below a block of all flags."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse; a flag with a list that stands twice is an error, since argparse would drop the first list."""
        given = [word.split("=")[0] for word in (sys.argv[1:] if args is None else args)]
        for action in self._actions:
            names = [name for name in action.option_strings if name in given]
            if action.nargs == "+" and type(action) is argparse._StoreAction and sum(map(given.count, names)) > 1:
                self.error(f"argument {'/'.join(names)}: given twice; put all of its values behind one")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*?)'.* \(choose from (.*)\)", message)
        if choice is not None:
            message += did_you_mean(choice[1], choice[2].replace("'", "").split(", "))
        elif message.startswith("unrecognized arguments: "):
            flags = [word.split("=")[0] for word in message.split()[2:] if word.startswith("--")]
            message += did_you_mean(flags[0], re.findall(r"--\w+", self.format_usage())) if flags else ""
        _print_error(message)
        sys.exit(2)


def script_parser(
    description: str,
    *,
    examples: str = "",
    prog: str | None = None,
    add_help: bool = True,
) -> argparse.ArgumentParser:
    """A parser whose `--help` ends with `examples`, commands and comments indented by two; `prog` for `python -m`.

    A flag is given by its whole name. add_help: argparse's, False where it looks at some flags of a line that another
    parser reads.
    """
    return _Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"examples:\n{examples}" if examples else None,
        allow_abbrev=False,
        add_help=add_help,
    )


def add_switch(parser: argparse._ActionsContainer, *names: str, default: bool, help: str) -> None:
    """Add a boolean flag that works bare (`--eval`) and with a value (`--eval False`)."""
    parser.add_argument(*names, nargs="?", const=True, default=default, type=boolean, metavar="True|False", help=help)


def first_few(names: Sequence[str]) -> str:
    """The first few of `names`, for a message."""
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")


def cores() -> int:
    """The processor cores that this process may use: those that it is bound to, no more than its container's share."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(math.ceil(min(number, _container_share())), 1)


def _container_share() -> float:
    """The cores' worth of time that a container may take (`docker run --cpus`); infinite where nothing says."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroup 2, and 1
        with suppress(OSError, ValueError):  # not there, or "max"
            quota, period = (int(word) for name in names for word in (CGROUP / name).read_text().split())
            if quota > 0 and period > 0:  # -1: no limit
                return quota / period
    return math.inf


def pace(started: float, images: int) -> str:
    """For the line that ends a phase: the time since `started` (of `time.perf_counter`), and the images a second."""
    seconds = time.perf_counter() - started
    rate = images / seconds
    time_taken = f"in {duration(seconds)}"
    return f"{time_taken} ({rate:.{0 if rate >= 10 else 2}f} images/s)" if images else time_taken


def duration(seconds: float) -> str:
    """A time for people: `2 h 5 min`, `3 min 20 s`, `12 s`, `0.4 s`."""
    whole = round(seconds)
    minutes = round(whole / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole} s" if round(seconds, 1) >= 10 else f"{seconds:.1f} s"


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def positive_or_none(text: str) -> int | None:
    """An argparse type: a whole number of at least 1, or none."""
    return None if text == "none" else positive(text)


def check_bounds(args: argparse.Namespace, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raise `UserError` unless each of the flags named lies between its two bounds, both included."""
    for flag, (low, high) in bounds.items():
        if not low <= getattr(args, flag) <= high:  # so written, it refuses nan
            raise UserError(f"--{flag} {getattr(args, flag)}: expected a number from {low} to {high}")


def path_text(text: str) -> str:
    """An argparse type: a path, left as text, with `~` or `~user` at its start replaced by that home folder.

    A shell does so only where it begins a word, not after `--flag=`. Nothing, as from a variable that is not set, is no
    path: `Path` would take the current folder for it.
    """
    if not text:
        raise argparse.ArgumentTypeError("expected a path, found nothing; the current folder is .")
    expanded = os.path.expanduser(text)  # noqa: PTH111, to Path "" is the current folder
    if expanded.startswith("~"):
        home = text.split("/")[0]
        raise argparse.ArgumentTypeError(f"{text}: there is no home folder {home}; ./{home} is a folder of that name")
    return expanded


def path_value(text: str) -> Path:
    """An argparse type: `path_text` as a `Path`."""
    return Path(path_text(text))


def what_is_at(path: str | Path) -> str:
    """`FILE`, `FOLDER`, `DEVICE` or `NOTHING`, links followed; or why the path cannot be followed, for a message.

    Pipes and devices are no files: reading one may never end.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116, to Path "" is the current folder
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    except (OSError, ValueError) as error:  # too long, a NUL byte, links in a circle, a folder that is closed to us
        return f"a path that cannot be followed ({getattr(error, 'strerror', None) or error})"
    return FILE if stat.S_ISREG(mode) else FOLDER if stat.S_ISDIR(mode) else DEVICE


def require_folder(path: str | Path, flag: str, what: str) -> Path:
    """`path` as a `Path`, or a `UserError` naming `flag`. `what` says what the folder should hold."""
    return _require(FOLDER, path, flag, what, os.R_OK | os.X_OK)


def require_file(path: str | Path, flag: str, what: str) -> Path:
    """`path` as a `Path`, or a `UserError` naming `flag`. `what` says what the file should be."""
    return _require(FILE, path, flag, what, os.R_OK)


def require_writable(path: Path, flag: str, *, device: bool = False) -> None:
    """Raise `UserError` if the file at `path`, which `flag` names, could not be written: to be known before long work.

    device: whether it may be one, and is appended to. Other files are written beside and renamed.
    """
    found = what_is_at(path)
    if found == NOTHING and what_is_at(path.parent) != FOLDER:
        raise UserError(f"{flag} {path}: the folder {path.parent} is not there; create it first")
    if found not in (FILE, NOTHING, DEVICE if device else FILE):
        raise UserError(f"{flag} {path}: expected a file to write, found {found}")
    if not os.access(path if device and found != NOTHING else path.resolve().parent, os.W_OK):
        raise UserError(f"{flag} {path}: no permission to write it")


def _require(kind: str, path: str | Path, flag: str, what: str, access: int) -> Path:
    found = what_is_at(path)
    if found != kind:
        advice = hint(Path(path), is_folder if kind == FOLDER else is_file) if found == NOTHING else ""
        raise UserError(f"{flag} {path}: expected {kind} ({what}), found {found}{advice}")
    if not os.access(path, access):
        raise UserError(f"{flag} {path}: the {kind.split()[-1]} cannot be read; check its permissions")
    return Path(path)
