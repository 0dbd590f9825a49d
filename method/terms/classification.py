"""Terms on image labels.

Maps are (N, L, h, w) with background as the last channel; `label` is (N, K), ones for the classes in the image.
"""

from torch import Tensor


def min_pool_loss(cam_rv: Tensor, label: Tensor) -> Tensor:
    """Mean activation of each image's least activated quarter of pixels, in the refined foreground maps.

    Keeps the refined map from lighting up everywhere: an image's quietest pixels should belong to no class.
    """
    strongest = (cam_rv[:, :-1] * label[:, :, None, None]).amax(dim=1).flatten(1)
    lowest = strongest.topk(max(strongest.shape[1] // 4, 1), dim=1, largest=False).values
    return lowest.relu().mean()
