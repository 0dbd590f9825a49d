"""Boxes compared and errors named pixel by pixel, image by image, as paper/method.md, Object localisation, says it."""


def pixels(box):
    left, top, right, bottom = (int(edge) for edge in box)
    return {(x, y) for x in range(left, right + 1) for y in range(top, bottom + 1)}


def iou(box, other):
    one, two = pixels(box), pixels(other)
    return len(one & two) / len(one | two)


def kind(right_class, best_box, true_boxes):
    if not right_class:
        return "cls_wrong"
    found, values = pixels(best_box), [iou(best_box, true) for true in true_boxes]
    if max(values) > 0.5:
        return "right"
    inside = [len(found & pixels(true)) / len(pixels(true)) for true in true_boxes]
    if len(true_boxes) > 1 and sum(share > 0.3 for share in inside) > 1:
        return "multi"
    nearest = values.index(max(values))
    if len(found & pixels(true_boxes[nearest])) / len(found) > 0.5:
        return "part"
    return "more" if inside[nearest] >= 0.7 else "wrong"
