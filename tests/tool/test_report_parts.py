"""The report's parts: confusions and their cost, thumbnails, charts, losses of a log, and too large pages."""

import base64
import hashlib
import io
import itertools
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from PIL import Image

from tests.tool.report_runs import HOSTILE, make_data, make_results, make_run, page_data
from tool.cli import UserError
from tool.dataset import IGNORE
from tool.lists import Source
from tool.lock import turn_in
from tool.metric import confusion_matrix
from tool.plot import heat_colours
from tool.report import plan
from tool.report.charts import MAX_POINTS, line_chart
from tool.report.figures import score_stages
from tool.report.found import Found
from tool.report.image import THUMBNAIL, Findings, draw
from tool.report.make import write_report
from tool.report.page import TEMPLATES, write_page
from tool.report.plan import find_data
from tool.report.run_folder import STAGES, Run, read_losses, read_run
from tool.report.score import Confusion, costliest_confusions, image_iou, label_iou
from voc12 import classes
from voc12.classes import VOC12


def test_names_are_those_of_the_data_set():
    assert VOC12.label_names == classes.VOC12.label_names


def naive_confusion(prediction, truth):
    matrix = np.zeros((VOC12.num_labels, VOC12.num_labels), int)
    for called, true in zip(prediction.flat, truth.flat, strict=True):
        if true != IGNORE:
            matrix[true, called] += 1
    return matrix


def random_maps(seed=0):
    generator = np.random.default_rng(seed)
    prediction = generator.choice([0, 3, 15, 20], (13, 17)).astype(np.uint8)
    return prediction, generator.choice([0, 3, 15, 255], (13, 17)).astype(np.uint8)


def test_confusion_counts_truth_by_prediction_without_ignored_pixels():
    np.testing.assert_array_equal(
        confusion_matrix(*random_maps(), num_labels=VOC12.num_labels), naive_confusion(*random_maps())
    )


def test_iou_of_a_label_that_does_not_occur_is_0_but_does_not_lower_an_images_mean():
    matrix = confusion_matrix(*random_maps(), num_labels=VOC12.num_labels)
    assert label_iou(matrix)[7] == 0
    assert image_iou(matrix) == pytest.approx(label_iou(matrix)[[0, 3, 15, 20]].mean())
    assert image_iou(np.zeros((VOC12.num_labels, VOC12.num_labels), int)) is None


def test_costliest_confusion_is_the_one_whose_mending_raises_iou_most():
    """Every single confusion is mended, and the score taken anew."""
    matrix = confusion_matrix(*random_maps(1), num_labels=VOC12.num_labels)
    costliest = costliest_confusions(matrix)
    for label in range(VOC12.num_labels):
        gains = {}
        for true, called in np.argwhere(matrix > 0).tolist():
            if true != called and label in (true, called):
                mended = matrix.copy()
                mended[true, called] = 0
                mended[true, true] += matrix[true, called]
                gains[true, called] = label_iou(mended)[label] - label_iou(matrix)[label]
        if not gains or max(gains.values()) == 0:
            assert costliest[label] is None
        else:
            assert costliest[label].points == pytest.approx(max(gains.values()))
            assert gains[costliest[label][:2]] == pytest.approx(max(gains.values()))


def test_a_label_loses_by_what_is_called_by_its_name_and_a_perfect_one_by_nothing():
    matrix = np.zeros((VOC12.num_labels, VOC12.num_labels), int)
    matrix[0, 0], matrix[5, 5], matrix[5, 0] = 8, 2, 2
    assert costliest_confusions(matrix)[5] == Confusion(5, 0, 50.0)
    assert costliest_confusions(matrix)[0] == Confusion(5, 0, pytest.approx(20))
    assert costliest_confusions(np.diag(np.arange(VOC12.num_labels)))[5] is None


def test_stage_scores_sum_pixels_over_images_and_average_all_labels(tmp_path):
    """Not a mean of the images' scores, and labels that never occur count as 0, as in eval.py."""
    maps = {"a": random_maps(0), "b": random_maps(1)}
    found = Found()
    for image_id, pair in maps.items():
        confusions = {(0, "seed"): confusion_matrix(*pair, num_labels=VOC12.num_labels)}
        found.add(image_id, Findings([3, 15], {}, confusions, {}, []))
    run = Run("run", tmp_path, labels={**{key: {} for key in STAGES}, "seed": dict.fromkeys(maps, tmp_path)})
    (stage,) = score_stages([run], found, VOC12, labels=range(VOC12.num_labels))
    total = sum(naive_confusion(*pair) for pair in maps.values())
    assert stage.means == [pytest.approx(label_iou(total).mean())]
    assert [row.images for row in stage.rows[:4]] == [2, 0, 0, 2]
    assert [row.occurs for row in stage.rows[:5]] == [True, False, False, True, False]
    (note,) = stage.notes
    occurring = label_iou(total)[[0, 3, 15, 20]].mean()
    (of_some,) = score_stages([run], found, VOC12, labels=[0, 3, 5])
    assert of_some.means == [pytest.approx(label_iou(total)[[0, 3, 5]].mean())]
    assert of_some.notes[0].startswith("run, Seed: 1 of 3 labels occur")
    assert note.startswith("run, Seed: 17 of 21 labels occur") and f"the 4 that occur is {occurring:.2f} (" in note


