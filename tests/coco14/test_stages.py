"""`--data_set coco14`: every stage finds images and masks in COCO's two folders of each, from COCO's own folder."""

import json
import shlex

import numpy as np
import pytest

from coco14.classes import COCO14, MASKS, SPLITS
from coco14.mini import image_id
from data.labels import load_labels
from tests.scripts.conftest import ROOT, TINY, WIDTH, assert_refused, assert_succeeded, forker, load, run, words_of
from tests.tool.report_runs import page_data
from tool.artifact import load_cam, load_label_map
from tool.lists import read_ids
from tool.metric import iou, label_counts

AFFINITY, DEEPLAB = "refine/affinity", "segmentation/experiment"
EMPTY = image_id(SPLITS[0], 11)


def settings(**keys):
    return {"--set": tuple(f"{key}={value}" for key, value in keys.items())}


@pytest.fixture(scope="module")
def exps(coco, tmp_path_factory):
    """The folder of runs of all stages on a list of both splits and of an image without any object."""
    folder = tmp_path_factory.mktemp("runs")
    exps = folder / "exps"
    mixed = folder / "train.txt"  # as stage 3 looks for it
    ids = [*read_ids(coco.lists / "train.txt")[:4], *read_ids(coco.lists / "val.txt")[:2], EMPTY]
    mixed.write_text("".join(f"{identifier}\n" for identifier in ids))
    (folder / "val.txt").write_text(mixed.read_text())
    images = {"--data_set": "coco14", "--data_root": coco.root}
    net = {"--width": WIDTH, "--device": "cpu", "--work_dir": exps}
    labels = {"--labels": coco.lists / "cls_labels.npy"}
    eps = {**TINY, **net, **images, **labels, "--method": "eps", "--saliency_root": coco.root / "saliency"}
    infer = {**net, **images, **labels, "--infer_list": mixed, "--weights": exps / "eps" / "eps.pth"}
    cams = {"--cam_dir": exps / "cam_npy", "--infer_list": mixed, "--device": "cpu", "--crf_workers": 1}
    halves = {"--la_crf_dir": exps / "aff_crf" / "4.00", "--ha_crf_dir": exps / "aff_crf" / "24.00"}
    aff = {"--train_list": mixed, "--weights": "none", "--from_scratch": (), "--crop_size": 64, "--batch_size": 4}
    aff |= {"--max_epoches": 1, "--num_workers": 0, "--session": "aff", **halves}
    walk = {"--weights": exps / "aff" / "aff.pth", "--width": WIDTH, "--logt": 1, "--out_rw": exps / "out_rw"}
    where = {"DATA_SET": "coco14", "DATA_ROOT": coco.root, "DATA_LISTS": folder, "DATA_AUG": False, "GPUS": 0}
    keys = {**where, "EXP_NAME": "net", "EXP_ROOT": exps, "MODEL_BACKBONE": "resnet18", "MODEL_ASPP_OUTDIM": 8}
    keys |= {"MODEL_BACKBONE_PRETRAIN": False, "TEST_MULTISCALE": [1.0], "TEST_CRF": False, "DATA_RANDOMCROP": 33}
    keys |= {"DATA_PSEUDO_GT": exps / "crf" / "crf_2_7", "TRAIN_BATCHES": 4, "TRAIN_ITERATION": 2, "DATA_WORKERS": 0}
    scored = {"--list": mixed, "--gt_dir": coco.root, "--data_set": "coco14", "--predict_dir": exps / "cam_png"}
    scored |= {"--comment": "seeds", "--logfile": folder / "log.txt", "--json": folder / "seed.json"}
    for script, flags in [
        ("train_voc.py", {**eps, "--train_list": coco.lists / "train.txt", "--max_iters": 2}),
        ("inference.py", {**infer, "--scales": 1.0, "--crf_t": 2, "--crf_workers": 1}),
        ("eval.py", {**scored, "--num_workers": 1}),
        (f"{AFFINITY}/prepare.py", {**cams, **images, "--out_crf": exps / "aff_crf"}),
        (f"{AFFINITY}/train.py", {**net, **images, **aff}),
        (f"{AFFINITY}/infer.py", {**cams, **images, **walk}),
        (f"{DEEPLAB}/train.py", settings(**keys)),
        (f"{DEEPLAB}/test.py", settings(**keys, TEST_CKPT=exps / "net" / "deeplabv2_resnet18_VOCDataset_itr2_all.pth")),
    ]:
        assert_succeeded(run(script, flags))
    return exps


