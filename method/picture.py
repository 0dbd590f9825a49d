"""What a step sees of an image, for TensorBoard."""

import torch
from torch import Tensor
from torch.nn import functional as F

from data.normalisation import IMAGENET, Normalisation
from tool.dataset import DataSet
from tool.plot import blend, heat_colours, label_colours


def picture(
    image: Tensor,
    cam: Tensor,
    label: Tensor,
    data_set: DataSet,
    *,
    normalisation: Normalisation = IMAGENET,
    saliency: Tensor | None,
    pseudo: Tensor | None,
) -> dict[str, Tensor]:
    """What a step sees of an image: the image, the CAM of its first class as heat over it, what else is given.

    Args:
        image: (3, H, W), normalised by `normalisation`. saliency: (1, H, W) in 0..1, or None.
        cam: the net's, (C, h, w); with a channel more than classes, the last and background, shares of the softmax
            count, as in inference. The class's largest score gets the last colour.
        label: (K,), zeros and ones. pseudo: pseudo labels (h, w), background the last, or None.

    Returns:
        Pictures, uint8 (3, H, W), of "image", "CAM", "saliency" and "pseudo label", in this order.
    """
    size = image.shape[1:]
    scores = (cam.softmax(0) if len(cam) > len(label) else cam)[int(label.argmax())]
    scores = F.interpolate(scores[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    scores = (scores / (scores.max() + 1e-5)).nan_to_num()  # a loss that is no number is reported after this step
    pixels = normalisation.truncated(image).permute(1, 2, 0).cpu().numpy()
    parts = {"image": pixels, "CAM": blend(pixels, heat_colours(scores.cpu().numpy()), opacity=0.6)}
    if saliency is not None:
        parts["saliency"] = (saliency * 255).to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
    if pseudo is not None:
        labels = (pseudo + 1) % (len(label) + 1)  # as in label maps: background is 0
        labels = F.interpolate(labels[None, None].float(), size)[0, 0]
        parts["pseudo label"] = blend(pixels, label_colours(labels.byte().cpu().numpy(), data_set), opacity=0.6)
    return {name: torch.from_numpy(part).permute(2, 0, 1) for name, part in parts.items()}
