"""Lists of images: text files with one entry a line, read as ids.

An id may have spaces. A line that holds more than an id (classes, VOC's -1, 0 and 1) is refused, never cut: it is for
the user to say which of these images belong to the list.
"""

import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tool import places
from tool.cli import UserError, raise_problems, require_file
from tool.dataset import DataSet

# An id becomes part of file names, some with a suffix of ours; file systems allow 255 bytes a name.
MAX_ID_BYTES = 200
IMAGE_ENTRY = re.compile(r"(?P<image>.+?\.(?:jpg|jpeg|png))(?:\s+\S.*\.png)?", re.IGNORECASE)

# An entry with numbers behind its first word: classes (OAA, L2G), or VOC's -1, 0 and 1 in ImageSets/Main.
NUMBERED_ENTRY = re.compile(r"[^\s,;]+([\s,;]+[-+]?\d+(\.\d+)?)+[\s,;]*")
SEPARATORS = re.compile(r"[\s,;]")
# Images and saliency maps are read by what they hold, so that one of these under another's name is read, too.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LABEL_MAP_ENDINGS = (".png",)


def id_problem(identifier: str) -> str | None:
    """Why `identifier` cannot name an image's files, or None if it can.

    An id has any form (spaces, quotes, letters of any script), but it is a single path component.
    """
    if identifier in ("", ".", ".."):
        return "is not a file name"
    if "/" in identifier or "\\" in identifier:
        return "has a path separator"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in identifier):
        return "has a control character"
    if len(identifier.encode()) > MAX_ID_BYTES:
        return f"is longer than {MAX_ID_BYTES} bytes"
    return None


def entry_id(entry: str) -> str:
    """The id that one entry of a list means.

    An entry is an id (`2007_000032`), an image path (`/JPEGImages/2007_000032.jpg`), or an image path and a mask path
    with white space between; an image path's file name without its extension is the id.
    """
    match = IMAGE_ENTRY.fullmatch(entry)
    if match is None:
        return entry
    return match["image"].rpartition("/")[2].rpartition(".")[0]


def parse_ids(text: str, source: str) -> list[str]:
    """The ids of a list's `text`, in its order; blank lines are skipped.

    Raises `UserError`, naming `source` (flag and file), with every entry that is no id, every duplicate with both its
    line numbers, or because no entry is there.
    """
    first_line: dict[str, int] = {}
    problems = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        entry = line.strip(" \t\r")
        if not entry:
            continue
        identifier = entry_id(entry)
        problem = id_problem(identifier)
        if problem is not None:
            problems.append(f"line {number}: {entry[:MAX_ID_BYTES]!r}: the id {problem}")
        elif identifier in first_line:
            problems.append(f"line {number}: duplicate of line {first_line[identifier]}: {identifier}")
        else:
            first_line[identifier] = number
    raise_problems(f"{source}: expected one id or image path a line, each once; correct these lines", problems)
    if not first_line:
        raise UserError(f"{source}: the list is empty; expected one id or image path a line")
    return list(first_line)


def read_ids(path: str | Path, flag: str = "--list") -> list[str]:
    """The ids of the list at `path`, in its order; `entry_id` says what an entry may be.

    The text is UTF-8, with or without a byte order mark, with either line ending. Raises `UserError` naming `flag` and
    `path` for a file that is missing, unreadable or not text, and for everything `parse_ids` refuses.
    """
    path = require_file(path, flag, "a list of images, one id a line")
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"{flag} {path}: the list cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {path}: expected text in UTF-8, found other bytes (at {error.start})") from error
    if "\0" in text:
        raise UserError(f"{flag} {path}: expected text in UTF-8, found binary data")
    entries = [line.strip() for line in text.removeprefix("\ufeff").split("\n") if line.strip()]
    if any(id_problem(entry_id(entry)) for entry in entries) and all(map(NUMBERED_ENTRY.fullmatch, entries)):
        raise _more_than_ids(Source(flag, path), entries[0])
    return parse_ids(text, f"{flag} {path}")


class Source(NamedTuple):
    """Where a list comes from, for messages: the flag or key that leads to it, and its file."""

    flag: str
    path: str | Path

    def __str__(self) -> str:
        return f"{self.flag} {self.path}"


def _more_than_ids(source: Source, entry: str) -> UserError:
    """What to say of a list whose lines are like `entry`."""
    separator = SEPARATORS.search(entry)[0]
    delimiter = "" if separator == "\t" else f" -d{shlex.quote(separator)}"
    return UserError(
        f"{source}: expected one id a line, found more, as {entry!r}: are these classes or marks behind"
        f" the ids? Make a list of the ids alone: cut{delimiter} -f1 {shlex.quote(str(source.path))} > ids.txt"
    )


def check_lines(ids: Sequence[str], is_known: Callable[[str], bool], *, source: Source) -> None:
    """Raise `UserError` if the lines of a list hold more than ids.

    They do where none of several words is known but their first words are, or numbers follow these in all lines.
    """
    long = [identifier for identifier in ids if SEPARATORS.search(identifier)]
    if not long or any(map(is_known, long)):
        return
    first_words = (entry_id(SEPARATORS.split(identifier, maxsplit=1)[0]) for identifier in places.sample(long))
    if any(map(is_known, first_words)) or all(map(NUMBERED_ENTRY.fullmatch, ids)):
        raise _more_than_ids(source, long[0])