def test_nets_and_files_are_of_81_labels_and_of_both_folders(coco, exps):
    assert load(exps / "eps" / "eps.pth")["fc8.weight"].shape[0] == 81
    assert load(exps / "net" / "deeplabv2_resnet18_VOCDataset_itr2_all.pth")["cls_conv.weight"].shape[0] == 81
    labels, ids = load_labels(coco.lists / "cls_labels.npy", COCO14), read_ids(exps.parent / "val.txt")
    assert {identifier.split("_")[1] for identifier in ids} == {*SPLITS}
    for identifier in ids:
        present = np.flatnonzero(labels[identifier]).tolist()
        assert list(load_cam(exps / "cam_npy" / f"{identifier}.npy", COCO14)) == present
        assert (exps / "out_rw" / f"{identifier}.png").is_file()
        assert (exps / "aff_crf" / "24.00" / f"{identifier}.npy").is_file()


def test_an_image_without_an_object_has_no_cam_and_is_background(exps):
    assert load_cam(exps / "cam_npy" / f"{EMPTY}.npy", COCO14) == {}
    for folder in ("cam_png", "crf/crf_2_7", "out_rw"):
        assert not load_label_map(exps / folder / f"{EMPTY}.png", COCO14).any()


def test_scores_are_against_the_masks_of_both_folders(coco, exps):
    (results,) = (exps / "net" / "results").glob("COCO/Segmentation/comp6_val_cls")
    for folder, file in ((exps / "cam_png", "seed.json"), (results, "exps/net/results/val_score.json")):
        counts = np.zeros((3, 81), np.int64)
        for identifier in read_ids(exps.parent / "val.txt"):
            truth = load_label_map(coco.root / MASKS / identifier.split("_")[1] / f"{identifier}.png", COCO14)
            counts += label_counts(load_label_map(folder / f"{identifier}.png", COCO14), truth, num_labels=81)
        score = json.loads((exps.parent / file).read_text())
        assert score["mIoU"] == pytest.approx(100 * iou(counts).mean()) and len(score["classes"]) == 81


def test_the_report_finds_images_and_masks_of_both_folders(coco, exps):
    flags = {"--run": exps / "eps", "--data_root": coco.root, "--num_workers": 1}
    assert_succeeded(forker().run(["-m", "tool.report", *words_of(flags)], ROOT))
    found = page_data(exps / "eps" / "report.html")
    assert [image["id"] for image in found["images"]] == sorted(read_ids(exps.parent / "val.txt"))
    assert found["names"] == list(COCO14.label_names)


def test_training_refuses_an_image_without_an_object(coco, exps, tmp_path):
    flags = {**TINY, "--data_set": "coco14", "--data_root": coco.root, "--method": "cls", "--work_dir": tmp_path}
    flags |= {"--train_list": exps.parent / "val.txt", "--labels": coco.lists / "cls_labels.npy"}
    assert_refused(run("train_voc.py", flags), f"{EMPTY}: label without any class")


def test_a_flag_may_name_one_folder_alone_and_one_too_high_is_told_where_they_are(coco, exps, tmp_path):
    (tmp_path / "val.txt").write_text(image_id(SPLITS[1], 12))
    flags = {"--data_set": "coco14", "--list": tmp_path / "val.txt", "--predict_dir": coco.root / MASKS / SPLITS[1]}
    flags |= {"--comment": "masks", "--logfile": tmp_path / "log"}
    assert_succeeded(run("eval.py", {**flags, "--gt_dir": coco.root / MASKS / SPLITS[1]}))
    done = run("eval.py", {**flags, "--gt_dir": coco.root / MASKS})
    assert_refused(done, "--gt_dir", f"there are such in {coco.root / MASKS / SPLITS[1]}; name the right one")


@pytest.mark.parametrize("data", [["--mini"], ["--coco14_root", "COCO", "--saliency_root", "elsewhere"]])
def test_the_recipe_lists_commands_that_their_scripts_take(data, tmp_path):
    done = forker().run(["run.py", "eps_coco", *data, "--out", tmp_path / "out", "--list"], ROOT)
    assert_succeeded(done)
    words = [line for line in shlex.split(done.stdout, comments=True) if line.startswith(("coco14.", "DATA_SET="))]
    mini = ["coco14.mini"] if data == ["--mini"] else []
    assert words == [*mini, "coco14.prepare", "DATA_SET=coco14", "DATA_SET=coco14"]
    assert done.stdout.count("--data_set coco14") == 6
    assert_refused(forker().run(["run.py", "eps_coco", "--voc12_root", "."], ROOT), "eps_coco is about COCO 2014")
