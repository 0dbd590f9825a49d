"""The whole objective of a training step: L = cls + sal + er + ecr + rsc + csc + psc, all weights 1."""

import torch
from torch import Tensor, nn

from data.normalisation import IMAGENET, Normalisation
from method.hsc.config import CONTRAST_TERMS, HSCConfig
from method.hsc.contrast import Contrast, class_contrast, pixel_contrast, region_contrast
from method.hsc.prototype import PrototypeBanks
from method.hsc.pseudo import pseudo_labels
from method.learner import FIRST, Moment
from method.terms.classification import classification_loss
from method.terms.consistency import consistency_losses
from method.terms.contrast import contrast_cam, on_grid
from method.terms.maps import View
from method.terms.saliency import saliency_guidance
from network.hsc import REGION_DIM, HSCOutput
from tool.distributed import gather_images


class HSCCriterion(nn.Module):
    """The terms that `config` names, as a dict of scalars; its banks move by one step whenever it is called.

    `num_classes`: K, of the data set. `region_channels`: those of the net's region features, 256 as released.
    `normalisation`: the net's.
    `pseudo`: the pseudo labels of the last step, (2, N, h, w) as `pseudo_labels` returns them, of this process's
    images; None for methods without contrast.
    """

    def __init__(
        self,
        config: HSCConfig,
        *,
        num_classes: int,
        region_channels: int = REGION_DIM,
        normalisation: Normalisation = IMAGENET,
    ) -> None:
        super().__init__()
        self.config = config
        self.normalisation = normalisation
        self.banks = PrototypeBanks(num_classes + 1, region_channels)
        self.pseudo: Tensor | None = None

    def forward(
        self, outputs: list[HSCOutput], views: list[View], label: Tensor, moment: Moment = FIRST
    ) -> dict[str, Tensor]:
        """
        Args:
            outputs: the net's, one a view. views: what they were computed from. label: (N, K). moment: of no account,
            since nothing is drawn.

        Returns:
            A scalar for each of the config's terms, float32, in the order of `TERMS`.
        """
        terms = self.config.terms
        cam_rv = [output.cam_rv for output in outputs] if self.config.refined else None
        losses = {"cls": classification_loss([output.logits for output in outputs], label, cam_rv=cam_rv)}
        if "sal" in terms:
            losses["sal"] = saliency_guidance(
                [[output.cam for output in outputs], *([cam_rv] if cam_rv else [])],
                [view.saliency for view in views],
                label,
                overlap=self.config.saliency.overlap,
                foreground_share=self.config.saliency.foreground_share,
            )
        if {"er", "ecr"} & terms:
            losses["er"], losses["ecr"] = consistency_losses(
                outputs[0].cam,
                outputs[1].cam,
                outputs[0].cam_rv,
                outputs[1].cam_rv,
                label,
                hardest_share=self.config.consistency.hardest_share,
                spared_channel=self.config.consistency.spared_channel,
            )
        if CONTRAST_TERMS & terms:
            losses |= self.contrast(
                [output.cam_rv for output in outputs],
                [output.feat_pixel for output in outputs],
                [output.feat_region for output in outputs],
                views[1].image,
                label,
            )
        return {name: loss for name, loss in losses.items() if name in terms}

    def contrast(
        self, cam_rv: list[Tensor], feat_pixel: list[Tensor], feat_region: list[Tensor], image: Tensor, label: Tensor
    ) -> dict[str, Tensor]:
        """rsc, csc and psc on view 2's grid, with everything of view 1 resized to it.

        Args:
            cam_rv: a view's refined CAMs (N, K + 1, h, w). feat_pixel: (N, 128, h, w). feat_region: (N, C, h, w).
            image: view 2 (N, 3, H, W), normalised, for the CRF. label: (N, K).
        """
        config = self.config.contrast
        size = cam_rv[1].shape[-2:]
        cam = contrast_cam(
            on_grid(cam_rv, size), clamp=config.clamp_normalised_cam, background_score=config.background_score
        )
        self.pseudo = self.pseudo_labels(cam, label, image)
        score = torch.cat([cam[:, :, :-1], 1 - cam[:, :, :-1].amax(2, keepdim=True)], dim=2)
        # Prototypes are of the whole batch, so that each process needs the others' images; only here, on view 2's grid.
        maps = (on_grid(feat_pixel, size), on_grid(feat_region, size), cam, score, self.pseudo)
        return self.contrast_terms(*(gather_images(each, dim=1) for each in maps), gather_images(label, dim=0))

    def pseudo_labels(self, cam: Tensor, label: Tensor, image: Tensor) -> Tensor:
        """Both views' pseudo labels; arguments and result are `method.hsc.pseudo.pseudo_labels`'."""
        return pseudo_labels(cam, label, image, normalisation=self.normalisation, crf_backend=self.config.crf_backend)

    def contrast_terms(
        self, feat_pixel: Tensor, feat_region: Tensor, cam: Tensor, score: Tensor, pseudo: Tensor, label: Tensor
    ) -> dict[str, Tensor]:
        """The three terms on stacked views (2, N, C, h, w); the banks move afterwards."""
        switches = {"bank": self.config.bank, "cross": self.config.cross, "config": self.config.contrast}
        banks = self.banks
        results: dict[str, Contrast] = {
            "rsc": region_contrast(feat_region, pseudo, banks.region_bank, background=label.shape[1], **switches),
            "csc": class_contrast(feat_region, cam, label, banks.class_bank, **switches),
            "psc": pixel_contrast(feat_pixel, score, pseudo, label, banks.pixel_bank, **switches),
        }
        loss = {name: result.loss for name, result in results.items()}
        banks.move(class_bank=results["csc"].bank, region_bank=results["rsc"].bank, pixel_bank=results["psc"].bank)
        return loss
