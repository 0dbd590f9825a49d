"""`train_voc.py` trains every method, comes through kills with the same weights, and sees no mask."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from method.hsc.config import CONFIGS, TERMS
from network.build import build_network
from network.weights import released_state_dict
from tests.scripts.conftest import (
    STEPS,
    STEPS_OF_RUN,
    TINY,
    WIDTH,
    assert_refused,
    assert_same,
    assert_succeeded,
    contents,
    corrupt_middle,
    load,
    run,
    run_all,
    run_until_killed,
    truncate,
    words_of,
)
from tests.scripts.test_machine import run_under

TWO_STEPS = {"--max_iters": 2}
ABLATIONS = ("rsc", "csc", "psc", "bank", "cross")
# What differs between the runs below, each of two steps.
VARIANTS = {
    "eps_seam": {"--method": "eps_seam"},
    "eps": {"--method": "eps", "--session": "another name"},
    "cls": {"--method": "cls", "--saliency_root": None},
    **{f"without {name}": {"--without": name} for name in ABLATIONS},
    "without everything": {"--without": ABLATIONS},
    "sane": {"--sane": "all"},
    "mobilenet_v2": {"--backbone": "mobilenet_v2", "--width": None},
    "released names": {"--network": "network.resnet38_eps_seam_hsc", "--session_name": "released"},
}


def scalars(folder):
    """{name: [(step, value)]}, as TensorBoard shows them."""
    events = EventAccumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def file_names(folder):
    """The names of the files in `folder`, events files by their beginning."""
    return sorted({re.sub(r"^(events\.out\.tfevents)\..*", r"\1", path.name) for path in folder.iterdir()})


FILES = ["args.json", "events.out.tfevents", "hsc.pth", "last.ckpt", "log"]


# -- what a run writes -------------------------------------------------------------------------------------------------


def test_a_run_writes_its_files_and_no_others(undisturbed):
    assert file_names(undisturbed) == FILES
    args = json.loads((undisturbed / "args.json").read_text())
    assert (args["method"], args["max_iters"], args["lr"]) == ("hsc", STEPS, 0.01)
    log = (undisturbed / "log").read_text()
    assert f"step {STEPS}/{STEPS}" in log and all(f" {term} " in log for term in TERMS)


def test_the_weights_are_a_plain_dict_of_tensors_under_the_released_names(undisturbed):
    state = load(undisturbed / "hsc.pth")
    expected = released_state_dict(build_network("resnet38_hsc", num_classes=20, width=WIDTH))
    assert type(state) is dict
    assert {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in expected.items()}
    assert {"conv1a.weight", "fc8.weight", "extra_F.0.weight"} <= set(state)
    assert not [name for name in state if name.startswith(("backbone.", "module."))]
    assert_same(load(undisturbed / "last.ckpt")["model"], state)


def test_the_curves_hold_every_loss_at_every_step(undisturbed):
    curves = scalars(undisturbed)
    for name in ("lr", "loss/total", *(f"loss/{term}" for term in TERMS)):
        assert [step for step, _ in curves[name]] == list(range(1, STEPS + 1))
    total = np.sum([[value for _, value in curves[f"loss/{term}"]] for term in TERMS], axis=0)
    np.testing.assert_allclose([value for _, value in curves["loss/total"]], total, rtol=1e-4)


# -- methods -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def variants(data, tmp_path_factory):
    """What became of a run of each variant, and its work_dir."""

    def job(name):
        work_dir = tmp_path_factory.mktemp(name.replace(" ", "_"))
        flags = {**TINY, **data.for_training(), **TWO_STEPS, "--work_dir": work_dir, **VARIANTS[name]}
        return lambda: (run("train_voc.py", flags), work_dir)

    return run_all({name: job(name) for name in VARIANTS})


def session_of(name):
    flags = VARIANTS[name]
    return flags.get("--session") or flags.get("--session_name") or flags.get("--method", "hsc")


def terms_of(name):
    without = VARIANTS[name].get("--without", ())
    terms = CONFIGS[VARIANTS[name].get("--method", "hsc")].terms
    return set(terms) - set(without if isinstance(without, tuple) else (without,))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_method_and_ablation_trains_on_its_own_terms(variants, name):
    done, work_dir = variants[name]
    assert_succeeded(done)
    session = session_of(name)
    assert [path.name for path in work_dir.iterdir()] == [session]
    assert {tag for tag in scalars(work_dir / session) if tag.startswith("loss/")} == {
        "loss/total",
        *(f"loss/{term}" for term in terms_of(name)),
    }
    assert (work_dir / session / f"{session}.pth").exists()
    assert load(work_dir / session / "last.ckpt")["step"] == 2


def test_every_ablation_and_the_sane_recipe_give_other_weights(variants):
    names = [name for name in VARIANTS if name.startswith(("without", "sane"))]
    folders = [variants[name][1] / session_of(name) for name in [*names, "released names"]]
    weights = [load(folder / f"{folder.name}.pth")["bn7.weight"] for folder in folders]
    for index, one in enumerate(weights):
        assert not any(torch.equal(one, other) for other in weights[:index])


# -- the same weights, whatever happens --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finetuned(data, undisturbed, tmp_path_factory):
    """The folder of an undisturbed run as released, from weights: frozen norms and stem, and dropout."""
    work_dir = tmp_path_factory.mktemp("finetuned")
    flags = {**TINY, **data.for_training(), **STEPS_OF_RUN, **finetuning(undisturbed), "--work_dir": work_dir}
    assert_succeeded(run("train_voc.py", flags))
    return work_dir / "hsc"


def finetuning(undisturbed):
    return {"--weights": undisturbed / "hsc.pth", "--from_scratch": None}


@pytest.fixture(scope="module")
def resumed(data, undisturbed, tmp_path_factory):
    """The folders of the same two runs, each killed and gone on with, with another number of loader processes."""

    def job(changes, step, num_workers):
        work_dir = tmp_path_factory.mktemp("resumed")
        flags = {**TINY, **data.for_training(), **STEPS_OF_RUN, **changes, "--work_dir": work_dir, "--resume": ()}
        last, log = work_dir / "hsc" / "last.ckpt", work_dir / "hsc" / "log"

        def train():
            run_until_killed(
                "train_voc.py",
                {**flags, "--num_workers": num_workers},
                # Cheap to ask: the run must not be over by the time that the answer is there.
                kill_when=lambda: log.exists() and f"step {step + 1}/" in log.read_text(),
            )
            assert step <= load(last)["step"] < STEPS
            assert not (work_dir / "hsc" / "hsc.pth").exists()
            assert_succeeded(run("train_voc.py", {**flags, "--num_workers": 2 - num_workers}))
            return work_dir / "hsc"

        return train

    return run_all({"from scratch": job({}, 4, 2), "from weights": job(finetuning(undisturbed), 4, 0)})


@pytest.fixture(params=["from scratch", "from weights"])
def killed_and_not(request, resumed, undisturbed, finetuned):
    return resumed[request.param], undisturbed if request.param == "from scratch" else finetuned


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(killed_and_not):
    killed, undisturbed = killed_and_not
    assert_same(load(killed / "hsc.pth"), load(undisturbed / "hsc.pth"))
    assert (killed / "hsc.pth").read_bytes() == (undisturbed / "hsc.pth").read_bytes()
    expected = load(undisturbed / "last.ckpt")
    assert expected["step"] == STEPS and expected["optimizer"]["state"] and expected["criterion"]
    assert_same(load(killed / "last.ckpt"), expected)
    assert file_names(killed) == FILES


def test_a_run_that_was_killed_has_the_curves_of_one_that_was_not(killed_and_not):
    actual, expected = map(scalars, killed_and_not)
    for name in set(expected) - {"images_per_s"}:
        assert actual[name] == expected[name]


# Forks go on with the hook, and not with open files.
AUDIT = """
import os, sys
def note(event, arguments):
    if event == "open" and arguments[0] != {log!r}:
        log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, f"{{os.getpid()}} {{arguments[0]}}\\n".encode())
        os.close(log)
sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def repeated(data, tmp_path_factory):
    """The undisturbed run again under other circumstances: the folder of each."""
    folder = tmp_path_factory.mktemp("repeated")
    without_masks = data.copy(folder / "data_without_masks")
    for name in ("SegmentationClass", "SegmentationClassAug"):
        shutil.rmtree(without_masks.root / "VOC2012" / name)

    def job(name, used, before="", **changes):
        changes = {f"--{flag}": value for flag, value in changes.items()}
        flags = {**TINY, **used.for_training(), **STEPS_OF_RUN, "--work_dir": folder / name, **changes}

        def train():
            assert_succeeded(run_under(before, ["train_voc.py", *words_of(flags)]))
            return folder / name / "hsc"

        return train

    return run_all(
        {
            "audited": job("audited", data, AUDIT.format(log=str(folder / "opened")), num_workers=2, max_iters=4),
            "without masks": job("without_masks", without_masks),
            "another seed": job("another_seed", data, seed=1),
            "1 x 2": job("1x2", data, max_iters=1, iter_size=2),
            "2 x 1": job("2x1", data, max_iters=2),
        }
    )


def test_training_opens_images_in_its_loader_processes_and_never_a_mask(repeated, data):
    lines = (repeated["audited"].parent.parent / "opened").read_text().splitlines()
    opened = [(process, path) for process, _, path in (line.partition(" ") for line in lines)]
    images = [(process, path) for process, path in opened if str(data.images) in path]
    assert {Path(path).stem for _, path in images} == set(data.ids)
    assert len({process for process, _ in images}) > 1
    assert not [path for _, path in opened if "SegmentationClass" in path]


