"""Every command of the README and of docs/ is run here on generated data, or says what it needs and is understood by
its script.

The pages' fenced blocks of bash and the commands within their sentences are read by bash itself. Those without a mark
such as (needs VOC) are run as they stand, in a copy of the code with a small data set in the pages' places; so are
the marked ones that train and infer nothing. All marked ones are started without their data, and must miss that and not
misunderstand a flag.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributed.run import get_args_parser

import demo
from coco14 import mini as coco_mini
from coco14.classes import COCO14
from cub import mini as mini_cub
from data.labels import load_labels
from network.build import build_network
from network.weights import released_state_dict
from segmentation.experiment.config import config_dict
from tests.forked import Forker
from tests.scripts.conftest import ROOT, assert_refused, assert_succeeded, environment
from tool.artifact import load_label_map, save_cam, save_crf, save_label_map
from tool.lists import read_ids
from voc12 import mini, prepare
from voc12.classes import VOC12

README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "add_a_method.md"  # tests/test_tutorial.py follows it, in a clone that has what it adds
PAGES = [README, *sorted({*(ROOT / "docs").glob("*.md")} - {TUTORIAL})]
STARTERS = ("python", "make", "torchrun", "pip", "srun")
# Whose help has flags that pages name and no other.
OF_METHODS = [("train_voc.py", "msa_image"), ("inference.py", "msa_image"), ("inference.py", "crt")]
TRAIN_OR_INFER = {
    *("run.py", "train_voc.py", "inference.py", "merge.py", "benchmark.systems", "benchmark.gpu"),
    *("refine/affinity/prepare.py", "refine/affinity/train.py", "refine/affinity/infer.py"),
    *("refine/irn/labels.py", "refine/irn/train.py", "refine/irn/infer.py"),
    *("superpixel/train.py", "superpixel/infer.py"),
    *("segmentation/experiment/train.py", "segmentation/experiment/test.py"),
    *("localise/train.py", "localise/test.py", "released/crt/run_sample.py"),
    *("rebalance/features.py", "rebalance/train.py", "rebalance/masks.py"),
}
# Run by other tests, which are to hold these words.
ELSEWHERE = {
    "python demo.py --quick": ("tests/scripts/test_demo.py", '"demo.py"', '"--quick"'),
    "python -m benchmark.gpu --out exps/gpu_on_cpu --device cpu --quick": (
        *("tests/benchmark/test_gpu.py", '"benchmark.gpu"', '"--quick"'),
    ),
}
OTHERS_VARIABLES = {
    "GOLDEN_DEVICE",
    "TMPDIR",
    "HSC_ENV",
    "PYTHON",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "NVIDIA_TF32_OVERRIDE",
}

# What bash makes of the commands: each is said, with its folder, and not run.
TRACER = """
set -eu
say() { printf '%s\\0' "${PWD#"$CLONE"}" "$@"; printf '\\36'; }
python() { say python "$@"; }; make() { say make "$@"; }; pip() { say pip "$@"; }
torchrun() { say torchrun "$@"; }; srun() { "$@"; }; sbatch() { eval "${@: -1}"; }; scontrol() { echo node0; }
SLURM_JOB_NODELIST='node[0-1]' SLURM_NNODES=2 SLURM_JOB_ID=1
"""


class Command(NamedTuple):
    """A command of a page."""

    words: tuple[str, ...]
    folder: str  # that it starts in, from the clone
    needs: str  # what its mark says, or nothing

    def _python(self) -> tuple[str, ...]:
        """The words that Python, or each process of torchrun, is given."""
        words = self.words[1:]
        return words if self.words[0] == "python" else words[next(n for n, word in enumerate(words) if ".py" in word) :]

    @property
    def script(self) -> tuple[str, ...]:
        """A file, from the clone, or ("-m", module)."""
        words = self._python()
        return words[:2] if words[0] in ("-m", "-c") else (str(Path(self.folder) / words[0]),)

    @property
    def arguments(self) -> tuple[str, ...]:
        return self._python()[len(self.script) :]

    def __str__(self) -> str:
        return " ".join(self.words)


class Page(NamedTuple):
    """What is written on it."""

    paragraphs: list[str]
    blocks: list[tuple[str, str, str]]  # language, content, the paragraph before


def read(page: Path) -> Page:
    paragraphs, blocks, lines = [], [], []
    fence = None
    for line in [*page.read_text().splitlines(), ""]:
        if line.startswith("```"):
            if fence is None:
                fence, lines = line[3:], []
            else:
                blocks.append((fence, "\n".join(lines) + "\n", paragraphs[-1]))
                fence, lines = None, []
        elif fence is not None:
            lines.append(line)
        elif line.strip():
            assert not line.startswith("    "), f"commands and output stand in fences, with bash or text: {line}"
            lines.append(line)
        elif lines:
            paragraphs.append(" ".join(lines) if not lines[0].startswith("|") else "\n".join(lines))
            lines = []
    assert fence is None and {language for language, *_ in blocks} <= {"bash", "text"}
    return Page(paragraphs, blocks)


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def understood_by_bash(script: str, paragraph: str) -> list[Command]:
    """The commands in `script`, their marks in `paragraph`. What bash does not know fails."""
    needs = re.search(r"\(needs ([^)]+)\)", paragraph)
    done = subprocess.run(
        ["bash", "-c", f"{TRACER}\n{script}"],
        cwd=ROOT,
        env={"CLONE": f"{ROOT}", "HOME": "/nowhere", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr, f"{script}: neither run nor marked: {done.stderr}"
    said = [record.split("\0")[:-1] for record in done.stdout.split("\36")[:-1]]
    return [Command(tuple(words), folder.lstrip("/"), needs[1] if needs else "") for folder, *words in said]


def commands_in(pages: list[Page]) -> list[Command]:
    """All, each once."""
    found = []
    for page in pages:
        for language, content, paragraph in page.blocks:
            if language == "bash":
                found += understood_by_bash(content, paragraph)
        for paragraph in page.paragraphs:
            for span in spans(paragraph):
                if span.split()[0] in STARTERS and " " in span:
                    found += understood_by_bash(span, paragraph)
    return list(dict.fromkeys(found))


TEXT = [read(page) for page in PAGES]
PARAGRAPHS = [paragraph for page in TEXT for paragraph in page.paragraphs]
COMMANDS = commands_in(TEXT)
PYTHON = [command for command in COMMANDS if command.words[0] in ("python", "torchrun")]
MENTIONED = [command for command in PYTHON if not command.arguments and not command.needs and command.words[1] != "-c"]
NEEDY = [command for command in PYTHON if command.needs]
TO_RUN = [
    command
    for command in PYTHON
    if command not in MENTIONED
    and str(command) not in ELSEWHERE
    and not (command.needs and TRAIN_OR_INFER & {*command.script})
    and "--check" not in command.arguments  # of all that VOC has
]
SCRIPTS = sorted({command.script for command in PYTHON if command.script[0] != "-c"})

# What all scripts import, so that a command costs nearly nothing where it is refused.
MODULES = (
    *("train_voc", "inference", "eval", "tensorboard", "torch.distributed.run"),
    *("method.training", "method.inference", "segmentation.training", "segmentation.inference"),
    *("refine.affinity.training", "refine.affinity.inference", "refine.affinity.preparation"),
    *("cub.prepare", "localise.train", "localise.test"),
    *("refine.irn.labelling", "refine.irn.training", "refine.irn.inference"),
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the code, without data, as `git clone` leaves it."""
    clone = tmp_path_factory.mktemp("clone") / "hsc"
    clone.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, clone)
    skipped = shutil.ignore_patterns("__pycache__", "*.txt", "*.npy", "*.params")
    packages = (
        *("tool", "voc12", "coco14", "context", "ade", "stuff", "cub", "own", "network", "method", "refine"),
        *("superpixel", "segmentation", "rebalance", "localise", "paper", "benchmark", "data", "recipes", "released"),
    )
    for package in packages:
        shutil.copytree(ROOT / package, clone / package, ignore=skipped)
    return clone


