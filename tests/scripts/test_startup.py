"""Help and the usual mistakes are answered before anything slow is imported: here torch and the like cannot be."""

import subprocess
import sys
from pathlib import Path

import pytest

from data.labels import load_labels, save_labels
from tests.forked import Forker
from tests.scripts.conftest import ROOT, Data, environment, words_of
from tests.scripts.test_help import SCRIPTS
from voc12.classes import VOC12

SLOW = ("torch", "torchvision", "tensorboard", "matplotlib")
BENCHMARKS = [
    f"benchmark.{name}"
    for name in (
        *("crf", "crt", "eval_curve", "gpu", "infer", "lists", "loader", "msa", "msa_seeds", "rebalance"),
        *("scale", "superpixel", "systems", "terms", "walk"),
    )
]
TRAIN, TEST = "segmentation/experiment/train.py", "segmentation/experiment/test.py"
# They look at their words more than once, so that a wrong one may meet what is slow to import; in `test_help.py` every
# script refuses it.
READ_TWICE = ("train_voc.py", "inference.py", "merge.py", "run.py", "demo.py", TRAIN, TEST)
NOBODY = "2007_999999"  # an id that has no files


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Runs commands where the import of each of `SLOW` fails."""
    folder = tmp_path_factory.mktemp("slow")
    for name in SLOW:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise ImportError('{name}, which is slow to import')\n")
    with Forker(["argparse", "numpy", "cv2", "PIL.Image", "tqdm"], env=environment(PYTHONPATH=str(folder))) as forker:
        yield lambda name, *words: forker.run([*called(name), *words], ROOT)


def called(name: str) -> list[str]:
    return [name] if name.endswith(".py") else ["-m", name]


def assert_refused(done, *expected: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("error: ") == 1, done.stderr
    assert all(words in done.stderr for words in expected), done.stderr


@pytest.mark.parametrize("name", [*SCRIPTS, *BENCHMARKS, "paper.figures"])
def test_help_is_answered(python, name):
    done = python(name, "--help")
    assert (done.returncode, done.stderr) == (0, "") and "--help" in done.stdout


@pytest.mark.parametrize("name", [*READ_TWICE, *BENCHMARKS, "paper.figures"])
def test_an_unknown_flag_is_answered(python, name):
    assert_refused(python(name, "--no_such_flag"))


@pytest.mark.parametrize("name", [name for name in SCRIPTS if not name.endswith(".py")])
def test_a_module_starts_as_a_file_too_from_any_folder(tmp_path, name):
    path = ROOT / name.replace(".", "/")
    path = path if path.is_dir() else path.with_suffix(".py")
    command = [sys.executable, str(path), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train_voc.py", ["--data_root", ".", "--work_dir", "{folder}", "--weights", "{folder}/net.pth"]),
        ("inference.py", ["--img_root", ".", "--work_dir", "{folder}", "--weights", "{folder}/net.pth"]),
        (TRAIN, ["--set", "EXP_NAME=startup", "MODEL_BACKBONE_WEIGHTS={folder}/net.pth"]),
        (TEST, ["--set", "EXP_NAME=startup", "TEST_CKPT={folder}/net.pth"]),
    ],
)
def test_what_is_no_weights_is_named(python, tmp_path, name, words):
    (tmp_path / "net.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    assert_refused(python(name, *(word.format(folder=tmp_path) for word in words)), "net.pth", "a pointer of Git LFS")


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("train_voc.py", ["--data_root", ".", "--method", "hcs"], "); did you mean hsc?"),
        ("train_voc.py", ["--data_root", ".", "--amp", "fp8"], "argument --amp: invalid choice: 'fp8'"),
        ("train_voc.py", [], "required: --data_root"),
        ("train_voc.py", ["--data_root", ".", "--network", "vgg"], "--network vgg: expected one of resnet38_hsc"),
        ("train_voc.py", ["--data_root", ".", "--lr", "-1"], "--lr -1.0: expected a number from 0"),
        (
            "inference.py",
            ["--weights", "w", "--img_root", ".", "--backbone", "vgg"],
            "--backbone: 'vgg': expected one of",
        ),
        ("inference.py", ["--img_root", "."], "required: --weights"),
        ("inference.py", ["--weights", "w", "--img_root", ".", "--scales", "9"], "--scales 9.0: expected factors"),
        ("eval.py", ["--type", "jpg"], "argument --type: invalid choice: 'jpg'"),
        ("eval.py", [], "required: --list, --predict_dir, --gt_dir, --comment"),
        ("demo.py", ["--methods", "hcs"], "argument --methods: invalid choice: 'hcs'"),
        ("refine/affinity/train.py", ["--sane", "paddin"], "); did you mean padding?"),
        ("superpixel/train.py", ["--data_root", ".", "--crop_size", "60"], "--crop_size 60: expected a multiple of 16"),
        ("superpixel/train.py", ["--sane", "oder"], "); did you mean order?"),
        ("superpixel/infer.py", ["--img_root", "."], "required: --weights"),
        ("rebalance/train.py", ["--data_root", "."], "required: --wss_masks, --weights"),
        ("refine/affinity/infer.py", ["--bg", "high"], "argument --bg: expected a score from 0 to 1, or none"),
        ("localise/train.py", ["--cub_root", "."], "required: --transformer_weights, --weights"),
        (
            "localise/test.py",
            ["--cub_root", ".", "--weights", "w", "--cam_thr", "2"],
            "--cam_thr 2.0: expected a number",
        ),
        ("localise/test.py", ["--cub_root", ".", "--weights", "nowhere"], "--weights nowhere: expected a file"),
        (TRAIN, ["--set", "TRAIN_LRR=1"], "--set TRAIN_LRR: unknown key; did you mean TRAIN_LR?"),
        (TRAIN, ["--set", "GPUS=many"], "--set GPUS: expected a whole number"),
        (TRAIN, ["--set", "TRAIN_BATCHES=1"], "TRAIN_BATCHES 1: expected at least two images, since"),
        (TEST, ["--set", "TEST_SPLIT=trian"], "--set TEST_SPLIT: expected text that is one of val, test, train"),
        ("segmentation.submission", ["--img_root", ".", "--results", "nowhere"], "--results nowhere: expected a fold"),
        ("voc12.prepare", ["--voc12_root", "nowhere"], "--voc12_root nowhere: expected a folder"),
        ("voc12.relabel", ["--masks", "nowhere", "--out", "nowhere"], "--masks nowhere: expected a folder"),
        ("voc12.mini", ["--out", "nowhere/mini", "--size", "7"], "--size 7: expected"),
        ("cub.prepare", ["--cub_root", "nowhere"], "--cub_root nowhere: expected a folder"),
        ("cub.mini", ["--out", "nowhere/mini", "--size", "7"], "--size 7: expected"),
        ("tool.report", ["--run", "nowhere", "--data_root", "."], "--run nowhere: expected a folder"),
        ("benchmark.systems", ["--voc12_root", "nowhere", "--weights", "w"], "--voc12_root"),
        ("benchmark.infer", ["--weights", "w"], "--weights: expected --data_root"),
    ],
)
def test_a_mistake_in_a_flag_is_named(python, name, words, expected):
    assert_refused(python(name, *words), expected)


@pytest.fixture(scope="module")
def files(data: Data, tmp_path_factory) -> dict[str, Path]:
    """Files of any content, which a mistake elsewhere keeps from being read; a list that has one id too many."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("weights.pth", "run/last.ckpt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\x80\x02")  # as files of torch.save begin
    (folder / "train.txt").write_text("\n".join([*data.ids, NOBODY]))
    (folder / "train_aug.txt").symlink_to("train.txt")
    labels = load_labels(data.labels, VOC12)
    save_labels(folder / "labels.npy", {**labels, NOBODY: labels[data.ids[0]]})
    return {name: folder / name for name in ("", "weights.pth", "train.txt", "labels.npy")}


