"""An image's seeds by CRT's transformer: by our functions, and by a plain loop over scales, mirrors and windows."""

from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmark.timing import report, seconds
from method import METHODS
from method.crt.config import CRTConfig
from method.crt.learner import CRTLearner
from network.crt import PASSES, WINDOW_STRIDE, CRTNet, TransformerBranch
from network.vit import GRID, PATCH, SIDE
from tool.cam import multi_scale_cam
from tool.device import place
from tool.seed_recipe import SeedRecipe
from voc12.classes import VOC12

CLASSES = (3, 14)


def seed_times(size: tuple[int, int], transformer: str, times: int, device: torch.device) -> None:
    torch.manual_seed(0)
    net = CRTNet("resnet18", transformer, num_classes=VOC12.num_classes)  # the CNN takes no part
    learner = CRTLearner(place(net, device, "off"), CRTConfig(transformer=transformer), VOC12).eval()
    learner.requires_grad_(False)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    recipe = METHODS["crt"].seeds

    def ours() -> Tensor:
        maps = partial(learner.maps, device=device)
        cams = multi_scale_cam(maps, image, CLASSES, recipe=recipe, device=device)
        return torch.from_numpy(np.stack([*cams.values()]))

    plain, expected = seconds(
        lambda: loop(learner, image, recipe, device), device, 1 if device.type == "cpu" else times
    )
    fast, found = seconds(ours, device, times)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    height, width = size
    print(f"CRT's seeds of an image of {width} x {height} by {transformer} ({device.type}, one thread on a CPU)")
    report("a window at a time, whole matrices", plain, "windows together, one row", fast)


@torch.inference_mode()
def loop(learner: CRTLearner, image: Image.Image, recipe: SeedRecipe, device: torch.device) -> Tensor:
    """The CAMs, (2, H, W) on the CPU, as paper/method.md, CRT, says it, one window after the other."""
    branch, normalisation = learner.net.transformer, learner.net.normalisation
    frame = recipe.frame((image.height, image.width))
    total = torch.zeros(len(CLASSES), *frame, device=device)
    for scale in recipe.scales:
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        pixels = normalisation(image.resize(size, Image.Resampling.BICUBIC), device)
        both = of_image(branch, pixels) + of_image(branch, pixels.flip(-1)).flip(-1)
        total += F.interpolate(both[None], frame, mode="bilinear", align_corners=False)[0][list(CLASSES)]
    total = total[:, : image.height, : image.width]
    return (total / (total.amax((1, 2), keepdim=True) + 1e-5)).cpu()


def of_image(branch: TransformerBranch, image: Tensor) -> Tensor:
    """The maps of an image (3, h, w), window after window."""
    height, width = image.shape[1:]
    rows, columns = (max((side // WINDOW_STRIDE + 1) * WINDOW_STRIDE, SIDE) for side in (height, width))
    padded = F.pad(image, (0, columns - width, 0, rows - height))
    total = image.new_zeros(branch.head.out_channels, rows // PATCH, columns // PATCH)
    count = image.new_zeros(rows // PATCH, columns // PATCH)
    for top in range(0, rows - SIDE + 1, WINDOW_STRIDE):
        for left in range(0, columns - SIDE + 1, WINDOW_STRIDE):
            y, x = top // PATCH, left // PATCH
            window = padded[None, :, top : top + SIDE, left : left + SIDE]
            total[:, y : y + GRID, x : x + GRID] += of_window(branch, window)
            count[y : y + GRID, x : x + GRID] += 1
    return (total / count)[:, : -(-height // PATCH), : -(-width // PATCH)].relu()


def of_window(branch: TransformerBranch, window: Tensor) -> Tensor:
    patches = branch.patch_embed.proj(window).flatten(2).transpose(1, 2)
    tokens = torch.cat([branch.cls_token, patches], dim=1) + branch.pos_embed
    matrices = []
    for _ in range(PASSES):
        before = tokens
        for block in branch.blocks:
            normed = block.norm1(tokens)
            heads = block.attn.num_heads
            query, key, value = (
                block.attn.qkv(normed).view(1, -1, 3, heads, normed.shape[2] // heads).permute(2, 0, 3, 1, 4)
            )
            matrix = (block.attn.scale * query @ key.transpose(2, 3)).softmax(dim=3)
            matrices.append(matrix)
            tokens = tokens + block.attn.proj((matrix @ value).transpose(1, 2).flatten(2))
            tokens = tokens + block.mlp(block.norm2(tokens))
        tokens = before + tokens
    maps = branch.head(branch.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, (GRID, GRID)))[0]
    return maps * torch.stack(matrices).mean(2).sum(0)[0, 0, 1:].view(GRID, GRID)
