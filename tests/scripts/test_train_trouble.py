"""Stage 1's training notices changed data, damaged state, a second run, a full disk and weights that are no numbers."""

import shutil
from copy import deepcopy

import pytest
import torch

from data.labels import load_labels, save_labels
from data.training import EpochSampler
from tests.scripts.conftest import (
    STEPS,
    STEPS_OF_RUN,
    TINY,
    assert_refused,
    assert_succeeded,
    contents,
    corrupt_middle,
    forget_setting,
    load,
    run,
    run_all,
    words_of,
)
from tests.scripts.test_machine import run_under
from tool.lock import hold_folder
from voc12.classes import VOC12

RESUME = {"--resume": ()}


def damage(change):
    """What changes the state in a run's last.ckpt."""

    def spoil(folder):
        state = deepcopy(load(folder / "last.ckpt"))
        change(state)
        torch.save(state, folder / "last.ckpt")

    return spoil


def without_checkpoint(folder):
    (folder / "last.ckpt").unlink()
    hold_folder(folder, "")


@pytest.fixture(scope="module")
def continued(data, undisturbed, tmp_path_factory):
    """What became of a finished run that is gone on with in several ways; its folder, and what that held before."""
    lists = tmp_path_factory.mktemp("lists")
    (lists / "same.txt").write_text("\n".join(data.ids))
    (lists / "turned.txt").write_text("\n".join(reversed(data.ids)))
    labels = load_labels(data.labels, VOC12)
    save_labels(lists / "same.npy", {**labels, "of no image": labels[data.ids[0]]})
    save_labels(lists / "changed.npy", {**labels, data.ids[3]: 1 - labels[data.ids[3]]})
    moved, changed = data.copy(lists / "moved"), data.copy(lists / "changed")
    other_map = changed.saliency / f"{data.ids[5]}.png"
    other_map.write_bytes(other_map.read_bytes() + b"\0")

    def job(changes, prepare=lambda folder: None):
        work_dir = tmp_path_factory.mktemp("continued")
        shutil.copytree(undisturbed, work_dir / "hsc")
        prepare(work_dir / "hsc")
        before = contents(work_dir)
        flags = {**TINY, **data.for_training(), **STEPS_OF_RUN, "--work_dir": work_dir, **changes}
        return lambda: (run("train_voc.py", flags), work_dir / "hsc", before)

    return run_all(
        {
            "data moved": job(
                {
                    **{**RESUME, "--train_list": lists / "same.txt", "--labels": lists / "same.npy"},
                    **{"--data_root": moved.images, "--saliency_root": moved.saliency},
                }
            ),
            "another order": job({**RESUME, "--train_list": lists / "turned.txt"}),
            "another label": job({**RESUME, "--labels": lists / "changed.npy"}),
            "another saliency map": job({**RESUME, "--saliency_root": changed.saliency}),
            "no banks": job(RESUME, damage(lambda state: state.pop("criterion"))),
            "a step too many": job(RESUME, damage(lambda state: state.update(step=STEPS + 1))),
            "a second run": job(RESUME, lambda folder: hold_folder(folder, "")),
            "a second run without a checkpoint yet": job({}, without_checkpoint),
        }
    )


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("another order", ["other settings", "the ids of --train_list and their labels (sha256): ", "(1)"]),
        ("another label", ["other settings", "the ids of --train_list and their labels (sha256): ", "(1)"]),
        ("another saliency map", ["other settings", "the maps of --saliency_root (sha256 of their sizes): ", "(1)"]),
        ("no banks", ["hsc/last.ckpt is not the state of such a run", "criterion: missing", "(1)"]),
        ("a step too many", ["hsc/last.ckpt", f"step: expected a whole number from 0 to {STEPS}, found {STEPS + 1}"]),
        ("a second run", ["hsc: another run is writing into it"]),
        ("a second run without a checkpoint yet", ["hsc: another run is writing into it"]),
    ],
)
def test_a_run_goes_on_only_from_its_own_state_with_its_own_data_and_alone(continued, name, messages):
    done, folder, before = continued[name]
    assert_refused(done, *messages)
    assert contents(folder.parent) == before


def test_data_of_the_same_content_may_lie_elsewhere(continued):
    done, folder, before = continued["data moved"]
    assert_succeeded(done)
    after = contents(folder.parent)
    assert after["hsc/hsc.pth"] == before["hsc/hsc.pth"]
    assert after["hsc/last.ckpt"] == before["hsc/last.ckpt"]


def test_weights_of_the_same_name_and_other_content_are_another_start(data, undisturbed, tmp_path):
    net = tmp_path / "net.pth"
    shutil.copy(undisturbed / "hsc.pth", net)
    flags = {**TINY, **data.for_training(), "--max_iters": 1, "--weights": net, "--work_dir": tmp_path, **RESUME}
    assert_succeeded(run("train_voc.py", flags))
    net.unlink()  # a run that goes on needs none
    assert_succeeded(run("train_voc.py", flags))
    net.write_bytes(b"other")
    name = "the weights of --weights (sha256)"
    assert_refused(run("train_voc.py", flags), "hsc/last.ckpt was trained with other settings", f"{name}: ", "(1)")
    forget_setting(tmp_path / "hsc" / "last.ckpt", name)  # as of older versions
    assert_succeeded(run("train_voc.py", flags))


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, resource.RLIM_INFINITY))"


@pytest.fixture
def stopped(data, tmp_path):
    """The flags and the folder of the undisturbed run as it stands after two steps."""
    copy = data.copy(tmp_path / "data")
    flags = {**TINY, **copy.for_training(), **STEPS_OF_RUN, "--work_dir": tmp_path}
    ((_, index), *_), *_ = reversed(list(EpochSampler(len(data.ids), TINY["--batch_size"], seed=0, num_steps=4)))
    image = copy.images / f"{data.ids[index]}.jpg"  # that step 4 reads
    whole = image.read_bytes()
    corrupt_middle(image)
    assert_refused(run("train_voc.py", flags), image.name)
    image.write_bytes(whole)
    assert load(tmp_path / "hsc" / "last.ckpt")["step"] == 2
    return flags, tmp_path / "hsc"


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_space(stopped, undisturbed):
    flags, folder = stopped
    before = contents(folder)
    assert (folder / "last.ckpt").stat().st_size > 4_000_000
    done = run_under(LIMIT, ["train_voc.py", *words_of({**flags, **RESUME})])
    assert_refused(done, f"error: {folder / 'last.ckpt'}: cannot be written: File too large")
    assert contents(folder)["last.ckpt"] == before["last.ckpt"]
    assert not list(folder.glob(".*")) and not list(folder.glob("*.pth"))
    assert_succeeded(run("train_voc.py", {**flags, **RESUME}))
    assert (folder / "hsc.pth").read_bytes() == (undisturbed / "hsc.pth").read_bytes()


def test_weights_that_a_finite_loss_made_infinite_are_not_saved(data, tmp_path):
    changes = {"--lr": 1e20, "--wt_dec": 1e30, "--max_iters": 1, "--work_dir": tmp_path}
    done = run("train_voc.py", {**TINY, **data.for_training(), **changes})
    assert_refused(done, "hsc/last.ckpt: not written, as model.", "values that are not finite", "learning rate")
    assert not list((tmp_path / "hsc").glob("*.pth")) and not (tmp_path / "hsc" / "last.ckpt").exists()
