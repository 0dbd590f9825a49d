"""`inference.py` gives the golden seeds, does what is missing and nothing else, and loses nothing to a kill."""

import fcntl
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.labels import load_labels, save_labels
from network.build import build_network
from network.weights import released_state_dict
from tests.golden_inputs import fill
from tests.needs import needs_pydensecrf
from tests.processes import assert_all_end, living, needs_proc
from tests.scripts.conftest import (
    ROOT,
    TIME_LIMIT,
    WIDTH,
    assert_refused,
    assert_succeeded,
    contents,
    corrupt_middle,
    forker,
    run,
    run_all,
    run_by_two,
    run_until_killed,
    truncate,
    words_of,
)
from tool.artifact import load_cam, load_crf, load_label_map, save_crf, save_label_map
from tool.cam import seed_labels
from voc12.classes import VOC12

SCRIPT = "inference.py"
QUICK = {"--width": WIDTH, "--device": "cpu", "--crf_workers": 1}
MORE_CRF = {"--crf_t": (4, 8), "--crf_alpha": (4, 7)}
FEW = 4  # images of the runs that need no more


def written(work_dir):
    """A digest of every file in `work_dir`, by relative path."""
    return {name: digest for name, digest in contents(work_dir).items() if digest}


def outputs_of(ids, crf=("crf_8_7",)):
    """The names of the files that a run over `ids` writes."""
    folders = [("cam_npy", "npy"), ("cam_png", "png"), *((f"crf/{s}", end) for s in crf for end in ("npy", "png"))]
    files = {f"{folder}/{image_id}.{end}" for folder, end in folders for image_id in ids}
    return files | {f"{folder}/settings.json" for folder, _ in folders}


# -- the golden numbers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden_run(golden, meta, golden_device, tmp_path_factory):
    """The work_dir of a run of the full-size, filled net over the golden images, and their .npz files."""
    folder = tmp_path_factory.mktemp("golden")
    expected = sorted((golden / "inference").glob("*.npz"))
    (folder / "list.txt").write_text("".join(f"{file.stem}\n" for file in expected))
    state = released_state_dict(build_network("resnet38_hsc", num_classes=20))
    weights = folder / "filled.pth"
    torch.save({name: fill(name, tuple(value.shape), meta["salt"]) for name, value in state.items()}, weights)
    flags = {
        "--weights": weights,
        "--infer_list": folder / "list.txt",
        "--img_root": golden / "inference" / "images",
        "--labels": golden / "inference" / "cls_labels.npy",
        "--work_dir": folder / "out",
        "--device": golden_device,
        "--crf_workers": 1,
    }
    tf32 = {"NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE")}  # as `golden_device` has set it
    done = forker().run([SCRIPT, *words_of(flags)], ROOT, changes=tf32)
    weights.unlink()  # half a gigabyte
    assert_succeeded(done)
    assert expected
    return folder / "out", expected


@pytest.mark.golden
def test_the_golden_images_give_the_golden_cams_and_labels(golden_run):
    work_dir, expected = golden_run
    assert set(written(work_dir)) == outputs_of([file.stem for file in expected])
    for file in expected:
        with np.load(file) as data:
            cams = {int(key.removeprefix("cam_")): data[key] for key in data.files if key.startswith("cam_")}
            labels = data["png"]
        actual = load_cam(work_dir / "cam_npy" / f"{file.stem}.npy", VOC12)
        assert sorted(actual) == sorted(cams)
        for index, cam in cams.items():
            np.testing.assert_allclose(actual[index], cam, rtol=0, atol=2e-3)
        assert (
            load_label_map(work_dir / "cam_png" / f"{file.stem}.png", VOC12, shape=labels.shape) == labels
        ).mean() >= 0.995


@pytest.mark.golden
def test_the_golden_images_give_the_golden_crf_posteriors_and_their_argmax(golden_run):
    work_dir, expected = golden_run
    folder, prefix = work_dir / "crf" / "crf_8_7", "crf_t8_a7_"
    for file in expected:
        with np.load(file) as data:
            posteriors = {int(key.removeprefix(prefix)): data[key] for key in data.files if key.startswith(prefix)}
        actual = load_crf(folder / f"{file.stem}.npy", VOC12)
        assert sorted(actual) == sorted(posteriors)
        for label, scores in posteriors.items():
            np.testing.assert_allclose(actual[label], scores.astype(np.float32), rtol=0, atol=2e-3)
        stack = np.zeros((21, *actual[0].shape), np.float32)
        for label, scores in actual.items():
            stack[label] = scores
        np.testing.assert_array_equal(load_label_map(folder / f"{file.stem}.png", VOC12), stack.argmax(0))


