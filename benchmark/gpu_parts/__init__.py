"""The parts of `benchmark.gpu`, a module each, in the order in which they run: first whether it is right."""

from typing import NamedTuple


class Part(NamedTuple):
    """A part: the module's name, the seconds that it may take on a GPU, whether its times count, and its title."""

    name: str
    limit: int
    timed: bool
    title: str


PARTS = {
    part.name: part
    for part in (
        Part("golden", 300, False, "Golden numbers"),
        Part("agree", 240, False, "GPU and CPU agree"),
        Part("precision", 300, False, "Half precision and compiled nets train alike"),
        Part("waits", 120, False, "No step waits for the GPU"),
        Part("resume", 150, False, "Stopped runs go on"),
        Part("chain", 240, False, "From nothing to a score"),
        Part("recipes", 300, False, "Every other stage runs"),
        Part("memory", 60, True, "Full memory"),
        Part("machine", 40, True, "The card"),
        Part("step", 200, True, "Training step: HSC, ResNet-38, batch 12, crop 448, second view 128"),
        Part("methods", 150, True, "Training steps of the other methods, as released"),
        Part("crf", 90, True, "Dense CRF: 500 x 375, 10 iterations"),
        Part("infer", 170, True, "Inference: photographs of 500 x 375, four scales and mirrors, CRF, files"),
        Part("segment", 120, True, "Segmentation: DeepLab v2 on ResNet-101"),
    )
}
