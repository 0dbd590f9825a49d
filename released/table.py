"""Released command lines as tables onto ours: a row a flag, and a call of our script. Nothing is computed here.

    python released/ppc/aff_train.py --weights NET.params --la_crf_dir crf/4.00 --ha_crf_dir crf/24.00

is said in our flags, printed so, and run. Our own flags may stand among the released ones.
"""

import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tool.artifact import atomic_file, reported_unwritable
from tool.cli import script_parser

ROOT = Path(__file__).resolve().parents[1]
REQUIRED = object()  # as a default: the flag has none


class Row(NamedTuple):
    """A released flag.

    default: the released one; `REQUIRED`; None: the flag may be missing, and then is not passed on. ours: our flag's
    name; None: it decides nothing here. value: ours, from each word given. count: how many words it takes, where that
    is not one (argparse's nargs). note: for --help, where the command itself sees to it and not this table.
    """

    flag: str
    default: object = None
    ours: str | None = None
    value: str = "{}"
    count: int | str | None = None
    note: str | None = None


def translate(rows: Sequence[Row], words: Sequence[str], *, description: str = "") -> list[str]:
    """Our flags for the released command line `words`; words that are no released flag's stay, behind them.

    Ends with one line and 2 where a flag is missing or lacks its value.

    >>> rows = [Row("--voc12_root", "VOC2012", "--data_root", "{}/JPEGImages"), Row("--network")]
    >>> translate(rows, ["--network", "network.resnet38_aff", "--resume"])
    ['--data_root', 'VOC2012/JPEGImages', '--resume']
    """
    parser = script_parser(description)  # what remains is for our script
    for row in rows:
        default = "" if row.default in (REQUIRED, None) else f" ({row.default})"
        meaning = row.note or "decides nothing here"
        if row.ours is not None:
            meaning = f"{row.ours} {row.value.format('VALUE')}"
        is_required = row.default is REQUIRED
        parser.add_argument(row.flag, required=is_required, nargs=row.count, help=f"{meaning}{default}")
    given, others = parser.parse_known_args(words)
    found = []
    for row in rows:
        value = getattr(given, row.flag.removeprefix("--"))
        value = row.default if value is None else value
        if row.ours is not None and value is not None:
            parts = value if isinstance(value, list) else [str(value)]
            found += [row.ours, *(row.value.format(part) for part in parts)]
    return [*found, *others]


def run_as(script: str, rows: Sequence[Row]) -> None:
    """Run our `script`, a file as `refine/affinity/train.py`, as the released command line of this process says."""
    description = f"The released command, run by {script}, whose other flags may stand here too (its --help)."
    run_words(script, translate(rows, sys.argv[1:], description=description))


def copy_files(sources: Sequence[Path], path: Path) -> None:
    """Write the files `sources`, one behind the other, to `path`, a released name, whose folder is made.

    A stop amid it leaves what was there. Raises `UserError` where it cannot be written.
    """
    with reported_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        for source in sources:
            file.write(source.read_bytes())
    print(path)


def last_of_each(words: Sequence[str]) -> list[str]:
    """`words` without a flag's values where the flag stands again later, as one of ours behind what a released one
    means; but for --set, which takes all.

    >>> last_of_each(["--crf_t", "none", "--thr", "0.3", "--crf_t", "4", "8"])
    ['--thr', '0.3', '--crf_t', '4', '8']
    """
    groups: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    last = {group[0].split("=")[0]: group for group in groups if group}
    kept = [group for group in groups if group and (group[0] == "--set" or last[group[0].split("=")[0]] is group)]
    return [word for group in kept for word in group]


def run_words(script: str, words: Sequence[str]) -> None:
    """Run our `script` with the `last_of_each` of these `words`, which are printed."""
    sys.argv = [script, *last_of_each(words)]
    print(f"python {shlex.join(sys.argv)}", flush=True)
    runpy.run_path(str(ROOT / script), run_name="__main__")