# -- what a run writes, on a tiny net ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flags(data, undisturbed):
    return {**QUICK, **data.for_inference(), "--weights": undisturbed / "hsc.pth"}


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory):
    """Of the plain classifier, random."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("cls") / "cls.pth"
    torch.save(released_state_dict(build_network("resnet38_cls", num_classes=20, width=WIDTH)), path)
    return path


@pytest.fixture(scope="module")
def runs(flags, data, plain_weights, tmp_path_factory):
    """The work_dirs of undisturbed runs: the default settings; two processes and more CRFs; another net and no CRF; the
    CRF by the other backend; half the precision. The last three of a few images."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "few.txt").write_text("\n".join(data.ids[:FEW]))
    few = {**flags, "--infer_list": folder / "few.txt"}
    aliased = {**flags, "--img_root": None, "--data_root": flags["--img_root"]}

    def job(name, changed):
        def infer():
            assert_succeeded(run(SCRIPT, {**changed, "--work_dir": folder / name}))
            return folder / name

        return infer

    return run_all(
        {
            "one": job("one", flags),
            "two": job("two", {**aliased, "--n_processes_per_gpu": 2, **MORE_CRF}),
            "cls": job("cls", {**few, "--crf_t": "none", "--network": "resnet38_cls", "--weights": plain_weights}),
            "torch": job("torch", {**few, "--crf_backend": "torch"}),
            "bf16": job("bf16", {**few, "--crf_t": "none", "--amp": "bf16"}),
        }
    )


def test_a_run_writes_every_images_files_and_no_others(runs, data):
    work_dir, labels = runs["one"], load_labels(data.labels, VOC12)
    assert set(written(work_dir)) == outputs_of(data.ids)
    for image_id in data.ids:
        cams = load_cam(work_dir / "cam_npy" / f"{image_id}.npy", VOC12)
        assert list(cams) == np.flatnonzero(labels[image_id]).tolist()
        seeds = load_label_map(work_dir / "cam_png" / f"{image_id}.png", VOC12)
        np.testing.assert_array_equal(seeds, seed_labels(cams, threshold=0.22, shape=seeds.shape))
        posteriors = load_crf(work_dir / "crf" / "crf_8_7" / f"{image_id}.npy", VOC12, shape=seeds.shape)
        assert list(posteriors) == [0, *(index + 1 for index in cams)]


def test_two_processes_and_more_crf_settings_give_the_same_files_and_more(runs, data):
    one, two = written(runs["one"]), written(runs["two"])
    assert set(two) == outputs_of(data.ids, ["crf_4_4", "crf_4_7", "crf_8_4", "crf_8_7"])
    assert {name: two[name] for name in one} == one
    settings = [[two[f"crf/crf_{t}_{alpha}/{i}.npy"] for i in data.ids] for t in (4, 8) for alpha in (4, 7)]
    assert all(one != other for index, one in enumerate(settings) for other in settings[:index])


def test_several_machines_share_a_list_and_write_the_same_files(runs, flags, tmp_path):
    both = run_by_two(SCRIPT, *words_of({**flags, "--work_dir": tmp_path}))
    for done in both:
        assert_succeeded(done)
    assert written(tmp_path) == written(runs["one"])
    assert [re.findall(r"\d+ of (\d+) images inferred", done.stdout) for done in both] == [["8"], ["8"]]


def test_the_plain_classifier_gives_seeds_of_its_own_and_no_crf_where_none_is_asked_for(runs, data):
    assert set(written(runs["cls"])) == outputs_of(data.ids[:FEW], [])
    assert not (runs["cls"] / "crf").exists()
    one, other = (load_cam(runs[name] / "cam_npy" / f"{data.ids[0]}.npy", VOC12) for name in ("one", "cls"))
    assert list(one) == list(other)
    assert any(not np.allclose(one[index], other[index]) for index in one)


@needs_pydensecrf
def test_either_crf_backend_gives_the_same_seeds(runs, data):
    for image_id in data.ids[:FEW]:
        one, other = (runs[name] / "crf" / "crf_8_7" / f"{image_id}.npy" for name in ("one", "torch"))
        for label, scores in load_crf(one, VOC12).items():
            np.testing.assert_allclose(load_crf(other, VOC12)[label], scores, rtol=0, atol=1e-3)


def test_half_the_precision_gives_nearly_the_same_cams_and_is_another_setting(runs, flags, data):
    differences = []
    for image_id in data.ids[:FEW]:
        one, other = (load_cam(runs[name] / "cam_npy" / f"{image_id}.npy", VOC12) for name in ("one", "bf16"))
        differences += [np.abs(one[index] - other[index]).mean() for index in one]
    assert 0 < np.mean(differences) < 0.05
    done = run(SCRIPT, {**flags, "--work_dir": runs["one"], "--amp": "bf16"})
    assert_refused(done, f"{runs['one'] / 'cam_npy'}: amp: off then, bf16 now")