# -- thumbnails --------------------------------------------------------------------------------------------------------


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_thumbnails_keep_the_form_and_labels_keep_their_colours():
    labels = np.zeros((300, 600), np.uint8)
    labels[:, 300:] = 15
    truth = labels.copy()
    truth[:150, :300] = 3
    truth[:, 590:] = IGNORE
    pictures = draw(Image.new("RGB", (600, 300)), truth, None, {}, {(0, "seed"): labels}, VOC12)
    assert set(pictures) == {"image", "truth", "0 seed", "0 seed errors"}
    seed, errors = decoded(pictures["0 seed"]), decoded(pictures["0 seed errors"])
    assert seed.shape == (THUMBNAIL // 2, THUMBNAIL, 4)
    assert tuple(seed[70, 200]) == (192, 128, 128, 255)
    assert seed[70, 10, 3] == 0
    assert tuple(errors[10, 10]) == (213, 94, 0, 255)
    assert errors[100, 10, 3] == errors[10, 200, 3] == errors[10, -1, 3] == 0
    assert tuple(decoded(pictures["truth"])[10, -1]) == (224, 224, 192, 255)


def test_small_images_are_not_enlarged_and_cams_are_heat():
    scores = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
    pictures = draw(Image.new("RGB", (64, 48)), np.zeros((48, 64), np.uint8), None, {1: {14: scores}}, {}, VOC12)
    heat = decoded(pictures["1 cam 15"])[..., :3].astype(int)
    assert heat.shape == (48, 64, 3)
    assert np.abs(heat - heat_colours(scores)).mean() < 8


# -- charts and losses -------------------------------------------------------------------------------------------------


def test_charts_place_points_between_round_numbers():
    chart = line_chart("t", {0: [(0, 10.0), (50, 30.0), (100, 20.0)]}, names=["a"], mark_best=True)
    assert chart.lines == {0: "0.00,100.00 50.00,0.00 100.00,50.00"}
    assert [tick.text for tick in chart.y_ticks] == ["10", "15", "20", "25", "30"]
    assert (chart.y_ticks[0].at, chart.y_ticks[-1].at) == (100, 0)
    assert [(mark.x, mark.y, mark.text) for mark in chart.marks] == [(50, 0, "30.0 at 50.00")]


@pytest.mark.parametrize("points", [[(5, 1.0)], [(1, 0.0), (2, 0.0)], [(1, -1e-9), (2, 1e12)], [(0, 7.0), (9, 7.0)]])
def test_charts_hold_whatever_the_values_are(points):
    chart = line_chart("t", {0: points}, names=["a"])
    places = [tuple(map(float, point.split(","))) for point in chart.lines[0].split()]
    assert len(places) == len(points)
    assert all(0 <= value <= 100 for place in places for value in place)
    assert len(chart.y_ticks) >= 2
    assert len(chart.marks) == (len(points) == 1)  # a line of one point would not be seen


def test_long_curves_are_thinned_to_means():
    chart = line_chart("t", {0: [(k, float(k % 2)) for k in range(10 * MAX_POINTS)]}, names=["a"])
    points = chart.lines[0].split()
    assert len(points) == MAX_POINTS
    assert len({point.split(",")[1] for point in points}) == 1


def test_losses_before_a_resumption_past_its_checkpoint_do_not_count(tmp_path):
    log = tmp_path / "log"
    steps = [(10, 1.0), (20, 2.0), (30, 3.0), (20, 5.0), (30, 6.0)]
    lines = [f"2026-01-01 00:00:00 step {step}/30 cls {value:.4f} total {value:.4f}\n" for step, value in steps]
    log.write_text("2026-01-01 00:00:00 hsc: resumed; step 1 of 30\n" + "".join(lines) + "2026-01-01 00:00:00 step 4")
    assert read_losses(log) == {name: [(10, 1.0), (20, 5.0), (30, 6.0)] for name in ("cls", "total")}


# -- what a run left ---------------------------------------------------------------------------------------------------


def folders_of(run):
    """The folder of each kind of label maps that a run has."""
    return {key: next(iter(files.values())).parent for key, files in run.labels.items() if files}


def test_of_several_seeds_those_count_that_the_latest_net_learnt_from(tmp_path):
    """As after a second run of a recipe with another CRF; a net of either is one of the run's."""
    truths, run = make_data(tmp_path, ["a"]), tmp_path / "exps" / "hsc"
    make_run(run, truths, wrong=1)
    shutil.copytree(run / "crf" / "crf_8_7", run / "crf" / "crf_8_4")
    for number, alpha in enumerate((7, 4)):
        net = tmp_path / "exps" / f"d{alpha}"
        make_results(net, truths, pseudo=run / "crf" / f"crf_8_{alpha}")
        os.utime(net / "results" / "VOC2012" / "Segmentation" / "comp6_val_cls", (number, number))
    read = read_run(run, "--run")
    found = folders_of(read)
    assert (found["crf"].name, found["segmentation"].parents[3].name) == ("crf_8_4", "d4")
    assert "CRF seeds are those of crf_8_4; there are also crf_8_7." in read.notes
    assert "Segmentation is that of d4, the latest of 2 trained on label maps of this run." in read.notes


def test_pseudo_labels_of_a_recipe_stand_in_for_seeds_and_lead_to_the_net_that_learnt_from_them(tmp_path):
    """MSA's; without masks they are all the label maps that there are."""
    truths, run = make_data(tmp_path, ["a"]), tmp_path / "exps" / "msa_image"
    make_run(run, truths, wrong=1)
    shutil.copytree(run / "cam_png", run / "pseudo")
    assert folders_of(read_run(run, "--run"))["seed"].name == "cam_png"
    make_results(tmp_path / "exps" / "deeplab", truths, pseudo=run / "pseudo")
    found = folders_of(read_run(run, "--run"))
    assert (found["seed"].name, found["segmentation"].parents[3].name) == ("pseudo", "deeplab")
    shutil.copytree(found["segmentation"], tmp_path / "exps" / "dhr" / "val")
    (tmp_path / "exps" / "dhr" / "args.json").write_text(json.dumps({"wss_masks": str(found["segmentation"])}))
    assert "deeplabv3plus" in folders_of(read_run(run, "--run"))
    shutil.rmtree(tmp_path / "exps" / "dhr")
    shutil.rmtree(run / "cam_png")
    shutil.rmtree(run / "crf")
    read = read_run(run, "--run")
    assert folders_of(read).keys() == {"seed", "segmentation"} and "Seeds" not in read.missing


# -- large runs --------------------------------------------------------------------------------------------------------


def test_of_very_many_images_all_are_scored_and_only_some_kept_and_shown(tmp_path, monkeypatch):
    make_run(tmp_path / "hsc", make_data(tmp_path, list("abcdefg")), wrong=1)
    data, source = find_data(str(tmp_path / "VOC2012"), None, None, VOC12), Source("--run", tmp_path)

    def written(ids=None):
        path = tmp_path / "page.html"
        looked_at, _ = write_report(path, [read_run(tmp_path / "hsc", "--run")], data, ids, source=source)
        text = path.read_text()
        scores = re.search(r'<section aria-labelledby="classes">.*?</section>', text, re.DOTALL)[0]
        return looked_at, scores, [image["id"] for image in page_data(path)["images"]], text

    _, scores, *_ = written()
    monkeypatch.setattr(plan, "SCORED", 3)
    looked_at, same, shown, text = written()
    assert (looked_at, same, shown) == (7, scores, ["a", "d", "g"])
    note = "Shown are 3 of 7 images, in even steps through their ids; all are scored; --list names others."
    assert f"<li>{note}</li>" in text and text.count('id="pictures-') == 3
    assert written(["a", "b", "c", "d"])[2] == ["a", "b", "c", "d"]


# -- large pages -------------------------------------------------------------------------------------------------------


def empty_context():
    names = ("notes", "stages", "images")
    return {
        "runs": [Run("run", "exps/run")],
        "written": "",
        **{name: [] for name in names},
        **{name: {} for name in ("best", "losses", "settings", "colours", "error_colours")},
        "scored": True,
        "stage_titles": {},
        "curve": None,
        "overview": None,
        "heat": [],
        "names": VOC12.label_names,
    }


def test_pictures_beyond_the_size_of_a_file_go_into_a_folder_beside_it(tmp_path):
    pictures = [{"image": b"one"}, {"0 cam 3": b"two" * 100}]
    write_page(tmp_path / "a b.html", empty_context(), pictures)
    assert [path.name for path in tmp_path.iterdir()] == ["a b.html"]
    size = write_page(tmp_path / "a b.html", empty_context(), pictures, max_bytes=10)
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.webp")}
    assert files == {"a b_pictures/0/image.webp": b"one", "a b_pictures/1/0_cam_3.webp": b"two" * 100}
    assert '"a%20b_pictures/1/0_cam_3.webp"' in (tmp_path / "a b.html").read_text()
    assert size == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())

    # A page that ends half-way leaves no other's text beside its pictures.
    (tmp_path / "a b_pictures" / "2" / "image.webp").mkdir(parents=True)
    with pytest.raises(UserError, match=r"2/image\.webp: cannot be written"):
        write_page(tmp_path / "a b.html", empty_context(), [*pictures, {"image": b"three"}], max_bytes=10)
    assert not (tmp_path / "a b.html").exists()


