"""Where files are that are not where they were looked for: some levels deeper, one higher, under another ending.

For messages only. Names are looked at, no content, and those of a hundred folders at most.
"""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unicodedata import normalize

MAX_DEPTH = 3  # as deep as VOC's own archive unpacks: VOCtrainval_11-May-2012/VOCdevkit/VOC2012
MAX_FOLDERS = 100
MAX_NAMED = 4
SAMPLE = 20  # files that stand for all of a list
# What images and masks end in, elsewhere than here.
ENDINGS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".bmp", ".webp")
ROOT = Path(__file__).resolve().parents[1]  # of the repository, where all commands start
PREPARED = (".txt", ".npy")  # lists and labels in voc12/ and others, which voc12.prepare and others make
# Of any path; unlike Path's methods they raise nothing where a folder is closed to us.
is_there, is_folder, is_file = os.path.exists, os.path.isdir, os.path.isfile


def sample(items: Sequence[str], number: int = SAMPLE) -> Sequence[str]:
    """At most `number` of `items`, spread over all."""
    return items[:: -(-len(items) // number)] if items else items


def folders_near(folder: Path) -> Iterator[Path]:
    """The folder above `folder`, then those in it, level by level; hidden ones are left out."""
    yield folder.parent if folder.name not in ("", "..") else folder / ".."
    level, left = [folder], MAX_FOLDERS
    for _ in range(MAX_DEPTH):
        level = [below for parent in level for below in _folders_in(parent)][:left]
        left -= len(level)
        yield from level


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:  # closed to us
        return []


def names_in(folder: Path) -> list[str]:
    """The names in `folder`, sorted, hidden ones left out; none where it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except OSError:
        return []


def visible(folder: Path, suffix: str = "") -> list[Path]:
    """What in `folder` ends in `suffix`, sorted; not what begins with a dot, as a Mac's `._<id>.png` and what a killed
    run left."""
    return sorted(path for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))


def folders_with(names: Sequence[str], near: Path, is_wanted: Callable[[Path], bool] = is_there) -> list[Path]:
    """The folders near `near` that have any of `names`, those with most of them first."""
    counts = {folder: sum(is_wanted(folder / name) for name in names) for folder in folders_near(near)}
    return sorted((folder for folder, count in counts.items() if count), key=lambda folder: -counts[folder])


def elsewhere(path: Path, is_wanted: Callable[[Path], bool]) -> Path | None:
    """What has the name of `path`, where nothing is, near the first folder above it that is there; None for none."""
    above = path.parent
    while not is_folder(above) and above != above.parent:
        above = above.parent
    if not path.name or above == Path(above.anchor or os.sep):  # the root of all files is no place to look around in
        return None
    return next((folder / path.name for folder in folders_with([path.name], above, is_wanted)), None)


def hint(path: Path, is_wanted: Callable[[Path], bool]) -> str:
    """For the message that nothing is at `path`: what has its name near, or what makes it, if anything does."""
    other = elsewhere(path, is_wanted)
    if other is None and path.suffix in PREPARED and is_file(ROOT / path.parent.name / "prepare.py"):
        return f"; python -m {path.parent.name}.prepare makes it"
    return "" if other is None else f"; did you mean {other}?"


def other_ending(path: Path, endings: Sequence[str] = ENDINGS) -> str:
    """For the message that no file is at `path`: what is there under another of `endings`, or under the same letters in
    another form of Unicode, as a Mac writes them, if anything is."""
    others = (path.with_suffix(ending) for ending in endings if ending != path.suffix)
    found = next((other for other in others if is_file(other)), None)
    if found is None and not path.name.isascii():
        forms = (normalize(form, path.name) for form in ("NFC", "NFD"))
        if other := next((name for name in forms if name != path.name and is_file(path.with_name(name))), None):
            return f", but {other!a} is there, the same letters in another form of Unicode; rename it to {path.name!a}"
    return "" if found is None else f", but {found.name} is there; rename it if it is the one"


def renaming(folder: Path, tail: str, ending: str) -> str:
    """The shell's command that makes of every `<id><tail>` in `folder` an `<id><ending>`."""
    quoted = shlex.quote(tail)
    return f'for f in {shlex.quote(str(folder))}/*{quoted}; do mv "$f" "${{f%{quoted}}}{ending}"; done'


def moving(source: Path, target: Path, ending: str) -> str:
    """The shell's command that moves all `<id><ending>` from one folder to another."""
    return f"mv {shlex.quote(str(source))}/*{ending} {shlex.quote(str(target))}/"


def moving_folder(source: Path, target: Path) -> str:
    """The shell's command that moves a folder."""
    return f"mv {shlex.quote(str(source))} {shlex.quote(str(target))}"


def listed(folders: Sequence[Path]) -> str:
    more = ["..."] if len(folders) > MAX_NAMED else []
    return ", ".join([*map(str, folders[:MAX_NAMED]), *more])


def misplaced(folder: Path, ending: str, *, fixed: bool = True) -> str | None:
    """Why `folder`, which is there, has no or few files that end in `ending`: they end otherwise, or lie deeper.

    None where nothing tells. `fixed`: the folder's name is not the user's to choose.
    """
    expected = f"{folder}: expected <id>{ending}"
    tails = Counter(Path(name).suffix for name in names_in(folder))
    here = tails[ending]
    if not here and (found := [other for other in ENDINGS if tails[other]]):
        tail = max(found, key=lambda other: tails[other])
        return f"{expected}, found <id>{tail}; if these are meant: {renaming(folder, tail, ending)}"
    _, *below = folders_near(folder)
    for deeper in below:
        if (there := sum(name.endswith(ending) for name in names_in(deeper))) > here:
            advice = f"move them up: {moving(deeper, folder, ending)}" if fixed else "name that folder"
            return f"{expected}, found {here or 'none'}; {there} are in {deeper}; {advice}"
    return None


def spread_tail(ids: Sequence[str], folder: Path, ending: str) -> str | None:
    """What follows an id instead of `ending` in the names of most files of `ids` in `folder`; None for no such file."""
    few = tuple(sample(ids))
    tails = Counter(
        name[len(identifier) :] for name in names_in(folder) for identifier in few if name.startswith(identifier)
    )
    found = [tail for tail, _ in tails.most_common() if tail[:1] in tuple("._-") and tail != ending]
    return found[0] if found else None
