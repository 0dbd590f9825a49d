"""What the fault tests share: how much they do, where chance comes from, what they did, and undisturbed runs."""

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from coco14 import mini as coco_mini
from cub import mini as mini_cub
from tests.fault.commands import Forker, words_of
from tests.fault.of_dhr import features, rebalanced, rebalancing, uss_features  # noqa: F401, fixtures
from tests.scripts.conftest import TINY, WIDTH, Data, assert_same, load
from voc12 import mini

ROUNDS, SEED = 1, 0  # of `make test`, which tries the same each time
ANOTHER_SEED = time.time_ns() % 2**32
COUNTS = Counter()


def pytest_addoption(parser):
    group = parser.getgroup("fault", "tests that break things on purpose")
    group.addoption("--rounds", type=int, default=ROUNDS, help=f"faults of each kind to inject ({ROUNDS})")
    seed = f"of the moments and cases ({SEED}; with other --rounds than {ROUNDS} another each time)"
    group.addoption("--fault_seed", type=int, help=seed)


# A suite that starts above this folder does not know the options.


def rounds_of(config) -> int:
    return config.getoption("rounds", ROUNDS)


def seed_of(config) -> int:
    seed = config.getoption("fault_seed", None)
    if seed is not None:
        return seed
    return SEED if rounds_of(config) == ROUNDS else ANOTHER_SEED


def pytest_terminal_summary(terminalreporter, config):
    if COUNTS:  # not in the process that starts xdist's, which have them
        counts = ", ".join(f"{number} {what}" for what, number in sorted(COUNTS.items()))
        terminalreporter.write_line(f"faults: {counts}; --fault_seed {seed_of(config)}")


@pytest.fixture(scope="session")
def rounds(request) -> int:
    """How many faults of each kind to inject."""
    return rounds_of(request.config)


@pytest.fixture
def chance(request) -> random.Random:
    """Random moments and choices, of the session's seed and the test's name."""
    print(f"--fault_seed {seed_of(request.config)}")  # shown where the test fails
    return random.Random(f"{seed_of(request.config)} {request.node.nodeid}")


@pytest.fixture
def some(rounds, chance) -> Callable[[Sequence], list]:
    """So many of some cases as there are rounds, chosen by chance, or all of them."""
    return lambda cases: chance.sample(list(cases), min(rounds, len(cases)))


# -- commands and what they leave --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activity:
    """A command that writes into the folder it is started in, and what it leaves there undisturbed.

    again: what is added to go on with it. seconds: that it takes.
    """

    words: list[str]
    folder: Path
    seconds: float
    again: tuple[str, ...] = ()

    @property
    def files(self) -> set[str]:
        return set(files_in(self.folder))


