"""Labels: what a file of them may hold, and what VOC's annotations say."""

import os

import numpy as np
import pytest

from data.annotations import labels_from_annotations
from data.labels import labels_of, load_labels, save_labels
from tool.cli import UserError
from voc12.classes import CLASSES, NUM_CLASSES, VOC12


def one_hot(*classes: int) -> np.ndarray:
    vector = np.zeros(NUM_CLASSES, np.float32)
    vector[list(classes)] = 1
    return vector


def test_saved_labels_are_read_by_numpy_and_by_us(tmp_path):
    labels = {"2007_000032": one_hot(0, 14), "it's é": one_hot(19)}
    save_labels(tmp_path / "cls_labels.npy", labels)
    shared = np.load(tmp_path / "cls_labels.npy", allow_pickle=True).item()
    for read in (shared, load_labels(tmp_path / "cls_labels.npy", VOC12)):
        assert list(read) == list(labels)
        for identifier, vector in labels.items():
            assert read[identifier].dtype == np.float32
            np.testing.assert_array_equal(read[identifier], vector)
    assert [path.name for path in tmp_path.iterdir()] == ["cls_labels.npy"]


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8, bool])
def test_labels_of_any_number_type_come_as_float32(tmp_path, dtype):
    save_labels(tmp_path / "cls_labels.npy", {"a": one_hot(3).astype(dtype)})
    labels = labels_of(["a"], load_labels(tmp_path / "cls_labels.npy", VOC12), VOC12, source="--labels")
    assert labels["a"].dtype == np.float32
    np.testing.assert_array_equal(labels["a"], one_hot(3))


def test_every_id_at_fault_is_named_with_its_fault(tmp_path):
    faults = {
        "none": (None, "no label"),
        "short": (np.ones(19), "shape"),
        "row": (one_hot(1)[None], "shape"),
        "nan": (np.where(one_hot(1) == 1, np.nan, 0), "NaN"),
        "two": (2 * one_hot(1), "other than 0 and 1"),
        "half": (one_hot(1) / 2, "other than 0 and 1"),
        "huge": (1e300 * one_hot(1).astype(np.float64), "other than 0 and 1"),
        "empty": (np.zeros(20), "without any class"),
    }
    labels = {identifier: vector for identifier, (vector, _) in faults.items() if vector is not None}
    save_labels(tmp_path / "cls_labels.npy", {"fine": one_hot(2), "unused": np.ones(3), **labels})
    with pytest.raises(UserError) as error:
        labels_of(
            ["fine", *faults], load_labels(tmp_path / "cls_labels.npy", VOC12), VOC12, source="--labels cls_labels.npy"
        )
    summary, *lines = str(error.value).split("\n")
    assert summary.startswith("--labels cls_labels.npy")
    assert len(lines) == len(faults)
    for line, (identifier, (_, fault)) in zip(lines, faults.items(), strict=True):
        assert line.strip().startswith(f"{identifier}: ")
        assert fault in line


def test_only_the_labels_asked_for_are_given_in_the_order_of_the_list():
    labels = {"a": one_hot(1), "b": one_hot(2), "c": np.zeros(20, np.float32)}
    assert list(labels_of(["b", "a"], labels, VOC12, source="--labels")) == ["b", "a"]


class Opener:
    """A pickle that would open a file, as a hostile one might run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_labels_file_runs_nothing(tmp_path):
    save_labels(tmp_path / "cls_labels.npy", {"a": Opener(tmp_path / "opened")})
    with pytest.raises(UserError, match=r"--labels.*cls_labels\.npy"):
        load_labels(tmp_path / "cls_labels.npy", VOC12)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("content", [{"a": "person"}, {"a": [1, 0]}, {7: one_hot(1)}, [one_hot(1)], "person"])
def test_a_file_that_is_no_dict_of_vectors_is_refused(tmp_path, content):
    save_labels(tmp_path / "cls_labels.npy", content)
    with pytest.raises(UserError, match=r"--labels.*cls_labels\.npy"):
        load_labels(tmp_path / "cls_labels.npy", VOC12)


def test_an_image_without_a_class_has_a_label_only_where_that_is_asked_for():
    labels = {"full": one_hot(2), "empty": np.zeros(20, np.float32)}
    assert labels_of(["full", "empty"], labels, VOC12, source="--labels", may_be_empty=True) == labels
    with pytest.raises(UserError, match="empty: label without any class"):
        labels_of(["full", "empty"], labels, VOC12, source="--labels")


@pytest.mark.parametrize("content", [b"", b"id person", b"\x93NUMPY\x01\x00"])
def test_a_damaged_or_missing_file_is_refused_with_flag_and_file(tmp_path, content):
    (tmp_path / "cls_labels.npy").write_bytes(content)
    for path in (tmp_path / "cls_labels.npy", tmp_path / "none.npy", tmp_path):
        with pytest.raises(UserError) as error:
            load_labels(path, VOC12, flag="--some_labels")
        assert "--some_labels" in str(error.value)
        assert str(path) in str(error.value)


def write_annotation(folder, identifier: str, objects: str) -> None:
    (folder / f"{identifier}.xml").write_text(f"<annotation><filename>x</filename>{objects}</annotation>")


def test_every_object_counts_difficult_ones_too_and_parts_do_not(tmp_path):
    write_annotation(
        tmp_path,
        "a",
        "<object><name>person</name><difficult>0</difficult><part><name>dog</name></part></object>"
        "<object><name>person</name></object>"
        "<object><part><name>head</name></part><name> bird\n</name><difficult>1</difficult></object>",
    )
    labels, problems = labels_from_annotations(tmp_path, ["a"], VOC12)
    assert problems == []
    assert labels["a"].dtype == np.float32
    np.testing.assert_array_equal(labels["a"], one_hot(CLASSES.index("bird"), CLASSES.index("person")))


def test_every_faulty_annotation_is_reported_and_the_others_still_give_labels(tmp_path):
    write_annotation(tmp_path, "fine", "<object><name>tvmonitor</name></object>")
    write_annotation(tmp_path, "unknown", "<object><name>person</name></object><object><name>zebra</name></object>")
    write_annotation(tmp_path, "nothing", "")
    (tmp_path / "cut.xml").write_text("<annotation><object><name>person</na")
    (tmp_path / "empty.xml").write_bytes(b"")
    (tmp_path / "encoding.xml").write_text('<?xml version="1.0" encoding="no-such"?><annotation/>')
    os.mkfifo(tmp_path / "pipe.xml")
    faulty = ["missing", "unknown", "nothing", "cut", "empty", "encoding", "pipe"]
    labels, problems = labels_from_annotations(tmp_path, ["fine", *faulty], VOC12)
    assert list(labels) == ["fine"]
    for problem, identifier in zip(problems, faulty, strict=True):
        assert problem.startswith(str(tmp_path / f"{identifier}.xml"))
    assert "'zebra'" in problems[1]
    assert "person" not in problems[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_annotation_with_a_document_type_is_refused_before_its_entities_expand(tmp_path, encoding):
    entities = '<!ENTITY a0 "person">' + "".join(f'<!ENTITY a{i + 1} "&a{i};&a{i};">' for i in range(40))
    bomb = f"<!DOCTYPE annotation [{entities}]><annotation><object><name>&a40;</name></object></annotation>"
    (tmp_path / "bomb.xml").write_bytes(bomb.encode(encoding))
    labels, problems = labels_from_annotations(tmp_path, ["bomb"], VOC12)
    assert labels == {}
    assert "document type" in problems[0]
