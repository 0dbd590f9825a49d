"""Commands that cost no imports: a process that has imported what they do forks for each of them.

Imports are nearly all that a command costs which is refused. This file is also that process:
`python tests/forked.py ROOT MODULE ...`, with the commands as JSON on its input.
"""

import atexit
import importlib
import json
import os
import runpy
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 600  # seconds for all commands, after which one is taken to hang


def run_forked(
    commands: Sequence[tuple[Sequence[object], Path]],
    output: Path,
    *,
    modules: Sequence[str],
    env: Mapping[str, str],
    root: Path = ROOT,
) -> list[subprocess.CompletedProcess]:
    """What became of each command, (words after `python`, working folder), one after the other.

    What the commands say is kept in `output`. `modules` are imported once, from the code in `root`.
    """
    output.mkdir(exist_ok=True)
    described = [
        ([str(word) for word in words], str(folder), str(output / str(number)))
        for number, (words, folder) in enumerate(commands)
    ]
    forker = subprocess.run(
        [sys.executable, __file__, str(root), *modules],
        input=json.dumps(described),
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIME_LIMIT,
    )
    codes = json.loads(forker.stdout)
    return [
        subprocess.CompletedProcess(words, code, *(Path(f"{said}.{name}").read_text() for name in ("stdout", "stderr")))
        for (words, _, said), code in zip(described, codes, strict=True)
    ]


def run_command(words: Sequence[str], root: str) -> None:
    """Run the script or module of a command line in this process."""
    if words[0] == "-m":
        sys.argv = list(words[1:])
        sys.modules.pop(words[1], None)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(str(Path(root, words[0])), run_name="__main__")


def end_with(run: Callable[[], None]) -> None:
    """Run, and end this process as Python does, but for taking down what is imported: copying torch takes a second."""
    code = 0
    try:
        run()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    root, *modules = sys.argv[1:]
    sys.path[0] = root
    for module in modules:
        importlib.import_module(module)
    codes = []
    for words, folder, output in json.load(sys.stdin):
        process = os.fork()
        if process == 0:
            for name, descriptor in (("stdout", 1), ("stderr", 2)):
                os.dup2(os.open(f"{output}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
            os.chdir(folder)
            end_with(lambda words=words: run_command(words, root))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    json.dump(codes, sys.stdout)


if __name__ == "__main__":
    main()