@pytest.fixture(scope="module")
def forker(clone):
    """What runs the commands on the clone's code."""
    with Forker(MODULES, env=environment(), root=clone) as forker:
        yield forker


@pytest.fixture(scope="module")
def answers(clone, forker) -> dict:
    """What every marked command answers without its data, and what every script answers to --help."""
    jobs = {command: ([*command.script, *command.arguments], clone / command.folder) for command in NEEDY}
    jobs |= {script: ([*script, "--help"], clone) for script in SCRIPTS}
    jobs |= {(script, method): ([script, "--method", method, "--help"], clone) for script, method in OF_METHODS}
    return {key: forker.run(words, folder, changes={"COLUMNS": "1000"}) for key, (words, folder) in jobs.items()}


@pytest.fixture(scope="module")
def furnished(clone, answers) -> Path:
    """The clone, no longer empty, with all that the README's commands read, in its places."""
    made = mini.generate(clone / "made", seed=3, train=6, train_aug=8, val=4, test=2, size=48)
    (clone / "VOC2012").symlink_to(made, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        patch.setattr(sys, "argv", ["prepare", "--voc12_root", "VOC2012"])
        prepare.main()
    (clone / "COCO").symlink_to(coco_mini.generate(clone / "made", seed=3, train=6, val=4, size=48))
    subprocess.run([sys.executable, "-m", "coco14.prepare", "--coco14_root", "COCO"], cwd=clone, check=True)
    lists = {name: read_ids(clone / "voc12" / f"{name}.txt") for name in ("train", "train_aug", "test")}
    labels = load_labels(clone / "voc12" / "cls_labels.npy", VOC12)

    exps = clone / "exps"
    quick = exps / "demo_quick"
    results = exps / "hsc_deeplab" / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    seeds, quick_seeds, coco_seeds = (exps / name / "crf" / "crf_8_7" for name in ("hsc", "demo_quick/hsc", "coco"))
    cams, made_masks = exps / "hsc" / "cam_npy", (exps / "hsc" / "out_rw", exps / "dhr" / "masks")
    for folder in (cams, *made_masks, seeds, quick_seeds, coco_seeds, results, quick / "data"):
        folder.mkdir(parents=True)
    (exps / "hsc" / "hsc.pth").write_bytes(b"weights")
    for folder in (exps / "eps" / "cam_npy", exps / "msa_image" / "cam_npy", clone / "MYCAMS"):
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(cams)
    (exps / "mycams" / "crf").mkdir(parents=True)
    (exps / "mycams" / "crf" / "crf_8_4").symlink_to(seeds)
    for name in ("eps", "hsc"):
        (exps / name / "log").write_text("2026-01-01 00:00:00 step 20/40 cls 0.1000 total 0.2000\n")
    made_with = {"weights_sha256": hashlib.sha256(b"weights").hexdigest()}
    for folder in (cams, seeds):
        (folder / "settings.json").write_text(json.dumps(made_with))
    for image_id in lists["train_aug"]:
        mask = load_label_map(made / "SegmentationClassAug" / f"{image_id}.png", VOC12)
        mask[mask == 255] = 0
        save_label_map(quick_seeds / f"{image_id}.png", mask, VOC12)
        if image_id in lists["train"]:
            classes = np.flatnonzero(labels[image_id]).tolist()
            save_cam(cams / f"{image_id}.npy", {c: np.float32(mask == c + 1) for c in classes}, VOC12)
            present = [0, *(c + 1 for c in classes)]
            save_crf(seeds / f"{image_id}.npy", {label: np.float32(mask == label) for label in present}, VOC12)
            for folder in (seeds, *made_masks):
                save_label_map(folder / f"{image_id}.png", mask, VOC12)
    for path in (clone / "COCO" / "SegmentationClass" / "train2014").glob("*.png"):
        save_label_map(coco_seeds / path.name, load_label_map(path, COCO14) % 255, COCO14)
    save_cam(clone / "old.npy", {0: np.zeros((2, 3), np.float32)}, VOC12)
    shutil.copytree(made / "SegmentationClass", clone / "MASKS")
    (clone / "CUB_200_2011").symlink_to(mini_cub.generate(clone / "made_cub", train=6, test=2, size=40))
    mine = clone / "MINE"
    shutil.copytree(made / "SegmentationClass", mine / "SegmentationClass")
    (mine / "set.json").write_text(json.dumps({"names": VOC12.label_names}))
    shutil.copytree(clone / "voc12", clone / "exps" / "mine" / "data", ignore=shutil.ignore_patterns("*.py"))
    for image_id in lists["test"]:
        width, height = Image.open(made / "JPEGImages" / f"{image_id}.jpg").size
        save_label_map(results / f"{image_id}.png", np.zeros((height, width), np.uint8), VOC12)

    (quick / "data" / "VOC2012").symlink_to(made, target_is_directory=True)
    shutil.copy(clone / "voc12" / "train_aug.txt", quick / "data")
    torch.save(
        released_state_dict(build_network("resnet38_hsc", num_classes=20, width=0.125)), quick / "hsc" / "hsc.pth"
    )
    return clone


def test_bash_reads_commands_of_every_kind():
    assert len(COMMANDS) > 20
    assert {command.words[0] for command in COMMANDS} == {"python", "make", "torchrun", "pip"}
    assert len(NEEDY) > 10 and len(TO_RUN) > 5 and len(MENTIONED) > 5


@pytest.mark.parametrize("command", TO_RUN, ids=str)
def test_a_command_runs_as_it_stands(command, furnished, forker):
    assert command.words[0] == "python"
    assert_succeeded(forker.run([*command.script, *command.arguments], furnished / command.folder))


@pytest.mark.parametrize("command", NEEDY, ids=str)
def test_a_command_that_needs_data_misses_that_alone(command, answers):
    if "--check" in command.arguments:  # which says what is missing, and where users get it
        assert answers[command].returncode == 1 and "VOCtrainval_11-May-2012" in answers[command].stdout
        return
    assert_refused(answers[command])
    assert "usage:" not in answers[command].stderr
    folders = ("exps/", "voc12/", "coco14/", "network/", "weights/")
    places = (*folders, "VOC2012", "GPU", "MASKS", "MINE", "CUB_200_2011", "COCO")
    missing = [word for word in places if word in answers[command].stderr]
    assert missing, answers[command].stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "torchrun"], ids=str)
