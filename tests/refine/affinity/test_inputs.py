"""Two folders of posteriors have to be a low and a high alpha's, of the same CAMs."""

import json

import pytest

from refine.affinity.inputs import check_alphas
from tool.cli import UserError

PREPARED = {"alpha": 4, "iterations": 10, "settings.json of --cam_dir": '{"thr": 0.2}'}
INFERRED = {"alpha": 4, "iterations": 10, "weights_sha256": "a"}


def check(tmp_path, low, high):
    folders = [tmp_path / "low", tmp_path / "high"]
    for folder, note in zip(folders, (low, high), strict=True):
        folder.mkdir()
        if note is not None:
            (folder / "settings.json").write_text(note if isinstance(note, str) else json.dumps(note))
    check_alphas(*folders)


@pytest.mark.parametrize("note", [PREPARED, INFERRED])
def test_a_copy_of_one_folder_is_refused(tmp_path, note):
    with pytest.raises(UserError, match=r"low, --ha_crf_dir .*high: expected a low and a high alpha, found 4 in both"):
        check(tmp_path, note, note)


@pytest.mark.parametrize(
    ("low", "change"), [(PREPARED, {"settings.json of --cam_dir": "{}"}), (INFERRED, {"weights_sha256": "b"})]
)
def test_folders_made_of_other_cams_are_refused(tmp_path, low, change):
    with pytest.raises(UserError, match="expected posteriors of the same CAMs, found two"):
        check(tmp_path, low, {**low, "alpha": 24, **change})


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (PREPARED, {**PREPARED, "alpha": 24}),
        (INFERRED, {**PREPARED, "alpha": 24}),
        ({**PREPARED, "settings.json of --cam_dir": None}, {**PREPARED, "alpha": 24}),
        (PREPARED, None),
        (None, None),
        (PREPARED, "[no JSON"),
        (PREPARED, "[4]"),
    ],
)
def test_what_belongs_together_or_has_no_note_is_taken(tmp_path, low, high):
    check(tmp_path, low, high)
