"""PPC's pseudo_label_gen.py: label maps of CRF posteriors, dicts or arrays, again from where it stopped."""

import numpy as np
import pytest
from PIL import Image

from tests.scripts.conftest import assert_refused, assert_succeeded, run
from tool.artifact import load_label_map, save_crf
from voc12.classes import VOC12

SCRIPT = "released/ppc/pseudo_label_gen.py"
EXPECTED = {"a": [[0, 4]], "b": [[15, 0]], "c": [[0, 0]]}  # equal scores go to the lowest label


@pytest.fixture
def flags(tmp_path):
    """Of a run on the posteriors of three images: of a class, of one as an array of all labels, and of none."""
    (tmp_path / "list.txt").write_text("\n".join(EXPECTED))
    (tmp_path / "crf").mkdir()
    high, low, half = (np.full((1, 1), value, np.float32) for value in (0.7, 0.3, 0.5))
    two = {4: np.hstack([half, high]), 0: np.hstack([half, low])}
    save_crf(tmp_path / "crf" / "a.npy", two, VOC12)
    every = np.zeros((VOC12.num_labels, 1, 2), np.float32)
    every[0], every[15] = [[0.3, 0.6]], [[0.7, 0.4]]
    np.save(tmp_path / "crf" / "b.npy", every)
    save_crf(tmp_path / "crf" / "c.npy", {0: np.ones((1, 2), np.float32)}, VOC12)
    folders = {"--crf_pred": tmp_path / "crf", "--label_save_dir": tmp_path / "maps"}
    return {"--datalist": tmp_path / "list.txt", **folders}


def test_it_writes_the_likeliest_labels_and_again_what_is_missing(flags, tmp_path):
    done = run(SCRIPT, flags)
    assert_succeeded(done)
    assert "3 of 3 images done" in done.stdout
    maps = tmp_path / "maps"
    (maps / "a.png").unlink()
    (maps / "b.png").write_bytes(b"half")
    kept = (maps / "c.png").stat().st_mtime_ns
    assert "2 of 3 images done" in run(SCRIPT, flags).stdout
    assert {name: load_label_map(maps / f"{name}.png", VOC12).tolist() for name in EXPECTED} == EXPECTED
    assert Image.open(maps / "a.png").mode == "P" and (maps / "c.png").stat().st_mtime_ns == kept
    assert "nothing is missing of 3 images" in run(SCRIPT, flags).stdout


def test_what_is_wrong_is_named_and_the_other_images_are_done(flags, tmp_path):
    np.save(tmp_path / "crf" / "b.npy", np.ones((3, 1, 2), np.float32))
    assert_refused(run(SCRIPT, flags), "images that gave no label map; the others are done", "b.npy")
    assert (tmp_path / "maps" / "c.png").exists()
    (tmp_path / "crf" / "b.npy").unlink()
    assert_refused(run(SCRIPT, flags), "CRF posteriors of --infer_list", "missing", "b.npy")
    flags["--datalist"].write_text("a")
    here = {**flags, "--label_save_dir": tmp_path / "crf"}
    assert_refused(run(SCRIPT, here), "expected another folder than --crf_dir")