def test_two_that_write_a_page_at_once_do_so_one_after_the_other(tmp_path):
    page = tmp_path / "report.html"
    with ThreadPoolExecutor(1) as pool:
        with turn_in(TEMPLATES):
            job = pool.submit(write_page, page, empty_context(), [])
            assert not wait([job], timeout=0.5).done and not page.exists()
        assert job.result() == page.stat().st_size


# -- another's template ------------------------------------------------------------------------------------------------

TEMPLATE = """{% extends "page.html" %}
{% block overview %}<table id="own">{% for row in overview %}<tr><td>{{ key(0) }}{{ row }}</td></tr>{% endfor %}</table>
{% endblock %}"""


def test_another_template_extends_the_page_by_what_its_caller_shows_and_by_its_own_script_and_style(tmp_path):
    """As a benchmark does it: runs by names of its own, a script beside the template that the page lets run."""
    make_run(tmp_path / "hsc", make_data(tmp_path, ["a", "b"]), wrong=1)
    own = tmp_path / "own.html"
    own.write_text(TEMPLATE)
    own.with_suffix(".js").write_text("document.title += '\u00fc';", encoding="utf-8")
    own.with_suffix(".css").write_text("#own { margin: 0; }")
    run, page = read_run(tmp_path / "hsc", "--out"), tmp_path / "page.html"
    run.name = "HSC & all"
    data = find_data(str(tmp_path / "VOC2012"), None, None, VOC12)
    source = Source("--out", tmp_path)
    images, size = write_report(page, [run], data, ["b"], source=source, overview=["one", HOSTILE], template=own)
    text = page.read_text("utf-8")
    assert (images, size) == (1, page.stat().st_size)
    assert page_data(page)["runs"] == ["HSC & all"] and [image["id"] for image in page_data(page)["images"]] == ["b"]
    assert "<td>one</td>" in text and "<img src=x" not in text
    assert text.index('id="own"') < text.index('class="tiles"')
    assert "<style>#own { margin: 0; }</style>" in text
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert [script[:16] for script in scripts] == ['"use strict";\n{\n', "document.title +"]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    policy = re.search(r"script-src (.*?);", text)[1]
    assert policy.split() == [f"'sha256-{digest}'" for digest in hashes]