# -- running again -----------------------------------------------------------------------------------------------------


def test_a_run_killed_twice_ends_with_the_files_of_one_that_was_not(flags, runs, data, tmp_path):
    flags = {**flags, **MORE_CRF, "--work_dir": tmp_path}

    def kill_when_made(folder):
        def made():
            return len(list((tmp_path / folder).glob("*.npy")))

        run_until_killed(SCRIPT, flags, kill_when=lambda: made() >= 3)
        assert 3 <= made() < len(data.ids)

    kill_when_made("cam_npy")
    kill_when_made("crf/crf_8_7")
    # What a kill amid a write leaves: no file, and half of a temporary one.
    (tmp_path / "cam_npy" / f"{data.ids[-1]}.npy").unlink(missing_ok=True)
    (tmp_path / "cam_npy" / f".{data.ids[-1]}.npy.tmp").write_bytes(b"half a file")
    assert_succeeded(run(SCRIPT, flags))
    actual, expected = written(tmp_path), written(runs["two"])
    assert {name: actual.get(name) for name in expected} == expected
    assert set(actual) == set(expected)


@pytest.fixture
def copied(runs, tmp_path):
    """A finished run's folder to change."""
    return Path(shutil.copytree(runs["one"], tmp_path / "out"))


def modified(work_dir):
    """When each file was last written, by relative path."""
    return {name: (work_dir / name).stat().st_mtime_ns for name in written(work_dir)}


def test_damaged_and_missing_files_alone_are_made_again(flags, runs, data, copied):
    ids = data.ids
    truncate(copied / "cam_npy" / f"{ids[0]}.npy", 100)
    (copied / "cam_png" / f"{ids[1]}.png").unlink()
    truncate(copied / "crf" / "crf_8_7" / f"{ids[2]}.npy", 100)
    (copied / "crf" / "crf_8_7" / f"{ids[3]}.png").write_bytes(b"")
    before = modified(copied)
    assert_succeeded(run(SCRIPT, {**flags, "--work_dir": copied}))
    assert written(copied) == written(runs["one"])
    # What follows from a CAM is made with it, and the two files of a CRF setting together; a label map needs no net.
    assert {name for name, time in modified(copied).items() if before.get(name) != time} == {
        *(f"{folder}/{ids[0]}.{end}" for folder, end in (("cam_npy", "npy"), ("cam_png", "png"))),
        f"cam_png/{ids[1]}.png",
        *(f"crf/crf_8_7/{ids[number]}.{end}" for number in (0, 2, 3) for end in ("npy", "png")),
    }


def test_changed_labels_and_images_behind_the_same_paths_are_noticed(flags, runs, data, copied, tmp_path):
    changed, ids, crf = data.copy(tmp_path / "data"), data.ids, copied / "crf" / "crf_8_7"
    labels = load_labels(data.labels, VOC12)
    labels[ids[0]] = np.roll(labels[ids[0]], 1)
    save_labels(changed.labels, labels)
    Image.open(data.images / f"{ids[1]}.jpg").resize((40, 32)).save(changed.images / f"{ids[1]}.jpg")
    # A CRF dict that is older than the labels, and a label map that is older than the image.
    shape = load_label_map(copied / "cam_png" / f"{ids[2]}.png", VOC12).shape
    save_crf(crf / f"{ids[2]}.npy", {0: np.ones(shape, np.float32)}, VOC12)
    save_label_map(crf / f"{ids[3]}.png", np.zeros((3, 3), np.uint8), VOC12)
    save_label_map(copied / "cam_png" / f"{ids[4]}.png", np.zeros((3, 3), np.uint8), VOC12)
    assert_succeeded(run(SCRIPT, {**flags, **changed.for_inference(), "--work_dir": copied}))
    actual, expected = written(copied), written(runs["one"])
    assert set(actual) == set(expected)
    assert {Path(name).stem for name in actual if actual[name] != expected[name]} == set(ids[:2])
    for image_id in ids[:2]:
        with Image.open(changed.images / f"{image_id}.jpg") as image:
            shape = image.size[::-1]
        cams = load_cam(copied / "cam_npy" / f"{image_id}.npy", VOC12, shape=shape)
        assert list(cams) == np.flatnonzero(labels[image_id]).tolist()
        seeds = load_label_map(copied / "cam_png" / f"{image_id}.png", VOC12, shape=shape)
        np.testing.assert_array_equal(seeds, seed_labels(cams, threshold=0.22, shape=seeds.shape))
        assert list(load_crf(crf / f"{image_id}.npy", VOC12, shape=shape)) == [0, *(index + 1 for index in cams)]
        load_label_map(crf / f"{image_id}.png", VOC12, shape=shape)


