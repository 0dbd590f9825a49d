"""What a hostile file holds never runs, and takes no memory beyond its worth."""

import functools
import io
import operator
import os
import pickle
import posix
import re
import struct
import subprocess
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import image_size, load_rgb
from data.labels import load_labels
from network.backbone_weights import load_deeplab
from network.cause import load_cause
from network.mxnet_params import read_params
from network.weights import load_weights, read_state_dict
from rebalance.feature_files import load_features
from rebalance.uss import load_pca
from superpixel.maps import load_superpixels
from tests.fault.conftest import COUNTS
from tests.network.mxnet_writer import array_record, params_file
from tests.processes import peak
from tests.tool.test_pickled import write_pickle
from tool.artifact import load_cam, load_crf, load_label_map, load_label_scores
from tool.cli import UserError
from tool.instances import load_instances
from tool.irn_cam import load_quarter_cam
from tool.msa_cam import load_msa_cam
from tool.resume import find_checkpoint
from voc12.classes import VOC12

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of strange files

# -- code --------------------------------------------------------------------------------------------------------------


class Call:
    """Unpickled without care, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State:
    """Unpickled without care, its state is taken over by a call."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return dict, (), None, None, iter([("key", self.call)])


def saved_by_torch(value) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


# What each makes of the path of the canary: an object that, unpickled, creates it.
GADGETS = {
    "exec": lambda canary: Call(exec, f"open({str(canary)!r}, 'w')"),
    "eval": lambda canary: Call(eval, f"open({str(canary)!r}, 'w')"),
    "open": lambda canary: Call(open, str(canary), "w"),
    "os.mkdir": lambda canary: Call(os.mkdir, str(canary)),
    "posix.system": lambda canary: Call(posix.system, f"touch '{canary}'"),
    "subprocess": lambda canary: Call(subprocess.call, ["touch", str(canary)]),
    "a method": lambda canary: Call(Path.touch, Path(canary)),
    "in a list of a dict": lambda canary: {"model": [({}, Call(os.mkdir, str(canary)))]},
    "in an array of objects": lambda canary: np.array([Call(os.mkdir, str(canary)), None], dtype=object),
    "among the items": lambda canary: State(Call(os.mkdir, str(canary))),
    "a method's caller": lambda canary: Call(operator.methodcaller("touch"), Path(canary)),
    "torch's own loader": lambda canary: Call(
        torch.storage._load_from_bytes, saved_by_torch(Call(os.mkdir, str(canary)))
    ),
}


def numpy_file(path, value, protocol=4):
    write_pickle(path, pickle.dumps(np.array({1: value}, dtype=object), protocol=protocol))


def bare_pickle(path, value):
    path.write_bytes(pickle.dumps(value))


def tar_of_torch(path, value):
    """The layout of the first PyTorch: an archive of pickles."""
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(value)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def of_voc(load):
    """`load` of a file of VOC's."""
    return functools.partial(load, data_set=VOC12)


def read_pca(path):
    return load_pca(path, backbone="resnet50", sha256="", channels=1, dim=1, flag="--out_dir")


# The file, how the hostile object gets into it, and what reads it.
FILES = {
    "cam.npy": (numpy_file, of_voc(load_cam)),
    "irn_cam.npy": (numpy_file, of_voc(load_quarter_cam)),
    "msa_cam.npy": (numpy_file, of_voc(load_msa_cam)),
    "crf.npy": (functools.partial(numpy_file, protocol=2), of_voc(load_crf)),
    "scores.npy": (numpy_file, of_voc(load_label_scores)),
    "instances.npy": (numpy_file, functools.partial(load_instances, data_set=VOC12, shape=(4, 5))),
    "superpixels.npy": (numpy_file, functools.partial(load_superpixels, shape=(2, 3))),
    "cls_labels.npy": (functools.partial(numpy_file, protocol=0), of_voc(load_labels)),
    "labels.pkl": (bare_pickle, of_voc(load_labels)),
    "labels.npz": (lambda path, value: np.savez(path, labels=np.array({1: value}, dtype=object)), of_voc(load_labels)),
    "weights.pth": (lambda path, value: torch.save(value, path), lambda path: read_state_dict(path, "--weights")),
    "old.pth": (
        lambda path, value: torch.save(value, path, _use_new_zipfile_serialization=False),
        lambda path: read_state_dict(path, "--weights"),
    ),
    "bare.pth": (bare_pickle, lambda path: load_weights(torch.nn.Identity(), path)),
    "tar.pth": (tar_of_torch, lambda path: load_deeplab(torch.nn.Identity(), path)),
    "features.pt": (lambda path, value: torch.save(value, path), load_features),
    "pca.pt": (lambda path, value: torch.save({"mean": value}, path), read_pca),
    "cause.pt": (
        lambda path, value: torch.save({"decoder": {"a": value}, "codebook": torch.zeros(1)}, path),
        lambda path: load_cause(torch.nn.Identity(), path, "--uss_weights"),
    ),
    "last.ckpt": (
        lambda path, value: torch.save({"model": value, "step": 1, "settings": {}}, path),
        lambda path: find_checkpoint(path.parent, resume=True, settings={}, name_flag="--session"),
    ),
    "weights.params": (bare_pickle, read_params),
}


