"""MSA at work: a frozen superpixel network says of each crop, and of each image, how its pixels belong together."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.images import load_rgb
from data.normalisation import IMAGENET
from method.learner import Batch, LabelledImages, Learner, Losses, Moment
from method.msa.config import MSAConfig
from method.msa.criterion import MSACriterion, rebuilt_target
from method.picture import picture
from method.superpixels import Superpixels
from network import PRETRAINED
from network.cells import whole_cells
from network.download import read_or_download
from network.msa import (
    COCO_STATISTICS,
    MSAClassifier,
    MSAOutput,
    load_msa,
    load_msa_state_dict,
    msa_state_dict,
)
from network.scn import SCN
from network.superpixel import to_whole_cells
from network.weights import LoadReport
from tool.artifact import load_label_map
from tool.cam import maps_of_pair, positive_by_maximum, turned_back
from tool.dataset import DataSet
from tool.device import autocast, copied_to
from tool.distributed import found_by_all
from tool.metric import iou, mean_average_precision, threshold_counts


class AssociatedOutput(NamedTuple):
    """What the net gives of a batch, and the pixels' association, None without superpixels."""

    output: MSAOutput
    association: Tensor | None


class MSALearner(Learner):
    """A classifier on each batch, beside it the superpixel network that it asks, if it is no baseline.

    scn: that network in training; in inference it is that of `superpixels`.
    """

    net: MSAClassifier
    has_background_map: ClassVar[bool] = True

    def __init__(
        self,
        net: MSAClassifier,
        config: MSAConfig,
        data_set: DataSet,
        *,
        amp: str = "off",
        compiled: bool = False,
        scn: SCN | None = None,
    ) -> None:
        super().__init__(net, MSACriterion(config), amp=amp, compiled=compiled, helper=scn)
        self.config, self.data_set = config, data_set

    # -- training ------------------------------------------------------------------------------------------------------

    def outputs(self, batch: Batch) -> AssociatedOutput:
        image = batch["image"]
        association = self._association(image)
        steps = self.config.steps if self.config.propagates else 0
        return AssociatedOutput(self.training_net(image, association, **self._propagation(steps)), association)

    def losses(self, outputs: AssociatedOutput, batch: Batch, moment: Moment) -> Losses:
        """The criterion's terms. `patches/kept` is watched: the share of patches that count."""
        output, label = outputs.output, batch["label"]
        saliency = batch["saliency"] if self.config.target == "saliency" else None
        target = rebuilt_target(batch["image"], saliency, outputs.association)
        terms, kept = self.criterion(output, target, label)

        def pictures() -> dict[str, Tensor]:
            cam = positive_by_maximum(output.logits[:1, 1:].detach())[0]
            seen = (batch["image"][0], cam, label[0], self.data_set)
            first = None if saliency is None else saliency[0]
            return picture(*seen, normalisation=self.net.normalisation, saliency=first, pseudo=None)

        return Losses(terms, watched={"patches/kept": kept}, pictures=pictures)

    @torch.no_grad()
    def _association(self, image: Tensor) -> Tensor | None:
        """Of normalised images, (N, 3, H, W), H and W multiples of 16: float32 (N, 9, H, W); None where the baseline is
        without a superpixel network.

        **Q** As released the superpixel network, too, sees them by the statistics of COCO's images.
        """
        scn = self.helper if self.superpixels is None else self.superpixels.net
        if scn is None:
            return None
        statistics = IMAGENET if self.config.imagenet_statistics else COCO_STATISTICS
        return scn(statistics.of_others(image, self.net.normalisation))

    def _propagation(self, steps: int) -> dict[str, float]:
        return {"steps": steps, "threshold": self.config.threshold}

    def groups(self, *, lr: float, weight_decay: float) -> list[dict]:
        """The backbone's weights and biases, and the others', which learn ten times as fast; biases twice as fast as
        weights, without decay."""
        kinds = [(of_layer, is_bias) for of_layer in (1, 10) for is_bias in (False, True)]
        return [
            {"params": params, "lr": of_layer * (1 + is_bias) * lr, "weight_decay": 0.0 if is_bias else weight_decay}
            for params, (of_layer, is_bias) in zip(self.net.parameters_by_name(), kinds, strict=True)
        ]

    # -- inference -----------------------------------------------------------------------------------------------------

    def maps(self, image: Image.Image, scale: float, classes: Tensor, device: torch.device) -> Tensor:
        """Raw: negative scores stay, as they are summed over scales. Along superpixels, at multiples of 16; (n, H / 16,
        W / 16) without them, and where the config says so. Background, too, is a class of theirs (`tool.cam`)."""
        whole = self.net.normalisation(image, device)[None]
        pair = torch.cat([whole, whole.flip(-1)])
        return turned_back(maps_of_pair(lambda views: self._maps_of(views, scale, classes), pair))

    def _maps_of(self, whole: Tensor, scale: float, classes: Tensor) -> Tensor:
        """The raw maps of classes, (N, n, h, w), at a scale of `whole`, (N, 3, H, W), normalised."""
        output, association = self._pass(whole, scale)
        maps = output.logits.index_select(1, classes + 1)
        if association is None or not self.config.along:
            return maps
        return (self.superpixels or Superpixels(self.helper)).along(maps, association)

    def _pass(self, whole: Tensor, scale: float) -> AssociatedOutput:
        """Of an image at a scale.

        **Q** As released the classifier sees the image resized by the scale and then to multiples of 16, the superpixel
        network the image resized to these at once.
        """
        sides = tuple(max(round(scale * side), 1) for side in whole.shape[2:])
        seen = to_whole_cells(F.interpolate(whole, sides, mode="bilinear", align_corners=False))
        of_scn = F.interpolate(whole, seen.shape[2:], mode="bilinear", align_corners=False)
        seen = of_scn if self.config.resized_once else seen
        with autocast(whole.device, self.amp):
            association = self._association(of_scn)
            return AssociatedOutput(self.net(seen, association, **self._propagation(self.config.steps)), association)

    @torch.inference_mode()
    def validate(self, images: LabelledImages, device: torch.device) -> dict[str, float]:
        """`mIoU`: of seeds at one scale, without mirror images, at their best background score, over all labels, those
        that occur nowhere at 0. Without masks the `mean_average_precision` of the images' labels."""
        self.eval()

        def read(image_id: str) -> tuple[Image.Image, np.ndarray | None]:
            mask = load_label_map(images.masks[image_id], self.data_set) if images.masks else None
            return load_rgb(images.paths[image_id]), mask

        def find(image_id: str, pixels_and_mask: tuple[Image.Image, np.ndarray | None]) -> np.ndarray:
            pixels, mask = pixels_and_mask
            image = self.net.normalisation(pixels, device)[None]
            if mask is not None:
                return self._counts_of(image, np.flatnonzero(images.labels[image_id]), mask)
            return self._pass(image, 1.0)[0].score[0, 1:].cpu().numpy()

        found = found_by_all(list(images.paths), find, read=read, what="score")
        if images.masks:
            return {"mIoU": float(iou(np.sum(found, axis=0)).mean(axis=-1).max())}
        truth = np.stack([images.labels[image_id] for image_id in images.paths])
        return {"mean_average_precision": mean_average_precision(np.stack(found), truth)}

    def _counts_of(self, image: Tensor, classes: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """How a normalised image's seeds, (1, 3, H, W), meet its mask at each background score: int64 (3, T, L)."""
        maps = self._maps_of(image, 1.0, copied_to(torch.from_numpy(classes), image.device))
        frame = whole_cells(image.shape[2:])  # the baseline's maps are smaller
        maps = positive_by_maximum(F.interpolate(maps, frame, mode="bilinear", align_corners=False))
        cams = F.interpolate(maps, image.shape[2:], mode="bilinear", align_corners=False)[0].cpu().numpy()
        return threshold_counts(
            dict(zip(classes.tolist(), cams, strict=True)),
            mask,
            thresholds=self.config.thresholds,
            num_labels=self.data_set.num_labels,
        )

    # -- weights -------------------------------------------------------------------------------------------------------

    def load(self, path: str | Path, *, background_last: bool = False) -> LoadReport:
        return load_msa(self.net, path)

    def load_first(self, flag: str, path: str, *, backbone: str, background_last: bool) -> LoadReport:
        if path != PRETRAINED:
            return self.load(path)
        source, state = read_or_download(backbone, path, f"--{flag}")
        return load_msa_state_dict(self.net, state, source=source)

    def released(self) -> dict[str, Mapping[str, Tensor]]:
        return {"": msa_state_dict(self.net)}