def test_a_mistake_in_a_file_of_stage_1s_training_is_named(python, data, files):
    flags = {**data.for_training(), "--weights": files["weights.pth"], "--work_dir": files[""]}
    for change, expected in (
        ({"--data_root": "nowhere"}, "--data_root nowhere: expected a folder"),
        ({"--saliency_root": None}, "--saliency_root: --method hsc needs a folder"),
        ({"--train_list": "nowhere"}, "--train_list nowhere: expected a file"),
        ({"--train_list": files["train.txt"]}, f"{NOBODY}.jpg: no such file"),
        ({"--labels": "nowhere"}, "--labels nowhere: expected a file"),
        ({"--weights": "nowhere"}, "--weights nowhere: expected a file"),
        ({"--session": "run"}, "run/last.ckpt: this run exists; pass --resume"),
        ({"--batch_size": 100}, "--batch_size 100: "),
    ):
        assert_refused(python("train_voc.py", *words_of({**flags, **change})), expected)


def test_a_mistake_in_a_file_of_inference_is_named(python, data, files):
    flags = {**data.for_inference(), "--weights": files["weights.pth"], "--work_dir": files[""]}
    for change, expected in (
        ({"--img_root": "nowhere"}, "--img_root nowhere: expected a folder"),
        ({"--infer_list": "nowhere"}, "--infer_list nowhere: expected a file"),
        ({"--infer_list": files["train.txt"]}, f"{NOBODY}: no label"),
        ({"--infer_list": files["train.txt"], "--labels": files["labels.npy"]}, f"{NOBODY}.jpg: no such file"),
        ({"--labels": "nowhere"}, "--labels nowhere: expected a file"),
        ({"--weights": "nowhere"}, "--weights nowhere: expected a file"),
    ):
        assert_refused(python("inference.py", *words_of({**flags, **change})), expected)


def test_a_mistake_in_a_file_of_evaluation_is_named(python, data, files):
    masks = data.root / "VOC2012" / "SegmentationClassAug"
    flags = {"--list": data.train_list, "--predict_dir": masks, "--gt_dir": masks, "--comment": "none"}
    flags["--logfile"] = files[""] / "log"
    for change, expected in (
        ({"--list": "nowhere"}, "--list nowhere: expected a file"),
        ({"--list": files["train.txt"]}, f"{NOBODY}.png: nothing there"),
        ({"--predict_dir": "nowhere"}, "--predict_dir nowhere: expected a folder"),
    ):
        assert_refused(python("eval.py", *words_of({**flags, **change})), expected)


