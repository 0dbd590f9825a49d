"""The refinements of `benchmark.real`: trained on a run's own CAMs of a list, and their label maps of train.txt."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recipes import common
from tool.recipe import Setup, Stage
from tool.run_recipe import run_stages

LOW, HIGH = 4, 24  # the alphas of AffinityNet's labels
ITERATIONS = 10  # of their CRF
# Released but for the size, and for the rate that ImageNet weights with folded norms bear, as DeepLab's in `real`.
AFF_TRAIN = {
    **{"crop_size": 160, "batch_size": 8, "max_epoches": 8, "momentum": 0.9, "lr": 0.001, "clip_grad": 1},
    "save_every": 50,
}
# As many steps as AffinityNet's, at the released rate, which is that of a momentum of nothing. The backbone is frozen.
IRN_TRAIN = {
    **{"crop_size": 160, "batch_size": 8, "max_epoches": 8, "momentum": 0.9, "lr": 0.01, "clip_grad": 1},
    "save_every": 50,
}


class Refinement(NamedTuple):
    """A refinement's stages for a run, as recipes have them; the folder of its label maps in the run's; the file of
    their score."""

    stages: Callable[[Setup, Stage], list[Stage]]
    masks: str
    score: str


def affinity(setup: Setup, train: Stage) -> list[Stage]:
    """CAMs and their CRF posteriors as SEAM makes them, by inference.py itself, since a CRF of the image's labels alone
    takes a quarter of the time of one of all; AffinityNet; its walk."""
    crf = train.makes.parent / "crf"
    posteriors = (crf / f"crf_{ITERATIONS}_{LOW}", crf / f"crf_{ITERATIONS}_{HIGH}")
    infer = common.inference(setup, train, name="infer_refine", ids="train_aug")
    return [infer, *common.affinity(setup, train, posteriors=posteriors)]


def irn(setup: Setup, train: Stage) -> list[Stage]:
    """CAMs alone, whose sure labels have a CRF of their own; IRN on the run's backbone; its walk."""
    infer = common.inference(setup, train, name="infer_irn", ids="train_aug", crf=False)
    return [infer, *common.irn(setup, train)]


REFINEMENTS = {
    "affinity": Refinement(affinity, "out_rw", "walk.json"),
    "irn": Refinement(irn, "sem_seg", "irn.json"),
}


def changes_of(
    *, ids: Path, scored: Path, net: dict[str, Any], weights: Path, classes: Sequence[str], num_workers: int
) -> dict[str, dict[str, Any]]:
    """The flags of the stages, by name: trained on the list `ids` from `weights`, and scored on the list `scored`;
    net: the flags of all nets."""
    training = {"train_list": ids, "weights": weights, "num_workers": num_workers, **net}
    score = {"list": scored, "classes": classes, "num_workers": num_workers}
    return {
        "infer_refine": {"infer_list": ids, "crf_t": ITERATIONS, "crf_alpha": [LOW, HIGH], "crf_workers": num_workers},
        "aff_train": {**training, **AFF_TRAIN},
        "aff_infer": {"infer_list": scored, "crf_workers": num_workers},
        "eval_walk": score,
        "irn_labels": {"infer_list": ids, "crf_workers": num_workers},
        "irn_train": {**training, **IRN_TRAIN},
        "irn_infer": {"infer_list": scored},
        "eval_irn": score,
    }


def refine(kind: str, train: Stage, setup: Setup) -> None:
    """Train the refinement `kind` on the CAMs of the run that `train` trained, and score its label maps; what is done
    is left alone."""
    run_stages(REFINEMENTS[kind].stages(setup, train), train.makes.parent / f"refine_{kind}")
