"""Label files as others share them: what is plain is read, else the line says what was found and the way out."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from data.labels import labels_of, load_labels, save_labels
from tests.scripts.conftest import ROOT, TINY, WIDTH, Data, assert_refused, assert_succeeded, forker, words_of
from tool.cli import UserError
from voc12.classes import CLASSES, VOC12

LABELS = {"2007_000032": [0, 14], "2011_003276": [19]}


def vectors(**options) -> dict[str, np.ndarray]:
    return {name: np.isin(np.arange(20), classes).astype(**options) for name, classes in LABELS.items()}


FLOATS = vectors(dtype=np.float32)


def save(path, value) -> None:
    np.save(path, np.array(value, dtype=object), allow_pickle=True)


def savez(path, **arrays) -> None:
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def written(path, value) -> None:
    path.write_bytes(value)


# How a file is written that means `LABELS`.
DRESSES = {
    "IRN's numbers": lambda path: save(path, {int(name.replace("_", "")): v for name, v in FLOATS.items()}),
    "IRN's numbers, NumPy's": lambda path: save(path, {np.int64(n.replace("_", "")): v for n, v in FLOATS.items()}),
    "names of images": lambda path: save(path, {f"{name}.jpg": v for name, v in FLOATS.items()}),
    "names of masks": lambda path: save(path, {f"{name}.png": v for name, v in FLOATS.items()}),
    "paths": lambda path: save(path, {f"JPEGImages/{name}.JPG": v for name, v in FLOATS.items()}),
    "NumPy's strings": lambda path: save(path, {np.str_(name): v for name, v in FLOATS.items()}),
    "lists": lambda path: save(path, {name: v.tolist() for name, v in FLOATS.items()}),
    "tuples": lambda path: save(path, {name: tuple(map(int, v)) for name, v in FLOATS.items()}),
    "NumPy's numbers": lambda path: save(path, {name: list(v) for name, v in FLOATS.items()}),
    "bool": lambda path: save(path, vectors(dtype=bool)),
    "whole numbers": lambda path: save(path, vectors(dtype=np.int64)),
    "a pickle": lambda path: written(path, pickle.dumps(FLOATS)),
    "an old pickle": lambda path: written(path, pickle.dumps(FLOATS, protocol=2)),
    "a pickle of lists": lambda path: written(path, pickle.dumps({n: v.tolist() for n, v in FLOATS.items()})),
    "JSON": lambda path: path.write_text(json.dumps({n: v.astype(int).tolist() for n, v in FLOATS.items()}, indent=1)),
    "JSON within a name": lambda path: path.write_text(json.dumps({"a": {n: v.tolist() for n, v in FLOATS.items()}})),
    "npz": lambda path: savez(path, **FLOATS),
    "npz of a dict": lambda path: savez(path, labels=np.array(FLOATS, dtype=object)),
}  # fmt: skip


@pytest.mark.parametrize("dress", DRESSES)
def test_labels_in_another_dress_are_read_as_what_they_mean(tmp_path, dress):
    path = tmp_path / "labels.npy"
    DRESSES[dress](path)
    found = labels_of(list(LABELS), load_labels(path, VOC12), VOC12, source="--labels")
    for name, classes in LABELS.items():
        assert found[name].dtype == np.float32
        assert np.flatnonzero(found[name]).tolist() == classes and set(found[name]) == {0, 1}


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**29,)})
        for _ in range(2**9):
            file.write(bytes(2**20))
    return stream.getvalue()


def with_background(first: int) -> dict[str, np.ndarray]:
    return {name: np.insert(vector, 0 if first else 20, 1) for name, vector in FLOATS.items()}


def test_an_archive_whose_directory_loses_arrays_is_refused(tmp_path):
    """The third entry's comment, by its length, holds those after it: zipfile reads three arrays and says nothing."""
    path = tmp_path / "labels.npz"
    savez(path, **{f"2007_00000{number}": np.eye(20)[number] for number in range(6)})
    content = bytearray(path.read_bytes())
    entries = [place for place in range(len(content)) if content[place : place + 4] == b"PK\x01\x02"]
    rest = content.rindex(b"PK\x05\x06") - entries[3]
    content[entries[2] + 32 : entries[2] + 34] = rest.to_bytes(2, "little")
    path.write_bytes(content)
    assert len(np.load(path)) == 3
    with pytest.raises(UserError, match="6 arrays counted, 3 listed"):
        load_labels(path, VOC12)


