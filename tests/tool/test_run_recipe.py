"""Which stages of a recipe are done: what they read, what later ones found, what other recipes have in one folder."""

import os
from pathlib import Path

import pytest

from tool.command import Ended
from tool.recipe import Stage
from tool.run_recipe import Record

WELL, MISTAKE = Ended(0, 1.0, 1.0, 0), Ended(2, 1.0, 1.0, 0)


def stage(name: str, makes: Path, flags: dict | None = None, *, reads: tuple[Path, ...] = ()) -> Stage:
    """One whose product is there."""
    makes.parent.mkdir(parents=True, exist_ok=True)
    makes.touch()
    return Stage(name, "script.py", flags or {}, makes, reads=reads)


def run_all(record: Record, stages: list[Stage]) -> None:
    for number, each in enumerate(stages):
        record.begin(each, stages[:number])
        record.end(each, WELL, stages[:number])


def change(path: Path, record: Record) -> None:
    """Write a file's bytes in place until its clock, which ticks a few hundred times a second, is past the record's."""
    began = max(entry["began"] for entry in record.stages.values())
    while path.stat().st_ctime_ns <= began:
        path.write_bytes(b"other")


@pytest.mark.parametrize("in_folder", [False, True])
def test_what_a_stage_reads_has_changed_if_it_did_after_the_stage_began(tmp_path, in_folder):
    (tmp_path / "masks").mkdir()
    mask = tmp_path / "masks" / "a.png"
    mask.write_bytes(b"mask")
    record = Record(tmp_path)
    prepare = stage("prepare", tmp_path / "labels.npy", reads=(mask.parent if in_folder else mask,))
    run_all(record, [prepare])
    assert record.done(prepare) and Record(tmp_path).done(prepare)
    record.begin(prepare, [])
    change(mask, record)  # while it runs: it may have read the old ones
    os.utime(mask, (0, 0))  # as `cp -p` and archives leave files
    record.end(prepare, WELL, [])
    os.utime(prepare.makes)
    assert not record.done(prepare)
    run_all(record, [prepare])
    assert record.done(prepare)


def test_a_record_that_is_older_than_its_beginnings_has_the_time_of_what_was_made(tmp_path):
    labels = tmp_path / "labels.json"
    labels.touch()
    record = Record(tmp_path)
    prepare = stage("prepare", tmp_path / "labels.npy", reads=(labels,))
    run_all(record, [prepare])
    del record.stages["prepare"]["began"]
    while prepare.makes.stat().st_mtime_ns < labels.stat().st_ctime_ns:
        prepare.makes.touch()
    assert record.done(prepare)
    os.utime(prepare.makes, (1, 1))
    assert not record.done(prepare)


def test_who_finds_a_fault_in_its_input_has_those_look_again_that_made_it(tmp_path):
    run = tmp_path / "eps"
    train = stage("train", run / "eps.pth", {"work_dir": tmp_path, "resume": True})
    infer = stage("infer", run / "crf" / "crf_8_7", {"work_dir": run, "weights": train.makes})
    learnt = stage("walk", run / "sem_seg", {"cam_dir": str(run / "cam_npy"), "list": tmp_path / "train.txt"})
    deeplab = stage("deeplab", tmp_path / "deeplab" / "net.pth", {"DATA_PSEUDO_GT": infer.makes, "weights": None})
    for last, redone in ((learnt, {"infer"}), (deeplab, {"infer"}), (infer, {"train"})):
        earlier = [each for each in (train, infer, learnt, deeplab) if each is not last]
        record = Record(tmp_path)
        run_all(record, earlier)
        record.begin(last, earlier)
        record.end(last, MISTAKE, earlier)
        assert {each.name for each in earlier if not record.done(each)} == redone
        assert {each.name: record.why(each.name) for each in earlier if record.why(each.name)} == dict.fromkeys(
            redone, f"{last.name} takes what it makes, and ended with exit code 2"
        )


def test_a_stage_that_runs_anew_leaves_no_other_recipes_done_that_may_come_from_it(tmp_path):
    """Two combinations share a folder: prepare, train are both's."""
    prepare, train, dhr, deeplab = (stage(name, tmp_path / name) for name in ("prepare", "train", "dhr", "deeplab"))
    record = Record(tmp_path)
    run_all(record, [prepare, train, dhr])
    run_all(record, [prepare, train, deeplab])
    assert record.done(deeplab) and not record.done(dhr)
    record = Record(tmp_path)
    record.begin(dhr, [prepare, train])
    record.end(dhr, WELL, [prepare, train])
    assert record.done(prepare) and record.done(train) and record.done(dhr)
