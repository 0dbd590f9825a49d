"""What all methods share. Scripts import it before all that takes time."""

import signal
import sys
from contextlib import suppress
from pathlib import Path


def _let_interrupts_end_imports() -> None:
    """Let Ctrl-C end a script quietly while it imports, which takes seconds, until `tool.cli.run_script` sees to it.

    Only where the file that Python was started with has `run_script`: whoever else imports this package keeps
    `KeyboardInterrupt`.
    """
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    with suppress(OSError, ValueError):  # not a file; not in the main thread
        if b"run_script" in Path(path).read_bytes():
            signal.signal(signal.SIGINT, signal.SIG_DFL)


_let_interrupts_end_imports()
