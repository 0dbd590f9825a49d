"""CRT's run_sample.py: its flags in the stages of our recipe, its passes in every spelling, and what a step lacks."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest

from data.labels import load_labels
from recipes import crt
from released.crt.run_sample import PATHS, STEPS, VALUES, run_words_of
from released.table import ROOT, copy_files
from run import read_changes
from tests.scripts.conftest import assert_refused, assert_succeeded, forker
from tests.scripts.test_help import SCRIPTS, parse
from tool.artifact import load_label_map, save_label_map
from tool.cli import UserError
from tool.irn_cam import quarter, save_irn_cam
from tool.lists import read_ids
from tool.recipe import Setup
from voc12.classes import VOC12

SCRIPT = "released/crt/run_sample.py"
OFF = {f"--{name}_pass": "False" for name in STEPS}


def words_of(flags):
    return [word for flag, value in flags.items() for word in (flag, *shlex.split(str(value)))]


def stages_of(words, folder):
    """The recipe's stages, by name, for a released command line."""
    words = run_words_of(["--out", str(folder), *words])
    changes = read_changes(words[words.index("--set") + 1 :])
    setup = Setup(folder, folder / "VOC2012", folder / "saliency", changes=changes)
    return {stage.name: stage for stage in crt.stages(setup)}


def value_of(stages, key, monkeypatch):
    """What the script of a stage makes of a flag, by STAGE.FLAG."""
    name, flag = key.split(".")
    stage = stages[name]
    words = [word for word in stage.words if word != "-m"]
    assert stage.script in SCRIPTS
    return vars(parse(stage.script, words[1:], monkeypatch))[flag]


def test_what_is_not_given_is_as_released(tmp_path, monkeypatch):
    stages = stages_of(["--make_ins_seg_pass", "True"], tmp_path)
    for name, row in VALUES.items():
        for key in row.ours if name != "num_workers" else ():
            value = value_of(stages, key, monkeypatch)
            assert (tuple(value) if isinstance(value, list) else value) == row.default, (name, key)
    assert stages["irn_infer"].flags["infer_list"] == str(tmp_path / "data" / "train.txt")
    assert not value_of(stages, "eval.curve", monkeypatch)


def test_each_flag_reaches_the_stages_that_it_is_of(tmp_path, monkeypatch):
    def other(name, default):
        if isinstance(default, tuple):
            return "(1.0, 0.5)", [1.0, 0.5]
        value = numbers[name] if name in numbers else default + 1 if default > 1 else default / 2
        return value, value

    numbers = {"cam_crop_size": 448, "irn_crop_size": 64, "num_workers": 3}
    changed = {name: other(name, row.default) for name, row in VALUES.items() if row.ours}
    stages = stages_of(words_of({f"--{name}": given for name, (given, _) in changed.items()}), tmp_path)
    for name, (_, expected) in changed.items():
        for key in VALUES[name].ours:
            assert value_of(stages, key, monkeypatch) == expected, (name, key)
    assert stages["irn_infer"].flags["crop_size"] == "512"  # whatever it was trained at


def test_folders_lists_and_weights_are_found_by_the_steps_that_read_them(tmp_path, monkeypatch):
    (tmp_path / "net.pth").touch()
    monkeypatch.chdir(tmp_path)
    given = {f"--{name}": f"'my {name}'" for name in PATHS if not name.endswith("weights_name")}
    given |= {"--train_list": "voc12/train_aug.txt", "--infer_list": "voc12/train_aug.txt", "--val_list": "mine.txt"}
    stages = stages_of(words_of({**given, "--eval_ins_seg_pass": "1", "--make_ins_seg_pass": "1"}), tmp_path / "out")
    cams, labels = tmp_path / "my cam_out_dir", tmp_path / "my ir_label_out_dir"
    for name in ("irn_labels", "irn_infer"):
        assert stages[name].flags["cam_dir"] == cams
    assert stages["eval"].flags["predict_dir"] == stages["infer_aug"].flags["cam_out_dir"] == str(cams)
    assert stages["irn_train"].flags["ir_label_out_dir"] == labels == stages["irn_labels"].makes
    assert stages["eval_irn"].flags["predict_dir"] == stages["deeplab"].flags["DATA_PSEUDO_GT"]
    assert stages["eval_irn"].flags["predict_dir"] == tmp_path / "my sem_seg_out_dir"
    assert stages["eval_ins"].flags["predict_dir"] == str(tmp_path / "my ins_seg_out_dir")
    assert stages["train"].flags["val_list"] == str(tmp_path / "mine.txt")
    # As the release's own lists, which are not here, those that are prepared.
    assert stages["irn_infer"].flags["infer_list"] == str(tmp_path / "out" / "data" / "train_aug.txt")
    weights = {"--cam2_weights_name": "net.pth", "--irn_weights_name": "net.pth"}
    passes = {"--train_cam_pass": "0", "--train_irn_pass": "0"}
    stages = stages_of(words_of({**weights, **passes}), tmp_path / "out")
    assert [stages[name].flags["weights"] for name in ("infer_aug", "irn_infer")] == [str(tmp_path / "net.pth")] * 2


