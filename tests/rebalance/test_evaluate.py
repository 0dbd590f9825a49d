"""mIoU, mFPR and mFNR as DHR takes them: golden scores through the released command, which images count, refusals."""

import json

import numpy as np
import pytest
from PIL import Image

from coco14.classes import COCO14, SPLITS
from released.dhr.evaluate import SCRIPT, in_our_words
from tests.scripts.conftest import ROOT, forker
from tool.artifact import save_label_map
from tool.metric import false_rates, iou, label_counts
from voc12.classes import VOC12


def evaluate(*words):
    return forker().run([SCRIPT, *map(str, words)], ROOT)


@pytest.mark.golden
def test_the_released_command_gives_the_golden_scores_and_line(golden, tmp_path):
    folder = golden / "dhr" / "eval"
    sets = json.loads((folder / "expected.json").read_text())
    assert len(sets) > 1
    for data, expected in sets.items():
        words = ["--root", str(folder), "--data", data, "--fix"]
        words += ["--pred", str(folder / data / "pred"), "--gt", str(folder / data / "gt")]
        done = evaluate(*in_our_words([*words, "--json", str(tmp_path / "scores.json")]))
        assert done.stdout.splitlines()[-1] == expected["line"], done.stderr
        found = json.loads((tmp_path / "scores.json").read_text())
        assert list(found["classes"]) == list(expected["classes"])
        for name in ("mIoU", "mFPR", "mFNR"):
            assert found[name] == pytest.approx(expected[name], rel=1e-4)
        for name, scores in expected["classes"].items():
            assert found["classes"][name] == pytest.approx(scores, rel=1e-4, abs=1e-7)
        assert len(found["without_prediction"]) == 1 and found["without_prediction"][0] in done.stdout


def test_the_released_folders_are_those_of_the_domain():
    domains = {"VOC2012": ("train_aug", []), "COCO2014": ("train", ["--count_empty"])}
    for data, (domain, more) in domains.items():
        words = in_our_words(["--data", data, "--domain", "train", "--pred", "res", "--tag", "T", "--cpus", "3"])
        assert words == [
            *("--data_set", f"../{data}/{data}.json", "--pred_dir", f"res/{data}/T/{domain}"),
            *("--gt_dir", f"../{data}/{domain}/mask", "--tag", "T", *more, "--num_workers", "3"),
        ]


@pytest.fixture
def folders(tmp_path):
    """Three images: one of class 3 with a border, its prediction half right; one of class 5 without a prediction; one
    of background alone, whose prediction has a class."""
    for name in ("gt", "pred"):
        (tmp_path / name).mkdir()
    truth = np.zeros((4, 6), np.uint8)
    truth[1:3] = 4
    truth[3] = 255
    prediction = np.zeros_like(truth)
    prediction[1] = 4
    prediction[2] = 255
    save_label_map(tmp_path / "gt" / "a.png", truth, VOC12)
    save_label_map(tmp_path / "pred" / "a.png", prediction, VOC12)
    save_label_map(tmp_path / "gt" / "b.png", np.full((3, 3), 6, np.uint8), VOC12)
    save_label_map(tmp_path / "gt" / "c.png", np.zeros((3, 3), np.uint8), VOC12)
    save_label_map(tmp_path / "pred" / "c.png", np.full((3, 3), 7, np.uint8), VOC12)
    return tmp_path


def scores(folders, *words):
    paths = ("--pred_dir", folders / "pred", "--gt_dir", folders / "gt", "--json", folders / "scores.json")
    done = evaluate(*paths, "--num_workers", 1, *words)
    assert done.returncode == 0, done.stderr
    return json.loads((folders / "scores.json").read_text())


def test_an_image_without_an_object_counts_where_asked_and_a_predicted_255_is_a_miss(folders):
    found = scores(folders)
    assert found["images"] == 1 and found["without_prediction"] == ["b"]
    assert found["classes"] == {
        "background": {"IoU": 100.0, "FPR": 0.0, "FNR": 0.0},
        VOC12.classes[3]: {"IoU": 50.0, "FPR": 0.0, "FNR": 0.5},
    }
    assert (found["mIoU"], found["mFPR"], found["mFNR"]) == (75.0, 0.0, 0.25)
    whole = scores(folders, "--count_empty")
    assert whole["images"] == 2 and whole["classes"][VOC12.classes[6]] == {"IoU": 0.0, "FPR": 1.0, "FNR": 0.0}
    assert whole["classes"]["background"]["FNR"] == pytest.approx(9 / 15)
    (folders / "pred" / "c.png").unlink()
    assert scores(folders)["without_prediction"] == ["b"]
    assert scores(folders, "--count_empty")["without_prediction"] == ["b", "c"]


def test_counts_beyond_float32_are_exact():
    counts = np.array([[2**24 + 1], [2**24 + 3], [2**24 + 2]])
    assert false_rates(counts)[0] == 1 / (2**24 + 4) and false_rates(counts)[1] == 2 / (2**24 + 4)


