"""A training step, HSC's terms in it, and plain loops, timed."""

import argparse

import torch
from torch import Tensor

from benchmark import plain
from benchmark.timing import mean_seconds, seconds
from method.engine import build_training, training_step
from method.hsc.config import ContrastConfig, configure
from method.hsc.contrast import class_contrast, pixel_contrast, region_contrast
from method.hsc.criterion import HSCCriterion
from method.hsc.learner import HSCLearner
from method.terms.maps import View, two_scales
from network.build import build_network
from network.hsc import HSCOutput
from tool.device import place
from voc12.classes import VOC12

SECOND_VIEW = 128
PLAIN_IMAGES, PLAIN_GRID, PLAIN_TIMES = 2, 8, 10


def make_batch(args: argparse.Namespace, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images, saliency maps with edges, and labels of one to three classes."""
    count, size = args.batch_size, args.crop_size
    image = torch.randn(count, 3, size // 8, size // 8, device=device)
    image = torch.nn.functional.interpolate(image, size=(size, size), mode="bilinear")
    saliency = (image.mean(dim=1, keepdim=True) > 0).float()
    label = torch.zeros(count, VOC12.num_classes, device=device)
    for row in label:
        row[torch.randperm(VOC12.num_classes)[: int(torch.randint(1, 4, ()))]] = 1
    return image, saliency, label


def share_of_a_step(args: argparse.Namespace, device: torch.device) -> None:
    config = configure("hsc", second_view=SECOND_VIEW)
    net = place(build_network("resnet38_hsc", num_classes=VOC12.num_classes, width=args.width), device, args.amp)
    learner = HSCLearner(net, config, VOC12, amp=args.amp)
    training = build_training(learner, lr=1e-4, momentum=0.9, weight_decay=5e-4, decay_steps=100)
    image, saliency, label = make_batch(args, device)
    batch = {"image": image, "saliency": saliency, "label": label}
    step = mean_seconds(lambda: training_step(training, batch), device, times=args.steps)

    views = two_scales(image, saliency, SECOND_VIEW)
    with torch.no_grad():
        outputs = [net(view.image) for view in views]
    outputs = [HSCOutput(*(value.requires_grad_() for value in output)) for output in outputs]
    terms = mean_seconds(lambda: contrast(learner.criterion, outputs, views, label), device, times=3 * args.steps)
    print(f"step            {1000 * step:9.1f} ms ({args.batch_size} images of {args.crop_size}, width {args.width:g})")
    print(f"rsc, csc, psc   {1000 * terms:9.1f} ms, {100 * terms / step:.1f} % of it")


def contrast(criterion: HSCCriterion, outputs: list[HSCOutput], views: list[View], label: Tensor) -> None:
    """HSC's own terms, forward and back to the net's outputs."""
    losses = criterion.contrast(
        [output.cam_rv for output in outputs],
        [output.feat_pixel for output in outputs],
        [output.feat_region for output in outputs],
        views[1].image,
        label,
    )
    sum(losses.values()).backward()


def against_plain_loops() -> None:
    count, grid = PLAIN_IMAGES, (PLAIN_GRID, PLAIN_GRID)
    feat_region, feat_pixel = torch.randn(2, count, 256, *grid), torch.rand(2, count, 128, *grid)
    cam, pseudo = torch.rand(2, count, VOC12.num_labels, *grid), torch.randint(0, VOC12.num_labels, (2, count, *grid))
    label = torch.zeros(count, VOC12.num_classes)
    label[:, :2] = 1
    region_bank, class_bank, pixel_bank = (
        torch.randn(2, *shape) for shape in ((2, 256), (VOC12.num_labels, 256), (VOC12.num_labels, 128))
    )

    def fast() -> list[Tensor]:
        switches = {"bank": True, "cross": True, "config": ContrastConfig()}
        results = (
            region_contrast(feat_region, pseudo, region_bank, background=VOC12.num_classes, **switches),
            class_contrast(feat_region, cam, label, class_bank, **switches),
            pixel_contrast(feat_pixel, cam, pseudo, label, pixel_bank, **switches),
        )
        return [result.loss for result in results]

    def plainly() -> list[Tensor]:
        banks = [bank.clone() for bank in (region_bank, class_bank, pixel_bank)]  # which it changes
        return [*plain.contrast_terms(feat_pixel, feat_region, cam, cam, pseudo, label, banks).values()]

    cpu = torch.device("cpu")
    plain_seconds, expected = seconds(plainly, cpu, PLAIN_TIMES)
    fast_seconds, found = seconds(fast, cpu, PLAIN_TIMES)
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-4, atol=1e-5)
    print(f"plain loops     {1000 * plain_seconds:9.1f} ms, forward alone ({count} images on a grid of {PLAIN_GRID})")
    print(f"vectorised      {1000 * fast_seconds:9.1f} ms, {plain_seconds / fast_seconds:.0f} times faster, equal")