def test_weights_of_an_earlier_call_are_found_in_out_and_else_under_their_released_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--train_cam_pass", "False", "--train_irn_pass", "False"]
    for folder, names in {"sess": ("deits_cam.pth", "res50_irn.pth"), "out/crt": ("crt.pth", "irn/irn.pth")}.items():
        made = [tmp_path / folder / name for name in names]
        for path in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        stages = stages_of(words, tmp_path / "out")
        assert [stages[name].flags["weights"] for name in ("infer_aug", "irn_infer")] == [*map(str, made)]


@pytest.mark.parametrize(("kind", "stage"), [("sem_seg", "eval_irn"), ("ins_seg", "eval_ins")])
@pytest.mark.parametrize("named", [None, "mine"])
def test_what_an_earlier_call_made_is_scored_and_not_made_again(kind, stage, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / (named or f"out/crt/{kind}")
    folder.mkdir(parents=True)
    (folder / "a").touch()
    other = {"sem_seg": "ins_seg", "ins_seg": "sem_seg"}[kind]
    passes = {f"--make_{other}_pass": "1", f"--make_{kind}_pass": "0", f"--eval_{kind}_pass": "1"}
    stages = stages_of(words_of({**passes, **({f"--{kind}_out_dir": named} if named else {})}), tmp_path / "out")
    assert stages[stage].flags["predict_dir"] == str(folder)
    made = stages["irn_infer"].flags
    assert made[f"{kind}_out_dir"] is None and made[f"{other}_out_dir"] == str(tmp_path / "out" / "crt" / other)
    assert ("displacement" in stages["irn_train"].flags) == (other == "ins_seg")


def listed(done):
    """The stages whose commands are printed, and all that is printed."""
    assert_succeeded(done)
    return [line[2:] for line in done.stdout.splitlines() if line.startswith("# ")]


def test_it_runs_as_a_file_from_any_folder_and_lists_its_steps(tmp_path):
    words = [sys.executable, str(ROOT / SCRIPT), "--voc12_root", "VOC", "--list"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert listed(done) == [
        *("prepare", "train", "infer_aug", "eval", "irn_labels", "irn_train", "irn_infer", "eval_irn"),
    ]
    assert done.stdout.startswith("python run.py crt --voc12_root VOC --out exps/crt --list --stages prepare train ")
    assert f"--infer_list {tmp_path}/exps/crt/data/train.txt" in done.stdout and not [*tmp_path.iterdir()]


def test_passes_are_switched_in_every_spelling():
    on, off = ("True", "true", "1", "TRUE"), ("False", "false", "0", "FALSE")
    for yes, no in zip(on, off, strict=True):
        passes = {"--train_irn_pass": yes, "--eval_cam_pass": no, "--make_ins_seg_pass": yes, "--eval_ins_seg_pass": no}
        passes |= {"--make_sem_seg_pass": no, "--eval_sem_seg_pass": no}
        words = run_words_of(words_of(passes))
        stages = words[words.index("--stages") + 1 : words.index("--set")]
        assert stages == ["prepare", "train", "infer_aug", "irn_labels", "irn_train", "irn_infer"]
        assert {"irn_train.displacement=True", "irn_infer.sem_seg_out_dir="} <= set(words)
    words = run_words_of(["--mini", *words_of({"--make_ins_seg_pass": "1", "--eval_ins_seg_pass": "1"})])
    stages = words[words.index("--stages") + 1 : words.index("--set")]
    assert words[:2] == ["crt", "--mini"] and stages[0] == "data" and {"eval_irn", "eval_ins"} <= {*stages}


def only(*steps, **flags):
    return words_of({**OFF, **{f"--{step}_pass": "1" for step in steps}, **{f"--{n}": v for n, v in flags.items()}})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--train_cam_pass", "maybe"], "argument --train_cam_pass: expected True or False, got 'maybe'"),
        (["--irn_network", "net.other"], "--irn_network net.other: expected net.resnet50_irn"),
        (["--cam_learning_rate", "fast"], "stage train: train_voc.py: argument --lr: invalid float value: 'fast'"),
        (["--cam_crop_sise", "448"], "unrecognized arguments: --cam_crop_sise 448"),
        (["--cam1_weights_name", "empty"], "--cam1_weights_name empty: expected a file to write, found a folder"),
        (only(), "every pass is switched off; expected one of --train_cam_pass, "),
        (only("make_cam"), "--make_cam_pass: out/crt/crt.pth: expected trained branches, found none; --train_cam_pass"),
        (only("make_cam", cam2_weights_name="x.pth"), "--make_cam_pass: --cam2_weights_name x.pth: expected trained"),
        (only("eval_cam"), "--eval_cam_pass: out/crt/cam: expected CAM dicts, found none; --make_cam_pass True makes"),
        (only("cam_to_ir_label", cam_out_dir="empty"), "--cam_to_ir_label_pass: --cam_out_dir empty: expected CAM"),
        (only("train_irn"), "--train_irn_pass: out/crt/ir_label: expected label maps, found none; --cam_to_ir_label"),
        (only("make_cam", "make_sem_seg", "train_cam"), "--make_sem_seg_pass: out/crt/irn/irn.pth: expected a trained"),
        (only("eval_sem_seg"), "--eval_sem_seg_pass: out/crt/sem_seg: expected masks, found none; --make_sem_seg_pass"),
        (only("eval_ins_seg"), "--eval_ins_seg_pass: out/crt/ins_seg: expected instances, found none; --make_ins_seg"),
    ],
)  # fmt: skip
def test_a_mistake_and_a_step_without_its_input_are_named_in_a_line(words, expected, tmp_path):
    (tmp_path / "empty").mkdir()
    done = forker().run([ROOT / SCRIPT, "--voc12_root", "nowhere", "--out", "out", *words], tmp_path)
    assert_refused(done, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_name_that_is_written_is_not_read(tmp_path):
    """The recipe's own file is there as soon as it is trained; the copy is made at the end."""
    stages = stages_of(["--cam2_weights_name", "sess/deits_cam.pth", "--irn_weights_name", "sess/irn.pth"], tmp_path)
    assert stages["infer_aug"].flags["weights"] == stages["train"].makes == tmp_path / "crt" / "crt.pth"
    assert stages["irn_infer"].flags["weights"] == stages["irn_train"].makes


def test_trained_weights_and_the_log_get_the_released_names(tmp_path):
    name = ["--cam1_weights_name", tmp_path / "mine" / "cnn.pth", "--log_name", "mine/log"]
    words = [*only("train_cam"), *name, "--set", "train.max_iters=1", "data.train_aug=24", "data.train=8"]
    done = forker().run([ROOT / SCRIPT, "--mini", "--out", "out", *words], tmp_path)
    assert_succeeded(done)
    for name, made in (("mine/cnn.pth", "crt_cnn.pth"), ("out/sess/deits_cam.pth", "crt_transformer.pth")):
        assert (tmp_path / name).read_bytes() == (tmp_path / "out" / "crt" / made).read_bytes()
    logs = [(tmp_path / "out" / "logs" / f"{stage}.log").read_text() for stage in ("data", "prepare", "train")]
    assert (tmp_path / "mine" / "log.log").read_text() == "".join(logs)


def test_a_copy_that_cannot_be_made_leaves_what_was_there_alone(tmp_path):
    (tmp_path / "irn.pth").write_text("before")
    with pytest.raises(UserError, match=r"irn\.pth: cannot be written: No such file"):
        copy_files([tmp_path / "none"], tmp_path / "irn.pth")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("irn.pth", "before")]


