"""`python -m tool.report`: its figures, what it finds by itself, what it leaves out, and what it refuses."""

import hashlib
import json
import re
import shutil
from html import unescape

import numpy as np
import pytest
from PIL import Image

from tests.tool.report_runs import HOSTILE, SHAPE, command, make_data, make_results, make_run, page_data
from tool.artifact import load_label_map, save_label_map
from tool.lists import Source
from tool.report.plan import UNSCORED, Data, plan_images
from tool.report.run_folder import Run
from voc12.classes import VOC12

IDS = [f"2007_00000{k}" for k in range(5)]


@pytest.fixture
def made(tmp_path):
    """A folder with data and a run `exps/hsc`; runs beside it are made from `truths`."""
    truths = make_data(tmp_path, IDS)
    make_run(tmp_path / "exps" / "hsc", truths, wrong=2)
    return tmp_path, truths


def report(root, *arguments, run="exps/hsc"):
    return command("--run", root / run, "--data_root", root / "VOC2012" / "JPEGImages", *arguments)


def assert_made(done):
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The page of a run as scripts leave it, and its data's truths; to be read only."""
    root = tmp_path_factory.mktemp("reported")
    truths = make_data(root, IDS)
    make_run(root / "exps" / "hsc", truths, wrong=2)
    assert_made(report(root))
    return root / "exps" / "hsc" / "report.html", truths


def assert_refused(done, *messages):
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    for message in messages:
        assert message in done.stderr


def tiles(page):
    """The figures at the top of the page of one run or two, by title."""
    found = re.findall(r'<div class="tile"><h2>(.*?)</h2>\s*<p class="figure">(.*?)</p>', page.read_text(), re.DOTALL)
    return {unescape(re.sub("<.*?>", "", title)): re.sub("<.*?>", " ", figure).split() for title, figure in found}


def test_figures_are_those_of_the_golden_evaluation(golden, tmp_path):
    """mIoU of the label maps, and the best point of the CAMs' curve, are what eval.py gives on the same files."""
    source, run, images = golden / "eval", tmp_path / "run", tmp_path / "VOC2012" / "JPEGImages"
    expected = json.loads((source / "expected.json").read_text())
    shutil.copytree(source / "npy", run / "cam_npy")
    shutil.copytree(source / "png", run / "cam_png")
    images.mkdir(parents=True)
    for path in (source / "gt").glob("*.png"):
        height, width = load_label_map(path, VOC12).shape
        Image.new("RGB", (width, height)).save(images / f"{path.stem}.jpg")
    assert_made(report(tmp_path, "--gt_dir", source / "gt", run="run"))
    page = run / "report.html"
    curve, mean = expected["curve"], expected["png"]["mIoU"]
    best = int(np.argmax(curve))
    assert tiles(page) == {"CAM, best threshold": [f"{curve[best]:.1f}"], "Seed": [f"{mean:.1f}"]}
    assert f"best {curve[best]:.1f} at {best / 100:.2f}" in page.read_text()


def test_one_file_holds_settings_losses_and_every_picture(reported):
    page, _ = reported
    assert sorted(path.name for path in page.parent.glob("report*")) == ["report.html"]
    data = page_data(page)
    assert [image["id"] for image in data["images"]] == IDS
    expected = ["image", "truth", "saliency", "0 cam 1", "0 seed", "0 seed errors", "0 crf", "0 crf errors"]
    assert data["images"][0]["pictures"] == expected
    assert page.read_text().count("data:image/webp;base64,") == len(IDS) * len(expected)
    for text in ('<th scope="row">lr</th><td>0.2</td>', "Losses, training", "cls. hsc: 3 at 1, 2.0167 at 60"):
        assert text in page.read_text()


def test_images_have_the_mean_iou_of_the_labels_that_occur(reported):
    page, truths = reported
    image = page_data(page)["images"][4]
    truth, seed = truths[IDS[4]], load_label_map(page.parent / "cam_png" / f"{IDS[4]}.png", VOC12)
    valid = truth != 255
    ious = [
        np.sum(valid & (truth == k) & (seed == k)) / np.sum(valid & ((truth == k) | (seed == k)))
        for k in np.union1d(truth[valid], seed[valid])
    ]
    assert image["iou"]["seed"] == [pytest.approx(100 * np.mean(ious), abs=0.01)]
    assert image["iou"]["crf"] == [100]
    assert image["labels"] == [2]


