"""Stage 3's scripts train from any folder, come through kills, predict for the server, and refuse what is wrong."""

import json
import os
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG, SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torchvision.models import mobilenet_v2

from segmentation.experiment import train as train_script
from tests.network.nets import net_of
from tests.scripts.conftest import (
    ROOT,
    Attack,
    assert_old_torch_reads,
    assert_refused,
    assert_same,
    assert_succeeded,
    contents,
    forker,
    load,
    run,
    run_all,
    run_by_two,
    run_until_killed,
    words_of,
)

TRAIN, TEST = "segmentation/experiment/train.py", "segmentation/experiment/test.py"
STEPS, BATCH = 12, 4  # three epochs of sixteen images
NET = {"MODEL_BACKBONE": "resnet18", "MODEL_ASPP_OUTDIM": 8, "MODEL_BACKBONE_PRETRAIN": False}
QUICK_TRAINING = {
    **NET,
    **{"TRAIN_BATCHES": BATCH, "TRAIN_ITERATION": STEPS, "TRAIN_SAVE_EVERY": 4, "TRAIN_LR": 0.01},
    **{"DATA_RANDOMCROP": 33, "GPUS": 0, "EXP_NAME": "run"},
}
QUICK_TEST = {**NET, "TEST_MULTISCALE": [0.5, 1.0], "GPUS": 0, "TEST_CRF_WORKERS": 1, "EXP_NAME": "run"}
ONE_STEP_OF_TWO = {"TRAIN_ITERATION": 1, "TRAIN_BATCHES": 2}
FINAL = f"deeplabv2_resnet18_VOCDataset_itr{STEPS}_all.pth"


def settings(*dicts):
    """The words after `--set`."""
    return {"--set": tuple(f"{key}={value}" for key, value in {k: v for d in dicts for k, v in d.items()}.items())}


@pytest.fixture(scope="module")
def voc(data):
    """The keys that lead to a small data set; the true masks stand for pseudo labels."""
    root = data.root / "VOC2012"
    return {"DATA_ROOT": root, "DATA_LISTS": data.root, "DATA_PSEUDO_GT": root / "SegmentationClassAug"}


@pytest.fixture(scope="module")
def trained(voc, tmp_path_factory):
    """The folder of a run from its beginning to its end, started in the scripts' own folder."""
    root = tmp_path_factory.mktemp("exps")
    words = words_of(settings(QUICK_TRAINING, voc, {"EXP_ROOT": root, "DATA_WORKERS": 2}))
    assert_succeeded(forker().run([TRAIN, *words], ROOT / "segmentation" / "experiment"))
    return root / "run"


def file_names(folder):
    """The names of the files in `folder`, events files by their beginning."""
    return sorted({re.sub(r"^(events\.out\.tfevents)\..*", r"\1", path.name) for path in folder.iterdir()})


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_files_and_no_others(trained):
    assert file_names(trained) == sorted(["args.json", "events.out.tfevents", "last.ckpt", "log", FINAL])
    assert json.loads((trained / "args.json").read_text())["TRAIN_LR"] == 0.01
    log = (trained / "log").read_text()
    assert f"step {STEPS}/{STEPS} total " in log and "random weights" in log
    assert [line for line in log.splitlines() if "_epoch1.pth" in line]
    curve = EventAccumulator(str(trained)).Reload().Scalars("loss/total")
    assert [event.step for event in curve][-1] == STEPS
    assert re.search(rf"trained {STEPS} steps in .* images/s\): \S+/{FINAL}\n", log)


def test_the_settings_and_the_loss_are_in_tensorboards_hparams_tab(trained):
    contents = EventAccumulator(str(trained)).Reload().PluginTagToContent("hparams")
    parts = {tag: HParamsPluginData.FromString(content) for tag, content in contents.items()}
    settings = parts[SESSION_START_INFO_TAG].session_start_info.hparams
    assert settings["TRAIN_LR"].number_value == 0.01 and settings["MODEL_BACKBONE"].string_value == "resnet18"
    assert [info.name.tag for info in parts[EXPERIMENT_TAG].experiment.metric_infos] == ["loss/total"]


