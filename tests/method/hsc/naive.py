"""HSC's losses written from their sentences: loops over images, classes, pixels and views, in float64.

Slow and plain on purpose, and sharing no code with `method`: the tests hold the fast functions against these, values
and gradients. A map is a nested list of scalars, `maps[image][channel][row][column]`; a feature is a vector over its
channels; a view is 0 or 1. The pixels of a batch are listed by image, row, column. What the spec calls "no gradient"
is detached here too.
"""

from itertools import product

import torch
from torch import Tensor

FOREGROUND = range(20)
BACKGROUND = 20
LABELS = range(21)
VIEWS = (0, 1)


def nested(maps: Tensor) -> list:
    """A tensor as nested lists of its float64 scalars, which keep the gradient."""
    return [nested(part) for part in maps.double().unbind()] if maps.ndim > 1 else list(maps.double().unbind())


def cells(plane: list) -> list[tuple[int, int]]:
    """(row, column) of every pixel of a map's channel."""
    return list(product(range(len(plane)), range(len(plane[0]))))


def mean(values: list):
    return sum(values) / len(values)


def softmax(values: list) -> list:
    powers = [torch.exp(value - max(values).detach()) for value in values]
    return [power / sum(powers) for power in powers]


def unit(vector: Tensor) -> Tensor:
    """L2-normalised; a vector of zeros stays as it is."""
    return vector / torch.sqrt((vector * vector).sum()) if vector.any() else vector


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (unit(a) * unit(b)).sum()


def present_classes(label: Tensor) -> list[int]:
    """The classes that any image of the batch has, ascending."""
    return [c for c in FOREGROUND if any(row[c] == 1 for row in label.tolist())]


def with_background(row: list[float]) -> list[float]:
    return [*row, 1.0]


def resize(plane: list, height: int, width: int) -> list:
    """Bilinear, the corner pixels of both grids on each other."""

    def source(index: int, new: int, old: int) -> tuple[int, int, float]:
        place = index * (old - 1) / (new - 1) if new > 1 else 0.0
        low = min(int(place), old - 1)
        return low, min(low + 1, old - 1), place - low

    resized = []
    for i in range(height):
        top, bottom, down = source(i, height, len(plane))
        resized.append([])
        for j in range(width):
            left, right, along = source(j, width, len(plane[0]))
            above = (1 - along) * plane[top][left] + along * plane[top][right]
            below = (1 - along) * plane[bottom][left] + along * plane[bottom][right]
            resized[i].append((1 - down) * above + down * below)
    return resized


def multilabel_soft_margin(logits: Tensor, label: Tensor):
    """Mean over images and classes of the binary cross-entropy of sigmoid(logit)."""
    terms = []
    for scores, row in zip(nested(logits), label.tolist(), strict=True):
        for score, present in zip(scores, row, strict=True):
            terms.append(-present * torch.log(torch.sigmoid(score)) - (1 - present) * torch.log(torch.sigmoid(-score)))
    return mean(terms)


