"""The levels of contrast on one image of the demo: what is pulled together and pushed apart, and by how much."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from paper.figures.draw import FAINT, INK, MARK, Sheet, colour_of, enlarge, heat, name_of, pseudo_labelled
from paper.figures.step import (
    Step,
    chosen_pixels,
    class_anchors,
    class_similarity,
    class_weights,
    coarse_labels,
    pixel_logits,
    pixel_losses,
    prototype_pixels,
    prototypes,
    region_means,
    region_similarity,
)
from voc12.classes import NUM_CLASSES

SIZE, GAP, LEFT = 1.55, 0.22, 0.25
VIEW = 0  # the first, where one is shown
PULLED = "#3ddc84"
SCALE = np.linspace(0, 1, 64)[None]


def column(place: float) -> float:
    return LEFT + place * (SIZE + GAP)


def mark_pixels(axes: Axes, chosen_HW: Tensor, pixels: np.ndarray, *, size: float = 5) -> None:
    """Dots on the chosen pixels of a grid, on the picture `pixels` in `axes`; corners aligned."""
    rows, columns = np.nonzero(chosen_HW.numpy())
    (height, width), (grid_height, grid_width) = pixels.shape[:2], chosen_HW.shape
    x, y = columns * (width - 1) / (grid_width - 1), rows * (height - 1) / (grid_height - 1)
    axes.plot(x, y, "o", color=MARK, markersize=size, markeredgecolor=INK, markeredgewidth=0.4, clip_on=False)


def colour_scale(sheet: Sheet, left: float, top: float, words: tuple[str, str]) -> None:
    """What the heat's ends mean."""
    axes = sheet.axes(left + 0.25, top, SIZE - 0.5, 0.09)
    axes.imshow(heat(np.zeros((1, 64, 3), np.uint8), SCALE, opacity=1), aspect="auto")
    axes.set(xticks=[], yticks=[])
    sheet.text(left + 0.2, top + 0.045, words[0], size=7, ha="right", va="center")
    sheet.text(left + SIZE - 0.2, top + 0.045, words[1], size=7, ha="left", va="center")


# -- ROI level ---------------------------------------------------------------------------------------------------------


def region(step: Step) -> Sheet:
    """Foreground and background of each image, pooled: rsc pushes every background from every foreground."""
    sheet = Sheet(8.45, 4.5)
    image, pseudo = step.photograph(VIEW), step.levels.pseudo_VNHW[VIEW, 0]
    background, foreground = region_similarity(step)[VIEW, 0]
    is_foreground = (pseudo != NUM_CLASSES).float()
    top, below = 0.6, 0.6 + SIZE + 0.42
    sheet.picture(column(0), top, SIZE, enlarge(image), "view 1")
    sheet.picture(column(1), top, SIZE, heat(image, is_foreground, opacity=0.6), "foreground g, background b")
    sheet.picture(column(0), below, SIZE, heat(image, foreground), "cosine with mean of g")
    sheet.picture(column(1), below, SIZE, heat(image, background), "cosine with mean of b")
    colour_scale(sheet, column(0), below + SIZE + 0.12, ("0", "1"))
    colour_scale(sheet, column(1), below + SIZE + 0.12, ("0", "1"))
    region_matrix(sheet, step, column(2) + 0.45, top, below + SIZE - top)
    return sheet


