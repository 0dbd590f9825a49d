"""`merge.py`: the mean of several runs' CAMs and its seeds, what is missing and nothing else, and what it refuses."""

import json
import shutil

import numpy as np
import pytest

from data.images import load_rgb
from method import METHODS
from tests.needs import needs_pydensecrf
from tests.refine.affinity.stage import make_stage
from tests.scripts.conftest import (
    assert_refused,
    assert_succeeded,
    contents,
    run,
    run_all,
    run_by_two,
    words_of,
)
from tests.shapes import EMPTY
from tool.artifact import load_cam, load_crf, load_label_map, save_cam
from tool.cam import seed_labels
from tool.crf import crf_seed

MERGE = "merge.py"


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return make_stage(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def others(stage, tmp_path_factory):
    """CAM dicts of another run: turned upside down, and as uneven."""
    folder = tmp_path_factory.mktemp("others")
    for identifier in stage.ids:
        cams = load_cam(stage.cams / f"{identifier}.npy", stage.data_set)
        save_cam(folder / f"{identifier}.npy", {label: cam[::-1] ** 2 for label, cam in cams.items()}, stage.data_set)
    (folder / "settings.json").write_text('{"weights_sha256": "b"}')
    return folder


@pytest.fixture(scope="module")
def merged(stage, others, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged")
    assert_succeeded(run(MERGE, stage.flags(**{"--cam_dir": (stage.cams, others), "--work_dir": folder})))
    return folder


def test_a_cam_is_the_mean_of_the_runs_cams_and_the_seeds_follow_from_it(stage, others, merged):
    recipe = METHODS["hsc"].seeds
    for image_id in stage.ids:
        pair = [load_cam(folder / f"{image_id}.npy", stage.data_set) for folder in (stage.cams, others)]
        found = load_cam(merged / "cam_npy" / f"{image_id}.npy", stage.data_set)
        assert list(found) == stage.classes(image_id) == list(pair[0])
        for label, cam in found.items():
            np.testing.assert_allclose(cam, (pair[0][label] + pair[1][label]) / 2, atol=1e-7)
        labels = load_label_map(merged / "cam_png" / f"{image_id}.png", stage.data_set)
        assert np.array_equal(labels, seed_labels(found, threshold=recipe.threshold, shape=labels.shape))
    assert image_id == EMPTY and not load_label_map(merged / "crf" / "crf_8_7" / f"{EMPTY}.png", stage.data_set).any()
    made = json.loads((merged / "cam_npy" / "settings.json").read_text())
    assert made["settings.json of --cam_dir 1"] is None
    assert made["settings.json of --cam_dir 2"] == '{"weights_sha256": "b"}'


@needs_pydensecrf
def test_crf_seeds_are_those_of_the_mean(stage, merged):
    image_id = stage.ids[0]
    cams = load_cam(merged / "cam_npy" / f"{image_id}.npy", stage.data_set)
    expected = crf_seed(
        np.asarray(load_rgb(stage.images[image_id])),
        cams,
        recipe=METHODS["hsc"].seeds.crf[0],
        num_classes=stage.data_set.num_classes,
        backend="pydensecrf",
    )
    found = load_crf(merged / "crf" / "crf_8_7" / f"{image_id}.npy", stage.data_set)
    assert list(found) == list(expected)
    for label, scores in expected.items():
        np.testing.assert_allclose(found[label], scores, atol=1e-6)


def test_one_run_alone_gets_other_seeds_of_the_same_cams(stage, tmp_path):
    (tmp_path / "curve.json").write_text('{"best_threshold": 0.6}')
    flags = {"--method": "ppc", "--work_dir": tmp_path / "out", "--thr": tmp_path / "curve.json", "--crf_t": (2, 4)}
    assert_succeeded(run(MERGE, stage.flags(**flags, **{"--overlay": ()})))
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("**/settings.json"))
    folders = ["cam_npy", "cam_png", "crf/crf_2_thr0.6", "crf/crf_4_thr0.6", "overlay"]
    assert names == [f"{name}/settings.json" for name in folders]
    for image_id in stage.ids:
        both = [load_cam(f / f"{image_id}.npy", stage.data_set) for f in (stage.cams, tmp_path / "out" / "cam_npy")]
        assert all(np.array_equal(both[0][label], both[1][label]) for label in both[0])
        labels = load_label_map(tmp_path / "out" / "cam_png" / f"{image_id}.png", stage.data_set)
        assert np.array_equal(labels, seed_labels(both[0], threshold=0.6, shape=labels.shape))


def test_again_it_makes_what_is_missing_and_nothing_else(stage, others, merged, tmp_path):
    copy = shutil.copytree(merged, tmp_path / "merged")
    (copy / "cam_npy" / f"{stage.ids[2]}.npy").unlink()
    (copy / "crf" / "crf_8_7" / f"{stage.ids[3]}.png").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.*")}
    flags = stage.flags(**{"--cam_dir": (stage.cams, others), "--work_dir": copy})
    done = run(MERGE, flags)
    assert_succeeded(done)
    assert "2 of 9 images done" in done.stdout and contents(copy) == contents(merged)
    changed = {path.stem for path, time in before.items() if path.exists() and path.stat().st_mtime_ns != time}
    assert changed == {stage.ids[2], stage.ids[3]}
    assert_refused(run(MERGE, {**flags, "--cam_dir": others}), "take another --work_dir", "how many --cam_dir: 2 then")


def test_seeds_of_another_methods_recipe_and_exponents_of_one_folder_are_refused(stage, tmp_path):
    flags = stage.flags(**{"--work_dir": tmp_path, "--thr": 0.3, "--crf_t": 2})
    assert_succeeded(run(MERGE, {**flags, "--method": "ppc"}))
    assert_refused(run(MERGE, {**flags, "--method": "crt"}), "method: ppc then, crt now")
    twice = stage.flags(**{"--work_dir": tmp_path / "twice", "--crf_alpha": (7, 7.0000001)})
    assert_refused(run(MERGE, twice), "--crf_t, --crf_alpha: expected a folder for each kind of files", "crf_8_7")


def test_two_processes_share_the_list(stage, others, merged, tmp_path):
    flags = stage.flags(**{"--cam_dir": (stage.cams, others), "--work_dir": tmp_path})
    for done in run_by_two(MERGE, *words_of(flags)):
        assert_succeeded(done)
    assert contents(tmp_path) == contents(merged)


def test_what_does_not_fit_is_named(stage, others, tmp_path):
    first, empty = stage.ids[0], tmp_path / "empty"
    changed = {name: shutil.copytree(others, tmp_path / name) for name in ("classes", "size", "missing")}
    cams = load_cam(others / f"{first}.npy", stage.data_set)
    save_cam(changed["classes"] / f"{first}.npy", dict([*cams.items()][:-1]), stage.data_set)
    save_cam(changed["size"] / f"{first}.npy", {label: cam[1:] for label, cam in cams.items()}, stage.data_set)
    (changed["missing"] / f"{first}.npy").unlink()
    shutil.copytree(stage.cams, empty)
    for path in empty.iterdir():
        save_cam(path, {}, stage.data_set)
    names = " ".join(stage.data_set.classes[label] for label in cams)
    cases = [
        ((stage.cams, changed["classes"]), f"{first}.npy: expected the classes of {stage.cams / first}.npy, {names}; "),
        ((stage.cams, changed["size"]), "CAM dicts that cannot be used"),
        ((stage.cams, changed["missing"]), f"{first}.npy"),
        ((stage.cams, empty), "every CAM dict of the list is empty"),
        ((stage.cams, stage.cams), f"--cam_dir: expected each folder once, found {stage.cams} more than once"),
        ("nowhere", "--cam_dir nowhere: expected a folder"),
    ]
    jobs = {
        str(number): lambda number=number, folders=folders: run(
            MERGE, stage.flags(**{"--cam_dir": folders, "--work_dir": tmp_path / f"out{number}"})
        )
        for number, (folders, _) in enumerate(cases)
    }
    own = {"--cam_dir": others.parent / "own" / "cam_npy", "--work_dir": others.parent / "own"}
    jobs["own"] = lambda: run(MERGE, stage.flags(**own))
    jobs["thr"] = lambda: run(MERGE, stage.flags(**{"--work_dir": tmp_path / "out", "--thr": 2}))
    jobs["bare"] = lambda: run(MERGE, {"--method": ()})
    expected = [*(message for _, message in cases), "its cam_npy is one of --cam_dir", "--thr 2.0: expected"]
    expected.append("argument --method: expected one argument")
    for done, message in zip(run_all(jobs).values(), expected, strict=True):
        assert_refused(done, message)
