"""What is said of settings that changed where one of them is a record itself."""

import json

import pytest

from tool.cli import UserError
from tool.folder import changed_settings, made_with, record_of


def test_of_a_record_within_a_record_the_settings_that_differ_are_named():
    def made(network, **more):
        cams = json.dumps({"network": network, "thr": 0.2, **more}, indent=2)
        crf = json.dumps({"alpha": 4, "settings.json of --cam_dir": cams}, indent=2)
        return {"--lr": 0.1, "the settings.json of --la_crf_dir": crf}

    assert changed_settings(made("hsc", old=1), made("ppc", new=2), prefix="x: ") == [
        "x: --la_crf_dir's --cam_dir's network: hsc then, ppc now",
        "x: --la_crf_dir's --cam_dir's old: 1 then, None now",
        "x: --la_crf_dir's --cam_dir's new: None then, 2 now",
    ]
    assert changed_settings(made("hsc"), made("hsc")) == []


def test_what_is_no_record_is_compared_as_it_is():
    name = "settings.json of --cam_dir"
    for then, now in [("{", "[1]"), ('{"a": 1}', '{"a":1}'), ("7", '{"a": 1}')]:
        assert changed_settings({name: then}, {name: now}) == [f"{name}: {then} then, {now} now"]
    assert changed_settings({name: '{"a": 1}'}, {name: None}) == [f'{name}: {{"a": 1}} then, None now']


def test_a_record_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "settings.json").symlink_to("/proc/self/mem")  # to which even root gets an error
    with pytest.raises(UserError, match=r"settings\.json: cannot be read \("):
        made_with(tmp_path)
    assert record_of(tmp_path) == {}


def test_a_folder_without_a_record_has_an_empty_one(tmp_path):
    assert record_of(tmp_path) == record_of(tmp_path / "nowhere") == {}
    for content in ("{", "[1]", "[" * 100_000, '"text"'):
        (tmp_path / "settings.json").write_text(content)
        assert record_of(tmp_path) == {}
    (tmp_path / "settings.json").write_text('{"alpha": 4}')
    assert record_of(tmp_path) == {"alpha": 4}
