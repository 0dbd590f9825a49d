"""What the tests of the scripts share: a small generated data set, and commands run as users run them."""

import functools
import hashlib
import os
import pickletools
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.forked import Forker
from tool.lists import read_ids
from voc12 import mini

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 2  # commands; each computes on one thread
# What the commands import, the scripts and what computes.
MODULES = (
    *(
        "train_voc",
        "inference",
        "merge",
        "eval",
        "voc12.prepare",
        "cub.prepare",
        "cub.mini",
        "coco14.prepare",
        "coco14.mini",
        "own.prepare",
    ),
    *("context.prepare", "ade.prepare", "stuff.prepare"),
    *("segmentation.experiment.train", "segmentation.experiment.test"),
    *("refine.affinity.prepare", "refine.affinity.train", "refine.affinity.infer"),
    *("refine.irn.labels", "refine.irn.train", "refine.irn.infer", "refine.irn.score_instances", "refine.label_maps"),
    *("method.training", "method.inference", "method.merging", "segmentation.training", "segmentation.inference"),
    *("localise.train", "localise.test", "localise.training", "localise.testing", "localise.outputs"),
    *("refine.affinity.training", "refine.affinity.inference", "refine.affinity.preparation"),
    *("refine.irn.labelling", "refine.irn.training", "refine.irn.inference"),
    *("rebalance.evaluate", "rebalance.masks", "rebalance.masking"),
    *("rebalance.features", "rebalance.featuring", "rebalance.layout"),
    *("rebalance.train", "rebalance.training"),
    *("superpixel.train", "superpixel.infer", "superpixel.training", "superpixel.inference"),
    # What these import late: an optimiser three seconds of torch.
    *("torch._dynamo", "torchvision", "timm", "matplotlib.figure", "matplotlib.backends.backend_agg"),
)
TIME_LIMIT = 600  # seconds for one command, after which it is taken to hang
# A net and images so small that a step takes a tenth of a second.
WIDTH = 0.0625
TINY = {
    "--width": WIDTH,
    "--crop_size": 64,
    "--view2_size": 32,
    "--resize_size": (48, 80),
    "--batch_size": 4,
    "--iter_size": 1,
    "--weights": "none",
    "--from_scratch": (),
    "--device": "cpu",
    "--num_workers": 0,
}
STEPS = 16  # four epochs of the data below
STEPS_OF_RUN = {"--max_iters": STEPS, "--save_every": 2, "--log_every": 1}

Flags = Mapping[str, object]


@dataclass(frozen=True)
class Data:
    """A data set in VOC's layout in `root`/VOC2012, and the lists and labels made from it in `root`."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "VOC2012" / "JPEGImages"

    @property
    def saliency(self) -> Path:
        return self.root / "VOC2012" / "saliency"

    @property
    def train_list(self) -> Path:
        return self.root / "train_aug.txt"

    @property
    def labels(self) -> Path:
        return self.root / "cls_labels.npy"

    @property
    def ids(self) -> list[str]:
        return read_ids(self.train_list)

    def copy(self, root: Path) -> "Data":
        shutil.copytree(self.root, root)
        return Data(root)

    def for_training(self) -> Flags:
        return {
            "--data_root": self.images,
            "--saliency_root": self.saliency,
            "--train_list": self.train_list,
            "--labels": self.labels,
        }

    def for_inference(self) -> Flags:
        return {"--img_root": self.images, "--infer_list": self.train_list, "--labels": self.labels}


def words_of(flags: Flags) -> list[str]:
    """The words of flags; a flag's value may be a tuple of values, () for a bare flag, None for no flag."""
    found = []
    for flag, value in flags.items():
        if value is not None:
            found += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return found


def command(script: str, flags: Flags) -> list[str]:
    """The words of a command."""
    return [sys.executable, str(ROOT / script), *words_of(flags)]


def environment(threads: int = 1, **changes: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), **changes}


STARTING = threading.Lock()


@functools.cache
def the_forker() -> Forker:
    return Forker(MODULES, env=environment())


def forker() -> Forker:
    """What runs the tests' commands, one for all threads; it ends with the tests, which close its input."""
    with STARTING:
        return the_forker()


