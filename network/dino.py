"""The vision transformers of DINO and DINOv2 on images of any size, under their names (paper/method.md, DHR)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.normalisation import IMAGENET
from network.names import under_own_names
from network.weights import read_weights
from network.whole import check_whole

DINO = "vit_base_patch8_224"  # in timm; STEGO's
OFFSET = 0.1  # of a grid's sides, where positions are resized to it
# timm's names of ViT-G's gated layers, by the originals'; and what its files hold beside the net's own.
GATED = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
LEFT_OUT = ("mask_token", "head.")


class DinoViT(nn.Module):
    """timm's ViT `name`, `DINO` or one of `network.DINOV2`, for images whose sides are multiples of its `patch`.

    Its tensors are not there until a file's are put in their place (`load_dino`).
    """

    normalisation = IMAGENET

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm  # not at the top: it takes as long as torch, in each process

        with torch.device("meta"):  # of a billion tensors nobody wants to draw random ones
            net = timm.create_model(name, num_classes=0)
        self.patch: int = net.patch_embed.patch_size[0]
        self.channels: int = net.embed_dim
        self.side: int = net.patch_embed.grid_size[0]  # of the grid that positions were learned on
        self.cls_token, self.pos_embed, self.patch_embed = net.cls_token, net.pos_embed, net.patch_embed
        self.blocks, self.norm = net.blocks, net.norm

    def forward(self, image: Tensor) -> Tensor:
        """The patches' normalised tokens, (N, channels, h / patch, w / patch), of `image` (N, 3, h, w), normalised."""
        patches = self.patch_embed.proj(image)
        grid = patches.shape[2:]
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self._positions(grid).to(tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, grid)

    def _positions(self, grid: torch.Size) -> Tensor:
        """Of the class token and of a `grid`'s patches, (1, 1 + h w, channels)."""
        if tuple(grid) == (self.side, self.side):
            return self.pos_embed
        learned = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))
        # Places are found by the factors themselves, a little more than the sizes' ratio.
        factors = tuple((side + OFFSET) / self.side for side in grid)
        options = {"mode": "bicubic", "align_corners": False, "recompute_scale_factor": False}
        resized = F.interpolate(learned, scale_factor=factors, **options)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def load_dino(net: DinoViT, path: str | Path, flag: str) -> None:
    """Put the weights of a file, of the original or of timm, into `net`. `flag` names the argument in messages.

    Raises `UserError` for a file that is missing, damaged, or of another net.
    """
    source = f"{flag} {path}"
    state = in_timms_names(under_own_names(read_weights(path, flag), net.state_dict(), source=source))
    check_whole(state, net.state_dict(), source=source, advice="expected the weights of --backbone")
    net.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)


def in_timms_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of a file as `DinoViT` has it."""
    found = {}
    for name, value in state.items():
        for original, timms in GATED.items():
            name = name.replace(original, timms)
        if not name.startswith(LEFT_OUT):
            found[name] = value
    return found