@pytest.mark.parametrize("gadget", GADGETS)
@pytest.mark.parametrize("name", FILES)
def test_code_in_a_file_never_runs(tmp_path, name, gadget):
    write, read = FILES[name]
    canary = tmp_path / "canary"
    write(tmp_path / name, GADGETS[gadget](canary))
    COUNTS["payloads tried"] += 1
    with pytest.raises(UserError, match=re.escape(name)):
        read(tmp_path / name)
    assert not canary.exists()


@pytest.mark.parametrize("gadget", GADGETS)
def test_the_payloads_are_working_attacks_on_plain_readers(tmp_path, gadget):
    pickle.loads(pickle.dumps(GADGETS[gadget](tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


# Calls of os.mkdir("CANARY") that no pickler writes, by other opcodes than a global and a reduction.
OPCODES = {
    "INST": b"(S'CANARY'\nios\nmkdir\n.",
    "OBJ": b"(cos\nmkdir\nS'CANARY'\no.",
    "NEWOBJ": b"\x80\x02cos\nmkdir\nS'CANARY'\n\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04cos\nmkdir\nS'CANARY'\n\x85}\x92.",
    "a dotted name": b"\x80\x04\x8c\x04test\x8c\x08os.mkdir\x93\x8c\x06CANARY\x85R.",
    "an extension": b"\x80\x02\x82\x01)R.",
    "a persistent id": b"PCANARY\n.",
    "a name from another pickle": b"\x80\x04\x8c\x06pickle\x8c\x05loads\x93C\x1acos\nmkdir\n(S'CANARY'\ntR.\x85R.",
}


@pytest.mark.parametrize("opcode", OPCODES)
@pytest.mark.parametrize("name", ["cam.npy", "bare.pth"])
def test_code_by_other_opcodes_never_runs(tmp_path, monkeypatch, name, opcode):
    monkeypatch.chdir(tmp_path)
    if name == "cam.npy":
        write_pickle(tmp_path / name, OPCODES[opcode])
    else:
        (tmp_path / name).write_bytes(OPCODES[opcode])
    COUNTS["payloads tried"] += 1
    with pytest.raises(UserError, match=re.escape(name)):
        FILES[name][1](tmp_path / name)
    assert not (tmp_path / "CANARY").exists()


# -- bombs -------------------------------------------------------------------------------------------------------------


def compressed_checkpoint(path):
    torch.save({"a.weight": torch.zeros(50_000_000)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def padded_features(path):
    """Features whose pickle, which ends before them, is followed by zeros."""
    torch.save(torch.zeros(2, 3, 4).half(), path)
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            is_pickle = name.endswith("data.pkl")
            kind = zipfile.ZIP_DEFLATED if is_pickle else zipfile.ZIP_STORED
            archive.writestr(name, content + bytes(2 * 10**8 * is_pickle), kind)


def small_by_its_own_words(path):
    """An .npz of zeros whose directory says that they are 100 bytes."""
    np.savez_compressed(path, labels=np.zeros(2 * 10**8, np.uint8))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\1\2") + 24
    content[place : place + 4] = struct.pack("<I", 100)
    path.write_bytes(content)


def one_number_as_many(path):
    torch.save({"a.weight": torch.zeros(1).expand(10**12)}, path)


def one_number_as_features(path):
    torch.save(torch.zeros(1).half().expand(10**4, 10**4, 10**4), path)


def sparse_giant(path):
    ones = torch.sparse_coo_tensor(torch.zeros((2, 1), dtype=torch.long), torch.ones(1), (10**9, 10**3))
    torch.save({"a.weight": ones}, path)


def lists_of_lists(path):
    value = ["ha"]
    for _ in range(9):
        value = [value] * 100
    torch.save({"model": {}, "step": value, "settings": {"--lr": value}}, path)


def declared_storage(path):
    """A file of the old layout that says of its storage that it is of a terabyte."""
    torch.save({"a.weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"K\x02", b"\x8a\x05\x00\x00\x00\x00\x01"))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A grey PNG of `width` x `height` zeros, compressed a thousand times."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    pixels = packer.compress(bytes(min((width + 1) * height, 10**8))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def giant_png(path):
    path.write_bytes(png(60_000, 60_000))


def text_bomb(path):
    chunk = png_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(300_000_000), 9))
    path.write_bytes(png(4, 4, chunk))


def giant_jpeg(path):
    Image.new("RGB", (8, 8)).save(path, "JPEG")
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 65000, 65000)
    path.write_bytes(content)


def giant_gif(path):
    Image.new("P", (4, 4)).save(path, "GIF")
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 65000, 65000)
    path.write_bytes(content)


def giant_params(path):
    record = array_record(np.zeros(2, np.float32), "v2", shape=(2**40,))
    path.write_bytes(params_file([record], [b"arg:conv1a_weight"]))


def giant_array(path):
    content = io.BytesIO()
    np.save(content, {1: np.zeros((2, 3), np.float32)}, allow_pickle=True)
    path.write_bytes(content.getvalue().replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86"))


def rgb(path):
    image_size(path)
    return load_rgb(path)


def resumed(path):
    return find_checkpoint(path.parent, resume=True, settings={"--lr": 0.1}, name_flag="--session")


BOMBS = {
    "a compressed checkpoint": (compressed_checkpoint, "a.pth", FILES["weights.pth"][1]),
    "one number as a tensor": (one_number_as_many, "a.pth", FILES["weights.pth"][1]),
    "one number as features": (one_number_as_features, "a.pt", load_features),
    "packed features": (padded_features, "a.pt", load_features),
    "an .npz": (small_by_its_own_words, "labels.npz", FILES["labels.npz"][1]),
    "a sparse tensor": (sparse_giant, "a.pth", FILES["weights.pth"][1]),
    "a storage of the old layout": (declared_storage, "a.pth", FILES["weights.pth"][1]),
    "lists of lists": (lists_of_lists, "last.ckpt", resumed),
    "a PNG as image": (giant_png, "a.jpg", rgb),
    "a PNG as label map": (giant_png, "a.png", of_voc(load_label_map)),
    "a PNG's text": (text_bomb, "a.png", of_voc(load_label_map)),
    "a JPEG": (giant_jpeg, "a.jpg", rgb),
    "a GIF": (giant_gif, "a.jpg", rgb),
    "a .params": (giant_params, "a.params", read_params),
    "a CAM": (giant_array, "a.npy", of_voc(load_cam)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_no_memory_of_a_large_one(tmp_path, name):
    write, file, read = BOMBS[name]
    write(tmp_path / file)
    COUNTS["payloads tried"] += 1
    before = peak(anew=True)  # without what writing it took
    with pytest.raises(UserError, match=re.escape(file)):
        read(tmp_path / file)
    if before is None:
        pytest.skip("NOT TESTED: the memory it takes, as /proc/self/clear_refs cannot be written here")
    assert peak() - before < 150_000


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_of_a_packing_that_unpacks_to_any_size_at_once_is_refused(tmp_path, packing):
    np.savez(tmp_path / "plain.npz", a=np.ones(20))
    with zipfile.ZipFile(tmp_path / "plain.npz") as plain, zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive:
        archive.writestr("a.npy", plain.read("a.npy"))
    with pytest.raises(UserError, match=r"a\.npz: cannot be read as an \.npz \(.*packed in a way"):
        load_labels(tmp_path / "a.npz", VOC12)


def test_a_chunk_of_a_png_that_pillow_fails_on_is_no_error_of_ours(tmp_path):
    whole = png(4, 4)
    (tmp_path / "a.png").write_bytes(whole[:-12] + png_chunk(b"iCCP", b"abc\0") + whole[-12:])
    for read in (load_rgb, of_voc(load_label_map)):
        with suppress(UserError):  # Pillow, by its version, may pass over it
            read(tmp_path / "a.png")