def test_labels_that_occur_nowhere_are_said_to_count_as_0(reported):
    page = reported[0].read_text()
    about = "17 of 21 labels occur in neither prediction nor ground truth and count as 0; mIoU over the 4 that occur is"
    classes = "(eval.py: --classes background aeroplane bicycle bird)."
    notes = re.findall(rf"<li>hsc, (CAM|Seed|CRF seed): {re.escape(about)} ([\d.]+) {re.escape(classes)}</li>", page)
    assert [title for title, _ in notes] == ["CAM", "Seed", "CRF seed"] and notes[2][1] == "100.00"


def test_comparison_gains_are_the_first_run_over_the_other(made):
    root, truths = made
    make_run(root / "exps" / "eps", truths, wrong=5, method="eps")
    assert_made(report(root, "--compare", root / "exps" / "eps"))
    page = root / "exps" / "hsc" / "report_vs_eps.html"
    first, other = map(float, tiles(page)["Seed"])
    assert first > other
    gain = re.search(r'5 images\s*<span class="gain up">(.*?)</span>', page.read_text())[1]
    assert float(gain) == pytest.approx(first - other, abs=0.11) and gain.startswith("+")
    image = page_data(page)["images"][1]
    assert image["iou"]["seed"][0] > image["iou"]["seed"][1]
    assert {"0 seed", "1 seed", "0 cam 2", "1 cam 2"} < set(image["pictures"])
    assert re.search(r'class=differs><th scope="row">method</th><td>hsc</td><td>eps</td>', page.read_text())


def test_both_runs_are_scored_on_the_images_that_both_have(made):
    root, truths = made
    make_run(root / "exps" / "eps", truths, wrong=2)
    for folder in ("cam_npy", "cam_png", "crf/crf_8_7"):
        for path in (root / "exps" / "eps" / folder).glob(f"{IDS[0]}.*"):
            path.unlink()
    assert_made(report(root, "--compare", root / "exps" / "eps"))
    page = root / "exps" / "hsc" / "report_vs_eps.html"
    assert [image["id"] for image in page_data(page)["images"]] == IDS[1:]
    assert len(set(tiles(page)["Seed"])) == 1
    assert "Seed: 1 images that only some of the runs have are left out." in page.read_text()


def test_of_several_runs_gains_are_over_the_first_compared_with_and_names_tell_them_apart(made):
    root, truths = made
    for run, wrong in {"exps/eps": 5, "other/hsc": 1}.items():
        make_run(root / run, truths, wrong=wrong)
    shutil.rmtree(root / "other" / "hsc" / "crf")  # what a run lacks takes no gain from others
    assert_made(report(root, "--compare", root / "exps" / "eps", root / "other" / "hsc"))
    page = root / "exps" / "hsc" / "report_vs_eps_and_1_more.html"
    names = [str(root / "exps" / "hsc"), "eps", str(root / "other" / "hsc")]
    assert page_data(page)["runs"] == names
    table = re.search(r'<table class="figures">(.*?)</table>', page.read_text(), re.DOTALL)[1]
    rows = [re.sub("<.*?>", " ", row).split() for row in table.split("</tr>")[1:-1]]
    assert [row[0] for row in rows] == [*names, "Gain", "Images"]
    seeds = [float(row[4]) for row in rows[:3]]  # after the CAMs' best, "at" and its threshold
    assert seeds[2] > seeds[0] > seeds[1]
    assert [row[5] for row in rows[:3]] == ["19.0", "19.0", "–"]
    assert float(rows[3][1]) == pytest.approx(seeds[0] - seeds[1], abs=0.11) and rows[3][2] == "+0.0"
    assert f"{names[0]}'s over eps" in page.read_text()


def test_parts_that_are_missing_are_left_out_and_named(tmp_path):
    truths = make_data(tmp_path, IDS, saliency=False)
    run = tmp_path / "exps" / "hsc"
    make_run(run, truths, wrong=1)
    shutil.rmtree(run / "crf")
    shutil.rmtree(run / "cam_npy")
    (run / "log").unlink()
    others = run / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    others.mkdir(parents=True)
    save_label_map(others / "without_mask.png", truths[IDS[0]], VOC12)
    assert_made(report(tmp_path))
    text = (run / "report.html").read_text()
    of_others = "--gt_dir none shows the label maps of images without ground truth"
    for part in ("losses", "CAMs", "CRF seeds", "segmentation", of_others, "No saliency maps were found."):
        assert part in text.partition('class="notes')[2].partition("</ul>")[0]
    assert list(tiles(run / "report.html")) == ["Seed"]


