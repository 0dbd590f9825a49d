"""DHR's training: what it writes, that it goes on after a kill, by two processes, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from network.deeplabv3plus import build_deeplabv3plus
from rebalance.feature_files import save_features
from rebalance.train import FEATURES_MADE_WITH
from tests.rebalance.stage import STEPS, TRAIN, make_stage
from tests.scripts.conftest import (
    assert_keeps_its_start,
    assert_old_torch_reads,
    assert_refused,
    assert_same,
    assert_succeeded,
    load,
    run,
    run_by_two,
    run_until_killed,
    words_of,
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return make_stage(tmp_path_factory.mktemp("dhr"))


@pytest.fixture(scope="module")
def trained(stage, tmp_path_factory):
    """The folder of a run."""
    work_dir = tmp_path_factory.mktemp("trained")
    assert_succeeded(run(TRAIN, stage.flags(**{"--work_dir": work_dir, "--num_workers": 1})))
    return work_dir / "dhr"


def test_a_run_writes_its_files_and_the_weights_are_the_average(trained):
    assert sorted(path.name.split(".")[0] for path in trained.iterdir()) == ["args", "events", "last", "last", "log"]
    state, checkpoint = load(trained / "last.pth"), load(trained / "last.ckpt")
    assert_old_torch_reads(trained / "last.pth")
    net = build_deeplabv3plus("resnet38d", width=0.0625, num_labels=8, num_classes=7)
    net.load_state_dict(state)
    assert_same(dict(state), dict(checkpoint["average"]))
    moved = [name for name, value in state.items() if not torch.equal(value, checkpoint["model"][name])]
    assert "seg_decoder.classifier.weight" in moved and "seg_decoder.aspp.block.bn.running_mean" in moved
    assert checkpoint["step"] == STEPS
    log = (trained / "log").read_text()
    assert f"step {STEPS}/{STEPS} cls " in log and all(f" {term} " in log for term in ("seg", "total"))
    assert json.loads((trained / "args.json").read_text())["tau"] == 0.8


def test_a_killed_run_goes_on_to_the_same_weights(stage, trained, tmp_path):
    flags = stage.flags(**{"--work_dir": tmp_path})
    log = tmp_path / "dhr" / "log"
    run_until_killed(TRAIN, flags, kill_when=lambda: log.exists() and "step 3/" in log.read_text())
    assert_refused(run(TRAIN, flags), "last.ckpt: this run exists; pass --resume")
    assert_refused(run(TRAIN, {**flags, "--resume": (), "--tau": 0.7}), "--tau: 0.8 then, 0.7 now")
    assert_succeeded(run(TRAIN, {**flags, "--resume": ()}))
    for name in ("last.pth", "last.ckpt"):
        assert_same(load(tmp_path / "dhr" / name), load(trained / name))
    assert_keeps_its_start(TRAIN, flags, tmp_path / "dhr" / "last.ckpt")


def test_a_finished_run_whose_weights_are_gone_writes_them_again(stage, trained, tmp_path):
    weights = shutil.copytree(trained, tmp_path / "dhr") / "last.pth"
    weights.unlink()
    assert_succeeded(run(TRAIN, stage.flags(**{"--work_dir": tmp_path, "--resume": ()})))
    assert_same(load(weights), load(trained / "last.pth"))


def test_a_run_goes_on_with_the_features_of_its_net_alone_and_an_older_run_with_any(stage, trained, tmp_path):
    """Another net's features may have as many channels and cells, and so files of the same size."""
    flags, _, features = copied(stage, tmp_path)
    last = shutil.copytree(trained, tmp_path / "exps" / "dhr") / "last.ckpt"
    assert_succeeded(run(TRAIN, {**flags, "--resume": ()}))
    (features / "settings.json").write_text(json.dumps({"uss": "DINOv2"}))
    assert_refused(run(TRAIN, {**flags, "--resume": ()}), "--uss_features's uss: colours then, DINOv2 now")
    older = load(last)
    del older["settings"][FEATURES_MADE_WITH], older["settings"]["--ot_rule"]
    torch.save(older, last)
    assert_succeeded(run(TRAIN, {**flags, "--resume": ()}))


