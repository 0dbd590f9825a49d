"""timm's ViTs: passes, the class token's attention, names, files, and nets of other kinds."""

import json

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from network.vit import ViT, load_vit
from tests.golden_inputs import assert_golden, crt_fill, rnd
from tool.cli import UserError

SMALL = "test_vit"  # timm's own, for tests: 6 blocks, 64 channels, 2 heads


def small(**options: object) -> ViT:
    torch.manual_seed(0)
    net = ViT(SMALL, **options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))  # biases and positions of zero would hide mistakes
    return net


def naive(net: ViT, image: Tensor) -> tuple[Tensor, Tensor]:
    """All tokens, and the sum of all blocks' whole attention matrices, head by head."""
    patches = [net.patch_embed.proj(image)[:, :, row // 14, row % 14] for row in range(196)]
    x = torch.stack([net.cls_token[:, 0].expand(len(image), -1), *patches], dim=1) + net.pos_embed
    total = torch.zeros(len(image), 197, 197)
    for _ in range(net.passes):
        before = x
        for block in net.blocks:
            attn, heads = block.attn, block.attn.num_heads
            query, key, value = attn.qkv(block.norm1(x)).chunk(3, dim=-1)
            parts = []
            for q, k, v in zip(*(part.chunk(heads, dim=-1) for part in (query, key, value)), strict=True):
                matrix = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1)
                total += matrix / heads
                parts.append(matrix @ v)
            x = x + attn.proj(torch.cat(parts, dim=-1))
            x = x + block.mlp(block.norm2(x))
        if net.passes > 1:
            x = before + x
    return net.norm(x), total


@torch.no_grad()
@pytest.mark.parametrize("passes", [1, 3])
def test_tokens_and_attention_are_those_of_whole_matrices(passes):
    net = small(passes=passes).eval()
    image = rnd(1, 2, 3, 224, 224)
    tokens, matrices = naive(net, image)
    found = net(image, with_attention=True)
    torch.testing.assert_close(found.patches, tokens[:, 1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.attention, matrices[:, 0, 1:], rtol=1e-4, atol=1e-6)
    without = net(image)
    assert without.attention is None and torch.equal(without.patches, found.patches)


@torch.no_grad()
def test_one_pass_is_timms_net():
    net = small().eval()
    whole = timm.create_model(SMALL, num_classes=0, img_size=224, dynamic_img_size=False).eval()
    whole.load_state_dict(net.state_dict())
    image = rnd(2, 1, 3, 224, 224)
    found = net(image)
    expected = whole.forward_features(image)
    torch.testing.assert_close(found.patches, expected[:, 1:], rtol=1e-4, atol=1e-4)


def test_drop_path_grows_to_the_last_block_and_is_absent_without():
    def rates(net: ViT) -> list[float]:
        return [getattr(block.drop_path1, "drop_prob", 0.0) for block in net.blocks]

    assert rates(small(drop_path=0.1)) == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert not any(rates(small()))
    net, image = small(drop_path=0.9), rnd(3, 1, 3, 224, 224)
    with torch.no_grad():
        assert not torch.equal(net(image).patches, net(image).patches)
        net.eval()
        assert torch.equal(net(image).patches, net(image).patches)


@torch.no_grad()
@pytest.mark.golden
def test_golden_tokens_and_attention_of_three_passes(golden, crt_meta, golden_device):
    with np.load(golden / "crt" / "network.npz") as file:
        expected = {name: file[name] for name in ("tokens_patch", "attention")}
    shapes = json.loads((golden / "crt" / "state_dict_deit.json").read_text())
    net = ViT("deit_small_patch16_224", passes=3).eval()
    own = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert own == {name: tuple(shape) for name, shape in shapes.items() if not name.startswith("head.")}
    net.load_state_dict({name: crt_fill(name, shape, crt_meta) for name, shape in own.items()})
    image = rnd(crt_meta["seed"] + 3, 2, 3, 224, 224)
    tokens = net.to(golden_device)(image.to(golden_device), with_attention=True)
    assert_golden(tokens.patches[:, ::8, ::16], expected["tokens_patch"])
    assert_golden(tokens.attention[:, ::3], expected["attention"].sum(0))


# -- files -------------------------------------------------------------------------------------------------------------


def whole_state(name: str = SMALL, **options: object) -> dict[str, Tensor]:
    return timm.create_model(name, img_size=224, **options).state_dict()


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": 300}])
def test_deits_file_is_read_wrapped_or_not_without_its_classifier(wrap, tmp_path):
    state = whole_state(num_classes=7)
    torch.save(wrap(state), tmp_path / "deit.pth")
    net = ViT(SMALL)
    report = load_vit(net, SMALL, tmp_path / "deit.pth", flag="--transformer_weights")
    assert {*report.unexpected} == {"head.weight", "head.bias"}
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.3.mlp.fc1.weight"), "missing \\(1\\): blocks.3.mlp.fc1.weight"),
        (lambda state: state.update(dist_token=torch.zeros(1, 1, 64)), "unexpected \\(1\\): dist_token"),
        (lambda state: state.update(pos_embed=torch.zeros(1, 577, 64)), "pos_embed: float32 \\(1, 577, 64\\)"),
    ],
    ids=["a tensor is missing", "distilled", "of larger images"],
)
def test_what_does_not_fit_wholly_is_refused_and_the_net_stays(change, message, tmp_path):
    state = whole_state()
    change(state)
    torch.save(state, tmp_path / "deit.pth")
    net = ViT(SMALL)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=f"(?s)--transformer_weights .*deit.pth: .*{message}"):
        load_vit(net, SMALL, tmp_path / "deit.pth", flag="--transformer_weights")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deit_smal_patch16_224", "no net of this name; did you mean .*deit_small_patch16_224"),
        ("resnet50", "expected a plain vision transformer"),
        ("deit_tiny_distilled_patch16_224", "expected a plain vision transformer"),
        ("deit3_small_patch16_224", "expected a plain vision transformer"),
        ("vit_tiny_r_s16_p8_224", "expected a plain vision transformer"),
    ],
)
def test_names_of_other_nets_are_refused(name, message):
    with torch.device("meta"), pytest.raises(UserError, match=f"--transformer {name}: .*{message}"):
        ViT(name)


def test_plain_vits_of_timm_build_at_224():
    for name in ("deit_tiny_patch16_224", "vit_tiny_patch16_224", "vit_small_patch16_384"):
        with torch.device("meta"):
            net: nn.Module = ViT(name, drop_path=0.1)
        assert net(torch.empty(1, 3, 224, 224, device="meta"), with_attention=True).patches.shape[1] == 196