def test_a_run_without_predictions_shows_its_losses(made):
    root, _ = made
    for name in ("cam_npy", "cam_png", "crf"):
        shutil.rmtree(root / "exps" / "hsc" / name)
    assert_made(report(root))
    text = (root / "exps" / "hsc" / "report.html").read_text()
    assert "Losses, training" in text and "there are no images to show" in text


def test_walked_masks_and_nets_that_learnt_from_them_or_from_seeds_are_found(made):
    """A recipe's: walked masks in the run, DeepLab and DHR beside it. Nets of other label maps are left alone."""
    root, truths = made
    run, zeros = root / "exps" / "hsc", np.zeros_like(truths[IDS[0]])
    for name in ("out_rw", "sem_seg"):
        (run / name).mkdir()
        for image_id, truth in truths.items():
            labels = np.where(truth == 255, 0, truth) if name == "out_rw" else zeros
            save_label_map(run / name / f"{image_id}.png", labels, VOC12)
    make_results(root / "exps" / "other_net", truths, pseudo=root / "elsewhere")
    make_results(root / "exps" / "net", truths, pseudo=run / "out_rw")
    for name, masks in {"dhr": run / "crf" / "crf_8_7", "other_dhr": root / "elsewhere"}.items():
        shutil.copytree(run / "sem_seg", root / "exps" / name / "val")
        settings = {"wss_masks": str(masks), "without": ["labels"]}
        (root / "exps" / name / "args.json").write_text(json.dumps(settings))
    assert_made(report(root))
    text, found = (run / "report.html").read_text(), tiles(run / "report.html")
    walked = ["AffinityNet's mask", "IRN's mask"]
    assert list(found) == ["CAM, best threshold", "Seed", "CRF seed", *walked, "Segmentation", "DeepLabv3+"]
    assert found["Segmentation"] == found[walked[0]] == found["CRF seed"]
    assert found["DeepLabv3+"] == found[walked[1]] != found["Seed"]
    assert "Segmentation is that of net." in text and "DeepLabv3+ is that of dhr." in text
    assert '<th scope="row">wss_masks</th>' in text and "not found, so left out: losses" in text


def test_of_several_crfs_the_released_one_counts_else_the_one_of_the_least_alpha(made):
    """SEAM's recipe makes alpha 4 and 24, and scores the first; 24 stands before 4 by name."""
    root, _ = made
    crf = root / "exps" / "hsc" / "crf"
    for name in ("crf_10_24", "crf_10_4"):
        shutil.copytree(crf / "crf_8_7", crf / name)
    assert_made(report(root))
    assert "CRF seeds are those of crf_8_7; there are also crf_10_4, crf_10_24." in page_text(root)
    shutil.rmtree(crf / "crf_8_7")
    assert_made(report(root))
    assert "CRF seeds are those of crf_10_4; there are also crf_10_24." in page_text(root)


def page_text(root):
    return (root / "exps" / "hsc" / "report.html").read_text()


def test_seeds_beside_the_run_count_only_if_its_weights_made_them(made):
    """inference.py's own --work_dir is the parent of all runs. Walked masks count by the CAMs that were walked."""
    root, truths = made
    trained = root / "exps" / "trained"
    trained.mkdir()
    (trained / "trained.pth").write_bytes(b"weights")
    (trained / "log").write_text("2026-01-01 00:00:00 step 1/1 total 1.0000\n")
    make_run(root / "made", truths, wrong=2)
    for name in ("cam_npy", "cam_png", "crf"):
        shutil.move(root / "made" / name, root / "exps" / name)
    assert_made(report(root, run="exps/trained"))
    assert not tiles(trained / "report.html")
    settings = root / "exps" / "cam_png" / "settings.json"
    settings.write_text(json.dumps({"weights_sha256": hashlib.sha256(b"weights").hexdigest()}))
    shutil.copytree(root / "exps" / "crf" / "crf_8_7", root / "exps" / "out_rw")
    walked = {"weights_sha256": "AffinityNet's", "settings.json of --cam_dir": settings.read_text()}
    (root / "exps" / "out_rw" / "settings.json").write_text(json.dumps(walked))
    assert_made(report(root, run="exps/trained"))
    assert list(tiles(trained / "report.html")) == ["Seed", "AffinityNet's mask"]