def test_two_processes_train_one_net_on_halves_of_each_batch(stage, trained, tmp_path):
    for done in run_by_two(TRAIN, *words_of(stage.flags(**{"--work_dir": tmp_path}))):
        assert_succeeded(done)
    one, two = load(trained / "last.ckpt"), load(tmp_path / "dhr" / "last.ckpt")
    assert two["step"] == STEPS and two["model"].keys() == one["model"].keys()
    # Norms are of each process's own images: close, not the same.
    name = "seg_decoder.mid_block.1.conv.weight"
    assert not torch.equal(two["model"][name], one["model"][name])
    losses = [
        [float(line.split(" cls ")[1].split()[0]) for line in path.read_text().splitlines() if " cls " in line]
        for path in (trained / "log", tmp_path / "dhr" / "log")
    ]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.2) and np.isfinite(losses[1]).all()
    assert "on 2 x cpu" in (tmp_path / "dhr" / "log").read_text()


def copied(stage, tmp_path):
    """Masks and features to be damaged, as flags, and their folders."""
    folders = {name: shutil.copytree(getattr(stage, name), tmp_path / name) for name in ("masks", "features")}
    flags = {"--wss_masks": folders["masks"], "--uss_features": folders["features"], "--work_dir": tmp_path / "exps"}
    return stage.flags(**flags), folders["masks"], folders["features"]


def test_features_that_cannot_be_used_are_all_named_before_training_and_masks_beside_them(stage, tmp_path):
    flags, masks, features = copied(stage, tmp_path)
    ids = stage.shapes.ids
    (masks / f"{ids[5]}.png").write_bytes(b"no PNG")
    (features / f"{ids[0]}.pt").unlink()
    (features / f"{ids[1]}.pt").write_bytes((features / f"{ids[1]}.pt").read_bytes()[:-30])
    save_features(features / f"{ids[2]}.pt", torch.zeros(4, 7, 8))
    save_features(features / f"{ids[3]}.pt", torch.zeros(5, 8, 7))
    torch.save({"features": torch.zeros(1)}, features / f"{ids[4]}.pt")
    assert_refused(
        run(TRAIN, flags),
        "--wss_masks",
        "that cannot be used; correct them (1):",
        f"{ids[5]}.png: ",
        f"--uss_features {features}: features of the list's images that cannot be used; make them again (5):",
        f"{ids[0]}.pt: no such file",
        f"{ids[1]}.pt: cannot be read as features",
        f"{ids[2]}.pt: expected 5 channels, as most files have, found 4",
        f"{ids[3]}.pt: expected 7 x 8 cells (height x width), of an image of 56 x 48 pixels, found 8 x 7",
        f"{ids[4]}.pt: expected a tensor of features, found dict",
    )
    assert not (tmp_path / "exps" / "dhr" / "log").exists()


def test_masks_that_cannot_be_used_are_all_named_before_training(stage, tmp_path):
    flags, masks, _ = copied(stage, tmp_path)
    ids = stage.shapes.ids
    (masks / f"{ids[0]}.png").unlink()
    Image.fromarray(np.zeros((48, 55), np.uint8)).save(masks / f"{ids[1]}.png")
    Image.fromarray(np.full((48, 56), 8, np.uint8)).save(masks / f"{ids[2]}.png")
    assert_refused(
        run(TRAIN, flags),
        "--wss_masks",
        "that cannot be used; correct them (3):",
        f"{ids[0]}.png: no such file",
        f"{ids[1]}.png: expected 48 x 56 (height x width), found 48 x 55",
        f"{ids[2]}.png: expected labels 0 to 7 or 255, found 8",
    )


