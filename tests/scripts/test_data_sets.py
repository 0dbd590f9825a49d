"""A data set of seven classes, brought by a JSON file, goes through every stage, and one of eighty through HSC's first;
COCO's eighty go through every stage in tests/coco14, with eps."""

import json

import numpy as np
import pytest

from tests.scripts.conftest import ROOT, TINY, assert_refused, assert_succeeded, forker, load, run, words_of
from tests.shapes import EMPTY, SHAPE, make_shapes
from tests.tool.report_runs import page_data
from tool.artifact import load_cam, load_crf, load_label_map
from tool.metric import iou, label_counts

TRAIN, TEST = "segmentation/experiment/train.py", "segmentation/experiment/test.py"
NET = {"MODEL_BACKBONE": "resnet18", "MODEL_ASPP_OUTDIM": 8, "MODEL_BACKBONE_PRETRAIN": False, "GPUS": 0}
STAGE_3 = {**NET, "EXP_NAME": "net", "TEST_MULTISCALE": [1.0], "TEST_CRF_WORKERS": 1, "DATA_RANDOMCROP": 33}
CLASSES = 7


def settings(keys):
    return {"--set": tuple(f"{key}={value}" for key, value in keys.items())}


def go_through(shapes, exps):
    """All stages, one after the other; the output of each."""
    net = {"--width": TINY["--width"], "--device": "cpu", "--work_dir": exps}
    hsc = {**TINY, **net, **shapes.flags(training=True), "--max_iters": 2, "--save_every": 1}
    inference = {**net, **shapes.flags(training=False), "--weights": exps / "hsc" / "hsc.pth", "--scales": 1.0}
    lists = {"--list": shapes.root / "val.txt", "--gt_dir": shapes.root / "masks", "--data_set": shapes.data_set.name}
    scored = {**lists, "--comment": "shapes", "--logfile": exps.parent / "log.txt", "--num_workers": 1}
    keys = {**STAGE_3, **shapes.keys(), "EXP_ROOT": exps, "DATA_PSEUDO_GT": exps / "crf" / "crf_2_7"}
    training = {**keys, "TRAIN_BATCHES": 4, "TRAIN_ITERATION": 2}
    checkpoint = exps / "net" / "deeplabv2_resnet18_VOCDataset_itr2_all.pth"
    done = {}
    for name, script, flags in [
        ("train", "train_voc.py", hsc),
        ("infer", "inference.py", {**inference, "--crf_t": 2, "--crf_backend": "torch", "--overlay": ()}),
        ("seed", "eval.py", {**scored, "--predict_dir": exps / "cam_png", "--json": exps / "seed.json"}),
        ("curve", "eval.py", {**scored, "--predict_dir": exps / "cam_npy", "--type": "npy", "--curve": ()}),
        ("crf", "eval.py", {**scored, "--predict_dir": exps / "crf" / "crf_2_7", "--type": "crf"}),
        ("deeplab", TRAIN, settings(training)),
        ("test", TEST, settings({**keys, "TEST_CKPT": checkpoint})),
    ]:
        done[name] = run(script, flags)
        assert_succeeded(done[name])
    return done


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """The data set, the folder of its runs, and what the stages said."""
    root = tmp_path_factory.mktemp("shapes")
    shapes = make_shapes(root / "data", classes=CLASSES)
    return shapes, root / "exps", go_through(shapes, root / "exps")


def test_nets_have_as_many_outputs_as_the_data_set_has_labels(through):
    _, exps, _ = through
    assert load(exps / "hsc" / "hsc.pth")["fc8.weight"].shape[0] == CLASSES + 1
    deeplab = load(exps / "net" / "deeplabv2_resnet18_VOCDataset_itr2_all.pth")
    assert deeplab["cls_conv.weight"].shape[0] == CLASSES + 1


def test_hsc_trains_on_more_classes_than_vocs_and_makes_their_seeds(tmp_path):
    shapes = make_shapes(tmp_path / "data", classes=80)
    flags = {**TINY, **shapes.flags(training=True), "--max_iters": 1, "--work_dir": tmp_path}
    assert_succeeded(run("train_voc.py", flags))
    weights = tmp_path / "hsc" / "hsc.pth"
    assert load(weights)["fc8.weight"].shape[0] == 81
    flags = {**shapes.flags(training=False), "--weights": weights, "--width": TINY["--width"], "--device": "cpu"}
    assert_succeeded(run("inference.py", {**flags, "--scales": 1.0, "--crf_t": "none", "--work_dir": tmp_path}))
    labels = json.loads((shapes.root / "labels.json").read_text())
    for identifier in shapes.ids:
        classes = np.flatnonzero(labels[identifier]).tolist()
        assert list(load_cam(tmp_path / "cam_npy" / f"{identifier}.npy", shapes.data_set)) == classes


def test_seeds_are_of_the_images_classes_and_an_image_without_any_is_background(through):
    shapes, exps, _ = through
    labels = json.loads((shapes.root / "labels.json").read_text())
    for identifier in (*shapes.ids, EMPTY):
        classes = np.flatnonzero(labels[identifier]).tolist()
        assert list(load_cam(exps / "cam_npy" / f"{identifier}.npy", shapes.data_set)) == classes
        posteriors = load_crf(exps / "crf" / "crf_2_7" / f"{identifier}.npy", shapes.data_set)
        assert list(posteriors) == [0, *(index + 1 for index in classes)]
        for folder in ("cam_png", "crf/crf_2_7"):
            seed = load_label_map(exps / folder / f"{identifier}.png", shapes.data_set, shape=SHAPE)
            assert {*np.unique(seed).tolist()} <= set(posteriors)
        assert (exps / "overlay" / f"{identifier}.png").is_file()
    assert (posteriors[0] == 1).all()


