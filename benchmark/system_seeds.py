"""The seeds of a run of `benchmark.systems`: of its own net, of another run's, or of the mean of other runs' CAMs."""

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from method import METHODS
from recipes import combined, common
from tool.recipe import Setup, Stage
from tool.seed_recipe import CRFRecipe

MEAN, AND = "mean_of_", "_and_"  # mean_of_eps_after_eps_and_hsc_after_eps
# What ends the name of a run that has other seeds of another run's net: maps that come to pixels along superpixels
# where its own are resized, and the reverse.
ALONG, RESIZED = "_along_superpixels", "_resized"
# What ends the name of a run that has the CAMs of another, or of a mean, and CRF seeds at another exponent of the score
# of background: eps_alpha_4.
ALPHA = "_alpha_"
_ALPHA = re.compile(rf"(.+){ALPHA}(\d+(?:\.\d+)?)")
# As such runs, too: maps of CRT's other branch, and MSA's that are not spread, which without IPC changes no training.
NET_OF = {"crt_cnn": "crt", "msa_image_dcr": "msa_image_ap"}
OF_MERGE = {"infer_list", "crf_workers", "crf_t", "crf_alpha"}  # of inference's flags, those that merge.py has


def parts_of(name: str) -> list[str]:
    """The runs whose CAMs' mean is the run `name`; none of one with a net of its own."""
    run, alpha = without_alpha(name)
    if run.startswith(MEAN):
        return run.removeprefix(MEAN).split(AND)
    return [] if alpha is None else [run]


def without_alpha(name: str) -> tuple[str, str | None]:
    """The run whose CAMs the run `name` has, and the exponent of its CRF seeds; None for the recipe's."""
    match = _ALPHA.fullmatch(name)
    return (name, None) if match is None else (match[1], match[2])


def crf_of(name: str) -> CRFRecipe:
    """The CRF of the run `name`: the first of its method, by which its name begins, or of a mean's first run's."""
    (run, *_), (_, alpha) = parts_of(name) or [name], without_alpha(name)
    method = max((method for method in METHODS if f"{run}_".startswith(f"{method}_")), key=len)
    crf = METHODS[method].seeds.crf[0]
    return crf if alpha is None else replace(crf, alpha=float(alpha))


def net_of(name: str) -> str:
    """The run whose net makes the seeds of `name`, which is no mean."""
    name = name.removesuffix(ALONG).removesuffix(RESIZED)
    return NET_OF.get(name, name)


def trainings_of(name: str) -> list[str]:
    """The runs whose nets make the seeds of `name`."""
    return list(dict.fromkeys(net_of(run) for run in parts_of(name) or [name]))


class Trained(NamedTuple):
    """A run: its training, what the stages after it are made for, and the runs that it is the mean of, whose training
    `train` is then none, and only says by what method's recipe seeds are made, and in what folder."""

    train: Stage
    setup: Setup
    parts: tuple["Trained", ...] = ()

    @property
    def folder(self) -> Path:
        return self.train.makes.parent

    def inference(self, name: str, *, crf: bool = True) -> list[Stage]:
        """The stages that make its CAMs and seeds, and with `crf` CRF seeds, of the list that flags have for the stage
        `name`, which is the last of them."""
        if not self.parts:
            return [common.inference(self.setup, self.train, name=name, ids="train_aug", crf=crf)]
        cams = []
        for part in self.parts:
            (infer,) = part.inference(name, crf=False)
            infer = combined.with_label_maps(infer, crf=False)  # whatever CRF the flags have for `name`
            cams.append(infer._replace(name=f"{name}_{part.folder.name}"))
        folders = [part.folder / "cam_npy" for part in self.parts]
        return [*cams, common.merging(self.setup, self.train, folders, name=name, ids="train_aug", crf=crf)]


def mean_of(folder: Path, setup: Setup, parts: tuple[Trained, ...]) -> Trained:
    """The run in `folder` that is the mean of `parts`; its seeds are made by the first one's recipe.

    setup: with flags for inference, of which merge.py takes those that it has.
    """
    changes = {
        (stage, flag): value
        for (stage, flag), value in setup.changes.items()
        if not stage.startswith("infer") or flag in OF_MERGE
    }
    _, alpha = without_alpha(folder.name)
    if alpha is not None:
        changes |= {(stage, "crf_alpha"): alpha for stage in ("infer", "infer_aug")}
    train = parts[0].train._replace(makes=folder / "mean.pth")
    return Trained(train, Setup(setup.out, setup.data_root, setup.saliency_root, changes=changes), parts)