def test_a_list_says_which_images_are_shown_and_scored(made):
    root, _ = made
    (root / "list.txt").write_text(f"/JPEGImages/{IDS[3]}.jpg /SegmentationClassAug/{IDS[3]}.png\n\n{IDS[1]}\n")
    assert_made(report(root, "--list", root / "list.txt", "--classes", "background", "car"))
    assert "mIoU is over background, car." in (root / "exps" / "hsc" / "report.html").read_text()
    images = page_data(root / "exps" / "hsc" / "report.html")["images"]
    assert [image["id"] for image in images] == [IDS[1], IDS[3]]


def test_without_ground_truth_images_are_shown_with_what_nets_made_of_those_to_segment_and_nothing_is_scored(made):
    root, truths = made
    run, deeplab, dhr = root / "exps" / "hsc", root / "exps" / "net", root / "exps" / "dhr"
    make_results(deeplab, truths, pseudo=run / "cam_png")
    results = deeplab / "results" / "VOC2012" / "Segmentation" / "comp6_val_cls"
    results.rename(results.with_name("comp6_test_cls"))
    shutil.copytree(run / "cam_png", dhr / "test")
    (dhr / "args.json").write_text(json.dumps({"wss_masks": str(run / "cam_png")}))
    shutil.rmtree(root / "VOC2012" / "SegmentationClass")
    (run / "cam_npy" / f"{IDS[0]}.npy").unlink()
    save_label_map(run / "cam_png" / f"{IDS[0]}.png", np.full(SHAPE, 7, np.uint8), VOC12)
    assert_made(report(root, "--gt_dir", "none"))
    page, images = (run / "report.html").read_text(), page_data(run / "report.html")["images"]
    seen = ["0 seed", "0 crf", "0 segmentation", "0 deeplabv3plus"]
    assert [image["pictures"] for image in images] == [
        ["image", "saliency", *seen],
        *(["image", "saliency", f"0 cam {1 + number % 3}", *seen] for number in range(1, 5)),
    ]
    assert [image["labels"] for image in images] == [[1, 7], [2], [3], [1], [2]]
    assert all(image["iou"] == {} for image in images) and not tiles(run / "report.html")
    assert "<li>There is no ground truth: nothing is scored.</li>" in page
    assert "IoU" not in page[page.index("<main>") : page.index("<script")]


def test_of_many_images_without_ground_truth_some_are_shown_unless_they_are_listed(tmp_path):
    ids = [f"{number:04}" for number in range(1234)]
    for image_id in ids:
        (tmp_path / f"{image_id}.jpg").touch()
    source, data = Source("--run", tmp_path), Data(VOC12, tmp_path, None, None)
    run = Run("hsc", tmp_path, cams=dict.fromkeys(ids, tmp_path))
    files, notes = plan_images([run], data, None, source=source)
    assert len(files) == UNSCORED == len(run.cams) and [min(files), max(files)] == ["0000", "1233"]
    assert "Shown are 500 of 1234 images, in even steps through their ids; --list names others." in notes
    run = Run("hsc", tmp_path, cams=dict.fromkeys(ids, tmp_path))
    assert len(plan_images([run], data, ids[:600], source=source)[0]) == 600


def test_many_images_are_looked_at_by_processes_with_the_same_page(tmp_path):
    truths = make_data(tmp_path, [f"{k:03}" for k in range(40)])
    make_run(tmp_path / "exps" / "hsc", truths, wrong=2)
    pages = []
    for workers in (1, 2):
        assert_made(report(tmp_path, "--num_workers", workers))
        text = (tmp_path / "exps" / "hsc" / "report.html").read_text()
        pages.append(re.sub(r"written [-0-9: ]+", "", text))
    assert pages[0] == pages[1]


