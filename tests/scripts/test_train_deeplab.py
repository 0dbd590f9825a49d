"""Stage 3's training goes on only from its own state, on its own list, and alone."""

import shutil

import pytest
import torch

from segmentation.experiment.train import FROM_FILE
from tests.scripts.conftest import assert_refused, assert_succeeded, contents, load, run, run_all
from tests.scripts.test_segmentation import QUICK_TRAINING, TRAIN, settings
from tool.file_hash import sha256_of
from tool.lock import hold_folder

TWO_STEPS = {"TRAIN_ITERATION": 2, "TRAIN_SAVE_EVERY": 1, "DATA_WORKERS": 0}


def forget_momenta(folder):
    state = load(folder / "last.ckpt")
    for momentum in state["optimizer"]["state"].values():
        momentum["momentum_buffer"] = momentum["momentum_buffer"][..., None]
    torch.save(state, folder / "last.ckpt")


def begin_from(start, sha256="0" * 64):
    """Make a run's checkpoint one that began from the file that the settings `start` name, when its content had this
    hash."""

    def change(folder):
        state = load(folder / "last.ckpt")
        of_file = {FROM_FILE: True, "the weights of MODEL_BACKBONE_WEIGHTS (sha256)": sha256}
        state["settings"] |= {"MODEL_BACKBONE_PRETRAIN": start["MODEL_BACKBONE_PRETRAIN"], **of_file}
        torch.save(state, folder / "last.ckpt")

    return change


@pytest.fixture(scope="module")
def continued(data, tmp_path_factory):
    """What became of a finished run that is gone on with in several ways; its folder, and what that held before."""
    root = data.root / "VOC2012"
    voc = {"DATA_ROOT": root, "DATA_LISTS": data.root, "DATA_PSEUDO_GT": root / "SegmentationClassAug"}
    first = tmp_path_factory.mktemp("first")
    assert_succeeded(run(TRAIN, settings(QUICK_TRAINING, TWO_STEPS, voc, {"EXP_ROOT": first})))
    lists = tmp_path_factory.mktemp("lists")
    for name, ids in {"same": data.ids, "turned": data.ids[::-1]}.items():
        (lists / name).mkdir()
        (lists / name / "train_aug.txt").write_text("\n".join(ids))
    moved, changed_maps = lists / "VOC2012", lists / "maps"
    shutil.copytree(root, moved)
    moved_maps = shutil.copytree(moved / "SegmentationClassAug", lists / "moved_maps")
    shutil.copytree(moved_maps, changed_maps)
    other_map = changed_maps / f"{data.ids[2]}.png"
    other_map.write_bytes(other_map.read_bytes() + b"\0")

    anew, gone = (
        {"MODEL_BACKBONE_PRETRAIN": True, "MODEL_BACKBONE_WEIGHTS": str(lists / name)} for name in ("anew", "gone")
    )
    (lists / "anew").write_bytes(b"trained anew")

    def job(changes, prepare=lambda folder: None):
        exp_root = tmp_path_factory.mktemp("continued")
        shutil.copytree(first / "run", exp_root / "run")
        prepare(exp_root / "run")
        before = contents(exp_root)
        keys = settings(QUICK_TRAINING, TWO_STEPS, voc, {"EXP_ROOT": exp_root}, changes)
        return lambda: (run(TRAIN, {**keys, "--resume": ()}), exp_root / "run", before)

    return run_all(
        {
            "data moved": job({"DATA_LISTS": lists / "same", "DATA_ROOT": moved, "DATA_PSEUDO_GT": moved_maps}),
            "another label map": job({"DATA_PSEUDO_GT": changed_maps}),
            "another order": job({"DATA_LISTS": lists / "turned"}),
            "another start": job(anew, begin_from(anew)),
            "its start is gone": job(gone, begin_from(gone)),
            "its start lies elsewhere": job(anew, begin_from(gone, sha256_of(lists / "anew"))),
            "damaged": job({}, forget_momenta),
            "a second run": job({}, lambda folder: hold_folder(folder, "")),
        }
    )


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("another order", ["other settings", "the ids of DATA_LISTS (sha256): ", "(1)"]),
        ("another label map", ["the label maps of DATA_PSEUDO_GT (sha256 of their sizes): ", "(1)"]),
        ("another start", ["the weights of MODEL_BACKBONE_WEIGHTS (sha256): 0000", "(1)"]),
        ("damaged", ["run/last.ckpt is not the state of such a run", "optimizer.state.0.momentum_buffer: expected"]),
        ("a second run", ["EXP_ROOT ", "run: another run is writing into it"]),
    ],
)
def test_a_run_goes_on_only_from_its_own_state_with_its_own_data_and_alone(continued, name, messages):
    done, folder, before = continued[name]
    assert_refused(done, *messages)
    assert contents(folder.parent) == before


@pytest.mark.parametrize("name", ["its start is gone", "its start lies elsewhere"])
def test_a_run_goes_on_without_the_weights_that_it_began_from_and_where_they_were_moved(continued, name):
    done, _, _ = continued[name]
    assert_succeeded(done)


def test_data_of_the_same_content_may_lie_elsewhere(continued):
    done, folder, before = continued["data moved"]
    assert_succeeded(done)
    after = contents(folder.parent)
    for name in ("run/last.ckpt", "run/args.json"):
        assert (after[name] == before[name]) == (name == "run/last.ckpt")