def test_weights_depend_neither_on_loader_processes_nor_on_masks(repeated, undisturbed):
    """One read in the training's process, the other in two of its own."""
    assert (repeated["without masks"] / "hsc.pth").read_bytes() == (undisturbed / "hsc.pth").read_bytes()


def test_another_seed_gives_other_weights(repeated, undisturbed):
    one, other = (load(folder / "hsc.pth") for folder in (repeated["another seed"], undisturbed))
    assert list(one) == list(other)
    assert not torch.equal(one["fc8.weight"], other["fc8.weight"])
    assert not torch.equal(one["conv1a.weight"], other["conv1a.weight"])


def test_iter_size_repeats_steps_and_does_not_accumulate(repeated):
    assert load(repeated["1 x 2"] / "last.ckpt")["step"] == 2
    assert_same(load(repeated["1 x 2"] / "hsc.pth"), load(repeated["2 x 1"] / "hsc.pth"))


def test_norms_and_stem_stay_as_they_were_loaded_and_all_else_moves(undisturbed, finetuned):
    before, after = load(undisturbed / "hsc.pth"), load(finetuned / "hsc.pth")
    fresh = released_state_dict(build_network("resnet38_hsc", num_classes=20, width=WIDTH))
    norms = {name.rpartition(".")[0] for name in before if name.endswith("running_mean")}
    assert "bn7" in norms
    # The loaded run trained its norms: they are not what any new net has.
    assert not torch.equal(before["bn7.running_mean"], fresh["bn7.running_mean"])
    for name, value in after.items():
        frozen = name.rpartition(".")[0] in norms or name.startswith(("conv1a.", "b2.", "b2_1.", "b2_2."))
        assert torch.equal(value, before[name]) == frozen, name


# -- losses that are no numbers, files that only decoding finds damaged ------------------------------------------------


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory):
    """What became of runs that had to stop midway, and their folders."""
    folder = tmp_path_factory.mktemp("stopped")
    corrupt = data.copy(folder / "corrupt")
    corrupt_middle(corrupt.images / f"{corrupt.ids[5]}.jpg")

    def job(name, used, changes):
        flags = {**TINY, **used.for_training(), "--max_iters": 6, "--work_dir": folder / name, **changes}
        return lambda: (run("train_voc.py", flags), folder / name / "hsc")

    return run_all(
        {
            "diverged": job("diverged", data, {"--lr": 1e20, "--save_every": 1}),
            "diverged unseen": job("diverged_unseen", data, {"--lr": 1e20}),
            "corrupt": job("corrupt_0", corrupt, {}),
            "corrupt, by a loader process": job("corrupt_2", corrupt, {"--num_workers": 2}),
        }
    )


