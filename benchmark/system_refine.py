"""The refinements of `benchmark.systems`: trained on a run's own CAMs of a list, and their label maps of another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.system_seeds import Trained
from method import METHODS
from recipes import common
from tool.recipe import Stage

Flags = dict[str, dict[str, Any]]  # of stages, by their names

LOW, HIGH = 4, 24  # the alphas of AffinityNet's labels
ITERATIONS = 10  # of their CRF
# Released but for the size, and for the rate that ImageNet weights with folded norms bear, as DeepLab's.
AFF_TRAIN = {
    "crop_size": 160,
    "batch_size": 8,
    "max_epoches": 8,
    "momentum": 0.9,
    "lr": 0.001,
    "clip_grad": 1,
    "save_every": 50,
}
# As many steps as AffinityNet's, at the released rate, which is that of a momentum of nothing. The backbone is frozen.
IRN_TRAIN = {
    "crop_size": 160,
    "batch_size": 8,
    "max_epoches": 8,
    "momentum": 0.9,
    "lr": 0.01,
    "clip_grad": 1,
    "save_every": 50,
}


class Refinement(NamedTuple):
    """A refinement's stages for a run, as recipes have them; the folder of its label maps in the run's; the file of
    their score."""

    stages: Callable[[Trained], list[Stage]]
    masks: str
    score: str


def affinity(run: Trained) -> list[Stage]:
    """CAMs and their CRF posteriors as SEAM makes them, by inference.py itself, since a CRF of the image's labels alone
    takes a quarter of the time of one of all; AffinityNet; its walk. A method whose CRF knows no alpha has its
    posteriors made of its CAMs, as PPC does."""
    if METHODS[run.train.flags["method"]].seeds.crf[0].threshold is not None:
        return [*run.inference("infer_irn", crf=False), *common.affinity(run.setup, run.train)]
    crf = run.folder / "crf"
    posteriors = (crf / f"crf_{ITERATIONS}_{LOW}", crf / f"crf_{ITERATIONS}_{HIGH}")
    return [*run.inference("infer_refine"), *common.affinity(run.setup, run.train, posteriors=posteriors)]


def irn(run: Trained) -> list[Stage]:
    """CAMs alone, whose sure labels have a CRF of their own; IRN on the run's backbone; its walk."""
    return [*run.inference("infer_irn", crf=False), *common.irn(run.setup, run.train)]


REFINEMENTS = {
    "affinity": Refinement(affinity, "out_rw", "walk.json"),
    "irn": Refinement(irn, "sem_seg", "irn.json"),
}


def changes_of(*, learnt: Path, walked: Path, net: dict[str, Any], weights: Path, num_workers: int) -> Flags:
    """The flags of the stages but for the scores: trained on the list `learnt` from `weights`; label maps of the list
    `walked`; net: the flags of all nets."""
    training = {"train_list": learnt, "weights": weights, "num_workers": num_workers, **net}
    return {
        "infer_refine": {
            "infer_list": learnt,
            "crf_t": ITERATIONS,
            "crf_alpha": [LOW, HIGH],
            "crf_workers": num_workers,
        },
        "aff_prepare": {"infer_list": learnt, "crf_workers": num_workers},
        "aff_train": {**training, **AFF_TRAIN},
        "aff_infer": {"infer_list": walked, "crf_workers": num_workers},
        "irn_labels": {"infer_list": learnt, "crf_workers": num_workers},
        "irn_train": {**training, **IRN_TRAIN},
        "irn_infer": {"infer_list": walked},
    }
