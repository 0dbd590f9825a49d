"""Commands that run other commands."""

import subprocess
from collections.abc import Sequence
from typing import Any


def run_to_end(words: Sequence[str], **options: Any) -> int:
    """Run a command, `options` being `subprocess.Popen`'s, and return its exit code.

    Whatever ends this process ends the command first, which saves what it has done; `subprocess.run` would kill it.
    """
    process = subprocess.Popen(words, **options)
    try:
        return process.wait()
    except BaseException as end:
        if not isinstance(end, KeyboardInterrupt):  # a terminal's, which both hear
            process.terminate()
        process.wait()
        raise