def test_the_weights_are_those_of_the_net_under_the_released_names(trained):
    net = net_of()
    state = load(trained / FINAL)
    assert {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in net.state_dict().items()}
    assert_same(dict(load(trained / "last.ckpt")["model"]), state)
    norm = "backbone.layer4.1.bn1"
    assert torch.equal(state[f"{norm}.weight"], torch.ones(512)) and state[f"{norm}.running_mean"].abs().max() > 0


def test_old_versions_of_pytorch_read_what_training_writes(trained):
    assert_old_torch_reads(trained / FINAL)
    assert_old_torch_reads(trained / "last.ckpt")


@pytest.fixture(scope="module")
def variants(voc, trained, tmp_path_factory):
    """What became of short runs that differ in a few keys, and their folders."""
    imagenet = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(mobilenet_v2(weights=None).state_dict(), imagenet)
    mobilenet = {"MODEL_BACKBONE": "mobilenet_v2", "MODEL_BACKBONE_PRETRAIN": True, "MODEL_BACKBONE_WEIGHTS": imagenet}
    changes = {
        "mobilenet_v2 from a file": mobilenet,
        # A core without bf16 takes long for a step of it.
        "deeplabv1 in bf16": {**ONE_STEP_OF_TWO, "MODEL_NAME": "deeplabv1", "TRAIN_AMP": "bf16"},
        "plain stem, no curves, in order, an epoch at least": {
            **{"MODEL_BACKBONE_DEEPBASE": False, "TRAIN_TBLOG": False, "TRAIN_SHUFFLE": False},
            **{"TRAIN_MINEPOCH": 1, "TRAIN_ITERATION": 1},
        },
    }  # fmt: skip

    def job(name):
        root = tmp_path_factory.mktemp("variant")
        keys = settings(QUICK_TRAINING, voc, {"TRAIN_ITERATION": 2, "EXP_ROOT": root}, changes[name])
        return lambda: (run(TRAIN, keys), root / "run")

    return run_all({name: job(name) for name in changes})


def test_every_backbone_version_and_precision_trains(variants):
    for name, (done, _) in variants.items():
        assert done.returncode == 0, f"{name}\n{done.stdout}{done.stderr}"
    assert "260 of the backbone's 260 tensors loaded" in variants["mobilenet_v2 from a file"][0].stdout
    assert (variants["deeplabv1 in bf16"][1] / "deeplabv1_resnet18_VOCDataset_itr1_all.pth").is_file()
    _, folder = variants["plain stem, no curves, in order, an epoch at least"]
    assert "events.out.tfevents" not in file_names(folder)
    assert (folder / "deeplabv2_resnet18_VOCDataset_itr4_all.pth").is_file()


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(voc, trained, tmp_path):
    keys = settings(QUICK_TRAINING, voc, {"EXP_ROOT": tmp_path, "DATA_WORKERS": 0})
    last, epoch = tmp_path / "run" / "last.ckpt", "deeplabv2_resnet18_VOCDataset_epoch1.pth"
    run_until_killed(TRAIN, keys, kill_when=last.exists)  # after 4 steps of 12
    there = [name for name in file_names(tmp_path / "run") if "_epoch" in name]
    assert len(there) <= 2 and (epoch in there or len(there) == 1)  # two while one replaces the other
    assert not (tmp_path / "run" / FINAL).exists()
    assert_refused(run(TRAIN, keys), "this run exists", "--resume")
    other = settings(QUICK_TRAINING, voc, {"EXP_ROOT": tmp_path, "TRAIN_LR": 0.02})
    assert_refused(run(TRAIN, {**other, "--resume": ()}), "TRAIN_LR: 0.01 then, 0.02 now")
    assert_succeeded(run(TRAIN, {**keys, "--resume": ()}))
    assert (tmp_path / "run" / FINAL).read_bytes() == (trained / FINAL).read_bytes()
    assert_same(load(last), load(trained / "last.ckpt"))
    assert file_names(tmp_path / "run") == file_names(trained)


