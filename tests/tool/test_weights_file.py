"""What lies in the place of weights is named as what it is, and the way out that is named works."""

import gzip
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tool.checkpoint import load_checkpoint
from tool.cli import UserError
from tool.weights_file import require_weights


def saved() -> bytes:
    stream = io.BytesIO()
    torch.save({"a.weight": torch.arange(300.0)}, stream)
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, saved())
    return stream.getvalue()


def tarred(mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        member = tarfile.TarInfo("net.pth")
        member.size = len(saved())
        archive.addfile(member, io.BytesIO(saved()))
    return stream.getvalue()


def written(write, *what, **how) -> bytes:
    stream = io.BytesIO()
    write(stream, *what, **how)
    return stream.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 549063192\n"
IN_ITS_PLACE = {
    "nothing": (b"", "an empty file: download, copy or train it again"),
    "zeros": (bytes(9000), "zeros: download, copy or train it again"),
    "a pointer of Git LFS": (LFS, "a pointer of Git LFS, .*: run git lfs pull"),
    "a page": (b"\n<!DOCTYPE html>\n<title>Google Drive - Quota exceeded</title>", "a page of HTML, .* open the link"),
    "a page without a head": (b"<HTML><body>404 Not Found</body></HTML>", "a page of HTML"),
    "a notice of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a page of HTML"),
    "an error": ("Datei nicht gefunden, Größe unbekannt\n".encode() * 40, "text, which begins 'Datei nicht"),
    "a torch file without its end": (
        saved()[:-40],
        "a file without its end, of [0-9,]+ bytes: download, copy or train it",
    ),
    "safetensors without their end": ((5000).to_bytes(8, "little") + b'{"a":', "a file without its end"),
    "a zip archive": (zipped("net.pth", "readme.txt"), r"a zip archive of net\.pth, readme\.txt: unpack it"),
    "an empty zip archive": (written(lambda file: zipfile.ZipFile(file, "w").close()), "expected a checkpoint"),
    "a tar archive": (tarred("w"), "a tar archive: unpack it"),
    "a tar archive in gzip": (tarred("w:gz"), "weights or an archive in gzip: unpack it"),
    "weights in gzip": (gzip.compress(saved()), "weights or an archive in gzip: unpack it"),
    "an archive in xz": (tarred("w:xz"), "weights or an archive in xz: unpack it"),
    "an archive of 7z": (b"7z\xbc\xaf\x27\x1c" + bytes(90), "a 7z archive: unpack it"),
    "arrays": (written(np.savez, a=np.zeros(3)), r"arrays of NumPy \(\.npz\), no weights"),
    "an array": (written(np.save, np.zeros(3)), r"an array of NumPy \(\.npy\), no weights"),
    "an image": (written(lambda file: Image.new("RGB", (9, 9)).save(file, "PNG")), "a PNG image, no weights"),
    "Keras's weights": (b"\x89HDF\r\n\x1a\n" + bytes(90), r"an HDF5 file \(Keras, TensorFlow\), no weights"),
}


@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_what_lies_in_the_place_of_weights_is_named_in_one_line(tmp_path, name):
    content, said = IN_ITS_PLACE[name]
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^--weights {re.escape(str(path))}: .*{said}") as error:
        load_checkpoint(path, "--weights")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("new", [True, False])
def test_weights_are_let_pass_under_any_name(tmp_path, new):
    for name in ("net.pth", "model_best.pth.tar", "net.bin", "net"):
        torch.save({"a": torch.zeros(3)}, tmp_path / name, _use_new_zipfile_serialization=new)
        assert require_weights(tmp_path / name, "--weights") == tmp_path / name


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("a zip archive", r"python (-m zipfile -e .* FOLDER)\)"),
        ("a tar archive", r"python (-m tarfile -e .* FOLDER)\)"),
        ("a tar archive in gzip", r"python (-m tarfile -e .* FOLDER),"),
        ("an archive in xz", r"python (-m tarfile -e .* FOLDER),"),
    ],
)
def test_an_archive_is_unpacked_as_advised(tmp_path, name, command):
    path = tmp_path / "it's a file.pth"
    path.write_bytes(IN_ITS_PLACE[name][0])
    with pytest.raises(UserError) as error:
        require_weights(path, "--weights")
    words = re.search(command, str(error.value))[1]
    subprocess.run(f"{sys.executable} {words}", shell=True, cwd=tmp_path, check=True, capture_output=True)
    assert load_checkpoint(tmp_path / "FOLDER" / "net.pth", "--weights")["a.weight"].sum() == 44850


def test_weights_in_gzip_are_unpacked_as_advised(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(IN_ITS_PLACE["weights in gzip"][0])
    with pytest.raises(UserError) as error:
        require_weights(path, "--weights")
    words = re.search(r"gzip -dc < .* > OTHER", str(error.value))[0]
    subprocess.run(words, shell=True, cwd=tmp_path, check=True)
    assert load_checkpoint(tmp_path / "OTHER", "--weights")["a.weight"].sum() == 44850


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's own, of TorchScript
def test_a_program_of_torchscript_is_named_and_its_weights_are_read_as_advised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.jit.script(torch.nn.Linear(2, 3)).save("net.pth")
    with pytest.raises(UserError, match=r"a program of TorchScript: save its weights, torch\.save") as error:
        require_weights("net.pth", "--weights")
    exec(
        re.search(r"torch\.save\(.*\), other\)", str(error.value))[0], {"torch": torch, "path": "net.pth", "other": "w"}
    )
    assert load_checkpoint(Path("w"), "--weights")["weight"].shape == (3, 2)
