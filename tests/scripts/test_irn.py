"""IRN's commands: from CAM dicts to walked masks and instances, through kills, by two processes, what they refuse."""

import json
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image

from coco14.classes import COCO14, SPLITS
from network.irn import IRNet, with_aliases
from refine.irn.score_instances import read_images
from tests.refine.affinity.stage import make_stage
from tests.scripts.conftest import (
    assert_keeps_its_start,
    assert_refused,
    assert_same,
    assert_succeeded,
    contents,
    forget_setting,
    load,
    run,
    run_all,
    run_by_two,
    run_until_killed,
    words_of,
)
from tests.shapes import EMPTY
from tool.artifact import load_cam, load_label_map, save_cam, save_label_map
from tool.instances import Instances, load_instances, save_instances
from tool.irn_cam import save_irn_cam

LABELS, TRAIN, INFER, SCORE = (f"refine/irn/{name}.py" for name in ("labels", "train", "infer", "score_instances"))
SESSION = "res50_irn"
STEPS = 4  # two epochs of nine images in batches of four
NET = {"--backbone": "resnet18", "--crop_size": 64}
TINY = {
    **{"--weights": "none", "--batch_size": 4, "--max_epoches": 2, "--displacement": (), "--lr": 0.01},
    **{"--device": "cpu", "--num_workers": 0, "--log_every": 1, "--save_every": 1},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return make_stage(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def labels(stage, tmp_path_factory):
    """The folder of sure labels."""
    folder = tmp_path_factory.mktemp("labels")
    assert_succeeded(run(LABELS, stage.flags(**{"--ir_label_out_dir": folder})))
    return folder


def for_training(stage, labels, **changes):
    lists = dict.fromkeys(("--train_list", "--infer_list"), stage.shapes.root / "val.txt")
    places = {"--data_set": stage.data_set.name, "--data_root": stage.shapes.root, "--ir_label_out_dir": labels}
    return {**NET, **TINY, **lists, **places, **changes}


@pytest.fixture(scope="module")
def trained(stage, labels, tmp_path_factory):
    """The folder of a run of training."""
    work_dir = tmp_path_factory.mktemp("trained")
    assert_succeeded(run(TRAIN, for_training(stage, labels, **{"--work_dir": work_dir, "--num_workers": 1})))
    return work_dir / SESSION


def for_inference(stage, trained, out, **changes):
    flags = {name: value for name, value in stage.flags().items() if name != "--crf_workers"}
    folders = {"--sem_seg_out_dir": out / "sem_seg", "--ins_seg_out_dir": out / "ins_seg"}
    return {**flags, **NET, **folders, "--weights": trained / f"{SESSION}.pth", **changes}


@pytest.fixture(scope="module")
def walked(stage, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("walked")
    assert_succeeded(run(INFER, for_inference(stage, trained, folder)))
    return folder


# -- labels ------------------------------------------------------------------------------------------------------------


def test_sure_labels_are_of_the_images_classes_and_some_pixels_are_not_sure(stage, labels):
    unsure = []
    for image_id in stage.ids:
        found = load_label_map(labels / f"{image_id}.png", stage.data_set)
        assert {*np.unique(found).tolist()} <= {0, 255, *(index + 1 for index in stage.classes(image_id))}
        unsure.append((found == 255).mean())
    assert (load_label_map(labels / f"{EMPTY}.png", stage.data_set) == 0).all()
    assert 0 < np.mean(unsure) < 0.9


def test_again_labels_makes_what_is_missing_and_nothing_else(stage, labels, tmp_path):
    copy = shutil.copytree(labels, tmp_path / "labels")
    (copy / f"{stage.ids[2]}.png").unlink()
    (copy / f"{stage.ids[3]}.png").write_bytes(b"half")
    stage.relabel(copy / f"{stage.ids[4]}.png")
    done = run(LABELS, stage.flags(**{"--ir_label_out_dir": copy}))
    assert_succeeded(done)
    assert "3 of 9 images done" in done.stdout
    assert contents(copy) == contents(labels)
    refused = run(LABELS, stage.flags(**{"--ir_label_out_dir": copy, "--conf_fg_thres": 0.5}))
    assert_refused(refused, "made with other settings", "conf_fg_thres: 0.35 then, 0.5 now")


# -- train -------------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_files_under_the_released_names_and_a_mean_shift(stage, trained):
    names = sorted(path.name.split(".")[0] for path in trained.iterdir())
    assert names == ["args", "events", "last", "log", SESSION]
    expected = with_aliases(IRNet("resnet18", displacement=True).state_dict())
    state = load(trained / f"{SESSION}.pth")
    assert {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in expected.items()}
    assert state["mean_shift.running_mean"].any()
    log = (trained / "log").read_text()
    assert f"step {STEPS}/{STEPS}" in log and all(f" {term} " in log for term in ("bg", "fg", "neg", "dp_fg", "dp_bg"))


def test_a_killed_run_goes_on_to_the_same_weights(stage, labels, trained, tmp_path):
    flags = for_training(stage, labels, **{"--work_dir": tmp_path})
    log = tmp_path / SESSION / "log"
    run_until_killed(TRAIN, flags, kill_when=lambda: log.exists() and "step 2/" in log.read_text())
    assert not (tmp_path / SESSION / f"{SESSION}.pth").exists()
    assert_refused(run(TRAIN, flags), "last.ckpt: this run exists; pass --resume")
    changed = {**flags, "--resume": (), "--lr": 0.02}
    assert_refused(run(TRAIN, changed), "--lr: 0.01 then, 0.02 now")
    forget_setting(tmp_path / SESSION / "last.ckpt", "--wt_dec")
    done = run(TRAIN, {**flags, "--resume": ()})
    assert_succeeded(done)
    assert "resumed" in done.stdout
    for name in (f"{SESSION}.pth", "last.ckpt"):
        assert_same(load(tmp_path / SESSION / name), load(trained / name))
    assert_keeps_its_start(TRAIN, flags, tmp_path / SESSION / "last.ckpt")


def losses_of(folder):
    """The terms of each step, from the log."""
    lines = [line.split() for line in (folder / SESSION / "log").read_text().splitlines() if " total " in line]
    return np.array([[float(word) for word in line if word.replace(".", "").isdigit()] for line in lines])


def test_two_processes_train_as_one(stage, labels, trained, tmp_path):
    flags = for_training(stage, labels)
    for done in run_by_two(TRAIN, *words_of({**flags, "--work_dir": tmp_path})):
        assert_succeeded(done)
    one, two = losses_of(trained.parent), losses_of(tmp_path)
    assert one.shape == two.shape and len(one) == STEPS
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=2e-3)
    states = [load(folder / f"{SESSION}.pth") for folder in (trained, tmp_path / SESSION)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name].double(), value.double(), rtol=1e-2, atol=1e-3, msg=name)


def test_a_run_that_goes_on_says_nothing_of_the_pairs_that_its_first_steps_met(stage, labels, tmp_path):
    """Here no step meets any but of background, as a run that saw all steps says."""
    background = shutil.copytree(labels, tmp_path / "labels")
    for path in background.glob("*.png"):
        save_label_map(path, np.zeros_like(load_label_map(path, stage.data_set)), stage.data_set)
    flags = for_training(stage, background, **{"--crop_size": 44, "--max_epoches": 4, "--displacement": None})
    for name in ("whole", "stopped"):
        log = tmp_path / name / SESSION / "log"
        if name == "stopped":
            killed = {**flags, "--work_dir": tmp_path / name}
            run_until_killed(TRAIN, killed, kill_when=lambda log=log: log.exists() and "step 2/" in log.read_text())
        assert_succeeded(run(TRAIN, {**flags, "--work_dir": tmp_path / name, "--resume": ()}))
        assert log.read_text().count("note: none of ") == (2 if name == "whole" else 0)
    assert "resumed" in log.read_text()


# -- infer -------------------------------------------------------------------------------------------------------------


def test_masks_and_instances_have_the_images_classes_and_one_without_a_class_has_none(stage, walked):
    for image_id in stage.ids:
        shape = load_label_map(stage.shapes.mask(image_id), stage.data_set).shape
        found = load_label_map(walked / "sem_seg" / f"{image_id}.png", stage.data_set, shape=shape, ignore=False)
        assert {*np.unique(found).tolist()} <= {0, *(index + 1 for index in stage.classes(image_id))}
        assert (found == 0).all() == (image_id == EMPTY)
        instances = load_instances(walked / "ins_seg" / f"{image_id}.npy", stage.data_set, shape=shape)
        assert {*instances.classes} <= {*stage.classes(image_id)} and bool(len(instances)) == (image_id != EMPTY)
        assert not len(instances) or np.sum(instances.masks, axis=0).max() == 1


def test_again_infer_makes_what_is_missing_and_nothing_else(stage, trained, walked, tmp_path):
    copy = shutil.copytree(walked, tmp_path / "walked")
    damaged = copy / "sem_seg" / f"{stage.ids[1]}.png"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    (copy / "ins_seg" / f"{stage.ids[5]}.npy").unlink()
    stage.relabel(copy / "sem_seg" / f"{stage.ids[2]}.png")
    done = run(INFER, for_inference(stage, trained, copy))
    assert_succeeded(done)
    assert "3 of 9 images walked" in done.stdout
    assert contents(copy) == contents(walked)
    refused = run(INFER, for_inference(stage, trained, copy, **{"--beta": 4}))
    assert_refused(refused, "made with other settings", "beta: 10.0 then, 4.0 now")


def test_another_backbone_learns_and_walks(stage, labels, tmp_path):
    """Of fewer channels than a ResNet's, with a normalisation of its own."""
    net = {"--backbone": "timm:tf_mobilenetv3_small_minimal_100"}
    flags = for_training(stage, labels, **net, **{"--work_dir": tmp_path, "--max_epoches": 1})
    assert_succeeded(run(TRAIN, flags))
    assert_succeeded(run(INFER, for_inference(stage, tmp_path / SESSION, tmp_path, **net)))
    assert {path.stem for path in (tmp_path / "sem_seg").glob("*.png")} == {*stage.ids}


def test_irns_own_cam_dicts_give_the_same_files(stage, trained, walked, tmp_path):
    """Their `cam` is read, the house's maps are brought to its size."""
    (tmp_path / "cams").mkdir()
    for image_id in stage.ids:
        whole = load_cam(stage.cams / f"{image_id}.npy", stage.data_set)
        small = {
            index: torch.nn.functional.interpolate(
                torch.from_numpy(scores)[None, None],
                tuple((side - 1) // 4 + 1 for side in scores.shape),
                mode="bilinear",
            )[0, 0].numpy()
            for index, scores in whole.items()
        }
        save_irn_cam(tmp_path / "cams" / f"{image_id}.npy", small, whole, stage.data_set)
    changes = {"--cam_dir": tmp_path / "cams", "--ins_seg_out_dir": None}
    assert_succeeded(run(INFER, for_inference(stage, trained, tmp_path, **changes)))
    for image_id in stage.ids:
        name = f"sem_seg/{image_id}.png"
        assert (tmp_path / name).read_bytes() == (walked / name).read_bytes()


def test_images_smaller_than_a_cell_and_larger_than_the_crop(stage, trained, tmp_path):
    sizes = {"a": (1, 1), "b": (8, 8), "c": (33, 7), "d": (20, 90)}
    cams = tmp_path / "cams"
    cams.mkdir()
    for name, (height, width) in sizes.items():
        Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(tmp_path / f"{name}.png")
        save_cam(cams / f"{name}.npy", {2: np.full((height, width), 0.8, np.float32)}, stage.data_set)
    (tmp_path / "list.txt").write_text("\n".join(sizes))
    places = {"--cam_dir": cams, "--img_root": tmp_path, "--infer_list": tmp_path / "list.txt"}
    assert_succeeded(run(INFER, for_inference(stage, trained, tmp_path, **places)))
    for name, shape in sizes.items():
        assert 3 in load_label_map(tmp_path / "sem_seg" / f"{name}.png", stage.data_set, shape=shape)
        assert len(load_instances(tmp_path / "ins_seg" / f"{name}.npy", stage.data_set, shape=shape))
    assert_succeeded(run(LABELS, stage.flags(**places, **{"--ir_label_out_dir": tmp_path / "labels"})))


# -- score -------------------------------------------------------------------------------------------------------------


def test_true_instances_score_1_and_walked_ones_less(stage, walked, tmp_path):
    (tmp_path / "objects").mkdir()
    (tmp_path / "true").mkdir()
    for image_id in stage.ids:
        labels = load_label_map(stage.shapes.mask(image_id), stage.data_set)
        objects, instances = np.where(labels == 255, 255, 0).astype(np.uint8), Instances.none(labels.shape)
        for number, index in enumerate(stage.classes(image_id), start=1):
            objects[labels == index + 1] = number
            instances.add(0.5, labels == index + 1, index)
        Image.fromarray(objects).save(tmp_path / "objects" / f"{image_id}.png")
        save_instances(tmp_path / "true" / f"{image_id}.npy", instances)
    masks = stage.shapes.mask(stage.ids[0]).parent
    flags = {"--list": stage.shapes.root / "val.txt", "--gt_dir": masks, "--data_set": stage.data_set.name}
    flags |= {"--object_dir": tmp_path / "objects", "--json": tmp_path / "scores.json"}
    means = []
    for folder in (tmp_path / "true", walked / "ins_seg"):
        done = run(SCORE, {**flags, "--predict_dir": folder})
        assert_succeeded(done)
        means.append(json.loads((tmp_path / "scores.json").read_text())["mAP"])
        assert f"{100 * means[-1]:.1f}" in done.stdout
    assert means[0] == 1 and means[1] < 1
    (tmp_path / "true" / f"{stage.ids[2]}.npy").write_bytes(b"half")
    refused = run(SCORE, {**flags, "--predict_dir": tmp_path / "true"})
    assert_refused(refused, f"{stage.ids[2]}.npy", "files that cannot be scored")


def test_instances_are_scored_on_masks_in_several_folders_and_read_one_image_after_the_other(tmp_path):
    ids = [f"COCO_{split}_{number:012}" for number, split in enumerate(SPLITS, start=1)]
    folders = {name: tmp_path / name for name in ("found", "objects")}
    for folder in folders.values():
        folder.mkdir()
    labels, objects = np.full((4, 6), 3, np.uint8), np.zeros((4, 6), np.uint8)
    objects[1:] = 1
    instances = Instances.none(labels.shape)
    instances.add(0.5, objects == 1, 2)
    truths = {
        image_id: tmp_path / "COCO" / mask / f"{image_id}.png"
        for image_id, mask in zip(ids, COCO14.masks, strict=False)
    }
    for image_id, truth in truths.items():
        truth.parent.mkdir(parents=True)
        save_label_map(truth, labels, COCO14)
        Image.fromarray(objects).save(folders["objects"] / f"{image_id}.png")
        save_instances(folders["found"] / f"{image_id}.npy", instances)
    (tmp_path / "list.txt").write_text("\n".join(ids))
    flags = {"--list": tmp_path / "list.txt", "--gt_dir": tmp_path / "COCO", "--data_set": "coco14"}
    flags |= {"--object_dir": folders["objects"], "--predict_dir": folders["found"]}
    done = run(SCORE, flags)
    assert_succeeded(done)
    assert done.stdout.split() == ["car", "100.0", "mAP", "at", "IoU", ".5", "100.0"]
    # The masks of a whole list would fill the memory.
    args, problems = Namespace(predict_dir=folders["found"], object_dir=folders["objects"]), []
    images = read_images(args, truths, COCO14, problems)
    next(images)
    (folders["found"] / f"{ids[1]}.npy").unlink()
    assert list(images) == [] and len(problems) == 1 and f"{ids[1]}.npy" in problems[0]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named(stage, labels, trained, tmp_path):
    states = load(trained / f"{SESSION}.pth")
    torch.save({n: v for n, v in states.items() if "dp" not in n}, tmp_path / "edges.pth")
    backbone = {n.removeprefix("resnet50."): v for n, v in states.items() if n.startswith("resnet50.")}
    torch.save({**backbone, "fc8.weight": torch.zeros(7, 512, 1, 1)}, tmp_path / "cls.pth")
    (tmp_path / "other size").mkdir()
    for image_id in stage.ids:
        cams = load_cam(stage.cams / f"{image_id}.npy", stage.data_set)
        cut = {index: scores[:-1] for index, scores in cams.items()}
        save_cam(tmp_path / "other size" / f"{image_id}.npy", cut, stage.data_set)
    some = shutil.copytree(labels, tmp_path / "some")
    (some / f"{stage.ids[4]}.png").unlink()
    infer = for_inference(stage, trained, tmp_path / "out")
    label = stage.flags(**{"--ir_label_out_dir": tmp_path / "labels"})
    train = for_training(stage, labels, **{"--work_dir": tmp_path / "exps"})
    nothing = {"--sem_seg_out_dir": None, "--ins_seg_out_dir": None}
    cases = [
        (INFER, {**infer, "--weights": tmp_path / "cls.pth"}, "expected the weights of IRN", "a classifier's"),
        (INFER, {**infer, "--weights": tmp_path / "edges.pth"}, "IRN with displacement", "train one with"),
        (INFER, {**infer, "--weights": trained / "last.ckpt"}, "its mean displacement", f"writes {SESSION}.pth at"),
        (INFER, {**infer, "--cam_dir": labels}, "--cam_dir", "found <id>.png"),
        (INFER, {**infer, **nothing}, "--sem_seg_out_dir, --ins_seg_out_dir: expected one of them"),
        (INFER, {**infer, "--sem_seg_out_dir": stage.cams}, "expected a folder for each, found one twice"),
        (LABELS, {**label, "--cam_dir": tmp_path / "other size"}, "expected 48 x 56 (height x width)", "found 47 x"),
        (LABELS, {**label, "--conf_fg_thres": 0.1}, "--conf_fg_thres 0.1: expected at least --conf_bg_thres, 0.15"),
        (LABELS, {**label, "--conf_bg_thres": -1}, "--conf_bg_thres -1.0: expected a number from 0 to 1"),
        (TRAIN, {**train, "--ir_label_out_dir": some}, f"{stage.ids[4]}.png: no such file", "refine/irn/labels.py"),
        (TRAIN, {**train, "--ir_label_out_dir": "nowhere"}, "--ir_label_out_dir nowhere: expected a folder"),
        (TRAIN, {**train, "--crop_size": 62}, "--crop_size 62: expected a multiple of 4"),
        (TRAIN, {**train, "--weights": "nowhere"}, "--weights nowhere: expected a file"),
        (TRAIN, {**train, "--batch_size": 10}, "--batch_size 10: ", "has 9 images"),
        (TRAIN, {**train, "--backbone": "resnet19"}, "argument --backbone: 'resnet19': expected one of", "resnet18?"),
        (TRAIN, {**train, "--backbone": "timm:convnext_atto"}, "timm:convnext_atto: expected a net with maps at"),
        (INFER, {**infer, "--backbone": "mobilenet_v2"}, "was it trained with another --backbone?"),
    ]
    jobs = {
        str(n): lambda script=script, flags=flags: run(script, flags) for n, (script, flags, *_) in enumerate(cases)
    }
    for done, (_, _, *messages) in zip(run_all(jobs).values(), cases, strict=True):
        assert_refused(done, *messages)
    assert not [path for name in ("out", "labels", "exps") if (path := tmp_path / name).exists()]