def test_a_finished_run_whose_weights_are_gone_writes_them_again(voc, trained, tmp_path):
    weights = shutil.copytree(trained, tmp_path / "run") / FINAL
    weights.unlink()
    keys = settings(QUICK_TRAINING, voc, {"EXP_ROOT": tmp_path})
    assert_succeeded(run(TRAIN, {**keys, "--resume": ()}))
    assert weights.read_bytes() == (trained / FINAL).read_bytes()


def test_a_checkpoint_older_than_a_setting_goes_on_by_one_process_and_by_several(voc, trained, tmp_path, monkeypatch):
    last = shutil.copytree(trained, tmp_path / "run") / "last.ckpt"
    state = load(last)
    assert state["settings"].pop("TRAIN_ITER_SIZE") == 1
    torch.save(state, last)
    keys = settings(QUICK_TRAINING, voc, {"EXP_ROOT": tmp_path})
    assert_succeeded(run(TRAIN, {**keys, "--resume": ()}))
    torch.save(state, last)
    # As on a machine of two GPUs, which torchrun would compute on.
    started = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(os, "execv", lambda path, words: started.append(words) or sys.exit(0))
    words = words_of({**settings(QUICK_TRAINING, voc, {"EXP_ROOT": tmp_path, "GPUS": 2}), "--resume": ()})
    monkeypatch.setattr(sys, "argv", [TRAIN, *map(str, words)])
    with pytest.raises(SystemExit, match="0"):
        train_script.main()
    (launched,) = started
    assert launched[launched.index("--nproc_per_node") + 1] == "2" and launched[-1] == "--resume"


def test_two_processes_train_on_an_image_each(voc, tmp_path):
    keys = settings(QUICK_TRAINING, voc, {"EXP_ROOT": tmp_path, "TRAIN_BATCHES": 2, "TRAIN_ITERATION": 2})
    for done in run_by_two(TRAIN, *words_of(keys)):
        assert_succeeded(done)


def test_two_processes_train_one_net(voc, tmp_path):
    keys = settings(QUICK_TRAINING, voc, {"EXP_ROOT": tmp_path, "TRAIN_ITERATION": 4})
    first, second = run_by_two(TRAIN, *words_of(keys))
    for done in (first, second):
        assert_succeeded(done)
    assert "on 2 x cpu" in first.stdout and not second.stdout
    assert "deeplabv2_resnet18_VOCDataset_itr4_all.pth" in file_names(tmp_path / "run")
    assert (tmp_path / "run" / "log").read_text().count("step 4/4") == 1


# -- test --------------------------------------------------------------------------------------------------------------


def test_the_test_list_needs_no_masks_and_goes_into_a_submission(voc, trained, tmp_path):
    root = tmp_path / "without masks"
    shutil.copytree(voc["DATA_ROOT"] / "JPEGImages", root / "JPEGImages")
    keys = {"EXP_ROOT": tmp_path, "DATA_ROOT": root, "DATA_LISTS": voc["DATA_LISTS"], "TEST_CKPT": trained / FINAL}
    done = run(TEST, settings(QUICK_TEST, keys, {"TEST_SPLIT": "test", "TEST_CRF": False}))
    assert_succeeded(done)
    folder = tmp_path / "run" / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    (line,) = [line for line in done.stdout.splitlines() if "segmentation.submission" in line]
    words = shlex.split(line.partition("python ")[2])
    assert words[words.index("--results") + 1] == str(folder)
    assert_succeeded(forker().run([*words, "--out", tmp_path / "results.tgz"], ROOT))


# -- refusals ----------------------------------------------------------------------------------------------------------


def colours(path):
    """The label map at `path` as an image of colours."""
    Image.open(path).convert("RGB").save(path)


