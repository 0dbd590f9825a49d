"""What all methods share. Scripts import it before all that takes time."""

import importlib.util
import signal
import sys
from contextlib import suppress
from pathlib import Path

# Those of the libraries that people's own Pythons lack; what comes with them is there then.
LIBRARIES = ("numpy", "PIL", "torch", "tqdm", "timm", "pydantic")


def require_system() -> None:
    """End a script on a system that it cannot run on, such as Windows, with one line and exit code 2."""
    try:
        import fcntl  # noqa: F401, what locks folders; forks, signals and the like come with it
    except ImportError:
        lacks = "fcntl"
    else:
        if sys.platform == "linux":
            return
        lacks = "prctl"  # by which commands end with the one that runs them
    print(
        f"error: this system ({sys.platform}) has no {lacks}: the project needs Linux; on Windows, run it in WSL"
        " (wsl --install)",
        file=sys.stderr,
    )
    sys.exit(2)


def require_environment() -> None:
    """End a script in a Python that is too old or without the project's libraries with one line and exit code 2."""
    lacks = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    found = f"has no {', '.join(lacks)}"
    if sys.version_info < (3, 10):  # noqa: UP036, before anything is imported that it cannot read
        found = "is Python {}.{}, and 3.10 is needed".format(*sys.version_info)
    elif not lacks:
        return
    print(
        f"error: {sys.executable} {found}: it is not the project's environment; `make env` builds that, and says how to"
        " enter it",
        file=sys.stderr,
    )
    sys.exit(2)


def _let_interrupts_end_imports() -> None:
    """Let Ctrl-C end a script quietly while it imports, which takes seconds, until `tool.cli.run_script` sees to it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _runs_script() -> bool:
    """Whether the file that Python was started with has `run_script`, or is one of `released`, which call another that
    has: whoever else imports this package keeps `KeyboardInterrupt`, and an `ImportError` where a module is missing."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None:
        return sys.argv[:1] == ["-m"]  # a module of this package, which is still looked for
    with suppress(OSError):  # not a file
        content = Path(path).read_bytes()
        return b"run_script" in content or b"from released." in content
    return False


if _runs_script():
    require_system()
    require_environment()
    _let_interrupts_end_imports()