def files_in(folder: Path) -> dict[str, Path]:
    """Every file below `folder` by relative path; events files by the beginning of their names."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    return {name.partition(".tfevents")[0]: path for name, path in found.items()}


def assert_whole(activity: Activity, folder: Path) -> None:
    """Nothing in `folder` is half written, but for temporary files: it is what the undisturbed run wrote, or a state
    that can be loaded."""
    for name, path in files_in(folder).items():
        if path.name.startswith(".") and path.name.endswith(".tmp"):
            continue
        if (
            path.suffix == ".ckpt" or "_epoch" in name or "model_best" in name or path.name == "last.pth"
        ):  # the best so far
            load(path)
        elif name.endswith("args.json"):  # has --resume
            json.loads(path.read_text())
        elif path.name == "evallog.txt":
            entries = [entry.partition("  ")[2] for entry in path.read_text().split("\n\n")]
            (whole,) = (entry.partition("  ")[2] for entry in (activity.folder / name).read_text().split("\n\n")[:-1])
            assert set(entries) <= {whole, ""} and entries[-1] == ""
        elif path.name != "log" and not name.endswith("events.out"):  # which have times
            assert path.read_bytes() == (activity.folder / name).read_bytes(), name


def assert_as_undisturbed(activity: Activity, folder: Path) -> None:
    """The same files with the same content, states equal in every bit, and no temporary files."""
    assert_whole(activity, folder)
    assert set(files_in(folder)) == activity.files
    for name, path in files_in(folder).items():
        if path.suffix == ".ckpt":
            assert_same(load(path), load(activity.folder / name))


@pytest.fixture(scope="session")
def can_mount() -> bool:
    """Whether a process here may mount folders where nobody else sees it."""
    mount = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="session")
def commands(can_mount, tmp_path_factory) -> Iterator[Forker]:
    forker = Forker(tmp_path_factory.mktemp("commands"), private=can_mount)
    yield forker
    forker.close()


@pytest.fixture(scope="session")
def data(commands, tmp_path_factory) -> Data:
    """Eight training images of about 56 pixels, with everything that comes with them."""
    root = tmp_path_factory.mktemp("data")
    voc_root = mini.generate(root, seed=3, train=8, train_aug=8, val=4, test=2, size=56)
    done = commands.run(["-m", "voc12.prepare", "--voc12_root", voc_root, "--out", root])
    assert done.returncode == 0, done.stderr
    return Data(root)


@pytest.fixture(scope="session")
def undisturbed(commands, tmp_path_factory) -> Callable[..., Activity]:
    """Runs a command from its beginning to its end."""

    def run(words: Sequence[object], again: tuple[str, ...] = ()) -> Activity:
        folder, start = tmp_path_factory.mktemp("undisturbed"), time.perf_counter()
        done = commands.run(words, folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return Activity(words, folder, time.perf_counter() - start, again)

    return run


STEPS = 8  # four epochs of eight images


@pytest.fixture(scope="session")
def training(undisturbed, data) -> Activity:
    flags = {"--work_dir": "exps", "--max_iters": STEPS, "--save_every": 3, "--log_every": 1}
    return undisturbed(words_of("train_voc.py", {**TINY, **data.for_training(), **flags}), again=("--resume",))


@pytest.fixture(scope="session")
def inference(undisturbed, training, data) -> Activity:
    flags = {"--width": WIDTH, "--device": "cpu", "--crf_workers": 1, "--work_dir": "exps"}
    weights = training.folder / "exps" / "hsc" / "hsc.pth"
    return undisturbed(words_of("inference.py", {**flags, **data.for_inference(), "--weights": weights}))


@pytest.fixture(scope="session")
def posteriors(undisturbed, inference, data) -> Activity:
    cams = inference.folder / "exps" / "cam_npy"
    flags = {"--cam_dir": cams, "--img_root": data.images, "--infer_list": data.train_list, "--out_crf": "exps/crf"}
    return undisturbed(words_of("refine/affinity/prepare.py", {**flags, "--device": "cpu", "--crf_workers": 1}))


@pytest.fixture(scope="session")
def merging(undisturbed, inference, data) -> Activity:
    cams = inference.folder / "exps" / "cam_npy"
    flags = {"--cam_dir": cams, "--img_root": data.images, "--infer_list": data.train_list, "--work_dir": "exps"}
    return undisturbed(words_of("merge.py", {**flags, "--device": "cpu", "--crf_workers": 1}))


@pytest.fixture(scope="session")
def affinity(undisturbed, posteriors, data) -> Activity:
    halves = {name: posteriors.folder / "exps" / "crf" / alpha for name, alpha in (("la", "4.00"), ("ha", "24.00"))}
    flags = {"--data_root": data.images, "--train_list": data.train_list, "--work_dir": "exps", "--weights": "none"}
    flags |= {f"--{name}_crf_dir": folder for name, folder in halves.items()}
    flags |= {"--width": WIDTH, "--from_scratch": (), "--crop_size": 64, "--batch_size": 4, "--max_epoches": 4}
    more = {"--device": "cpu", "--num_workers": 0, "--save_every": 3, "--log_every": 1}
    return undisturbed(words_of("refine/affinity/train.py", {**flags, **more}), again=("--resume",))


@pytest.fixture(scope="session")
def walk(undisturbed, affinity, inference, data) -> Activity:
    weights = affinity.folder / "exps" / "resnet38_aff" / "resnet38_aff.pth"
    flags = {"--cam_dir": inference.folder / "exps" / "cam_npy", "--img_root": data.images, "--crf": ()}
    flags |= {"--infer_list": data.train_list, "--weights": weights, "--width": WIDTH, "--out_rw": "exps/walk"}
    return undisturbed(words_of("refine/affinity/infer.py", {**flags, "--device": "cpu", "--crf_workers": 1}))


IRN = {"--backbone": "resnet38d", "--width": WIDTH, "--crop_size": 64, "--device": "cpu"}


@pytest.fixture(scope="session")
def ir_labels(undisturbed, inference, data) -> Activity:
    flags = {"--cam_dir": inference.folder / "exps" / "cam_npy", "--img_root": data.images, "--crf_workers": 1}
    flags |= {"--infer_list": data.train_list, "--ir_label_out_dir": "exps/ir_label", "--device": "cpu"}
    return undisturbed(words_of("refine/irn/labels.py", flags))


@pytest.fixture(scope="session")
def irn(undisturbed, ir_labels, data) -> Activity:
    flags = {"--data_root": data.images, "--train_list": data.train_list, "--infer_list": data.train_list}
    flags |= {"--ir_label_out_dir": ir_labels.folder / "exps" / "ir_label", "--weights": "none", "--displacement": ()}
    flags |= {"--batch_size": 4, "--max_epoches": 4, "--lr": 0.01, "--work_dir": "exps"}
    more = {"--num_workers": 0, "--save_every": 3, "--log_every": 1}
    return undisturbed(words_of("refine/irn/train.py", {**IRN, **flags, **more}), again=("--resume",))


@pytest.fixture(scope="session")
def irn_walk(undisturbed, irn, inference, data) -> Activity:
    flags = {"--cam_dir": inference.folder / "exps" / "cam_npy", "--img_root": data.images}
    flags |= {"--infer_list": data.train_list, "--weights": irn.folder / "exps" / "res50_irn" / "res50_irn.pth"}
    flags |= {"--sem_seg_out_dir": "exps/sem_seg", "--ins_seg_out_dir": "exps/ins_seg"}
    return undisturbed(words_of("refine/irn/infer.py", {**IRN, **flags}))


@pytest.fixture(scope="session")
def cub_root(tmp_path_factory) -> Path:
    """Four images to train on and two to test on."""
    return mini_cub.generate(tmp_path_factory.mktemp("cub"), seed=3, train=4, test=2, size=40)


@pytest.fixture(scope="session")
def localisation(undisturbed, cub_root) -> Activity:
    """Three epochs of a step each."""
    net = {"--transformer": "test_vit", "--transformer_weights": "none", "--backbone": "resnet18", "--weights": "none"}
    flags = {"--cub_root": cub_root, "--work_dir": "exps", "--batch_size": 4, "--max_epoches": 3, "--save_every": 1}
    more = {"--device": "cpu", "--num_workers": 0, "--log_every": 1}
    return undisturbed(words_of("localise/train.py", {**net, **flags, **more}), again=("--resume",))


@pytest.fixture(scope="session")
def localised(undisturbed, localisation, cub_root) -> Activity:
    weights = localisation.folder / "exps" / "crt_cub" / "model_epoch3.pth"
    flags = {"--cub_root": cub_root, "--transformer": "test_vit", "--weights": weights, "--out": "exps/tested"}
    return undisturbed(words_of("localise/test.py", {**flags, "--device": "cpu", "--num_workers": 0}))


@pytest.fixture(scope="session")
def superpixels(undisturbed, data) -> Activity:
    masks = data.root / "VOC2012" / "SegmentationClassAug"
    flags = {"--data_root": data.images, "--train_list": data.train_list, "--work_dir": "exps"}
    flags |= {"--gt_dir": masks, "--val_list": data.root / "val.txt", "--crop_size": 32, "--min_image_size": 32}
    flags |= {"--max_image_size": 48, "--batch_size": 4, "--max_epoches": 4, "--lr": 1e-3}
    more = {"--device": "cpu", "--num_workers": 0, "--save_every": 3, "--log_every": 1}
    return undisturbed(words_of("superpixel/train.py", {**flags, **more}), again=("--resume",))


@pytest.fixture(scope="session")
def superpixel_maps(undisturbed, superpixels, data) -> Activity:
    flags = {"--weights": superpixels.folder / "exps" / "scn" / "scn.pth", "--img_root": data.images}
    flags |= {"--infer_list": data.train_list, "--gt_dir": data.root / "VOC2012" / "SegmentationClassAug"}
    outputs = {"--out": "exps/superpixels", "--png": "exps/pictures", "--json": "exps/scores.json"}
    return undisturbed(words_of("superpixel/infer.py", {**flags, **outputs, "--device": "cpu"}))


@pytest.fixture(scope="session")
def evaluation(undisturbed, inference, data, tmp_path_factory) -> Activity:
    """Of every CAM dict under ten names, so that several processes read them."""
    folder = tmp_path_factory.mktemp("many")
    ids = [f"{image_id} {copy}" for image_id in data.ids for copy in range(10)]
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in ids))
    for name in ids:
        image_id = name.split()[0]
        (folder / f"{name}.npy").symlink_to(inference.folder / "exps" / "cam_npy" / f"{image_id}.npy")
        (folder / f"{name}.png").symlink_to(data.root / "VOC2012" / "SegmentationClassAug" / f"{image_id}.png")
    flags = {"--list": folder / "list.txt", "--predict_dir": folder, "--gt_dir": folder, "--num_workers": 2}
    more = {"--type": "npy", "--curve": (), "--comment": "a comment", "--json": "scores.json"}
    return undisturbed(words_of("eval.py", {**flags, **more}))


@pytest.fixture(scope="session")
def segmentation_keys(data) -> dict:
    root = data.root / "VOC2012"
    return {
        **{"DATA_ROOT": root, "DATA_LISTS": data.root, "DATA_PSEUDO_GT": root / "SegmentationClassAug", "GPUS": 0},
        **{"MODEL_BACKBONE": "resnet38d", "MODEL_BACKBONE_WIDTH": WIDTH, "MODEL_ASPP_OUTDIM": 8},
        **{"MODEL_BACKBONE_PRETRAIN": False, "EXP_NAME": "run", "EXP_ROOT": "exps"},
    }


def settings(*dicts: dict) -> dict:
    """The flag --set of the keys in `dicts`."""
    return {"--set": tuple(f"{key}={value}" for key, value in {k: v for d in dicts for k, v in d.items()}.items())}


@pytest.fixture(scope="session")
def segmentation(undisturbed, segmentation_keys) -> Activity:
    steps = {"TRAIN_ITERATION": STEPS, "TRAIN_SAVE_EVERY": 3, "TRAIN_BATCHES": 4, "DATA_RANDOMCROP": 33}
    flags = settings(segmentation_keys, steps, {"DATA_WORKERS": 0})
    return undisturbed(words_of("segmentation/experiment/train.py", flags), again=("--resume",))


@pytest.fixture(scope="session")
def prediction(undisturbed, segmentation, segmentation_keys) -> Activity:
    weights = segmentation.folder / "exps" / "run" / f"deeplabv2_resnet38d_VOCDataset_itr{STEPS}_all.pth"
    flags = settings(segmentation_keys, {"TEST_CKPT": weights, "TEST_MULTISCALE": [0.5, 1.0], "TEST_CRF_WORKERS": 1})
    return undisturbed(words_of("segmentation/experiment/test.py", flags))


@pytest.fixture(scope="session")
def submission(undisturbed, prediction, data) -> Activity:
    (results,) = prediction.folder.rglob("comp6_val_cls")
    places = ["--results", results, "--list", data.root / "val.txt", "--img_root", data.images]
    return undisturbed(["-m", "segmentation.submission", *places, "--out", "results.tgz"])


@pytest.fixture(scope="session")
def preparation(undisturbed, data) -> Activity:
    return undisturbed(["-m", "voc12.prepare", "--voc12_root", data.root / "VOC2012", "--out", "lists"])


@pytest.fixture(scope="session")
def coco(commands, tmp_path_factory) -> Path:
    """A few images in COCO's layout, with masks."""
    folder = tmp_path_factory.mktemp("coco")
    root = coco_mini.generate(folder, train=4, val=3, size=40)
    done = commands.run(["-m", "coco14.prepare", "--coco14_root", root, "--out", folder / "lists"])
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="session")
def coco_preparation(undisturbed, coco) -> Activity:
    return undisturbed(["-m", "coco14.prepare", "--coco14_root", coco, "--out", "lists", "--num_workers", 1])


@pytest.fixture(scope="session")
def coco_generation(undisturbed) -> Activity:
    return undisturbed(["-m", "coco14.mini", "--out", "mini", "--train", 3, "--val", 1, "--size", 32])


@pytest.fixture(scope="session")
def label_maps(undisturbed, inference, data) -> Activity:
    (posteriors,) = (inference.folder / "exps" / "crf").iterdir()
    flags = {"--crf_dir": posteriors, "--infer_list": data.train_list, "--out_dir": "maps"}
    return undisturbed(words_of("refine/label_maps.py", flags))


@pytest.fixture(scope="session")
def relabelling(undisturbed, data) -> Activity:
    masks = data.root / "VOC2012" / "SegmentationClassAug"
    return undisturbed(["-m", "voc12.relabel", "--masks", masks, "--out", "labels"])


@pytest.fixture(scope="session")
def generation(undisturbed) -> Activity:
    few = {"--train": 2, "--train_aug": 3, "--val": 1, "--test": 1, "--size": 32}
    words = [word for flag, number in few.items() for word in (flag, number)]
    return undisturbed(["-m", "voc12.mini", "--out", "mini", *words])