def region_matrix(sheet: Sheet, step: Step, left: float, top: float, size: float) -> None:
    """The cosines of all means of the batch with each other, and with the bank's."""
    mean_NRD = region_means(step)[VIEW]
    number = len(mean_NRD)
    mean_MD = mean_NRD.transpose(0, 1).flatten(0, 1)  # backgrounds, then foregrounds
    bank_RD = F.normalize(step.banks["region_bank"][VIEW], dim=-1)
    colours = {"cmap": "magma", "vmin": 0, "vmax": 1, "aspect": "auto", "interpolation": "nearest"}
    axes = sheet.axes(left, top, size, size)
    axes.imshow(mean_MD @ mean_MD.T, **colours)
    strip = sheet.axes(left + size + 0.12, top, 2 * size / (2 * number), size)
    strip.imshow(mean_MD @ bank_RD.T, **colours)
    halves = [(number - 1) / 2, number + (number - 1) / 2]
    axes.set_xticks(halves, [f"b of {number} images", f"g of {number} images"])
    axes.set_yticks(halves, ["b", "g"])
    strip.set_xticks([0, 1], ["b", "g"])
    strip.set_yticks([])
    for x, y in ((number, 0), (0, number)):
        frame(axes, x - 0.5, y - 0.5, number, number, MARK)
    for place in (0, 1):
        frame(strip, place - 0.5, place * number - 0.5, 1, number, PULLED)
    sheet.text(left, top - 0.24, "cosines of the pooled features", va="bottom")
    sheet.text(left, top - 0.06, "framed blue: pushed apart", size=7, colour=FAINT, va="bottom")
    right = left + size + 0.45
    sheet.text(right, top - 0.24, "with the bank", ha="right", va="bottom")
    sheet.text(right, top - 0.06, "framed green: pulled together", size=7, colour=FAINT, ha="right", va="bottom")


def frame(axes: Axes, left: float, top: float, width: float, height: float, colour: str) -> None:
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=2, clip_on=False))


# -- class level -------------------------------------------------------------------------------------------------------


def classes(step: Step) -> Sheet:
    """Each class of the image: the pixels that make its anchor, and how near that is to every prototype."""
    shown, gap = step.classes[:2], 0.85
    sheet = Sheet(9.6, 0.7 + len(shown) * (SIZE + gap))
    weights, similarity = class_weights(step), class_similarity(step)[VIEW, 0]
    config, image = step.config, step.photograph(VIEW)
    for row, label in enumerate(shown):
        top, name = 0.4 + row * (SIZE + gap), name_of(label)
        least, most = weights[VIEW, 0, label].aminmax()
        share = heat(image, (weights[VIEW, 0, label] - least) / (most - least).clamp(min=1e-6))
        axes = sheet.picture(column(0), top, SIZE, share, f"{name}: softmax of the CAMs")
        for count, size in ((config.class_pixels, 2.5), (config.class_bank_pixels, 5)):
            mark_pixels(axes, chosen_pixels(step, weights, count)[VIEW, 0, label], share, size=size)
        sheet.picture(column(1), top, SIZE, heat(image, similarity[label]), f"cosine with {name}'s prototype")
        colour_scale(sheet, column(0), top + SIZE + 0.12, ("least", "most"))
        colour_scale(sheet, column(1), top + SIZE + 0.12, ("0", "1"))
        bars(sheet, step, label, column(2) + 0.4, top)
    words = (
        f"small dots: of this image, the pixels among the batch's {config.class_pixels} strongest of the class, whose"
        f" weighted mean is the anchor; large dots: the {config.class_bank_pixels} strongest, which move the prototype"
    )
    sheet.text(column(0), sheet.height - 0.1, words, size=7, colour=FAINT, va="bottom")
    return sheet


def bars(sheet: Sheet, step: Step, label: int, left: float, top: float) -> None:
    """The cosine of a class's anchor with every row of its view's bank."""
    anchor_D = class_anchors(step)[VIEW, label]
    cosine_L = F.normalize(step.banks["class_bank"][VIEW], dim=-1) @ anchor_D
    axes = sheet.axes(left, top, 4.9, SIZE)
    places = np.arange(len(cosine_L))
    drawn = axes.bar(places, cosine_L, color="#c3c7cc", width=0.75)
    drawn[label].set_color(colour_of(label))
    names = [*map(name_of, places[:-1]), "(background)"]
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set(ylim=(min(-0.1, float(cosine_L.min()) - 0.05), 1), xlim=(-0.6, len(places) - 0.4))
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    words = f"cosine of {name_of(label)}'s anchor with the class bank: pulled to the coloured row, pushed from the grey"
    sheet.text(left, top - 0.06, words, va="bottom")


