"""DINO's and DINOv2's ViTs, CAUSE's and STEGO's heads: golden features, files in, and what is refused."""

import json

import numpy as np
import pytest
import torch

from data.normalisation import IMAGENET
from network import DINOV2
from network.cause import CauseHead, StegoHead, load_cause, load_stego
from network.dino import DINO, DinoViT, in_timms_names, load_dino
from network.unsupervised import FeatureNet, Reduction, Stride8, load_feature_net
from rebalance.uss import multi_scale_features, scaled_to_patches
from tests.golden_inputs import assert_golden, fill, rnd
from tool.cli import UserError

FLAG = "--uss_backbone_weights"


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "dhr" / "uss.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def image(expected, golden_device):
    return IMAGENET(expected["image"], golden_device)


def filled(shapes, salt):
    return {name: fill(name, tuple(shape), salt) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def files(golden, dhr_meta, tmp_path_factory):
    """Of DINOv2 ViT-S and of CAUSE on it, as released."""
    folder, salt = tmp_path_factory.mktemp("weights"), dhr_meta["salt"]
    dinov2, cause = json.loads((golden / "dhr" / "uss_state_dict.json").read_text()).values()
    torch.save(filled(dinov2, salt), folder / "dinov2.pth")
    codebook = fill("codebook", (2048, 384), salt)
    decoder = {**filled(cause, salt), "head.query_pos": torch.zeros(3)}  # of the training
    torch.save({"decoder": decoder, "codebook": codebook}, folder / "cause.pt")
    return folder


@pytest.fixture(scope="module")
def net(files, golden_device) -> FeatureNet:
    weights = {"backbone_weights": files / "dinov2.pth", "head_weights": files / "cause.pt"}
    return load_feature_net("CAUSE", "ViT-S", **weights).to(golden_device)


@pytest.mark.golden
def test_tokens_and_cause_features_are_the_golden_ones(expected, image, net):
    scaled = torch.nn.functional.interpolate(image[None], size=(56, 84), mode="bilinear", align_corners=False)
    with torch.no_grad():
        assert_golden(net.backbone(scaled)[0, ::8], expected["dinov2"])
        assert_golden(net(scaled)[0], expected["cause_once"])


@pytest.mark.golden
def test_the_average_over_scales_and_its_file_are_the_golden_ones(expected, image, net):
    found = multi_scale_features(net, image, patch=net.patch)
    assert_golden(found, expected["cause"])
    np.testing.assert_allclose(found.half().cpu(), expected["cause_file"], rtol=1e-3, atol=2e-3)


@pytest.mark.golden
@pytest.mark.parametrize("patch", [8, 14])
def test_the_average_alone_is_the_golden_one(expected, image, dhr_meta, golden_device, patch):
    layer = torch.nn.Conv2d(3, 8, patch, stride=patch, bias=False)
    layer.weight.data = fill("proj.weight", (8, 3, patch, patch), dhr_meta["salt"])
    assert_golden(multi_scale_features(layer.to(golden_device), image, patch=patch), expected[f"stub{patch}"])


@pytest.mark.golden
def test_stego_features_on_two_blocks_of_dino_are_the_golden_ones(expected, image, dhr_meta, golden_device):
    body = DinoViT(DINO)
    body.blocks = body.blocks[:2]
    head = StegoHead(body.channels)
    shapes = {name: value.shape for name, value in body.state_dict().items()}
    body.load_state_dict(filled(shapes, dhr_meta["salt"]), assign=True)
    head.load_state_dict(filled({name: value.shape for name, value in head.state_dict().items()}, dhr_meta["salt"]))
    net = FeatureNet(body, head).eval().to(golden_device)
    assert_golden(multi_scale_features(net, image[:, :24, :31], patch=8)[::2], expected["stego"])


def test_the_golden_names_and_shapes_are_those_that_are_read(golden):
    dinov2, cause = json.loads((golden / "dhr" / "uss_state_dict.json").read_text()).values()
    own = {name: list(value.shape) for name, value in DinoViT(DINOV2["ViT-S"]).state_dict().items()}
    assert own == {name: shape for name, shape in dinov2.items() if name != "mask_token"}
    own = {f"head_ema.{name}": list(value.shape) for name, value in CauseHead(384).state_dict().items()}
    assert own == {**cause, "head_ema.codebook": [2048, 384]}


def test_the_gated_layers_of_vit_g_are_read_under_both_names():
    own = DinoViT(DINOV2["ViT-G"]).state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    assert shapes["blocks.39.mlp.fc1.weight"] == (8192, 1536) and shapes["blocks.39.mlp.fc2.weight"] == (1536, 4096)
    originals = {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value for name, value in own.items()}
    assert list(in_timms_names({**originals, "mask_token": None})) == list(own)
    assert list(in_timms_names(own)) == list(own)


def test_the_gate_is_the_first_half():
    """timm could put it second."""
    net = DinoViT(DINOV2["ViT-G"])
    layer = net.blocks[0].mlp
    weights = {"fc1.weight": rnd(1, 8192, 1536) / 40, "fc1.bias": rnd(2, 8192) / 10}
    weights |= {"fc2.weight": rnd(3, 1536, 4096) / 64, "fc2.bias": rnd(4, 1536) / 10}
    layer.load_state_dict(weights, assign=True)
    x = rnd(5, 2, 1536)
    first, second = (x @ weights["fc1.weight"].T + weights["fc1.bias"]).chunk(2, dim=1)
    plain = (torch.nn.functional.silu(first) * second) @ weights["fc2.weight"].T + weights["fc2.bias"]
    torch.testing.assert_close(layer(x), plain, rtol=1e-4, atol=1e-5)


def test_sides_are_raised_to_multiples_of_the_patch():
    image = rnd(1, 3, 45, 61)
    sizes = [tuple(scaled_to_patches(image, scale, 14).shape[2:]) for scale in (2.0, 1.0, 1.5, 0.5)]
    assert sizes == [(98, 126), (56, 70), (70, 98), (28, 42)]
    assert scaled_to_patches(rnd(1, 3, 1, 1), 0.5, 14).shape == (1, 3, 14, 14)


def test_a_backbone_of_the_house_gives_its_map_of_stride_8(tmp_path):
    torch.manual_seed(0)
    body = Stride8("mobilenet_v2")
    torch.save({**body.body.state_dict(), "classifier.1.weight": torch.zeros(2)}, tmp_path / "net.pth")
    net = load_feature_net("Backbone", "mobilenet_v2", backbone_weights=tmp_path / "net.pth", head_weights=None)
    scaled = scaled_to_patches(rnd(1, 3, 30, 41), 1.0, 8)
    with torch.no_grad():
        found = net(scaled)
    assert found.shape == (1, net.dim, 4, 6) and net.dim == 1280
    torch.testing.assert_close(found, body.eval()(scaled))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_projection_of_a_reduction_is_computed_in_float32_also_under_autocast(dtype):
    reduction, features = Reduction(rnd(1, 8), rnd(2, 3, 8)), rnd(3, 2, 8, 4, 5).to(dtype)
    plain = reduction(features)
    with torch.autocast("cpu", torch.bfloat16):
        found = reduction(features)
    assert found.dtype == torch.float32 and torch.equal(found, plain)


def test_files_of_other_nets_are_refused(files, tmp_path):
    with pytest.raises(UserError, match=r"(?s)dinov2\.pth: does not fit.*--backbone"):
        load_dino(DinoViT(DINOV2["ViT-B"]), files / "dinov2.pth", FLAG)
    with pytest.raises(UserError, match=r"expected a dict with cluster1 and cluster2, found decoder, codebook"):
        load_stego(StegoHead(384), files / "cause.pt", "--uss_weights")
    with pytest.raises(UserError, match=r"(?s)cause\.pt: does not fit.*--backbone"):
        load_cause(CauseHead(768), files / "cause.pt", "--uss_weights")
    torch.save({"decoder": {"a": 1}, "codebook": torch.zeros(2)}, tmp_path / "strange.pt")
    with pytest.raises(UserError, match="expected a state dict under decoder"):
        load_cause(CauseHead(384), tmp_path / "strange.pt", "--uss_weights")


def test_in_half_precision_each_token_has_the_codebook_entry_that_float32_finds():
    head, generator = CauseHead(64), torch.Generator().manual_seed(0)
    alike = torch.randn(1, 64, generator=generator)  # whose cosines with a token differ by less than bfloat16 tells
    head.codebook.copy_(alike + 0.05 * torch.randn(head.codebook.shape, generator=generator))
    tokens = (alike + 0.3 * torch.randn(1, 20, 64, generator=generator)).bfloat16()
    cosines = torch.nn.functional.cosine_similarity(tokens[0, :, None].double(), head.codebook[None].double(), dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        found = head.nearest_entries(tokens)
    assert torch.equal(found[0], head.codebook[cosines.argmax(dim=1)])