def expect_files(
    ids: Sequence[str],
    folder: str | Path,
    ending: str,
    *,
    flag: str,
    source: Source,
    endings: Sequence[str] = IMAGE_ENDINGS,
    fixed: bool = False,
) -> None:
    """Raise `UserError` if not one of `ids` has its `<folder>/<id><ending>` and it shows why.

    The list's lines may hold more than ids; the files may have another ending, or lie deeper or a level higher. Where
    none of it shows, and where only some files are missing, what looks at each of them names these.

    Args:
        flag: leads to `folder`; `fixed` if the user names only the beginning of its path.
        source: of the list that has the ids.
        endings: that may be renamed to `ending`.
    """
    folder = Path(folder)

    def has_file(identifier: str) -> bool:
        return places.is_there(folder / f"{identifier}{ending}")

    check_lines(ids, has_file, source=source)
    if not ids or any(map(has_file, ids)):
        return
    expected = f"{flag} {folder}: expected <id>{ending} of {source}, as {ids[0]}{ending}"
    there = places.folders_with([f"{identifier}{ending}" for identifier in places.sample(ids)], folder)
    tail = places.spread_tail(ids, folder, ending)
    may_be_renamed = tail is not None and Path(f"a{tail}").suffix.lower() in endings
    if tail is not None and (may_be_renamed or not there):
        advice = f"name the folder that has <id>{ending}"
        if may_be_renamed:
            advice += f", or, if these are meant: {places.renaming(folder, tail, ending)}"
        raise UserError(f"{expected}, found <id>{tail}; {advice}")
    if there and fixed:
        raise UserError(
            f"{expected}, found none; they are in {places.listed(there)}; move them:"
            f" {places.moving(there[0], folder, ending)}"
        )
    if there:
        raise UserError(f"{expected}, found none; there are such in {places.listed(there)}; name the right one")


def find_images(
    ids: Sequence[str], root: str | Path, data_set: DataSet, *, flag: str, source: Source, fixed: bool = False
) -> dict[str, Path]:
    """The image of each of `ids`, by id, in their order: `<id>` and one of the data set's suffixes.

    Images lie in `root` itself. Where the data set has several folders of images they lie in these below it, tried in
    their order, or in `root`. An id without an image gets the first path that it might have, which is then found
    missing by what looks at each.

    Args:
        flag: leads to `root`. source: of the list that has the ids.
        fixed: `root` is the data set's own folder, and all its images lie in the folders below it.

    Raises `UserError` if no id has an image and it shows why, and for a list whose lines hold more than ids.
    """
    folders = _folders(root, data_set.images, fixed=fixed)
    return _find(ids, folders, data_set.suffixes, flag=flag, source=source, endings=IMAGE_ENDINGS, fixed=fixed)


def find_masks(
    ids: Sequence[str], root: str | Path, data_set: DataSet, *, flag: str, source: Source, fixed: bool = False
) -> dict[str, Path]:
    """The true mask of each of `ids`, `<id>.png`, as `find_images` finds images: in `root`, or in the folders below it
    where the data set has several of masks. Raises as that does."""
    folders = mask_folders(root, data_set, fixed=fixed)
    return _find(ids, folders, (".png",), flag=flag, source=source, endings=LABEL_MAP_ENDINGS, fixed=fixed)


def mask_folders(root: str | Path, data_set: DataSet, *, fixed: bool = False) -> list[Path]:
    """Where `find_masks` looks, there or not, in that order."""
    return _folders(root, data_set.masks, fixed=fixed)


def folder_of(root: Path, below: Sequence[str]) -> Path:
    """The one folder `below` a data set's own, or, where files lie in several, of which some may be missing, `root`."""
    return root / below[0] if len(below) == 1 else root


def _folders(root: str | Path, below: Sequence[str], *, fixed: bool) -> list[Path]:
    folders = [Path(root, folder) for folder in below]
    return folders if fixed else [*(folders if len(folders) > 1 else []), Path(root)]


def _find(
    ids: Sequence[str],
    folders: Sequence[Path],
    suffixes: Sequence[str],
    *,
    flag: str,
    source: Source,
    endings: Sequence[str],
    fixed: bool,
) -> dict[str, Path]:
    """The first file of each of `ids` in `folders`, else the first path that it might have."""
    found = {}
    if len(folders) > 1 or len(suffixes) > 1:  # else there is nothing to choose from
        names = {folder: _names_in(folder) for folder in folders}

        def path_of(identifier: str) -> Path | None:
            each = ((folder, f"{identifier}{suffix}") for folder in folders for suffix in suffixes)
            return next((folder / name for folder, name in each if name in names[folder]), None)

        found = {identifier: path for identifier in ids if (path := path_of(identifier)) is not None}
        check_lines(ids, found.__contains__, source=source)
    if not found:
        named = folders[0] if fixed else folders[-1]  # the root itself, to look around in
        expect_files(ids, named, suffixes[0], flag=flag, source=source, endings=endings, fixed=fixed)
    return {i: found.get(i, folders[0] / f"{i}{suffixes[0]}") for i in ids}


def _names_in(folder: Path) -> set[str]:
    """All names in a folder: one reading of it is faster than a look at each of a list's files under every suffix."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return set()