# -- colours of runs ---------------------------------------------------------------------------------------------------

# What is seen of linear RGB without one kind of cones: Machado, Oliveira and Fernandes, 2009, severity 1.
SEEN = {
    "by most": np.eye(3),
    "without red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "without green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "without blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour):
    """Linear RGB of "#rrggbb"."""
    values = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """Ottosson's OKLab, in which distances are those that one sees."""
    to_cones = [[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]]
    to_lab = [[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]
    return np.array(to_lab) @ np.cbrt(np.array(to_cones) @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_of_runs_are_told_apart_by_all_eyes_and_stand_out_from_the_page(theme):
    pairs = re.findall(r"--(run-\d|card): light-dark\((.*?), (.*?)\)", (TEMPLATES / "page.css").read_text())
    colours = {name: linear(light if theme == "light" else dark) for name, light, dark in pairs}
    card = colours.pop("card")
    assert list(colours) == [f"run-{number}" for number in range(8)]
    for seen in SEEN.values():
        there = [oklab(np.array(seen) @ colour) for colour in colours.values()]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(there, 2)) > 0.1  # 0.02 is just seen
    luminance = np.array([0.2126, 0.7152, 0.0722])
    for colour in colours.values():
        low, high = sorted((colour @ luminance, card @ luminance))
        assert (high + 0.05) / (low + 0.05) > 3  # as WCAG asks of graphics