# How a file is written that is refused, and what is said.
REFUSED = {
    "other numbers": (lambda path: save(path, {7: FLOATS["2007_000032"]}), "2007000032; found 1 others, as 7"),
    "an id twice": (lambda path: save(path, {**FLOATS, "2011_003276.jpg": np.ones(20)}), "2011_003276: 2 labels"),
    "background first": (lambda path: save(path, with_background(True)), "the first is 1 everywhere"),
    "background last": (lambda path: save(path, with_background(False)), "the last is 1 everywhere"),
    "classes": (lambda path: save(path, LABELS), "found lists of classes' numbers, as [0, 14]"),
    "classes in JSON": (lambda path: path.write_text(json.dumps(LABELS)), "in the order of voc12/classes.py"),
    "names": (lambda path: save(path, {name: [CLASSES[0]] for name in LABELS}), "values as ['aeroplane']"),
    "a table": (lambda path: np.save(path, np.stack(list(FLOATS.values()))), "an array of float32, shape (2, 20)"),
    "a table in npz": (lambda path: savez(path, labels=np.stack(list(FLOATS.values()))), "arrays of shape (2, 20)"),
    "another data set's": (lambda path: save(path, {"000000000009": np.ones(80)}), "arrays of shape (80,)"),
    "a list": (lambda path: path.write_text(json.dumps([1, 2])), "found [1, 2]"),
    "text": (lambda path: path.write_text("2007_000032 0 14\n"), "expected a .npy file"),
    "broken JSON": (lambda path: path.write_text('{"2007_000032": [0, 1'), "cannot be read as JSON"),
    "huge numbers": (lambda path: path.write_text(f'{{"a": [{10**400}, 1.5]}}'), "values as"),
    "a zip of other files": (
        lambda path: zipfile.ZipFile(path, "w").writestr("data.pkl", b"\x80\x02}."), "expected a .npy file"
    ),
    "a bomb": (lambda path: written(path, bomb()), "more than 256 MB unpacked"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_plain_is_named_with_the_way_out(tmp_path, name):
    path = tmp_path / "labels.npy"
    write, message = REFUSED[name]
    write(path)
    with pytest.raises(UserError) as error:
        load_labels(path, VOC12)
    assert str(error.value).startswith("--labels") and str(path) in str(error.value)
    assert message in str(error.value)
    if name != "an id twice":
        assert "python -m voc12.prepare makes such a file" in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def flags(data: Data, tmp_path) -> dict[str, dict]:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"\x80\x02")  # as files of torch.save begin
    common = {"--weights": weights, "--work_dir": tmp_path / "exps"}
    return {
        "train_voc.py": {**data.for_training(), **common},
        "inference.py": {**data.for_inference(), **common},
    }


@pytest.mark.parametrize("script", ["train_voc.py", "inference.py"])
def test_labels_of_other_images_are_refused_in_one_line(data, flags, tmp_path, script):
    save_labels(tmp_path / "labels.npy", FLOATS)
    done = forker().run([script, *words_of({**flags[script], "--labels": tmp_path / "labels.npy"})], ROOT)
    assert_refused(done, f"{data.ids[0]}: no label, nor of any other image of the list", "as 2007_000032", "(1)")


def test_numbers_that_became_strings_are_named_as_what_they_are(data, flags, tmp_path):
    labels = {name.replace("_", ""): vector.tolist() for name, vector in load_labels(data.labels, VOC12).items()}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    done = forker().run(
        ["train_voc.py", *words_of({**flags["train_voc.py"], "--labels": tmp_path / "labels.json"})], ROOT
    )
    assert_refused(done, f"ids lack the underscore; make {data.ids[0].replace('_', '')} {data.ids[0]}", "(1)")


def test_training_and_inference_take_irns_labels(data, undisturbed, tmp_path):
    save(tmp_path / "irn.npy", {int(name.replace("_", "")): v for name, v in load_labels(data.labels, VOC12).items()})
    flags = {**TINY, **data.for_training(), "--labels": tmp_path / "irn.npy", "--max_iters": 1}
    assert_succeeded(forker().run(["train_voc.py", *words_of({**flags, "--work_dir": tmp_path})], ROOT))
    (tmp_path / "list.txt").write_text(data.ids[0])
    flags = {**data.for_inference(), "--labels": tmp_path / "irn.npy", "--infer_list": tmp_path / "list.txt"}
    flags |= {"--weights": undisturbed / "hsc.pth", "--width": WIDTH, "--scales": 1, "--crf_t": "none"}
    flags |= {"--device": "cpu", "--work_dir": tmp_path}
    assert_succeeded(forker().run(["inference.py", *words_of(flags)], ROOT))
    cams = np.load(tmp_path / "cam_npy" / f"{data.ids[0]}.npy", allow_pickle=True).item()
    assert list(cams) == np.flatnonzero(load_labels(data.labels, VOC12)[data.ids[0]]).tolist()
