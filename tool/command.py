"""Commands that run other commands of the project."""

import ctypes
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tool.cli import UserError

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets once its parent is gone


def run_python(*command: object) -> None:
    """Show one of the project's commands, without `python`, and run it in the project's folder, to its end.

    Whatever ends this process ends the command first, which saves what it has done; `subprocess.run` would kill it.
    If this process is killed, the command gets SIGTERM. What it says goes where this process's output goes.

    Raises `UserError` if the command fails.
    """
    words = [str(word) for word in command]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    prctl = ctypes.CDLL(None).prctl
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
    )
    try:
        code = process.wait()
    except BaseException as end:
        if not isinstance(end, KeyboardInterrupt):  # a terminal's, which both hear
            process.terminate()
        process.wait()
        raise
    if code != 0:
        name = words[1] if words[0] == "-m" else words[0]
        raise UserError(f"{name} ended with exit code {code}; what it said stands above")