# -- pixel level -------------------------------------------------------------------------------------------------------


def pixels(step: Step) -> Sheet:
    """The image's pixels against the prototypes: which pixels make these, and what each pixel loses."""
    shown = [*step.classes[:2], NUM_CLASSES]
    sheet = Sheet(column(4) + 0.1, 4.6)
    image, top, below = step.photograph(VIEW), 0.4, 0.4 + SIZE + 0.4
    sheet.picture(column(0), top, SIZE, enlarge(image), "view 1")
    sheet.picture(column(1), top, SIZE, pseudo_labelled(image, coarse_labels(step)[VIEW, 0]), "strongest of the CAMs")
    pseudo = pseudo_labelled(image, step.levels.pseudo_VNHW[VIEW, 0])
    sheet.picture(column(2), top, SIZE, pseudo, "after the CRF: pseudo label")
    sheet.legend(column(3), top + 0.15, step.classes)
    share_LHW = pixel_logits(step, VIEW, prototypes(step)[VIEW])[0].softmax(dim=0)
    most = float(share_LHW[shown].max())
    chosen = chosen_pixels(step, step.levels.score_VNLHW, prototype_pixels(step))[VIEW, 0]
    for place, label in enumerate(shown):
        near = heat(image, share_LHW[label] / most)
        axes = sheet.picture(column(place), below, SIZE, near, f"share of {name_of(label)}")
        mark_pixels(axes, chosen[label], near)
        colour_scale(sheet, column(place), below + SIZE + 0.12, ("0", f"{most:.2f}"))
    loss, chance = pixel_losses(step)["own prototypes, own label"][VIEW][0], loss_of_chance(step)
    sheet.picture(column(3), below, SIZE, heat(image, loss / chance), "loss of each pixel")
    colour_scale(sheet, column(3), below + SIZE + 0.12, ("0", f"{chance:.1f}"))
    words = (
        "share: softmax of the pixel's cosines with all prototypes, by the temperature; dots: of this image, those\n"
        f"among the batch's {prototype_pixels(step)} pixels strongest in the label, which make its prototype"
    )
    sheet.text(column(0), sheet.height - 0.08, words, size=7, colour=FAINT, va="bottom")
    return sheet


def loss_of_chance(step: Step) -> float:
    """Where all prototypes are equally near."""
    return float(np.log(step.levels.score_VNLHW.shape[2]))


def cross(step: Step) -> Sheet:
    """The eight parts of psc: two views, each taught by itself, by the other and by the bank."""
    parts, chance = pixel_losses(step), loss_of_chance(step)
    sheet = Sheet(column(5) + 0.1, 4.5)
    for view in range(2):
        top = 0.4 + view * (SIZE + 0.42)
        image = step.photograph(view)
        pseudo = pseudo_labelled(image, step.levels.pseudo_VNHW[view, 0])
        sheet.picture(column(0), top, SIZE, pseudo, f"view {view + 1} and its pseudo label")
        for place, (kind, losses) in enumerate(parts.items()):
            loss = heat(image, losses[view][0] / chance)
            sheet.picture(column(1 + place), top, SIZE, loss, kind if view == 0 else "")
            mean = f"{float(losses[view].mean()):.2f}"
            sheet.text(column(1 + place) + SIZE / 2, top + SIZE + 0.04, mean, ha="center", va="top")
    colour_scale(sheet, column(0), sheet.height - 0.28, ("0", f"{chance:.1f}"))
    words = (
        "loss of each pixel by what teaches it; below each, the mean over the batch's pixels: psc is"
        f" {step.config.weight / 2:g} of their sum"
    )
    sheet.text(column(1), sheet.height - 0.235, words, size=7, colour=FAINT, va="center")
    return sheet