def test_a_mistake_in_a_file_of_stage_2_is_named(python, data, files):
    net, here = files["weights.pth"], files[""]
    common = {"--img_root": data.images, "--infer_list": data.train_list, "--cam_dir": here}
    training = {"--data_root": data.images, "--train_list": data.train_list, "--weights": net, "--work_dir": here}
    training |= {"--la_crf_dir": here, "--ha_crf_dir": data.root}
    prepare, train, infer = (f"refine/affinity/{name}.py" for name in ("prepare", "train", "infer"))
    labels, train_irn, infer_irn = (f"refine/irn/{name}.py" for name in ("labels", "train", "infer"))
    for_irn = {name: value for name, value in training.items() if not name.endswith("_crf_dir")}
    for_irn |= {"--ir_label_out_dir": here}
    for script, flags, expected in (
        (prepare, {**common, "--out_crf": here, "--cam_dir": "nowhere"}, "--cam_dir nowhere: expected a folder"),
        (prepare, {**common, "--out_crf": here}, f"CAM dicts of --infer_list {data.train_list} that are missing"),
        (prepare, {**common, "--out_crf": here, "--img_root": "nowhere"}, "--img_root nowhere: expected a folder"),
        (prepare, {**common, "--out_crf": here, "--infer_list": "nowhere"}, "--infer_list nowhere: expected a file"),
        (train, {**training, "--data_root": "nowhere"}, "--data_root nowhere: expected a folder"),
        (train, {**training, "--la_crf_dir": "nowhere"}, "--la_crf_dir nowhere: expected a folder"),
        (train, training, f"CRF posteriors of --train_list {data.train_list} that are missing"),
        (train, {**training, "--session": "run"}, "run/last.ckpt: this run exists; pass --resume"),
        (train, {**training, "--weights": "nowhere"}, "--weights nowhere: expected a file"),
        (infer, {**common, "--weights": "nowhere"}, "--weights nowhere: expected a file"),
        (labels, {**common, "--ir_label_out_dir": here / "new"}, "CAM dicts of --infer_list"),
        (train_irn, {**for_irn, "--batch_size": 1}, "images or label maps of the list that cannot be used"),
        (train_irn, {**for_irn, "--session": "run"}, "run/last.ckpt: this run exists; pass --resume"),
        (infer_irn, {**common, "--weights": net}, "--sem_seg_out_dir, --ins_seg_out_dir: expected one of them"),
        (infer_irn, {**common, "--weights": net, "--sem_seg_out_dir": here / "new"}, "CAM dicts of --infer_list"),
        (infer, {**common, "--weights": net}, f"CAM dicts of --infer_list {data.train_list} that are missing"),
    ):
        assert_refused(python(script, *words_of(flags)), expected)


def test_a_mistake_in_a_file_of_stage_3_is_named(python, data, files):
    voc = data.root / "VOC2012"
    keys = {
        **{"DATA_ROOT": voc, "DATA_LISTS": data.root, "DATA_PSEUDO_GT": voc / "SegmentationClassAug"},
        **{"EXP_ROOT": files[""], "EXP_NAME": "new", "TEST_CKPT": files["weights.pth"], "TEST_SPLIT": "train"},
    }
    for script, change, expected in (
        (TRAIN, {"DATA_ROOT": "nowhere"}, "nowhere/JPEGImages: expected a folder"),
        (TRAIN, {"DATA_LISTS": "nowhere"}, "nowhere/train_aug.txt: expected a file"),
        (TRAIN, {"DATA_LISTS": files[""]}, f"{NOBODY}.jpg: no such file"),
        (TRAIN, {"DATA_PSEUDO_GT": "nowhere"}, "nowhere: expected a folder"),
        (TRAIN, {"MODEL_BACKBONE_WEIGHTS": "nowhere"}, "nowhere: expected a file"),
        (TRAIN, {"EXP_NAME": "run"}, "run/last.ckpt: this run exists; pass --resume"),
        (TEST, {"DATA_ROOT": "nowhere"}, "nowhere/JPEGImages: expected a folder"),
        (TEST, {"DATA_LISTS": "nowhere"}, "nowhere/train.txt: expected a file"),
        (TEST, {"DATA_LISTS": files[""]}, f"{NOBODY}.jpg: no such file"),
        (TEST, {"TEST_CKPT": "nowhere"}, "nowhere: expected a file"),
    ):
        words = [f"{key}={value}" for key, value in {**keys, **change}.items()]
        assert_refused(python(script, "--set", *words), expected)


def test_processes_of_inference_and_test_import_torchvision_only_for_its_nets():
    code = """
import sys, method.inference, segmentation.inference
from network.build import build_network
from network.fold import fold_norms
fold_norms(build_network("resnet38_hsc", num_classes=20, width=0.0625).eval())
sys.exit(any(name in sys.modules for name in ("torchvision", "timm", "torch._dynamo")))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), timeout=120).returncode == 0
