"""Both branches as one net: each sees the image as its own weights were trained with."""

import pytest
import torch

from data.normalisation import IMAGENET, Normalisation
from network.localiser import Localiser

OTHER = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_an_input_of_one_net_becomes_anothers():
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)
    turned = OTHER.of_others(IMAGENET.of_pixels(pixels), IMAGENET)
    torch.testing.assert_close(turned, OTHER.of_pixels(pixels))
    assert IMAGENET.of_others(turned, IMAGENET) is turned


@pytest.mark.parametrize("normalisation", [IMAGENET, OTHER])
def test_the_cnn_sees_imagenets_whatever_the_transformer_wants(normalisation):
    torch.manual_seed(0)
    net = Localiser("test_vit", "resnet18", num_classes=2).eval()
    net.transformer.normalisation = normalisation
    pixels = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        transformer, cnn = net(normalisation.of_pixels(pixels))
        torch.testing.assert_close(cnn, net.cnn(IMAGENET.of_pixels(pixels)), rtol=1e-3, atol=1e-4)
    assert transformer.shape == cnn.shape == (1, 2, 14, 14) and transformer.dtype == cnn.dtype == torch.float32
