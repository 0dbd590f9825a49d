"""The report in a real browser: what it shows, how it is used, that it asks nobody for anything, and who can read it.

Needs chromium and its driver (Debian: chromium, chromium-driver). Without them these tests are skipped, unless
HSC_REQUIRE_BROWSER=1 makes that a failure. Screenshots go to HSC_SCREENSHOTS, or to the tests' temporary folder.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from axe_core_python.selenium import Axe
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from benchmark.system_figures import Estimate
from benchmark.system_page import COLUMNS, TEMPLATE, row_of
from tests.tool.report_page import DESKTOP, PHONE, Page, assert_quiet
from tests.tool.report_runs import HOSTILE, command, make_data, make_run, page_data
from tool.artifact import save_label_map
from tool.dataset import DataSet
from tool.lists import Source
from tool.report.make import write_report
from tool.report.plan import find_data
from tool.report.run_folder import read_run
from voc12.classes import VOC12

IMAGES = 90


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report of many images, one of them without scores, one of two runs, and one of three, of some images."""
    root = tmp_path_factory.mktemp("report")
    truths = make_data(root, [HOSTILE, *(f"2007_{k:06}" for k in range(IMAGES - 1))])
    make_run(root / "exps" / "hsc", truths, wrong=2)
    make_run(root / "exps" / "eps", truths, wrong=5, method="eps")
    common = ["--run", root / "exps" / "hsc", "--data_root", root / "VOC2012" / "JPEGImages"]
    some = dict(list(truths.items())[1:5])
    make_run(root / "exps" / "seam", some, wrong=8, method="seam")
    eps, seam = root / "exps" / "eps", root / "exps" / "seam"
    folder = root / "exps" / "hsc"
    unscored = ["--gt_dir", "none", "--out", folder / "unscored.html"]
    for arguments in ([], unscored, ["--compare", eps], ["--compare", seam, eps]):
        done = command(*common, *arguments)
        assert done.returncode == 0, done.stderr
    names = {"one": "report", "unscored": "unscored", "two": "report_vs_eps", "three": "report_vs_seam_and_1_more"}
    return {name: folder / f"{stem}.html" for name, stem in names.items()}


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory):
    folder = Path(os.environ.get("HSC_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(driver, pages):
    return Page(driver, pages["one"])


@pytest.fixture
def pair(driver, pages):
    return Page(driver, pages["two"])


# -- what it asks and shows --------------------------------------------------------------------------------------------


def test_no_console_error_and_no_request_to_anybody(driver, pages):
    for path in pages.values():
        assert_quiet(Page(driver, path))


def test_pictures_in_a_folder_beside_the_page_are_shown_too(driver, tmp_path):
    """The page is that of the command, but for the size above which a folder is made."""
    make_run(tmp_path / "hsc", make_data(tmp_path, [HOSTILE, "a"]), wrong=1)
    data = find_data(str(tmp_path / "VOC2012"), None, None, VOC12)
    path, source = tmp_path / "a page.html", Source("--run", tmp_path)
    write_report(path, [read_run(tmp_path / "hsc", "--run")], data, source=source, max_bytes=1)
    assert (tmp_path / "a page_pictures").is_dir()
    assert_quiet(Page(driver, path))


def test_the_benchmarks_table_of_systems_sorts_and_filters(driver, tmp_path):
    make_run(tmp_path / "hsc", make_data(tmp_path, ["a"]), wrong=1)
    means = {("eps", "CRF seeds"): 52.1, ("hsc", "CRF seeds"): 63.4, ("eps", "irn"): 9.9}
    estimates = {names: (Estimate(mean, None, mean - 1, mean + 1), mean - 50) for names, mean in means.items()}
    rows = [row_of(*names, [0], score, Estimate(gain, None, 0, 0)) for names, (score, gain) in estimates.items()]
    rows.append(row_of(HOSTILE, "CRF seeds", [0], Estimate(60, 1, 59, 61)))
    overview = {"recipe": HOSTILE, "columns": list(COLUMNS.items()), "sorted_by": "run", "rows": rows, "seed": 0}
    data, path = find_data(str(tmp_path / "VOC2012"), None, None, VOC12), tmp_path / "page.html"
    run, source = read_run(tmp_path / "hsc", "--run"), Source("--run", tmp_path)
    write_report(path, [run], data, source=source, overview=overview, template=TEMPLATE)
    page = Page(driver, path)

    def shown():
        cells = "[...row.cells].map((cell) => cell.textContent)"
        visible = "[...document.querySelectorAll('#systems-table tbody tr:not([hidden])')]"
        rows = page.run(f"return {visible}.map((row) => {cells})")
        return [(run, stage, score) for run, stage, _, score, *_ in rows]

    def sort_by(name):
        heads = driver.find_elements(By.CSS_SELECTOR, "#systems-table th button")
        next(head for head in heads if head.text == name).click()
        sorted_by = "[...document.querySelectorAll('[aria-sort]:not([aria-sort=none])')]"
        return page.run(f"return {sorted_by}.map((head) => [head.textContent, head.ariaSort])")

    assert shown()[-1] == (HOSTILE, "CRF seeds", "60.0 ± 1.0")
    assert sort_by("mIoU") == [["mIoU", "descending"]]
    assert [score for *_, score in shown()] == ["63.4", "60.0 ± 1.0", "52.1", "9.9"], "numbers, not texts"
    assert sort_by("mIoU") == [["mIoU", "ascending"]]
    assert [score for *_, score in shown()] == ["9.9", "52.1", "60.0 ± 1.0", "63.4"]
    assert sort_by("stage") == [["stage", "ascending"]]
    sort_by("gain")
    assert shown()[-1][0] == HOSTILE, "what has none stays last"
    page.choose("#system-stage", "CRF seeds")
    page.choose(".stage-choice", "crf")  # what the images are scored by, which leaves this table alone
    page.one("#find-system").send_keys("EPS")
    assert shown() == [("eps", "CRF seeds", "52.1")] and page.one("#systems-count").text == "1 of 4 rows"
    assert_quiet(page)
    assert violations(page) == []


def test_other_peoples_text_is_shown_as_text(page):
    page.one("#find").send_keys("onerror")
    assert page.ids() == [HOSTILE]
    assert page.one(".card h3").text == HOSTILE
    assert page.run("return document.title") == "hsc"
    assert page.run("return document.querySelectorAll('img:not(.stack img)').length") == 0


def test_cards_and_pictures_are_made_only_as_one_comes_near_them(page):
    made = page.run(
        "return [document.querySelectorAll('.card').length, document.querySelectorAll('[data-drawn]').length]"
    )
    assert made[0] < IMAGES and made[1] < made[0]

    def at_the_end():
        page.run("scrollTo(0, document.body.scrollHeight)")
        return len(page.ids()) == IMAGES

    page.wait(at_the_end)
    page.wait(lambda: page.run("return document.querySelector('.card:last-child').dataset.drawn === 'yes'"))


# -- filters, order, slider, keyboard ----------------------------------------------------------------------------------


def test_images_are_found_by_id_and_by_class(page, pages):
    images = page_data(pages["one"])["images"]
    page.one("#find").send_keys("2007_00001")
    assert sorted(page.ids()) == [f"2007_{k:06}" for k in range(10, 20)]
    page.choose("#class", "2")
    expected = [image["id"] for image in images if image["labels"] == [2] and "2007_00001" in image["id"]]
    assert sorted(page.ids()) == expected and 0 < len(expected) < 10
    assert page.one("#count").text == f"{len(expected)} of {IMAGES} images"
    page.one("#find").send_keys("x")
    assert page.ids() == [] and page.one("#none").is_displayed()
    page.one("#clear").click()
    assert page.one("#count").text == f"{IMAGES} of {IMAGES} images"


def test_images_without_scores_are_found_by_class_too_and_stand_by_their_ids(driver, pages):
    page, images = Page(driver, pages["unscored"]), page_data(pages["unscored"])["images"]
    page.choose("#class", "2")
    expected = [image["id"] for image in images if image["labels"] == [2]]
    assert page.ids() == sorted(expected) and 0 < len(expected) < IMAGES
    assert [option.text for option in Select(page.one("#order")).options] == ["id"]


def test_a_class_of_the_table_shows_its_images(page, pages):
    page.one("tr[data-number='3'] button").click()
    expected = {image["id"] for image in page_data(pages["one"])["images"] if image["labels"] == [3]}
    assert set(page.ids()) == expected
    assert Select(page.one("#class")).first_selected_option.text == f"bird ({len(expected)})"


def test_class_0_of_a_data_set_without_background_is_a_class_as_the_others(driver, tmp_path):
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps({"names": ["disc", "bar"]}))
    shapes = DataSet(str(path), "shapes", ("disc", "bar"), False)
    for name in ("JPEGImages", "SegmentationClass", "run/cam_png"):
        (tmp_path / name).mkdir(parents=True)
    for label, image_id in enumerate("ab"):
        Image.new("RGB", (20, 16)).save(tmp_path / "JPEGImages" / f"{image_id}.jpg")
        for folder in ("SegmentationClass", "run/cam_png"):
            save_label_map(tmp_path / folder / f"{image_id}.png", np.full((16, 20), label, np.uint8), shapes)
    done = command("--run", tmp_path / "run", "--data_root", tmp_path, "--data_set", path)
    assert done.returncode == 0, done.stderr
    page = Page(driver, tmp_path / "run" / "report.html")
    for number, image_id in ((1, "b"), (0, "a")):
        page.one(f"tr[data-number='{number}'] button").click()
        assert page.ids() == [image_id]


ORDERS = {
    "worst": lambda image: image["iou"]["seed"][0],
    "best": lambda image: -image["iou"]["seed"][0],
    "loss": lambda image: image["iou"]["seed"][0] - image["iou"]["seed"][1],
    "won": lambda image: image["iou"]["seed"][1] - image["iou"]["seed"][0],
    "id": lambda image: 0,
}


def test_images_are_sorted_by_iou_gain_or_id(pair, pages):
    images = page_data(pages["two"])["images"]
    for order, key in ORDERS.items():
        pair.choose("#order", order)
        shown = pair.ids()
        assert len(shown) >= 20
        expected = sorted(images, key=lambda image: round(key(image), 6))
        assert [key(image) for image in expected[: len(shown)]] == pytest.approx(
            [key(next(image for image in images if image["id"] == image_id)) for image_id in shown]
        )
    assert shown == [image["id"] for image in images][: len(shown)]


def test_the_score_that_counts_can_be_chosen(page, pages):
    images = {image["id"]: image for image in page_data(pages["one"])["images"]}
    assert page.one("[data-stage=seed]").is_displayed() and not page.one("[data-stage=crf]").is_displayed()
    page.choose("#order", "best")
    page.choose("#image-stage", "crf")
    assert Select(page.one("#stage")).first_selected_option.text == "CRF seed"
    assert page.one("[data-stage=crf]").is_displayed() and not page.one("[data-stage=seed]").is_displayed()
    scores = [images[image_id]["iou"]["crf"][0] for image_id in page.ids()]
    assert scores == sorted(scores, reverse=True)


def test_classes_are_sorted_by_iou_or_cost(page):
    page.choose("#class-order", "worst")
    order = page.run("return [...document.querySelectorAll('[data-stage=seed] tbody tr')].map((r) => +r.dataset.worst)")
    assert order == sorted(order) and order[-1] > 0
    page.choose("#class-order", "number")
    assert page.run("return document.querySelector('[data-stage=seed] tbody tr').innerText").startswith("background")


def test_one_slider_sets_the_opacity_of_all_that_lies_on_images(page):
    assert page.overlay_opacities() == {0.65}
    slider = page.one("#opacity")
    slider.send_keys(Keys.HOME)
    assert page.overlay_opacities() == {0}
    slider.send_keys(Keys.END)
    assert page.overlay_opacities() == {1}
    assert page.one("#opacity-value").text == "100 %"


def test_parts_can_be_hidden(page):
    shown = "return new Set([...document.querySelectorAll('.panel')].map((panel) => panel.dataset.part)).size"
    assert page.run(shown) == 7  # image, ground truth, saliency, CAM, seed, CRF seed, errors
    page.one("#parts input[value=errors]").click()
    page.one("#parts input[value=cam]").click()
    assert page.run(shown) == 5
    page.one("#parts input[value=errors]").click()
    assert page.run(shown) == 6


def test_all_of_it_works_by_keyboard(page):
    page.press("/")
    assert page.run("return document.activeElement.id") == "find"
    page.press("2007_00000", "t")
    assert page.one("#find").get_attribute("value") == "2007_00000t"
    page.press(Keys.BACKSPACE, Keys.TAB)
    ids = page.ids()
    page.run("document.activeElement.blur()")
    page.press("jjk")
    assert page.run("return document.activeElement.dataset.id") == ids[0]
    page.press("j", Keys.ENTER)
    card = page.one(f".card[data-id='{ids[1]}']")
    assert "large" in card.get_attribute("class")
    assert card.find_element(By.TAG_NAME, "button").get_attribute("aria-expanded") == "true"
    page.press("]]]")
    assert page.overlay_opacities() == {0.8}
    page.press("[")
    assert page.overlay_opacities() == {0.75}
    page.press("t")
    assert page.one("#theme").text == "Theme: light"
    page.press(Keys.ESCAPE)
    assert len(page.ids()) > len(ids)


def test_the_pointer_reads_values_off_a_curve(page):
    plot = page.one(".wide .plot")
    webdriver.ActionChains(page.driver).move_to_element(plot).perform()
    text = page.one(".wide .readout").text
    threshold, value = (float(part) for part in text.split(":"))
    assert 0.2 < threshold < 0.4 and 0 < value <= 100


def test_only_settings_that_differ_are_shown_at_first_of_two_runs(pair):
    def visible():
        return pair.run(
            "return [...document.querySelectorAll('.settings tbody tr')].filter((r) => r.offsetHeight).length"
        )

    assert visible() == 5  # method, lr and network of three kinds of files
    pair.one("#differences").click()
    assert visible() == 9


# -- many runs ---------------------------------------------------------------------------------------------------------


def rows(page):
    """Of the first card: each row's title, and its pictures' captions."""
    script = """const texts = (row, what) => [...row.querySelectorAll(what)].map((element) => element.innerText);
        return [...document.querySelector('.card').querySelectorAll('.panels')].map((row) =>
            [texts(row, '.row-title').join(), texts(row, 'figcaption')])"""
    return page.run(script)


def test_pictures_of_many_runs_stand_in_rows_of_a_run_or_of_a_kind_and_say_whose_they_are(driver, pages):
    page = Page(driver, pages["three"])
    image = page_data(pages["three"])["images"][3]
    page.one("#find").send_keys(image["id"])
    names, seeds = ["hsc", "seam", "eps"], [f"{value:.1f}" for value in image["iou"]["seed"]]
    page.wait(lambda: len(rows(page)) == 4)
    own = ["CAM bicycle", f"Seed {seeds[0]}", "Seed, errors", "CRF seed 100.0", "CRF seed, errors"]
    assert [title for title, _ in rows(page)] == ["", *names]
    assert rows(page)[:2] == [["", ["Image", "Ground truth", "Saliency"]], ["hsc", own]]
    page.choose("#rows", "kind")
    kinds = ["CAM bicycle", "Seed", "Seed, errors", "CRF seed", "CRF seed, errors"]
    assert [title for title, _ in rows(page)] == ["", *kinds]
    assert rows(page)[1:3] == [
        [kinds[0], names],
        ["Seed", [f"{run} {iou}" for run, iou in zip(names, seeds, strict=True)]],
    ]
    page.one("#runs input[value='1']").click()
    page.one("#parts input[value=cam]").click()
    assert rows(page)[1] == ["Seed", [f"hsc {seeds[0]}", f"eps {seeds[2]}"]]
    assert [title for title, _ in rows(page)] == ["", *kinds[1:]]


def test_of_many_curves_the_pointer_reads_the_nearest_with_its_runs_name(driver, pages):
    page = Page(driver, pages["three"])
    plot = page.one(".small .plot")  # total, whose ends lie apart
    end = plot.size["width"] // 2 - 2
    for part, run in ((0.5, "hsc"), (-0.4, "seam")):  # from the middle downwards
        offset = round(part * plot.size["height"]) - (1 if part == 0.5 else 0)
        webdriver.ActionChains(driver).move_to_element_with_offset(plot, end, offset).perform()
        assert run in page.one(".small .readout").text.split()


# -- light, dark, small, and for everybody -----------------------------------------------------------------------------


def test_light_or_dark_is_the_systems_until_it_is_chosen_and_then_kept(driver, pages):
    light, dark = "rgb(247, 247, 245)", "rgb(19, 21, 24)"
    page = Page(driver, pages["one"], scheme="dark")
    assert page.background() == dark
    switch = page.one("#theme")
    switch.click()
    assert (switch.text, page.background()) == ("Theme: light", light)
    switch.click()
    assert (switch.text, page.background()) == ("Theme: dark", dark)
    driver.refresh()
    assert (page.one("#theme").text, page.background()) == ("Theme: dark", dark)
    assert Page(driver, pages["one"]).background() == light


def test_a_phone_needs_no_sideways_scrolling(driver, pages):
    for path in pages.values():
        page = Page(driver, path, PHONE)
        assert page.run("return document.documentElement.scrollWidth") <= PHONE[0]


def violations(page):
    """What axe-core finds wrong, contrast and labels among it."""
    found = Axe().run(page.driver)
    contrast = [rule for rule in found["passes"] if rule["id"] == "color-contrast"]
    assert contrast and len(contrast[0]["nodes"]) > 100  # it did look
    return [(rule["id"], node["html"][:100]) for rule in found["violations"] for node in rule["nodes"]]


# Pages of more runs have most of what pages of fewer have.
LOOKS = [("three", size, scheme) for size in ("desktop", "phone") for scheme in ("light", "dark")]


@pytest.mark.parametrize(("which", "form", "scheme"), [*LOOKS, ("two", "desktop", "dark")])
def test_contrast_and_labels_hold_and_a_screenshot_is_kept(driver, pages, screenshots, which, form, scheme):
    size = DESKTOP if form == "desktop" else PHONE
    page = Page(driver, pages[which], size, scheme=scheme)
    assert violations(page) == []
    page.run("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    name = f"report_{which}_{form}_{scheme}"
    driver.save_screenshot(str(screenshots / f"{name}_top.png"))
    page.run("document.getElementById('images').scrollIntoView()")
    driver.save_screenshot(str(screenshots / f"{name}_images.png"))
    assert (screenshots / f"{name}_images.png").stat().st_size > 10_000


def test_faint_text_would_be_found(page):
    page.run("document.documentElement.style.setProperty('--muted', '#bbbbbb')")
    assert {rule for rule, _ in violations(page)} == {"color-contrast"}
