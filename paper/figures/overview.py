"""The chain from a photograph to DeepLab's prediction, with the demo's pictures in the boxes."""

import numpy as np

from data.images import load_rgb
from paper.figures.demo import Demo
from paper.figures.draw import FAINT, Sheet, enlarge, file_labelled, heat, name_of, pseudo_labelled
from paper.figures.step import Step
from tool.artifact import load_cam
from voc12.classes import VOC12

SIZE, GAP = 1.25, 0.42
LEFT = 0.25
TERMS = {
    "cls": "image labels",
    "sal": "saliency (EPS)",
    "er": "two scales agree (SEAM)",
    "ecr": "... refined maps too",
    "rsc": "ROI contrast",
    "csc": "class contrast",
    "psc": "pixel contrast",
}


def column(place: float) -> float:
    return LEFT + place * (SIZE + GAP)


def heading(sheet: Sheet, top: float, words: str, note: str) -> None:
    sheet.text(LEFT, top, words, size=9.5, weight="bold", va="bottom")
    sheet.text(column(1), top, note, colour=FAINT, va="bottom")


def across(sheet: Sheet, place: float, top: float, photograph: np.ndarray) -> None:
    """An arrow from the picture in a column, of that shape, to its right neighbour."""
    height, width = photograph.shape[:2]
    middle = top + SIZE / 2 * min(1, height / width)
    sheet.arrow((column(place) + SIZE + 0.06, middle), (column(place + 1) - 0.06, middle))


def training(sheet: Sheet, step: Step, photograph: np.ndarray, saliency: np.ndarray, top: float) -> None:
    levels = step.levels
    rows = (top, top + SIZE + 0.4)
    sheet.picture(column(0), rows[0], SIZE, enlarge(photograph), "image")
    sheet.picture(column(0), rows[1], SIZE, enlarge(saliency), "its saliency map")
    for view, row in enumerate(rows):
        shown = step.photograph(view)
        side = shown.shape[0]
        cam = levels.cam_VNLHW[view, 0, step.classes].amax(0)
        sheet.picture(column(1), row, SIZE, enlarge(shown), f"view {view + 1}, {side} x {side}")
        sheet.picture(column(2), row, SIZE, heat(shown, cam), "refined CAMs")
        predicted = heat(shown, step.predicted_saliency[view][0, 0], opacity=1)
        sheet.picture(column(3), row, SIZE, predicted, "saliency they predict")
        sheet.picture(column(4), row, SIZE, pseudo_labelled(shown, levels.pseudo_VNHW[view, 0]), "CRF pseudo label")
        across(sheet, 1, row, shown)
    middle = (rows[0] + SIZE / 2, rows[1] + SIZE / 2)
    for end in middle:
        sheet.arrow((column(0) + SIZE + 0.06, (middle[0] + middle[1]) / 2), (column(1) - 0.06, end))
        sheet.arrow((column(4) + SIZE + 0.06, end), (column(5) - 0.06, (middle[0] + middle[1]) / 2))
    losses(sheet, step, rows[0])


def losses(sheet: Sheet, step: Step, top: float) -> None:
    """Every term's value on the batch, as a bar."""
    axes = sheet.axes(column(5) + 0.35, top + 0.05, 1.3, 2 * SIZE + 0.3)
    names = list(step.losses)
    places = np.arange(len(names))
    axes.barh(places, [step.losses[name] for name in names], color="#5f8dd3", height=0.32)
    for place, name in zip(places, names, strict=True):
        axes.text(0, place - 0.22, f" {TERMS[name]}", fontsize=7, va="bottom", color=FAINT)
        axes.text(step.losses[name], place, f" {step.losses[name]:.3f}", fontsize=7, va="center")
    axes.set_yticks(places, names, fontsize=8, family="monospace")
    axes.set_ylim(len(names) - 0.5, -0.75)
    axes.set(xticks=[], xlim=(0, max(step.losses.values()) * 1.2))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    sheet.text(column(5) + 0.35, top - 0.06, "losses of this batch", va="bottom")


def seeds(sheet: Sheet, demo: Demo, step: Step, image_id: str, photograph: np.ndarray, top: float) -> None:
    cams = load_cam(demo.run / "cam_npy" / f"{image_id}.npy", VOC12)
    sheet.picture(column(0), top, SIZE, enlarge(photograph), "image")
    strongest = np.max(list(cams.values()), axis=0)
    sheet.picture(column(1), top, SIZE, heat(photograph, strongest), "CAMs of 4 scales")
    for place, (title, path) in enumerate(
        {
            "seed": demo.run / "cam_png" / f"{image_id}.png",
            "CRF seed: pseudo label": demo.crf_seeds / f"{image_id}.png",
            "true mask, never seen": demo.truth(image_id),
        }.items()
    ):
        sheet.picture(column(2 + place), top, SIZE, file_labelled(photograph, path), title)
    sheet.legend(column(5) + 0.05, top + 0.1, step.classes)
    for place in range(3):
        across(sheet, place, top, photograph)


def segmentation(sheet: Sheet, demo: Demo, image_ids: list[str], top: float) -> None:
    for number, image_id in enumerate(image_ids):
        photograph, place = np.asarray(load_rgb(demo.image(image_id))), 3 * number
        sheet.picture(column(place), top, SIZE, enlarge(photograph), "another image")
        prediction = file_labelled(photograph, demo.predictions / f"{image_id}.png")
        sheet.picture(column(place + 1), top, SIZE, prediction, "DeepLab's prediction")
        sheet.picture(column(place + 2), top, SIZE, file_labelled(photograph, demo.truth(image_id)), "true mask")
        across(sheet, place, top, photograph)


def draw(demo: Demo, step: Step, image_id: str) -> Sheet:
    """The overview, with `image_id`, which is the step's first."""
    photograph = np.asarray(load_rgb(demo.image(image_id)))
    saliency = np.asarray(load_rgb(demo.voc / "saliency" / f"{image_id}.png"))
    labels = " and ".join(map(name_of, step.classes))
    sheet = Sheet(column(6) + 0.4, 7.3)
    heading(
        sheet,
        0.3,
        "Stage 1, training",
        f"all that is known of this image: it shows {labels}; the saliency map knows no classes",
    )
    training(sheet, step, photograph, saliency, 0.66)
    heading(sheet, 3.98, "Stage 1, inference", "the trained net, on the image in four sizes and mirrored")
    seeds(sheet, demo, step, image_id, photograph, 4.34)
    heading(
        sheet,
        5.98,
        "Stage 3",
        "DeepLab learns from the CRF seeds of all training images, and labels images that it never saw",
    )
    segmentation(sheet, demo, demo.best("val", demo.predictions, count=2), 6.34)
    return sheet
