"""What a file of weights is, by its first bytes: told before torch is imported, which takes seconds."""

import re
import shlex
import zipfile
from pathlib import Path

from tool.cli import UserError, brief, require_file

# The kinds of files that are read.
MXNET, SAFETENSORS, TORCH = "an MXNet parameter file", "a safetensors file", "a file of torch.save"

HEAD = 512  # bytes that are looked at
AGAIN = "download, copy or train it again"
ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
}
OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras, TensorFlow)",
    b"\x93NUMPY": "an array of NumPy (.npy)",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF",
}


def require_weights(path: str | Path, flag: str, what: str = "weights: .pth, .ckpt, .safetensors or .params") -> Path:
    """`path` as a `Path`, or a `UserError` naming `flag`: no file there (`what` says which it should be), or one that
    its first bytes show to be no weights, or cut off."""
    path = require_file(path, flag, what)
    head, size = _head(path, flag), path.stat().st_size
    found = _text(head) or _archive(path, head) or _cut(path, head, size)
    found = found or next((f"{name}, no weights" for magic, name in OTHERS.items() if head.startswith(magic)), None)
    if found:
        raise UserError(f"{flag} {path}: expected a checkpoint, found {found}")
    return path


def kind_of_weights(path: Path, flag: str) -> str:
    """`MXNET`, `SAFETENSORS` or `TORCH`: what a file that `require_weights` lets pass is, or is called."""
    head = _head(path, flag)
    if path.suffix == ".params" or head.startswith(b"\x12\x01" + bytes(14)):
        return MXNET
    return SAFETENSORS if path.suffix == ".safetensors" or _is_safetensors(head) else TORCH


def _head(path: Path, flag: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be read ({error.strerror})") from error


def _is_safetensors(head: bytes) -> bool:
    """The length of a JSON header, below what the library takes, and its beginning."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 10**8


def _text(head: bytes) -> str | None:
    """A text that is in the weights' place, and how they are had instead; None of other files."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a character that `HEAD` cuts is text all the same
            return None
        text = head[: error.start].decode()
    text = text.strip()
    if not text or re.search(r"[^\t\n\f\r -~\x80-\U0010ffff]", text):
        return None
    if re.match(r"version https?://\S+/spec/v\d", text):
        return (
            "a pointer of Git LFS, which stands for the file: run git lfs pull in the clone that it is from, or"
            " download the file itself"
        )
    if re.match(r"<(!doctype html|html|head|body|\?xml|!--)", text, re.IGNORECASE):
        return (
            "a page of HTML, as sites send for a login, a warning or an error: open the link in a browser, download the"
            " file itself and check its size"
        )
    return f"text, which begins {brief(text.splitlines()[0])[:60]!r}: {AGAIN}"


def is_zip(path: Path) -> bool:
    """Whether a file ends as a zip archive does; not where that end is so damaged that zipfile raises."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def _archive(path: Path, head: bytes) -> str | None:
    """An archive that weights are packed in, and how they come out of it; None of other files."""
    name = shlex.quote(str(path))
    if head.startswith(b"PK\x03\x04") and is_zip(path):
        return _zip(path)
    if head[257:262] == b"ustar":
        return f"a tar archive: unpack it (python -m tarfile -e {name} FOLDER), and name the weights in it"
    kind = next((kind for magic, kind in ARCHIVES.items() if head.startswith(magic)), None)
    if kind in ("gzip", "bzip2", "xz"):
        return (
            f"weights or an archive in {kind}: unpack it (python -m tarfile -e {name} FOLDER, or, if it is no archive,"
            f" {kind} -dc < {name} > OTHER), and name the weights in it"
        )
    return None if kind is None else f"a {kind} archive: unpack it, and name the weights in it"


def _zip(path: Path) -> str | None:
    """What is wrong with a zip archive, which torch.save writes too."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry for entry in archive.namelist() if not entry.endswith("/")]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # torch's reader says more
    if any(entry.endswith("/constants.pkl") for entry in names):
        return (
            "a program of TorchScript: save its weights, torch.save(torch.jit.load(path).state_dict(), other), and name"
            " these"
        )
    if any(entry.split("/")[-1] == "data.pkl" for entry in names):
        return None
    if names and all(entry.endswith(".npy") for entry in names):
        return "arrays of NumPy (.npz), no weights"
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return (
        f"a zip archive of {brief(shown) or 'nothing'}: unpack it (python -m zipfile -e {shlex.quote(str(path))}"
        " FOLDER), and name the weights in it"
    )


def _cut(path: Path, head: bytes, size: int) -> str | None:
    """A file without its end, or with nothing in it."""
    if not any(head):
        return f"{'zeros' if size else 'an empty file'}: {AGAIN}"
    cut_zip = head.startswith(b"PK\x03\x04") and not is_zip(path)
    if cut_zip or (_is_safetensors(head) and int.from_bytes(head[:8], "little") + 8 > size):
        return f"a file without its end, of {size:,} bytes: {AGAIN}"
    return None