def test_scores_are_those_of_the_label_maps_over_all_labels(through):
    shapes, exps, done = through
    data_set = shapes.data_set
    folders = {"seed.json": exps / "cam_png"}
    (results,) = (exps / "net" / "results").glob("shapes/Segmentation/comp6_val_cls")
    folders["net/results/val_score.json"] = results
    for file, folder in folders.items():
        counts = np.zeros((3, data_set.num_labels), np.int64)
        for identifier in (*shapes.ids, EMPTY):
            truth = load_label_map(shapes.mask(identifier), data_set)
            found = load_label_map(folder / f"{identifier}.png", data_set, shape=SHAPE, ignore=False)
            counts += label_counts(found, truth, num_labels=data_set.num_labels)
        score = json.loads((exps / file).read_text())
        assert score["classes"] == list(data_set.label_names)
        assert score["mIoU"] == pytest.approx(100 * iou(counts).mean())
        assert score["shape 0"] == pytest.approx(100 * iou(counts)[1])
    assert f"shape {CLASSES - 1}" in done["curve"].stdout and "best threshold" in done["curve"].stdout
    assert "voc" not in done["test"].stdout.lower().replace("vocdataset", "").replace("voc2012", "")


def test_running_again_finds_every_file_of_an_image_without_a_class(through):
    shapes, exps, _ = through
    flags = {**shapes.flags(training=False), "--work_dir": exps, "--device": "cpu", "--width": TINY["--width"]}
    flags |= {"--weights": exps / "hsc" / "hsc.pth", "--scales": 1.0, "--crf_t": 2, "--overlay": ()}
    done = run("inference.py", flags)
    assert_succeeded(done)
    assert f"nothing is missing of {len(shapes.ids) + 1} images" in done.stdout


def test_training_refuses_an_image_without_a_class(through, tmp_path):
    shapes, _, _ = through
    flags = {**TINY, **shapes.flags(training=True), "--train_list": shapes.root / "val.txt", "--work_dir": tmp_path}
    assert_refused(run("train_voc.py", flags), f"{EMPTY}: label without any class")


def test_stage_1_and_cams_scores_refuse_a_data_set_without_background(through, tmp_path):
    shapes, exps, _ = through
    path = tmp_path / "stuff.json"
    path.write_text(json.dumps({"names": list(shapes.data_set.classes), "images": shapes.data_set.images}))
    own = {"--data_set": path, "--work_dir": tmp_path / "exps"}
    for script, flags in {
        "train_voc.py": {**TINY, **shapes.flags(training=True), **own},
        "inference.py": {**shapes.flags(training=False), "--weights": exps / "hsc" / "hsc.pth", **own},
    }.items():
        assert_refused(run(script, flags), "--data_set", "stuff.json: expected a data set with a background")
    scored = {"--list": shapes.root / "val.txt", "--gt_dir": shapes.root / "masks", "--comment": "none"}
    flags = {**scored, "--predict_dir": exps / "cam_npy", "--type": "npy", "--data_set": path}
    assert_refused(run("eval.py", flags), "--type npy", "score label maps")


def test_stage_3_learns_and_scores_labels_without_a_background(through, tmp_path):
    """The same masks, whose label 0 is now a class as others."""
    shapes, _, _ = through
    names = ["ground", *shapes.data_set.classes]
    own = {"names": names, "images": shapes.data_set.images, "masks": shapes.data_set.masks[0]}
    (tmp_path / "stuff.json").write_text(json.dumps(own))
    keys = {**STAGE_3, **shapes.keys(), "DATA_SET": tmp_path / "stuff.json", "EXP_ROOT": tmp_path}
    training = {"DATA_PSEUDO_GT": shapes.root / "masks", "TRAIN_BATCHES": 4, "TRAIN_ITERATION": 2}
    assert_succeeded(run(TRAIN, settings({**keys, **training})))
    checkpoint = tmp_path / "net" / "deeplabv2_resnet18_VOCDataset_itr2_all.pth"
    assert load(checkpoint)["cls_conv.weight"].shape[0] == len(names)
    assert_succeeded(run(TEST, settings({**keys, "TEST_CKPT": checkpoint})))
    score = json.loads((tmp_path / "net" / "results" / "val_score.json").read_text())
    assert score["classes"] == names


def test_a_report_shows_images_of_both_folders_with_the_data_sets_names(through):
    shapes, exps, _ = through
    flags = {"--run": exps / "hsc", "--data_root": shapes.root, "--num_workers": 1}
    done = forker().run(["-m", "tool.report", *words_of(flags)], ROOT)
    assert_succeeded(done)
    found = page_data(exps / "hsc" / "report.html")
    assert [image["id"] for image in found["images"]] == sorted((*shapes.ids, EMPTY))
    assert found["names"] == list(shapes.data_set.label_names)


def test_classes_of_a_data_set_are_named_to_average_over_them(through, tmp_path):
    """A name may have spaces; several may stand in a word, with commas."""
    shapes, exps, _ = through
    flags = {"--list": shapes.root / "val.txt", "--gt_dir": shapes.root / "masks", "--comment": "some"}
    flags |= {"--data_set": shapes.data_set.name, "--predict_dir": exps / "cam_png"}
    flags |= {"--json": tmp_path / "a.json", "--logfile": tmp_path / "log"}
    assert_succeeded(run("eval.py", {**flags, "--classes": ("shape 3", "shape 5,background")}))
    score = json.loads((tmp_path / "a.json").read_text())
    assert score["classes"] == ["background", "shape 3", "shape 5"]
    assert score["mIoU"] == pytest.approx(np.mean([score[name] for name in score["classes"]]))
    assert_refused(run("eval.py", {**flags, "--classes": "dog"}), "--classes: expected names among background, shape 0")