def test_folders_one_level_off_are_named_with_the_place_where_the_files_are(stage, tmp_path):
    flags, masks, features = copied(stage, tmp_path)
    for flag, folder in (("--wss_masks", masks), ("--uss_features", features)):
        refused = run(TRAIN, {**flags, flag: folder.parent})
        assert_refused(refused, f"{flag} {folder.parent}: expected <id>", "found none; there are such in", str(folder))


def test_masks_without_any_class_of_their_image_are_noted_and_of_all_images_refused(stage, tmp_path):
    flags, masks, _ = copied(stage, tmp_path)
    ids = stage.shapes.ids
    Image.fromarray(np.zeros((48, 56), np.uint8)).save(masks / f"{ids[1]}.png")
    done = run(TRAIN, {**flags, "--max_epoches": 1, "--work_dir": tmp_path / "exps"})
    assert_succeeded(done)
    (note,) = re.findall(r"note: label maps without any class of their image: (\d) \((.*)\)\n", done.stdout)
    assert ids[1] in note[1].split(", ") and len(note[1].split(", ")) == int(note[0]) < len(ids)
    for image_id in ids:
        Image.fromarray(np.zeros((48, 56), np.uint8)).save(masks / f"{image_id}.png")
    refused = run(TRAIN, {**flags, "--work_dir": tmp_path / "other"})
    assert_refused(refused, f"--wss_masks {masks}: expected label maps of these images, found none that has a class")


def annotation(*names):
    objects = "".join(f"<object><name>{name}</name></object>" for name in names)
    return f"<annotation>{objects}</annotation>"


def test_labels_may_be_annotations_and_images_without_any_are_left_out(stage, trained, tmp_path):
    classes = stage.shapes.data_set.classes
    labels = json.loads((stage.shapes.root / "labels.json").read_text())
    folder = tmp_path / "xml"
    folder.mkdir()
    for image_id in stage.shapes.ids:
        names = [name for name, present in zip(classes, labels[image_id], strict=True) if present]
        (folder / f"{image_id}.xml").write_text(annotation(*names))
    flags = stage.flags(**{"--xml_dir": folder, "--work_dir": tmp_path})
    del flags["--labels"]
    # The same labels, and so the same run, wherever they are from.
    shutil.copytree(trained, tmp_path / "dhr")
    assert_succeeded(run(TRAIN, {**flags, "--resume": ()}))
    (folder / f"{stage.shapes.ids[0]}.xml").write_text(annotation())
    done, second = run_by_two(TRAIN, *words_of({**flags, "--session": "other", "--max_epoches": 1}))
    assert_succeeded(done)
    assert "left out, as they have no label: 1 of 8 images (" in done.stdout and "step 0 of 1, 7 images" in done.stdout
    assert "left out" not in second.stdout
    (folder / f"{stage.shapes.ids[0]}.xml").write_text(annotation("shape 0", "dragon"))
    assert_refused(
        run(TRAIN, {**flags, "--session": "third"}), f"{stage.shapes.ids[0]}.xml: expected classes", "'dragon'"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--batch_size": 1}, "--batch_size 1: expected at least 2 images for each process"),
        ({"--batch_size": 9}, "--batch_size 9: "),
        ({"--min_image": 80}, "--min_image 80: expected at most --max_image, 72"),
        ({"--crop_size": 16}, "--crop_size 16: expected 32 to 4096 pixels"),
        ({"--ema": 1.5}, "--ema 1.5: expected a number from 0 to 1"),
        ({"--momentum": 0, "--nesterov": ()}, "--nesterov: expected a --momentum above 0"),
        ({"--backbone": "resnet19"}, "argument --backbone: 'resnet19': expected one of resnet18"),
        ({"--wss_masks": "nowhere"}, "--wss_masks nowhere: expected a folder"),
        ({"--uss_features": "nowhere"}, "--uss_features nowhere: expected a folder"),
    ],
)
def test_a_wrong_flag_is_named(stage, tmp_path, changes, message):
    assert_refused(run(TRAIN, stage.flags(**{"--work_dir": tmp_path, **changes})), message)
