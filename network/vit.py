"""timm's plain vision transformers with patches of 16 pixels, under timm's names; what the class token looks at is
added up as the blocks go by."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.normalisation import Normalisation
from network import TIMM
from network.download import read_or_download
from network.names import under_own_names
from network.weights import LoadReport, misfits
from network.whole import check_whole
from tool.cli import UserError

SIDE, PATCH = 224, 16  # of the images that positions are learned for, and of a patch, in pixels
GRID = SIDE // PATCH
EXAMPLES = "deit_small_patch16_224, deit_tiny_patch16_224, vit_small_patch16_224"
_PLAIN = re.compile(
    r"cls_token|pos_embed|(patch_embed\.proj|norm)\.(weight|bias)"
    r"|blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
)
_NEEDED = {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight", "blocks.0.attn.qkv.weight"}
_HEADS = ("head.", "head_dist.", "fc_norm.")  # of the classifiers in files, which score ImageNet's classes


class Tokens(NamedTuple):
    """What a ViT gives of N images, after its last norm.

    patches: (N, 196, D), row by row. attention: float32 (N, 196), what the class token pays to each patch,
    the mean over heads, summed over blocks and passes; None where nobody asked for it.
    """

    patches: Tensor
    attention: Tensor | None


class ViT(nn.Module):
    """timm's net `name` without its classifier, with random weights, for images of 224 x 224 pixels.

    passes: how often the stack of blocks runs, with the same weights. One pass is x = B(x_0); with more, each is
    x_{p+1} = x_p + B(x_p) (paper/method.md, CRT). drop_path: of the last block, from 0 at the first in equal
    steps.

    Raises `UserError`, naming --transformer, for a name that timm does not have and for a net of another kind.
    """

    def __init__(self, name: str, *, passes: int = 1, drop_path: float = 0.0) -> None:
        super().__init__()
        net = _build(name, drop_path)
        self.passes = passes
        self.dim: int = net.embed_dim
        self.normalisation = Normalisation(*(tuple(net.pretrained_cfg[key]) for key in ("mean", "std")))
        self.cls_token, self.pos_embed, self.patch_embed = net.cls_token, net.pos_embed, net.patch_embed
        self.blocks, self.norm = net.blocks, net.norm

    def forward(self, image: Tensor, *, with_attention: bool = False) -> Tokens:
        """`image` (N, 3, 224, 224), normalised."""
        patches = self.patch_embed.proj(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        paid = tokens.new_zeros(len(tokens), GRID**2, dtype=torch.float32) if with_attention else None
        for _ in range(self.passes):
            stacked = tokens
            for block in self.blocks:
                mixed, row = _attend(block.attn, block.norm1(stacked), with_row=with_attention)
                stacked = stacked + block.drop_path1(mixed)
                stacked = stacked + block.drop_path2(block.mlp(block.norm2(stacked)))
                if with_attention:
                    paid += row
            tokens = stacked if self.passes == 1 else tokens + stacked
        tokens = self.norm(tokens)
        return Tokens(tokens[:, 1:], paid)


def _attend(attention: nn.Module, tokens: Tensor, *, with_row: bool) -> tuple[Tensor, Tensor | None]:
    """timm's attention on `tokens` (N, T, D), and what the first token pays to the others, (N, T - 1): one row of each
    head's matrix, of which the kernel keeps none."""
    images, length, dim = tokens.shape
    qkv = attention.qkv(tokens).view(images, length, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(images, length, dim)
    row = None
    if with_row:
        scores = attention.scale * (query[:, :, :1] @ key.transpose(2, 3))
        row = scores.float().softmax(dim=3).mean(dim=1)[:, 0, 1:]
    return attention.proj(mixed), row


def _build(name: str, drop_path: float) -> nn.Module:
    import timm  # not at the top: it takes as long as torch, in each process
    from timm.models.vision_transformer import Block

    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models("*vit*") + timm.list_models("deit*"), n=3, cutoff=0.5)
        advice = f"did you mean {', '.join(near)}?" if near else f"it has for example {EXAMPLES}"
        raise UserError(f"--transformer {name}: timm {timm.__version__} has no net of this name; {advice}")
    unfit = UserError(
        f"--transformer {name}: expected a plain vision transformer with a class token and patches of {PATCH} pixels,"
        f" found another net; take for example {EXAMPLES}"
    )
    try:
        net = timm.create_model(
            name, num_classes=0, img_size=SIDE, dynamic_img_size=False, drop_path_rate=drop_path, drop_rate=0.0
        )
    except Exception as error:  # each net says in its own way that it does not have one of these
        raise unfit from error
    names = net.state_dict().keys()
    is_plain = names >= _NEEDED and all(_PLAIN.fullmatch(each) for each in names)
    if not is_plain or {type(block) for block in net.blocks} != {Block}:
        raise unfit
    if net.pos_embed.shape[1] != 1 + GRID**2 or net.patch_embed.proj.kernel_size != (PATCH, PATCH):
        raise unfit
    return net


def load_vit(vit: ViT, name: str, path: str | Path, *, flag: str) -> LoadReport:
    """Put the weights of a whole ViT into `vit`, which is timm's `name`: DeiT's file or timm's, or
    `network.PRETRAINED`: timm's download. Its classifier comes too where `vit` has one of that form, as a file of its
    own training has; else it is left out. `flag` names the argument in messages.

    Raises `UserError` for a file that is missing, damaged or of another net, and where there is no download.
    """
    source, state = read_or_download(f"{TIMM}{name}", path, flag)
    own = vit.state_dict()
    state = under_own_names(state, own, source=source)
    heads = {each: value for each, value in own.items() if each.startswith(_HEADS)}
    if heads.keys() <= state.keys() and not misfits(state, heads):
        heads = {}
    left = [each for each in state if each.startswith(_HEADS) and (heads or each not in own)]
    state = {each: value for each, value in state.items() if each not in left}
    wanted = {each: value for each, value in own.items() if each not in heads}
    check_whole(state, wanted, source=source, advice=f"expected weights of timm's {name}, of {SIDE} x {SIDE} pixels")
    vit.load_state_dict(state, strict=False)
    return LoadReport(source, loaded=list(wanted), missing=list(heads), unexpected=left)
