"""The whole objective of a training step of SEAM or PPC: the sum of a config's terms, all weights 1."""

import torch
from torch import Tensor, nn

from method.learner import Moment
from method.ppc.config import CONTRAST_TERMS, PPCConfig
from method.ppc.contrast import prototype_contrast, pseudo_labels
from method.terms.classification import classification_loss
from method.terms.consistency import consistency_losses
from method.terms.contrast import contrast_cam, on_grid
from method.terms.maps import View, resize
from method.terms.saliency import saliency_guidance
from network.hsc import HSCOutput
from network.seam import SEAMOutput
from tool.distributed import gather_images


class PPCCriterion(nn.Module):
    """The terms that `config` names, as a dict of scalars. Nothing of it outlives a step.

    `pseudo`: the pseudo labels of the last step, (2, N, h, w), of this process's images; None without contrast.
    """

    def __init__(self, config: PPCConfig) -> None:
        super().__init__()
        self.config = config
        self.pseudo: Tensor | None = None

    def forward(
        self, outputs: list[SEAMOutput] | list[HSCOutput], views: list[View], label: Tensor, moment: Moment
    ) -> dict[str, Tensor]:
        """
        Args:
            outputs: the net's, one a view. views: what they were computed from. label: (N, K). moment: whose draws
            hard pixels are taken by.

        Returns:
            A scalar for each of the config's terms, float32, in the order of `TERMS`.
        """
        config = self.config
        grids = [[output.cam for output in outputs], [output.cam_rv for output in outputs]]
        cam, cam_rv = grids
        if config.at_view_size:
            cam, cam_rv = (
                [resize(maps.float(), view.image.shape[-2:]) for maps, view in zip(kind, views, strict=True)]
                for kind in grids
            )
        for_cls = grids if config.classify_on_grid else (cam, cam_rv)
        logits = [maps.mean((2, 3)) for maps in for_cls[0]]
        losses = {"cls": classification_loss(logits, label, cam_rv=for_cls[1])}
        if "sal" in config.terms:
            losses["sal"] = saliency_guidance(
                (cam, cam_rv),
                [view.saliency for view in views],
                label,
                overlap=config.saliency.overlap,
                foreground_share=config.saliency.foreground_share,
            )
        losses["er"], losses["ecr"] = consistency_losses(
            *cam,
            *cam_rv,
            label,
            hardest_share=config.consistency.hardest_share,
            spared_channel=config.consistency.spared_channel,
        )
        if CONTRAST_TERMS & config.terms:
            losses |= self.contrast(grids[1], [output.feat_pixel for output in outputs], label, moment)
        return {name: loss for name, loss in losses.items() if name in config.terms}

    def contrast(
        self, cam_rv: list[Tensor], feat_pixel: list[Tensor], label: Tensor, moment: Moment
    ) -> dict[str, Tensor]:
        """cross, cross2 and intra on view 2's grid, with everything of view 1 resized to it.

        Args:
            cam_rv: a view's refined CAMs (N, K + 1, h, w), on the net's grid. feat_pixel: (N, 128, h, w).
        """
        config = self.config.contrast
        size = cam_rv[1].shape[-2:]
        cam = contrast_cam(
            on_grid(cam_rv, size), clamp=config.clamp_normalised_cam, background_score=config.background_score
        )
        self.pseudo = pseudo_labels(cam, label, background_first=self.config.background_first)
        # Prototypes are of the whole batch, so that each process needs the others' images, and the same draw.
        feat, cam, pseudo = (gather_images(each, dim=1) for each in (on_grid(feat_pixel, size), cam, self.pseudo))
        return prototype_contrast(
            feat, cam, pseudo, gather_images(label, dim=0), self.draw(pseudo, moment), config=config
        )

    def draw(self, pseudo: Tensor, moment: Moment) -> Tensor:
        """A random key for each pixel of each view (V, N, h, w), (V, P): the same in every process of a run."""
        return torch.rand(pseudo.flatten(1).shape, device=pseudo.device, generator=moment.generator(pseudo.device))