def test_the_three_shares_of_a_label_sum_to_one():
    draw = np.random.default_rng(0)
    prediction, target = draw.integers(0, 4, (2, 30, 20))
    counts = label_counts(prediction, target, num_labels=5)
    assert (iou(counts) + sum(false_rates(counts))).tolist() == pytest.approx([1, 1, 1, 1, 0])


@pytest.fixture
def coco(tmp_path):
    """Two images, predicted as they are, whose masks lie in both of COCO's folders."""
    ids = [f"COCO_{split}_{number:012}" for number, split in enumerate(SPLITS, start=1)]
    for image_id, mask in zip(ids, COCO14.masks, strict=False):
        for folder in (tmp_path / "COCO" / mask, tmp_path / "pred"):
            folder.mkdir(parents=True, exist_ok=True)
            save_label_map(folder / f"{image_id}.png", np.full((3, 3), 5, np.uint8), COCO14)
    (tmp_path / "list.txt").write_text("\n".join(ids))
    return tmp_path


def test_masks_in_several_folders_are_found_by_a_list_and_asked_for_without_one(coco):
    words = ["--pred_dir", coco / "pred", "--gt_dir", coco / "COCO", "--data_set", "coco14", "--num_workers", 1]
    done = evaluate(*words, "--list", coco / "list.txt", "--strict", "--json", coco / "scores.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((coco / "scores.json").read_text())
    assert (found["images"], found["mIoU"], found["without_prediction"]) == (2, 100.0, [])
    with (coco / "list.txt").open("a") as file:
        file.write("\nCOCO_train2014_3\nCOCO_train2014_4\n")
    done = evaluate(*words, "--list", coco / "list.txt")
    assert done.returncode == 2 and "ground truth of --list" in done.stderr and "scored (2):" in done.stderr
    assert "COCO_train2014_3.png: no such file" in done.stderr and "COCO_train2014_4.png: no such" in done.stderr
    done = evaluate(*words)
    assert done.returncode == 2 and "masks in several folders need a --list" in done.stderr, done.stderr


def test_a_macs_hidden_files_are_no_ground_truth(folders):
    (folders / "gt" / "._b.png").write_bytes(b"\0\5\x16\7Mac OS X")
    assert scores(folders)["without_prediction"] == ["b"]


def test_ground_truth_without_an_object_is_said_to_be_so(folders):
    (folders / "pred" / "a.png").unlink()
    done = evaluate("--pred_dir", folders / "pred", "--gt_dir", folders / "gt")
    assert done.returncode == 2 and "none of the 1 ground truths to score has an object" in done.stderr, done.stderr
    assert "--count_empty" in done.stderr


REFUSED = [
    (["--strict"], ["--strict", "without a prediction", "b.png"]),
    (["--pred_dir", "none"], ["--pred_dir none", "expected a folder"]),
    (["--pred_dir", "."], ["--pred_dir", "found none of its 3"]),
    (["--gt_dir", "recipes"], ["--gt_dir recipes", "expected ground truth"]),
    (["--json", "none/a.json"], ["--json none/a.json: the folder none is not there"]),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=["strict", "no folder", "none", "no truth", "no place"])
def test_what_cannot_be_scored_is_refused_in_one_line(folders, words, said):
    if "." in words:
        (folders / "empty").mkdir()
        words = ["--pred_dir", folders / "empty"]
    done = evaluate("--pred_dir", folders / "pred", "--gt_dir", folders / "gt", *words)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1, done.stderr
    assert all(part in done.stderr for part in said), done.stderr


def test_predictions_of_other_labels_or_another_size_are_all_named(folders):
    save_label_map(folders / "gt" / "d.png", np.full((2, 2), 3, np.uint8), VOC12)
    save_label_map(folders / "pred" / "d.png", np.full((2, 3), 3, np.uint8), VOC12)
    (folders / "pred" / "a.png").write_bytes((folders / "pred" / "c.png").read_bytes()[:40])
    Image.fromarray(np.full((2, 2), 21, np.uint8)).save(folders / "gt" / "e.png")
    save_label_map(folders / "pred" / "e.png", np.full((2, 2), 3, np.uint8), VOC12)
    done = evaluate("--pred_dir", folders / "pred", "--gt_dir", folders / "gt")
    assert done.returncode == 2 and "d.png: expected 2 x 2" in done.stderr and "a.png" in done.stderr, done.stderr
    assert f"{folders / 'gt' / 'e.png'}: expected labels 0 to 20 or 255, found 21" in done.stderr, done.stderr


def test_ground_truths_without_a_prediction_that_cannot_be_read_are_all_named(folders):
    for name in ("d.png", "e.png"):
        (folders / "gt" / name).write_bytes(b"no PNG")
    done = evaluate("--pred_dir", folders / "pred", "--gt_dir", folders / "gt")
    assert done.returncode == 2 and "(2):" in done.stderr, done.stderr
    assert "d.png: " in done.stderr and "e.png: " in done.stderr