def run(script: str, flags: Flags, *, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run a script to its end; with an `env` of its own, in a process that imports all anew."""
    if env is None:
        return forker().run([script, *words_of(flags)], ROOT)
    return subprocess.run(
        command(script, flags),
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )


def run_until_killed(script: str, flags: Flags, *, kill_when: Callable[[], bool]) -> None:
    """Run a script and kill it, with all its processes and without warning, as soon as `kill_when` says so."""
    started = forker().start([script, *words_of(flags)], ROOT)
    try:
        deadline = time.monotonic() + TIME_LIMIT
        while not kill_when():
            assert not started.has_ended(), "the command ended before it was killed"
            assert time.monotonic() < deadline, "the command came to nothing"
            time.sleep(0.002)
    finally:
        started.kill()
        done = started.wait()
    assert done.returncode == -signal.SIGKILL


def run_by_two(*words: object, folder: Path = ROOT) -> list[subprocess.CompletedProcess]:
    """What became of `python words ...`, run in `folder` by two processes that find each other as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"TORCHELASTIC_RUN_ID": "tests", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    both = [forker().start(words, folder, changes={**group, "RANK": n, "LOCAL_RANK": n}) for n in ("0", "1")]
    return [started.wait() for started in both]


def run_all(jobs: Mapping[str, Callable[[], object]]) -> dict[str, object]:
    """The results of `jobs` by their names, two jobs at a time."""
    with ThreadPoolExecutor(AT_ONCE) as executor:
        futures = {name: executor.submit(job) for name, job in jobs.items()}
        return {name: future.result() for name, future in futures.items()}


def contents(folder: Path) -> dict[str, str]:
    """A digest of every file below `folder`, and an empty one of every folder, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def assert_succeeded(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def assert_refused(done: subprocess.CompletedProcess, *messages: str) -> None:
    """Exit code 2 and one clear message that holds all of `messages`."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    for message in messages:
        assert message in done.stderr


def load(path: Path) -> dict:
    """The state in a file that `torch.save` wrote."""
    return torch.load(path, map_location="cpu", weights_only=True)


def forget_setting(path: Path, name: str) -> None:
    """Make a checkpoint one of a run that is older than the flag `name`."""
    checkpoint = load(path)
    del checkpoint["settings"][name]
    torch.save(checkpoint, path)


def assert_keeps_its_start(script: str, flags: dict, path: Path, flag: str = "--weights") -> None:
    """A run goes on from its checkpoint `path`, but not if the file that it began from holds something else."""
    start = path.with_name("start.pth")
    start.write_bytes(b"trained anew")
    checkpoint = load(path)
    checkpoint["settings"] |= {flag: str(start), f"the weights of {flag} (sha256)": "0" * 64}
    torch.save(checkpoint, path)
    flags = {**flags, flag: start, "--resume": ()}
    assert_refused(run(script, flags), f"the weights of {flag} (sha256): 0000", "(1)")
    start.unlink()
    assert_succeeded(run(script, flags))


def assert_old_torch_reads(path: Path) -> None:
    """What the file calls is in every PyTorch that reads archives, 1.6 and later; it needs no NumPy either."""
    with zipfile.ZipFile(path) as archive:
        codes = list(pickletools.genops(archive.read(f"{archive.namelist()[0].split('/')[0]}/data.pkl")))
    assert ("PROTO", 2) in [(code.name, value) for code, value, _ in codes]
    called = {value for code, value, _ in codes if code.name in ("GLOBAL", "STACK_GLOBAL")}
    storages = {f"torch {kind}Storage" for kind in ("Float", "Long")}
    assert called <= {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", *storages}


def assert_same(actual: object, expected: object, where: str = "state") -> None:
    """Equal in structure and in every bit of every tensor and number."""
    assert type(actual) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype and torch.equal(actual, expected), where
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), where
        for key in expected:
            assert_same(actual[key], expected[key], f"{where}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), where
        for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert actual == expected, where


def truncate(path: Path, missing: int) -> None:
    """Cut the last `missing` bytes off a file."""
    path.write_bytes(path.read_bytes()[:-missing])


def corrupt_middle(path: Path) -> None:
    """Put a marker that no JPEG has amid the pixels; header and end stay."""
    content = path.read_bytes()
    middle = len(content) * 2 // 3
    path.write_bytes(content[:middle] + b"\xff\x02" + content[middle:])


class Case(NamedTuple):
    """A mistake: flags that differ, what the message must hold ({0}, {1} ... are the list's ids), and a deed before."""

    flags: Flags
    messages: Sequence[str]
    before: Callable[[Data, Path], None] = lambda data, folder: None


class Attempt(NamedTuple):
    """What a mistake led to."""

    done: subprocess.CompletedProcess
    messages: list[str]
    before: dict[str, str]  # what was in the working folder
    after: dict[str, str]


def attempt_all(
    script: str, common: Flags, cases: Mapping[str, Case], data: Data, paths_of: Callable[[Data], Flags], folder: Path
) -> dict[str, Attempt]:
    """Run `script` for every case, each in a folder of its own that holds a copy of `data` under that name."""
    jobs, befores = [], []
    for number, case in enumerate(cases.values()):
        cwd = folder / str(number)
        copy = data.copy(cwd / "data")
        paths = {flag: path.relative_to(cwd) for flag, path in paths_of(copy).items()}
        case.before(copy, cwd)
        befores.append(contents(cwd))
        jobs.append(({**common, **paths, "--work_dir": "exps", **case.flags}, cwd))
    with ThreadPoolExecutor(AT_ONCE) as executor:
        finished = list(executor.map(lambda job: forker().run([script, *words_of(job[0])], job[1]), jobs))
    return {
        name: Attempt(done, [message.format(*data.ids) for message in case.messages], before, contents(cwd))
        for (name, case), done, before, (_, cwd) in zip(cases.items(), finished, befores, jobs, strict=True)
    }


def assert_refused_untouched(attempt: Attempt) -> None:
    """The mistake is named, and nothing was written, created or run."""
    assert_refused(attempt.done, *attempt.messages)
    assert attempt.after == attempt.before


class Attack:
    """Unpickled without care, it writes a file `trace` into the working folder."""

    def __reduce__(self) -> tuple:
        return exec, ("open('trace', 'w').close()",)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Data:
    """Sixteen training images of about 56 pixels, with everything that comes with them."""
    root = tmp_path_factory.mktemp("data")
    voc_root = mini.generate(root, seed=3, train=8, train_aug=16, val=4, test=2, size=56)
    assert_succeeded(forker().run(["-m", "voc12.prepare", "--voc12_root", voc_root, "--out", root], ROOT))
    return Data(root)


@pytest.fixture(scope="session")
def undisturbed(data, tmp_path_factory) -> Path:
    """The folder of an HSC run that went from its beginning to its end, with two loader processes."""
    work_dir = tmp_path_factory.mktemp("undisturbed")
    flags = {**TINY, **data.for_training(), **STEPS_OF_RUN, "--work_dir": work_dir, "--num_workers": 2}
    assert_succeeded(run("train_voc.py", flags))
    return work_dir / "hsc"