@pytest.mark.parametrize("name", ["diverged", "diverged unseen"])
def test_a_loss_that_is_no_number_stops_the_run_and_names_term_and_images(stopped, data, name):
    done, folder = stopped[name]
    assert_refused(done, "lower the learning rate")
    ((term, images),) = re.findall(r"the loss (\w+) is (?:nan|-?inf) on the images (.+): training stops", done.stderr)
    assert term in TERMS
    assert len(images.split(", ")) == TINY["--batch_size"] and set(images.split(", ")) <= set(data.ids)
    assert not (folder / "hsc.pth").exists()


def test_a_loss_that_is_no_number_leaves_the_checkpoint_before_it(stopped):
    _, folder = stopped["diverged"]
    assert load(folder / "last.ckpt")["step"] == 1
    assert file_names(folder) == ["args.json", "events.out.tfevents", "last.ckpt", "log"]
    _, folder = stopped["diverged unseen"]
    assert not (folder / "last.ckpt").exists()


@pytest.mark.parametrize("name", ["corrupt", "corrupt, by a loader process"])
def test_an_image_that_only_decoding_finds_damaged_is_named(stopped, data, name):
    done, folder = stopped[name]
    assert_refused(done, f"{data.ids[5]}.jpg: cannot be read as an image")
    assert not (folder / "hsc.pth").exists()


# -- going on ----------------------------------------------------------------------------------------------------------


def leave_a_temporary_file(folder):
    (folder / ".hsc.pth.tmp").write_bytes(b"half a checkpoint")


@pytest.fixture(scope="module")
def continued(data, undisturbed, tmp_path_factory):
    """What became of the finished run run again in several ways; its folder, and what that held before."""

    def job(changes, prepare=lambda folder: None):
        work_dir = tmp_path_factory.mktemp("continued")
        shutil.copytree(undisturbed, work_dir / "hsc")
        prepare(work_dir / "hsc")
        before = contents(work_dir)
        flags = {**TINY, **data.for_training(), **STEPS_OF_RUN, "--work_dir": work_dir, **changes}
        return lambda: (run("train_voc.py", flags), work_dir / "hsc", before)

    resume = {"--resume": ()}
    return run_all(
        {
            "again": job({}),
            "another rate": job({**resume, "--lr": 0.02, "--num_workers": 1}),
            "an ablation": job({**resume, "--without": "psc"}),
            "truncated": job(resume, lambda folder: truncate(folder / "last.ckpt", 1000)),
            "foreign": job(resume, lambda folder: shutil.copy(folder / "hsc.pth", folder / "last.ckpt")),
            "finished": job({**resume, "--num_workers": 1}, leave_a_temporary_file),
        }
    )


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("again", ["hsc/last.ckpt: this run exists", "--resume"]),
        ("another rate", ["--lr: 0.01 then, 0.02 now", "(1)"]),
        ("an ablation", ["--without: [] then, ['psc'] now", "(1)"]),
        ("truncated", ["hsc/last.ckpt", "without its end"]),
        ("foreign", ["hsc/last.ckpt"]),
    ],
)
def test_a_run_is_neither_overwritten_nor_continued_otherwise(continued, name, messages):
    done, folder, before = continued[name]
    assert_refused(done, *messages)
    assert contents(folder.parent) == before


def test_a_finished_run_that_is_resumed_ends_well_and_changes_nothing(continued):
    done, folder, before = continued["finished"]
    assert_succeeded(done)
    after = contents(folder.parent)
    assert after["hsc/hsc.pth"] == before["hsc/hsc.pth"]
    assert after["hsc/last.ckpt"] == before["hsc/last.ckpt"]


def test_what_a_killed_write_left_is_gone_when_the_run_goes_on(continued):
    _, folder, _ = continued["finished"]
    assert file_names(folder) == FILES
