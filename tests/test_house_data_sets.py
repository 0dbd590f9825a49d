"""No source but a data set's own folder knows how many classes VOC has, or what they are called."""

import re

import pytest

from tests.test_house import AROUND, DATA_SETS, ROOT, SOURCES
from voc12.classes import VOC12

ELSEWHERE = {
    str(path.relative_to(ROOT)): path.read_text().splitlines()
    for path in [*SOURCES, *AROUND]
    if path.relative_to(ROOT).parts[0] not in (*DATA_SETS, "tests")
}
COUNTS = re.compile(rf"(?<![\w.*-])({VOC12.num_classes}|{VOC12.num_labels})(?![\w.,])")
# By file, what stands beside a number that means something else.
OTHER_COUNTS = {
    "benchmark/gpu_parts/crf.py": ("20 times", ">= 20"),
    "benchmark/gpu_parts/machine.py": ("timeout=20",),
    "benchmark/gpu_parts/resume.py": ("20 steps", "else 20"),
    "benchmark/gpu_parts/segment.py": ("448, 20",),  # steps
    "benchmark/infer.py": ("--images 20",),
    "benchmark/loader.py": ("default=20",),  # --steps
    "demo.py": ("over 21 labels",),  # of generated data in VOC's classes
    "data/saliency.py": ("height // 20 + 1",),  # the rim of a map
    "method/arguments.py": ("--log_every",),
    "network/norm.py": ("20 of 93 ms",),
    "superpixel/validation.py": ("STEPS = 20",),  # of a walk
    "segmentation/engine.py": ("LOG_EVERY = 20",),
    "segmentation/experiment/config.py": ("head biases x 20",),  # of the rate
    "tool/cli.py": ("_BRIEF.maxlist", "3 min 20 s"),
    "tool/crf/__init__.py": ("21 labels take 38 MB",),  # as measured
    "tool/optim.py": ("(x 10), head biases (x 20)",),  # of the rate
    "tool/pickled.py": (">> 20",),
    "tool/places.py": ("SAMPLE = 20",),
}
# Not "train", a word of every second file.
NAMES = re.compile(rf"(?<!torch\.)\b({'|'.join(set(VOC12.classes) - {'train'})})\b")
OTHER_NAMES = {
    "benchmark/systems.py": ("--classes background bus car cat person train",),  # an example of VOC's
    "data/descriptions.py": ('"names": ["background", "cat", "dog"]',),  # an example of another set
    "eval.py": ("--classes cat dog",),  # an example of VOC's that --help shows
}


@pytest.mark.parametrize(("pattern", "known"), [(COUNTS, OTHER_COUNTS), (NAMES, OTHER_NAMES)], ids=["counts", "names"])
def test_vocs_number_of_classes_and_their_names_stand_in_its_folder_alone(pattern, known):
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, lines in ELSEWHERE.items()
        for number, line in enumerate(lines, start=1)
        if pattern.search(line) and not any(other in line for other in known.get(name, ()))
    ]
    assert not found, "\n".join(found)