def test_torchrun_takes_its_flags(command):
    parsed = get_args_parser().parse_args(list(command.words[1:]))
    assert parsed.training_script == command.script[0]
    assert tuple(parsed.training_script_args) == command.arguments


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "make"], ids=str)
def test_make_has_the_target(command):
    done = subprocess.run(["make", "-n", *command.words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_installs_is_marked_and_there():
    commands = [command for command in COMMANDS if command.words[0] == "pip"]
    assert commands and all("installation" in command.needs for command in commands)
    for command in commands:
        assert "-r" not in command.words or (ROOT / command.words[-1]).is_file()


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_another_test_runs_is_run_there(command):
    assert command in map(str, COMMANDS)
    path, *words = ELSEWHERE[command]
    assert all(word in (ROOT / path).read_text() for word in words)


@pytest.mark.parametrize("command", MENTIONED, ids=str)
def test_a_script_has_the_flags_that_its_row_names(command, answers):
    done = answers[command.script]
    assert_succeeded(done)
    (row,) = (line for text in PARAGRAPHS for line in text.splitlines() if line.startswith(f"| `{command}`"))
    flags = [span for span in spans(row) if span.startswith("--")]
    assert flags
    for span in flags:
        flag, _, values = span.partition(" ")
        usage = re.search(rf"{re.escape(flag)}(?![\w-])(?: \{{([^}}]*)\}})?", done.stdout)
        assert usage, f"{command} has no {flag}"
        if values:
            assert set(values.strip("{}").split(",")) == set(usage[1].split(","))


def test_flags_and_settings_within_sentences_exist(answers):
    known = {flag for script in (*SCRIPTS, *OF_METHODS) for flag in re.findall(r"--\w+", answers[script].stdout)}
    named, keys = set(), set()
    for paragraph in PARAGRAPHS:
        for span in spans(paragraph):
            if span.startswith("--"):
                named |= set(re.findall(r"--\w+", span))
            elif match := re.fullmatch(r"([A-Z][A-Z_]+)(=\S+|_\*)?", span):
                keys.add(match[1])
    assert len(named) > 20 and len(keys) > 5
    assert named <= known | {"--help"}
    assert {key for key in keys if not any(name.startswith(key) for name in config_dict)} <= {*OTHERS_VARIABLES, "VOC"}


def test_the_table_of_results_is_as_the_demo_prints_it(capsys):
    (shown,) = (content for language, content, _ in TEXT[0].blocks if language == "text")
    rows = [line.split() for line in shown.splitlines() if re.match(r"(cls|eps|hsc) ", line)]
    results = {
        name: dict(
            zip(("steps", "seed", "threshold", "crf", "seconds"), [int(steps), *map(float, numbers)], strict=True)
        )
        for name, steps, *numbers, _ in rows
    }
    seeds, masks = (
        float(re.search(rf"trained on {name} +([\d.]+)", shown)[1]) for name in ("hsc.*?seeds", "the.*?masks")
    )
    demo.print_seeds(Path("exps/demo/data/VOC2012"), results)
    demo.print_segmentation(Path("exps/demo/data/VOC2012"), "hsc", {"seeds": seeds, "masks": masks})
    printed = [
        line for line in capsys.readouterr().out.splitlines() if line and not re.search("mIoU in per cent", line)
    ]
    *rest, share = (line for line in shown.splitlines() if line)
    *printed, printed_share = printed
    assert rest == printed
    # The demo has more digits of both scores than it prints.
    assert float(share.split()[-2]) == pytest.approx(float(printed_share.split()[-2]), abs=0.2)
    assert share.split()[:-2] == printed_share.split()[:-2]