def min_pool(cam_rv: Tensor, label: Tensor):
    quiet = []
    for maps, row in zip(nested(cam_rv), label.tolist(), strict=True):
        pixels = cells(maps[0])
        strongest = sorted(max(maps[c][i][j] * row[c] for c in FOREGROUND) for i, j in pixels)
        quiet += [value.relu() for value in strongest[: len(pixels) // 4]]
    return mean(quiet)


def saliency(cam: Tensor, target: Tensor, label: Tensor, *, tau: float, alpha: float) -> tuple[Tensor, list]:
    """The loss, and the predicted saliency as nested lists [image][row][column]."""
    squares, predicted = [], []
    for maps, salient, row in zip(nested(cam), nested(target), label.tolist(), strict=True):
        height, width = len(maps[0]), len(maps[0][0])
        rows, columns = len(salient[0]), len(salient[0][0])
        near = {(i, j): salient[0][i * rows // height][j * columns // width] for i, j in cells(maps[0])}
        probability = {(i, j): softmax([maps[c][i][j] for c in LABELS]) for i, j in cells(maps[0])}
        kept, rejected = [], []
        for c in FOREGROUND:
            inside = sum(torch.round(probability[at][c]) * torch.round(near[at]) for at in near).item()
            area = sum(torch.round(probability[at][c]) + 1e-4 for at in near).item()
            if row[c] == 1:
                (kept if inside / area > tau else rejected).append(c)
        predicted.append([[None] * width for _ in range(height)])
        for i, j in near:
            foreground = sum(probability[i, j][c] for c in kept)
            background = probability[i, j][BACKGROUND] + sum(probability[i, j][c] for c in rejected)
            value = alpha * foreground + (1 - alpha) * (1 - background)
            predicted[-1][i][j] = value
            squares.append((value - near[i, j]) ** 2)
    return mean(squares), predicted


def min_max(plane: list) -> list:
    """n(x): relu, then relu(x - min - 1e-5) / (max - min + 1e-5) over the channel."""
    positive = [[value.relu() for value in line] for line in plane]
    low, high = min(map(min, positive)), max(map(max, positive))
    return [[(value - low - 1e-5).relu() / (high - low + 1e-5) for value in line] for line in positive]


def keep_strongest(pixel: list, spared: int | None) -> list:
    """h(x) at one pixel: entries below the maximum become 0; the spared channel stays out of it."""
    strongest = max(value for c, value in enumerate(pixel) if c != spared)
    return [value if c == spared or value == strongest else 0 * value for c, value in enumerate(pixel)]


def hardest(distances: list, share: float):
    """T for one image: the mean of its largest int(share of the entries) entries."""
    return mean(sorted(distances, reverse=True)[: int(len(distances) * share)])


def consistency(cam: list, cam_rv: list, label: Tensor, *, share: float, spared_channel: int | None) -> tuple:
    """(er, ecr) of the two views' CAMs and refined CAMs, on view 2's grid."""
    cam, cam_rv = [nested(view) for view in cam], [nested(view) for view in cam_rv]
    height, width = len(cam[1][0][0]), len(cam[1][0][0][0])
    regular, cross = [], []
    for n, row in enumerate(label.tolist()):
        present = with_background(row)
        c, r = [], []
        for view in VIEWS:
            for maps, into in ((cam[view][n], c), (cam_rv[view][n], r)):
                planes = [resize(min_max(plane), height, width) for plane in maps]
                into.append({(i, j): [planes[k][i][j] * present[k] for k in LABELS] for i, j in cells(planes[0])})
        regular += [abs(c[0][at][k] - c[1][at][k]) for at in c[0] for k in FOREGROUND]
        for view in VIEWS:
            for pixel in c[view].values():
                pixel[BACKGROUND] = 1 - max(pixel[:BACKGROUND])
        pairs = []
        for own, other in ((1, 0), (0, 1)):
            distances = []
            for at in c[own]:
                target = keep_strongest([value.detach() for value in c[own][at]], spared_channel)
                distances += [abs(target[k] - r[other][at][k]) for k in LABELS]
            pairs.append(hardest(distances, share))
        cross.append(sum(pairs))
    return mean(regular), mean(cross)


def normalised_cam(cam: Tensor, *, clamp: bool) -> Tensor:
    """Each channel's relu, small entries zeroed, shifted and scaled; (N, 21, h, w) float64, no gradient."""
    normalised = []
    for maps in nested(cam.detach()):
        normalised.append([])
        for plane in maps:
            positive = [[value.relu().item() for value in line] for line in plane]
            low, high = min(map(min, positive)), max(map(max, positive))
            zeroed = [[0.0 if value < low + 1e-5 else value for value in line] for line in positive]
            scaled = [[(value - low - 1e-5) / (high - low + 1e-5) for value in line] for line in zeroed]
            normalised[-1].append([[max(value, 0.0) if clamp else value for value in line] for line in scaled])
    return torch.tensor(normalised, dtype=torch.float64)


def unrefined_labels(cam: Tensor, label: Tensor) -> Tensor:
    """(N, 21, h, w) normalised CAMs -> (N, h, w) labels before the CRF; of equal scores the lowest label."""
    labels = []
    for maps, row in zip(nested(cam), label.tolist(), strict=True):
        labels.append([[None] * len(maps[0][0]) for _ in maps[0]])
        for i, j in cells(maps[0]):
            scores = softmax([maps[c][i][j] * with_background(row)[c] for c in LABELS])
            labels[-1][i][j] = min((-score.item(), c) for c, score in enumerate(scores))[1]
    return torch.tensor(labels)


def psc_score(cam: Tensor) -> Tensor:
    """The map that ranks psc's pixels in training: background is 1 - the maximum of all 20 foreground channels."""
    score = cam.clone()
    for n, i, j in product(range(cam.shape[0]), range(cam.shape[2]), range(cam.shape[3])):
        score[n, BACKGROUND, i, j] = 1 - max(cam[n, c, i, j].item() for c in FOREGROUND)
    return score


def feature_vectors(feat: Tensor) -> list[Tensor]:
    """(N, D, h, w) -> the batch's pixels as vectors over the channels."""
    return list(feat.double().permute(0, 2, 3, 1).flatten(0, 2).unbind())


def values_of(channel: Tensor) -> list[float]:
    """(N, h, w) -> the batch's pixels."""
    return channel.flatten().tolist()


def largest(scores: list[float], count: int) -> list[int]:
    """The pixels of the `count` largest scores; of equal scores the pixel listed first."""
    return [pixel for _, pixel in sorted((-score, pixel) for pixel, score in enumerate(scores))[:count]]


def weighted_mean(scores: list[float], vectors: list[Tensor], pixels: list[int]) -> Tensor:
    return sum(scores[p] * vectors[p] for p in pixels) / sum(scores[p] for p in pixels)


def region_contrast(
    feat: list, pseudo: list, bank: Tensor, *, use_bank: bool, cross: bool, norm_along_width: bool = True
) -> tuple[Tensor, Tensor]:
    """rsc of two views' region features (N, D, h, w) and pseudo labels (N, h, w), and the region banks after it."""
    bank, means = bank.double(), {}
    for view in VIEWS:
        means[view] = {"background": [], "foreground": []}
        for image, labels in zip(feat[view].double(), pseudo[view].tolist(), strict=True):
            sums = dict.fromkeys(("background", "foreground"), 0 * image[:, 0, 0])
            counts = {"background": 0, "foreground": 0}
            for i, line in enumerate(labels):
                width_norm = torch.sqrt(sum(image[:, i, j] ** 2 for j in range(len(line))))
                for j, c in enumerate(line):
                    vector = image[:, i, j] / width_norm if norm_along_width else unit(image[:, i, j])
                    region = "background" if c == BACKGROUND else "foreground"
                    sums[region], counts[region] = sums[region] + vector, counts[region] + 1
            for region in sums:
                means[view][region].append(unit(sums[region] / (counts[region] + 1e-5)))

    def distance(a: list[Tensor], b: list[Tensor]):
        return mean([-torch.log(1 - cosine(x, y).clamp(0.0005, 0.9995)) for x in a for y in b])

    bg, fg = ([means[view][region] for view in VIEWS] for region in ("background", "foreground"))
    loss = (distance(bg[0], fg[0]) + distance(bg[1], fg[1])) / 2
    if cross:
        loss = loss + (distance(bg[1], fg[0]) + distance(bg[0], fg[1])) / 2
    moved = bank.clone()
    for row, vectors in ((1, fg), (0, bg)):
        if use_bank:
            loss = loss + sum(mean([abs(bank[v, row] - x).mean() for x in vectors[v]]) for v in VIEWS) / 2
        for view in VIEWS:
            moved[view, row] = (mean(vectors[view]).detach() + bank[view, row]) / 2
    return 0.1 * loss, moved


def class_contrast(
    feat: list,
    cam: list,
    label: Tensor,
    bank: Tensor,
    *,
    use_bank: bool,
    cross: bool,
    class_pixels: int = 128,
    bank_pixels: int = 16,
    random_background_row: bool = True,
) -> tuple[Tensor, Tensor]:
    """csc of two views' region features and normalised CAMs, and the class banks after it."""
    vectors = [feature_vectors(feat[view]) for view in VIEWS]
    present = present_classes(label)
    weights = [{c: [] for c in present} for _ in VIEWS]
    for view in VIEWS:
        for maps, row in zip(nested(cam[view]), label.tolist(), strict=True):
            for i, j in cells(maps[0]):
                shares = softmax([maps[c][i][j] * with_background(row)[c] for c in LABELS])
                for c in present:
                    weights[view][c].append(shares[c].item())

    def representation(view: int, c: int, count: int) -> Tensor:
        scores = weights[view][c]
        return unit(weighted_mean(scores, vectors[view], largest(scores, count)))

    moved = bank.double().clone()
    this_step = [{c: representation(view, c, bank_pixels).detach() for c in present} for view in VIEWS]
    total = 0
    for c in present:
        for view in VIEWS:
            anchor = representation(view, c, class_pixels)
            for bank_view in [view, 1 - view] if cross else [view]:
                if use_bank:
                    rows = {k: moved[bank_view, k].clone() for k in LABELS}
                    if not random_background_row:
                        del rows[BACKGROUND]
                else:
                    rows = this_step[bank_view]
                powers = {k: torch.exp(cosine(anchor, rows[k]) / 0.1) for k in rows}
                total = total - torch.log(powers[c] / sum(powers.values()))
        for view in VIEWS:
            moved[view, c] = (this_step[view][c] + moved[view, c]) / 2
    return total * 0.1 / 4 / len(present), moved


def pixel_contrast(
    feat: list,
    score: list,
    pseudo: list,
    label: Tensor,
    bank: Tensor,
    *,
    use_bank: bool,
    cross: bool,
    pixel_share: int = 16,
    absent_prototypes: bool = True,
    normalise_bank: bool = False,
) -> tuple[Tensor, Tensor]:
    """psc of two views' pixel features, score maps and pseudo labels, and the pixel banks after it."""
    bank = bank.double()
    height, width = feat[0].shape[2:]
    known = list(LABELS) if absent_prototypes else [*present_classes(label), BACKGROUND]
    vectors = [feature_vectors(feat[view]) for view in VIEWS]
    labels = [values_of(pseudo[view]) for view in VIEWS]
    prototypes = []
    for view in VIEWS:
        prototypes.append({})
        for c in known:
            scores = values_of(score[view][:, c].double())
            chosen = largest(scores, height * width // pixel_share)
            prototypes[view][c] = unit(weighted_mean(scores, vectors[view], chosen)).detach()
    momentum = [{c: unit(bank[view, c]) if normalise_bank else bank[view, c] for c in known} for view in VIEWS]

    def towards(view: int, targets: list[int], rows: dict) -> Tensor:
        """F: the cross-entropy of each pixel's similarities to the rows towards its pseudo label's row."""
        terms = []
        for vector, target in zip(vectors[view], targets, strict=True):
            direction = unit(vector)
            powers = {c: torch.exp((direction * rows[c]).sum() / 0.1) for c in rows}
            terms.append(-torch.log(powers[target] / sum(powers.values())))
        return mean(terms)

    loss = towards(0, labels[0], prototypes[0]) + towards(1, labels[1], prototypes[1])
    if cross:
        loss = loss + towards(0, labels[0], prototypes[1]) + towards(1, labels[1], prototypes[0])
        loss = loss + towards(0, labels[1], prototypes[0]) + towards(1, labels[0], prototypes[1])
    if use_bank:
        loss = loss + towards(0, labels[0], momentum[0]) + towards(1, labels[1], momentum[1])
    moved = bank.clone()
    for view, c in product(VIEWS, known):
        moved[view, c] = (prototypes[view][c] + bank[view, c]) / 2
    return 0.1 / 2 * loss, moved