def with_other_head(undisturbed, path, change):
    """The weights with another classifier, at `path`."""
    state = torch.load(undisturbed / "hsc.pth", weights_only=True)
    torch.save({**state, "fc8.weight": change(state["fc8.weight"])}, path)
    return path


def test_a_cam_that_is_no_number_leaves_no_file_neither_its_own_nor_an_older_ones(
    flags, undisturbed, data, copied, tmp_path
):
    weights = with_other_head(undisturbed, tmp_path / "nan.pth", lambda weight: torch.full_like(weight, 3e38))
    short = tmp_path / "short.txt"
    short.write_text(f"{data.ids[0]}\n")
    changed = {"--weights": weights, "--work_dir": tmp_path / "nan", "--infer_list": short}
    done = run(SCRIPT, {**flags, **changed})
    assert_refused(done, f"{data.ids[0]}.npy: ", "not finite")
    assert set(written(tmp_path / "nan")) == outputs_of([])


# -- whose files these are ---------------------------------------------------------------------------------------------


def forget_label_maps_settings(work_dir):
    (work_dir / "cam_png" / "settings.json").unlink()


def leave_others_seeds_alone(work_dir):
    shutil.rmtree(work_dir / "cam_npy")


@pytest.mark.parametrize(
    ("changes", "deed", "messages"),
    [
        ({"--thr": 0.3}, None, ["cam_png: thr: 0.22 then, 0.3 now", "(1)"]),
        ({"--scales": (1, 2)}, None, ["cam_npy: scales: ", "cam_png: scales: ", "crf_8_7: scales: ", "(3)"]),
        ({"--weights": None}, leave_others_seeds_alone, ["cam_png: weights_sha256", "crf_8_7: weights_sha256", "(2)"]),
        ({"--data_set": None}, None, ["cam_npy: data_set: voc12 then, ", "twenty.json now", "(3)"]),
        ({}, forget_label_maps_settings, ["cam_png: holds files made with unknown settings", "(1)"]),
    ],
    ids=["threshold", "scales", "another net", "another data set", "unknown"],
)
def test_another_runs_files_are_not_mixed_with_ones_of_other_settings(
    flags, undisturbed, copied, tmp_path, changes, deed, messages
):
    if "--weights" in changes:
        changes = {"--weights": with_other_head(undisturbed, tmp_path / "other.pth", lambda weight: weight + 1)}
    if "--data_set" in changes:
        changes = {"--data_set": tmp_path / "twenty.json"}
        changes["--data_set"].write_text(json.dumps({"names": ["background", *map(str, range(20))]}))
    if deed is not None:
        deed(copied)
    before, times = written(copied), modified(copied)
    assert_refused(run(SCRIPT, {**flags, "--work_dir": copied, **changes}), str(copied), *messages)
    assert written(copied) == before and modified(copied) == times


def test_a_folder_that_another_run_writes_into_is_left_alone(flags, tmp_path):
    held = tmp_path / "cam_npy"
    held.mkdir()
    descriptor = os.open(held, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        done = run(SCRIPT, {**flags, "--work_dir": tmp_path})
    finally:
        os.close(descriptor)
    assert_refused(done, f"--work_dir {held}: another run is writing into it")
    assert list(contents(tmp_path)) == ["cam_npy"]


# -- ends and errors ---------------------------------------------------------------------------------------------------


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_processes_end_with_the_command(flags, data, tmp_path, number):
    flags = {**flags, "--work_dir": tmp_path, "--n_processes_per_gpu": 2, "--crf_t": 1000}
    started = forker().start([SCRIPT, *words_of(flags)], ROOT)
    process = started.pids.get(timeout=TIME_LIMIT)
    while len(living(process)) < 5:  # itself, what forks its pools' processes, and these
        assert not started.has_ended()
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process, number)  # as a terminal does
        done = started.wait()
        assert done.stdout.endswith(" tensors loaded\n") and done.stderr == "interrupted\n"
    else:
        os.kill(process, number)
    assert_all_end(process)
    assert set(written(tmp_path)) < outputs_of(data.ids, ["crf_1000_7"])


def test_images_that_only_decoding_finds_damaged_are_named_and_the_others_done(flags, runs, data, tmp_path):
    damaged = data.copy(tmp_path / "data")
    for image_id in (data.ids[2], data.ids[9]):
        corrupt_middle(damaged.images / f"{image_id}.jpg")
    work_dir = tmp_path / "out"
    done = run(SCRIPT, {**flags, "--img_root": damaged.images, "--work_dir": work_dir})
    assert_refused(done, f"{data.ids[2]}.jpg: ", f"{data.ids[9]}.jpg: ", "the others are done", "(2)")
    sound = [image_id for image_id in data.ids if image_id not in (data.ids[2], data.ids[9])]
    expected = outputs_of(sound)
    assert written(work_dir) == {name: digest for name, digest in written(runs["one"]).items() if name in expected}