def test_other_peoples_text_is_escaped(tmp_path):
    make_run(tmp_path / "exps" / "hsc", make_data(tmp_path, [HOSTILE]), wrong=1)
    assert_made(report(tmp_path))
    page = tmp_path / "exps" / "hsc" / "report.html"
    assert page_data(page)["images"][0]["id"] == HOSTILE
    assert "<img src=x" not in page.read_text() and "<script>document" not in page.read_text()


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_small_truths(root):
    for image_id in IDS[:2]:
        save_label_map(root / "VOC2012" / "SegmentationClass" / f"{image_id}.png", np.ones((4, 5), np.uint8), VOC12)


REFUSALS = {
    "no run": ([], lambda root: remove(root / "exps" / "hsc"), ["--run", "nothing there"]),
    "an empty run": (
        [],
        lambda root: (remove(root / "exps" / "hsc"), (root / "exps" / "hsc").mkdir()),
        ["--run", "found none of it", "inference.py"],
    ),
    "no data": ([], lambda root: remove(root / "VOC2012"), ["--data_root", "nothing there"]),
    "no images": (
        [],
        lambda root: [(root / "VOC2012" / "JPEGImages" / f"{k}.jpg").unlink() for k in IDS[:2]],
        ["--data_root", f"{IDS[0]}.jpg", f"{IDS[1]}.jpg"],
    ),
    "no ground truth's folder": (
        [],
        lambda root: remove(root / "VOC2012" / "SegmentationClass"),
        ["--gt_dir", "or none to see"],
    ),
    "classes of no score": (
        ["--gt_dir", "none", "--classes", "car"],
        lambda root: None,
        ["--classes: nothing is scored at --gt_dir none"],
    ),
    "another size without ground truth": (
        ["--gt_dir", "none"],
        lambda root: Image.new("RGB", (4, 5)).save(root / "VOC2012" / "JPEGImages" / f"{IDS[0]}.jpg"),
        [f"saliency/{IDS[0]}.png: expected 4 x 5 (width x height), found 24 x 18", f"cam_npy/{IDS[0]}.npy"],
    ),
    "another ground truth": (["--gt_dir", "{root}/exps"], lambda root: None, ["--gt_dir", "found none", IDS[0]]),
    "other sizes": ([], write_small_truths, [f"{IDS[0]}.jpg", f"{IDS[1]}.npy", f"{IDS[1]}.png", "4 x 5"]),
    "damaged files": (
        [],
        lambda root: [
            (root / "exps" / "hsc" / "cam_npy" / f"{IDS[0]}.npy").write_bytes(b"no"),
            (root / "VOC2012" / "saliency" / f"{IDS[1]}.png").write_bytes(b"no"),
        ],
        [f"{IDS[0]}.npy", f"{IDS[1]}.png", "no report was written (2)"],
    ),
    "damaged settings": (
        [],
        lambda root: (root / "exps" / "hsc" / "args.json").write_text("{"),
        ["args.json", "record of settings"],
    ),
    "a run twice": (
        ["--compare", "{root}/exps/eps", "{root}/exps/eps"],
        lambda root: shutil.copytree(root / "exps" / "hsc", root / "exps" / "eps"),
        ["--compare", "exps/eps", "the same"],
    ),
    "the same run": (["--compare", "{root}/exps/hsc"], lambda root: None, ["--compare", "the same"]),
    "a strange list": (
        ["--list", "{root}/list.txt"],
        lambda root: (root / "list.txt").write_text(f"{IDS[0]}\nx\ny\n"),
        ["--list", "x", "y", "(2)"],
    ),
    "an empty list": (["--list", "{root}/list.txt"], lambda root: (root / "list.txt").write_text("\n"), ["is empty"]),
    "out is a folder": (["--out", "{root}/a.html"], lambda root: (root / "a.html").mkdir(), ["--out", "a folder"]),
    "out is no page": (["--out", "{root}/a.txt"], lambda root: None, ["--out", ".html"]),
    "out is nowhere": (["--out", "{root}/no/a.html"], lambda root: None, ["--out", "is not there; create it first"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_mistakes_are_named_and_nothing_is_written(made, name):
    root, _ = made
    arguments, spoil, messages = REFUSALS[name]
    spoil(root)
    done = report(root, *(argument.format(root=root) for argument in arguments))
    assert_refused(done, *messages)
    assert not [path for path in root.rglob("*.html") if path.is_file()]
