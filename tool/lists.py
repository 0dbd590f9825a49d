"""Lists of images: text files with one entry a line, read as ids."""

import re
import unicodedata
from pathlib import Path

from tool.cli import UserError, raise_problems, require_file

# An id becomes part of file names, some with a suffix of ours; file systems allow 255 bytes a name.
MAX_ID_BYTES = 200
IMAGE_ENTRY = re.compile(r"(?P<image>.+?\.(?:jpg|jpeg|png))(?:\s+\S.*\.png)?", re.IGNORECASE)


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
    return parse_ids(text, f"{flag} {path}")