def test_steps_on_files_of_the_release_score_them_and_make_labels(data, tmp_path):
    """Of folders that are named, at a threshold that is given; masks of 255, which counts as background."""
    cams, masks = tmp_path / "cams", data.root / "VOC2012" / "SegmentationClass"
    cams.mkdir()
    (tmp_path / "walked").mkdir()
    labels = load_labels(data.labels, VOC12)
    for image_id in data.ids:
        shape = load_label_map(data.root / "VOC2012" / "SegmentationClassAug" / f"{image_id}.png", VOC12).shape
        maps = [
            {int(index): np.full(size, 0.4, np.float32) for index in np.flatnonzero(labels[image_id])}
            for size in (quarter(shape), shape)
        ]
        save_irn_cam(cams / f"{image_id}.npy", *maps, VOC12)
        save_label_map(tmp_path / "walked" / f"{image_id}.png", np.full(shape, 255, np.uint8), VOC12)
    flags = {"cam_out_dir": "cams", "cam_eval_thres": 0.5, "ir_label_out_dir": "sure", "sem_seg_out_dir": "walked"}
    words = only("eval_cam", "cam_to_ir_label", "eval_sem_seg", **flags)
    root = ["--voc12_root", data.root / "VOC2012"]
    done = forker().run(
        [ROOT / SCRIPT, *root, *words, "--out", "out", "--set", "eval.num_workers=1", "eval_irn.num_workers=1"],
        tmp_path,
    )
    assert_succeeded(done)
    assert {path.stem for path in (tmp_path / "sure").glob("*.png")} == {*data.ids}
    truth = np.concatenate(
        [load_label_map(masks / f"{name}.png", VOC12).ravel() for name in read_ids(data.root / "train.txt")]
    )
    share = (truth == 0).sum() / (truth != 255).sum()  # all is below the threshold
    for name in ("curve", "irn"):
        found = json.loads((tmp_path / "out" / "crt" / f"{name}.json").read_text())
        assert found["background"] == pytest.approx(100 * share)
