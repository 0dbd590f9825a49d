"""A batch of the demo as a training step sees it, by the trained net and the functions that trained it.

Shape suffixes are those of `method/hsc/contrast.py`: V views (2), N images, H W grid, K classes, L labels
(background last), R regions (background, foreground), D feature channels, P pixels of the batch.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.augmentation import TrainingAugmentation
from data.labels import load_labels
from data.normalisation import IMAGENET
from data.training import TrainingSet
from method.hsc.config import ContrastConfig, configure
from method.hsc.contrast import class_contrast, region_contrast
from method.hsc.criterion import HSCCriterion
from method.terms.contrast import flatten_pixels, pixel_prototypes, strongest_pixels
from method.terms.maps import View, two_scales, with_background
from method.terms.saliency import saliency_loss
from network.build import build_network
from network.weights import load_weights
from paper.figures.demo import Demo
from tool.checkpoint import load_checkpoint
from voc12.classes import NUM_CLASSES, VOC12

EPOCH = 0  # whose augmentation is shown


class Levels(NamedTuple):
    """What the three levels of contrast are given, in the order of `HSCCriterion.contrast_terms`."""

    feat_pixel_VNDHW: Tensor
    feat_region_VNDHW: Tensor
    cam_VNLHW: Tensor
    score_VNLHW: Tensor
    pseudo_VNHW: Tensor
    label_NK: Tensor


class WatchedCriterion(HSCCriterion):
    """The criterion as it is; it keeps what it gives to the three levels."""

    levels: Levels

    def contrast_terms(self, *given: Tensor) -> dict[str, Tensor]:
        self.levels = Levels(*given)
        return super().contrast_terms(*given)


class Step(NamedTuple):
    """One step: its images, its losses, and what the three levels of contrast get."""

    views: list[View]
    losses: dict[str, float]
    levels: Levels
    banks: dict[str, Tensor]  # as training left them, before this step
    config: ContrastConfig
    predicted_saliency: list[Tensor]  # a view's, (N, 1, h, w)

    def photograph(self, view: int, image: int = 0) -> np.ndarray:
        """uint8 (H, W, 3), RGB."""
        return IMAGENET.truncated(self.views[view].image[image]).permute(1, 2, 0).numpy()

    @property
    def classes(self) -> list[int]:
        """Of the first image, ascending."""
        return self.levels.label_NK[0].nonzero().flatten().tolist()


def take_step(demo: Demo, first: str) -> Step:
    """A step of the demo's HSC, evaluated and not taken, on the image `first` and those that follow it in train.txt,
    past its end from its beginning: as many as a batch has, or the list."""
    settings, ids = demo.settings(), demo.ids("train")
    start = ids.index(first)
    batch = [*ids[start:], *ids[:start]][: settings["batch_size"]]
    samples = TrainingSet(
        {name: demo.voc / "JPEGImages" / f"{name}.jpg" for name in batch},
        saliency_root=demo.voc / "saliency",
        labels=load_labels(demo.data / "cls_labels.npy", VOC12),
        augmentation=TrainingAugmentation(crop_size=settings["crop_size"], resize=tuple(settings["resize_size"])),
        seed=settings["seed"],
    )
    stacked = [samples[EPOCH, index] for index in range(len(batch))]
    image, saliency, label = (
        torch.stack([sample[name] for sample in stacked]) for name in ("image", "saliency", "label")
    )

    config = configure(
        "hsc",
        without=settings["without"],
        overlap=settings["tau"],
        foreground_share=settings["alpha"],
        second_view=settings["view2_size"],
        crf_backend="auto",
        sane=settings["sane"],
    )
    net = build_network(
        config.network, num_classes=VOC12.num_classes, backbone=settings["backbone"], width=settings["width"]
    )
    load_weights(net, demo.weights)
    criterion = WatchedCriterion(config, num_classes=VOC12.num_classes, region_channels=net.region_channels)
    criterion.load_state_dict(load_checkpoint(demo.run / "last.ckpt", "--demo")["criterion"])
    banks = dict(criterion.banks.named_buffers())
    views = two_scales(image, saliency, config.second_view)
    with torch.inference_mode():
        outputs = [net.eval()(view.image) for view in views]
        losses = {name: float(loss) for name, loss in criterion(outputs, views, label).items()}
        predicted = [
            saliency_loss(
                output.cam,
                view.saliency,
                label,
                overlap=config.saliency.overlap,
                foreground_share=config.saliency.foreground_share,
            )[1]
            for output, view in zip(outputs, views, strict=True)
        ]
    return Step(views, losses, criterion.levels, banks, config.contrast, predicted)


# -- ROI level ---------------------------------------------------------------------------------------------------------


def region_means(step: Step) -> Tensor:
    """Each image's mean background and foreground feature, (V, N, R, D), normalised: a bank without momentum that one
    image moves holds just these."""
    config = replace(step.config, bank_momentum=0.0)
    feat, pseudo, nothing = step.levels.feat_region_VNDHW, step.levels.pseudo_VNHW, step.banks["region_bank"]
    options = {"background": NUM_CLASSES, "bank": False, "cross": False, "config": config}
    moved = [
        region_contrast(feat[:, n : n + 1], pseudo[:, n : n + 1], nothing, **options).bank for n in range(feat.shape[1])
    ]
    return torch.stack(moved, dim=1)


def region_similarity(step: Step) -> Tensor:
    """(V, N, R, H, W): the cosine of each pixel's region feature with its own image's two means."""
    feat = step.levels.feat_region_VNDHW
    feat = F.normalize(F.normalize(feat, dim=-1) if step.config.norm_along_width else feat, dim=2)
    return torch.einsum("vndhw,vnrd->vnrhw", feat, region_means(step))


# -- class level -------------------------------------------------------------------------------------------------------


def class_weights(step: Step) -> Tensor:
    """(V, N, L, H, W): what ranks and weights a class's pixels."""
    cam = step.levels.cam_VNLHW
    return (cam * with_background(step.levels.label_NK)).softmax(dim=2)