REFUSED = {
    # name: (script, keys that differ, what is done to the folder of pseudo labels, what the message must hold)
    "pseudo labels missing": (
        TRAIN, {}, lambda files: [file.unlink() for file in files[:3]], ["(3)", "{0}.png: no such file", "{2}.png"]
    ),
    "pseudo label of colours": (TRAIN, {}, lambda files: colours(files[1]), ["{1}.png", "RGB colours"]),
    "pseudo label of another size": (
        TRAIN, {}, lambda files: Image.fromarray(np.zeros((9, 9), np.uint8)).save(files[0]), ["{0}.png", "9 x 9"]
    ),
    "pseudo label with other labels": (
        TRAIN, {}, lambda files: Image.fromarray(np.array(Image.open(files[0])) + np.uint8(100)).save(files[0]),
        ["{0}.png", "expected labels 0 to 20"],
    ),
    "no folder of pseudo labels": (TRAIN, {"DATA_PSEUDO_GT": "nowhere"}, None, ["DATA_PSEUDO_GT", "nowhere"]),
    "an unknown key": (TRAIN, {"TRAIN_LRR": 1}, None, ["TRAIN_LRR", "did you mean TRAIN_LR?"]),
    "more GPUs than there are": (TRAIN, {"GPUS": 64}, None, ["GPUS 64", "this machine has"]),
    "a batch beyond the list": (TRAIN, {"TRAIN_BATCHES": 17}, None, ["TRAIN_BATCHES 17", "16 images"]),
    "a batch of one": (TRAIN, {"TRAIN_BATCHES": 1}, None, ["TRAIN_BATCHES 1", "at least two images"]),
    "no weights in the file": (
        TRAIN, {"MODEL_BACKBONE_PRETRAIN": True, "MODEL_BACKBONE_WEIGHTS": "attack.pth"}, None,
        ["MODEL_BACKBONE_WEIGHTS", "could run code"],
    ),
    "no checkpoint named": (TEST, {}, None, ["TEST_CKPT", "None"]),
    "a checkpoint of the other stem": (
        TEST, {"TEST_CKPT": "{final}", "MODEL_BACKBONE_DEEPBASE": False}, None, ["set MODEL_BACKBONE_DEEPBASE to True"]
    ),
    "a checkpoint of another net": (
        TEST, {"TEST_CKPT": "{final}", "MODEL_NAME": "deeplabv1"}, None, ["TEST_CKPT", "missing", "unexpected"]
    ),
    "a test list without images": (
        TEST, {"TEST_CKPT": "{final}", "TEST_SPLIT": "test", "DATA_LISTS": "lists"}, None,
        ["absent_1.jpg", "absent_2.jpg", "(2)"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(data, voc, trained, tmp_path_factory):
    """What each mistake led to, and what was in its folder before and after."""
    commands, befores = [], []
    for script, changes, spoil, _ in REFUSED.values():
        folder = tmp_path_factory.mktemp("refused")
        (folder / "lists").mkdir()
        (folder / "lists" / "test.txt").write_text("absent_1\nabsent_2\n")
        torch.save(Attack(), folder / "attack.pth")
        labels = folder / "labels"
        shutil.copytree(voc["DATA_PSEUDO_GT"], labels)
        if spoil is not None:
            spoil([labels / f"{image_id}.png" for image_id in data.ids])
        common = QUICK_TRAINING if script == TRAIN else QUICK_TEST
        changes = {key: str(value).format(final=trained / FINAL) for key, value in changes.items()}
        keys = settings(common, voc, {"DATA_PSEUDO_GT": labels, "EXP_ROOT": folder / "exps"}, changes)
        befores.append(contents(folder))
        commands.append(([script, *words_of(keys)], folder))
    done = [forker().run(*each) for each in commands]
    return {
        name: (done, before, contents(folder))
        for name, done, before, (_, folder) in zip(REFUSED, done, befores, commands, strict=True)
    }


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_named_and_nothing_is_written(refusals, data, name):
    done, before, after = refusals[name]
    assert_refused(done, *(message.format(*data.ids) for message in REFUSED[name][3]))
    assert after == before
