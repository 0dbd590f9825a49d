"""Three whole steps of DHR's training: losses, labels, gradients, updates and the average's are the golden ones."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

from data.normalisation import IMAGENET
from network.backbones import drop_nothing
from network.deeplabv3plus import build_deeplabv3plus
from rebalance.average import Average
from rebalance.labels import make_labels
from rebalance.recipe import LabelRecipe
from rebalance.training import build_training, training_step
from tests.golden_inputs import assert_golden, fill
from tests.rebalance.scenes import DATA_SETS, golden_pixels, golden_scenes
from tool.crf import resolve_backend

SLICES = {
    "model.conv1.weight": np.s_[::8],
    "model.layer1.0.conv2.weight": np.s_[::16, ::16],
    "model.layer2.0.bn1.bias": np.s_[::4],
    "model.layer3.5.conv2.weight": np.s_[::64, ::64],
    "model.layer4.2.conv3.weight": np.s_[::256, ::128],
    "model.layer4.2.bn3.weight": np.s_[::64],
    "seg_decoder.aspp.aspp3.conv.weight": np.s_[::64, ::512],
    "seg_decoder.aspp.gap.1.conv.weight": np.s_[::64, ::256],
    "seg_decoder.low_block.bn.bias": np.s_[::4],
    "seg_decoder.mid_block.1.conv.weight": np.s_[::64, ::64],
    "seg_decoder.classifier.weight": np.s_[:, ::16],
    "classifier.weight": np.s_[::2, ::64],
}


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.golden
def test_losses_labels_and_updates_of_three_steps_are_the_golden_ones(golden, dhr_meta, golden_device):
    with np.load(golden / "dhr" / "training_steps.npz") as file:
        expected = dict(file)
    data_set = DATA_SETS["labels"]
    net = build_deeplabv3plus("resnet50", num_labels=21, num_classes=20)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.copy_(fill(name, tuple(value.shape), dhr_meta["salt"]))
            if name.endswith("bn3.weight"):
                value *= 0.25
    drop_nothing(net)
    net.to(golden_device).train()
    average = Average(net, decay=0.999)
    training = build_training(net, average, lr=1e-4, momentum=0.9, weight_decay=4e-5, num_steps=20)
    before = [{name: value.clone() for name, value in each.state_dict().items()} for each in (net, average)]
    backend = resolve_backend("auto", golden_device)
    make = partial(
        make_labels,
        data_set=data_set,
        recipe=LabelRecipe(),
        run_crf=lambda work, pictures, maps: work(pictures, maps, backend=backend),
    )
    for number in range(3):
        pixels = golden_pixels(dhr_meta["seed"] + 100 * number)
        scenes = golden_scenes(expected, pixels, suffix=f"_{number}")
        image = torch.zeros(4, 3, 128, 128)
        for place, own, scene in zip(image, pixels, scenes, strict=True):
            rows, columns = scene.box.part
            place[:, rows, columns] = IMAGENET.of_pixels(own.permute(2, 0, 1))[:, rows, columns]
        batch = {
            "image": image,
            "tags": torch.from_numpy(expected[f"image_labels_{number}"]),
            "picture": torch.stack([scene.picture for scene in scenes]),
            "mask": torch.stack([scene.mask for scene in scenes]).byte(),
            "box": [scene.box for scene in scenes],
            "features": [scene.features for scene in scenes],
            "classes": [scene.classes for scene in scenes],
            "id": [str(place) for place in range(len(scenes))],
        }
        rates = [group["lr"] for group in training.optimizer.param_groups]
        with ThreadPoolExecutor(1) as thread:
            losses, labels = training_step(training, batch, make, thread=thread)
        found = [*(float(losses[name]) for name in ("cls", "seg", "total")), *rates]
        assert_golden(found, expected["losses"][number], atol=0)
        assert (labels.cpu().numpy() == expected[f"label_{number}"]).mean() >= 0.995
        if number == 0:
            for name, parameter in net.named_parameters():
                if name in SLICES:
                    gradient = parameter.grad[SLICES[name]].cpu().numpy()
                    assert distance(gradient, expected[f"grad {name}"]) <= 3e-2, name
    for prefix, each, start, bound in zip(("update", "ema"), (net, average), before, (3e-2, 6e-2), strict=True):
        for name, piece in SLICES.items():
            if f"{prefix} {name}" in expected:
                change = (each.state_dict()[name] - start[name])[piece].cpu().numpy()
                assert distance(change, expected[f"{prefix} {name}"]) <= bound, f"{prefix} {name}"
    for key in expected:
        if "buffer " in key:
            state = (average if key.startswith("ema") else net).state_dict()
            assert_golden(state[key.split()[-1]][::8], expected[key])
    counts = [int(each.state_dict()["model.bn1.num_batches_tracked"]) for each in (net, average)]
    assert counts == expected["num_batches_tracked"].tolist()