def chosen_pixels(step: Step, weight_VNLHW: Tensor, count: int) -> Tensor:
    """(V, N, L, H, W): whether a pixel is among the batch's `count` strongest of the label."""
    weight_VLP = flatten_pixels(weight_VNLHW).transpose(1, 2)
    chosen_VLP = torch.zeros_like(weight_VLP).scatter_(2, strongest_pixels(weight_VLP, count)[1], 1.0)
    views, images, labels, height, width = weight_VNLHW.shape
    return chosen_VLP.view(views, labels, images, height, width).transpose(1, 2) > 0


def class_anchors(step: Step) -> Tensor:
    """(V, L, D): the anchors of csc, meaningful for classes that the batch has; a bank without momentum, moved by as
    many pixels as an anchor has, holds just these."""
    levels = step.levels
    config = replace(step.config, bank_momentum=0.0, class_bank_pixels=step.config.class_pixels)
    bank = step.banks["class_bank"]
    given = levels.feat_region_VNDHW, levels.cam_VNLHW, levels.label_NK, bank
    return class_contrast(*given, bank=True, cross=True, config=config).bank


def class_similarity(step: Step) -> Tensor:
    """(V, N, L, H, W): the cosine of each pixel's region feature with the class bank's rows of its view."""
    feat = F.normalize(step.levels.feat_region_VNDHW, dim=2)
    return torch.einsum("vndhw,vld->vnlhw", feat, F.normalize(step.banks["class_bank"], dim=-1))


# -- pixel level -------------------------------------------------------------------------------------------------------


def coarse_labels(step: Step) -> Tensor:
    """(V, N, H, W): the pseudo labels before the CRF."""
    return class_weights(step).argmax(dim=2)


def prototype_pixels(step: Step) -> int:
    """Of how many pixels of the batch a prototype of psc is made."""
    height, width = step.levels.pseudo_VNHW.shape[-2:]
    return max(height * width // step.config.pixel_share, 1)


def prototypes(step: Step) -> Tensor:
    """(V, L, D): psc's prototypes of this step."""
    score_VLP = flatten_pixels(step.levels.score_VNLHW).transpose(1, 2)
    return pixel_prototypes(flatten_pixels(step.levels.feat_pixel_VNDHW), score_VLP, prototype_pixels(step))


def pixel_logits(step: Step, view: int, rows_LD: Tensor) -> Tensor:
    """(N, L, H, W): the cosine of each pixel feature of a view with `rows_LD`, by the temperature."""
    feat_NDHW = F.normalize(step.levels.feat_pixel_VNDHW[view], dim=1)
    return torch.einsum("ndhw,ld->nlhw", feat_NDHW, rows_LD) / step.config.temperature


def pixel_losses(step: Step) -> dict[str, list[Tensor]]:
    """The parts of psc before their mean over the pixels: for each kind of supervision the two views' (N, H, W)."""
    own, bank, pseudo = prototypes(step), step.banks["pixel_bank"], step.levels.pseudo_VNHW
    # (rows, view of the pseudo label) for views 1 and 2
    kinds = {
        "own prototypes, own label": [(own[0], 0), (own[1], 1)],
        "the other view's prototypes": [(own[1], 0), (own[0], 1)],
        "the other view's label": [(own[0], 1), (own[1], 0)],
        "the bank's prototypes": [(bank[0], 0), (bank[1], 1)],
    }
    return {
        kind: [
            F.cross_entropy(pixel_logits(step, view, rows), pseudo[label_view], reduction="none")
            for view, (rows, label_view) in enumerate(pair)
        ]
        for kind, pair in kinds.items()
    }
