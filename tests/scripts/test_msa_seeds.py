"""MSA's seeds by command: `inference.py`, and the released evaluators, which sweep the thresholds too."""

import json

import numpy as np
import pytest
import torch

from network.msa import MSANet, msa_state_dict
from network.scn import SCN
from released.msa.evaluation import commands, put_together
from tests.scripts.conftest import ROOT, assert_refused, assert_succeeded, forker, run
from tests.scripts.test_help import parse
from tool.artifact import load_cam, load_label_map
from tool.cam import seed_labels
from tool.cli import UserError
from tool.metric import SWEEP
from tool.msa_cam import load_msa_cam
from voc12.classes import VOC12

EVALUATORS = {"msa_image": ("image", "IMG"), "msa_sal": ("sal", "SAL")}
NETS = ["--Cmodel_path", "net.pth", "--Qmodel_path", "scn.pth"]


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """A folder with both nets' files, the superpixels' as one GPU of several writes it, and a list of three images."""
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(0)
    net = MSANet("timm:test_resnet", num_classes=20).requires_grad_(False)
    net.classifier[0].weight.abs_()  # so that there is something in the maps
    torch.save(msa_state_dict(net), folder / "net.pth")
    torch.save({f"module.{name}": value for name, value in SCN().state_dict().items()}, folder / "scn.pth")
    (folder / "list.txt").write_text("\n".join(data.ids[:3]))
    return folder


@pytest.fixture(scope="module")
def evaluated(data, nets):
    """The folder of the files that the released evaluator makes."""
    words = [*NETS, "--infer_list", "list.txt", "--labels", data.labels, "--img_root", data.images]
    words += ["--gt_dir", data.root / "VOC2012" / "SegmentationClass", "--savepng", "True", "--savenpy", "true"]
    words += ["--beta", "2", "--gama", "0.9", "--refine_list", "1", "--curtime", "now"]
    words += ["--device", "cpu", "--backbone", "timm:test_resnet"]  # our own
    done = forker().run([ROOT / "released/msa/evaluator_cls_image.py", *words], nets)
    assert_succeeded(done)
    assert done.stdout.count("python inference.py ") == done.stdout.count("python eval.py ") == 1
    return nets / "experiments" / "predictions" / "evaluate_IMG" / "DCR_AP_IPC_Q_AP_2" / "now"


def test_the_released_evaluator_writes_its_files_and_ours(evaluated, data):
    for image_id in data.ids[:3]:
        cams = load_cam(evaluated / "cam_npy" / f"{image_id}.npy", VOC12)
        array = np.load(evaluated / "camnpy" / f"{image_id}.npy")
        assert array.shape[:2] == (1, 21) and array.dtype == np.float32 and array[0, 0].any()
        for index, cam in load_msa_cam(evaluated / "camnpy" / f"{image_id}.npy", VOC12).items():
            np.testing.assert_array_equal(cam, cams[index])
        for threshold in SWEEP:
            labels = load_label_map(evaluated / "pseudo" / f"{threshold:.2f}" / "1" / f"{image_id}.png", VOC12)
            np.testing.assert_array_equal(labels, seed_labels(cams, threshold=threshold, shape=labels.shape))


def test_masks_that_the_evaluator_lacks_are_named_before_it_infers(nets):
    done = forker().run([ROOT / "released/msa/evaluator_cls_image.py", *NETS, "--gt_dir", "nowhere"], nets)
    assert done.returncode == 2 and done.stderr.startswith("error: --gt_dir nowhere: expected a folder"), done.stderr


def test_result_txt_is_the_sweep_and_the_json_file_has_it_best_first(evaluated):
    rows = np.loadtxt(evaluated / "result.txt")
    assert rows.shape == (7, 3) and (rows[:, 1] == 1).all()
    np.testing.assert_allclose(rows[:, 2], SWEEP)
    best = json.loads((evaluated / "result.json").read_text())["best_first"]
    assert [row[1][0] for row in best] == [1] * 7
    assert [row[0] for row in best] == sorted((row[0] for row in best), reverse=True)
    np.testing.assert_allclose(sorted(rows[:, 0], reverse=True), [row[0] for row in best], atol=0.005)


def test_several_refine_lists_are_swept_and_the_best_is_that_of_all(evaluated, data, nets):
    words = [*NETS, "--infer_list", "list.txt", "--labels", data.labels, "--img_root", data.images, "--savepng"]
    words += ["--gt_dir", data.root / "VOC2012" / "SegmentationClass", "--beta", "2", "--gama", "0.9"]
    words += ["--refine_list", "0", "1", "--curtime", "both", "--device", "cpu", "--backbone", "timm:test_resnet"]
    done = forker().run([ROOT / "released/msa/evaluator_cls_image.py", *words], nets)
    assert_succeeded(done)
    folder = evaluated.with_name("both")
    rows = np.loadtxt(folder / "result.txt")
    assert rows[:, 1].tolist() == [0] * 7 + [1] * 7
    np.testing.assert_allclose(rows[7:], np.loadtxt(evaluated / "result.txt"))
    summary = json.loads((folder / "result.json").read_text())
    best = summary["best_first"]
    assert best == sorted(best, key=lambda row: -row[0]) and len(best) == 14 and summary["best_mIoU"] == best[0][0]
    np.testing.assert_allclose(best[0][0], rows[:, 0].max(), atol=0.005)
    assert f"best mIoU {best[0][0]:.2f}, --refine_list {best[0][1][0]}" in done.stdout
    assert {path.parent.name for path in (folder / "pseudo").glob("0.10/*/*.png")} == {"0", "1"}
    with pytest.raises(UserError, match="--refine_list 1 1: expected numbers of steps, 0 or more, each once"):
        commands("msa_image", "x", [*NETS, "--refine_list", "1", "1"])


def test_the_result_of_all_replaces_an_earlier_one_whole(tmp_path):
    folders = [tmp_path / f"refine_{steps}" for steps in (0, 1)]
    for folder, score in zip(folders, (40.0, 50.0), strict=True):
        folder.mkdir()
        (folder / "result.txt").write_text(f"{score}\n")
        (folder / "result.json").write_text(json.dumps({"best_first": [[score, [0, 0.1]]], "best_mIoU": score}))
    put_together(folders)
    (tmp_path / "earlier").hardlink_to(tmp_path / "result.txt")
    put_together(folders[1:])
    assert (tmp_path / "earlier").read_text() == "40.0\n50.0\n" and (tmp_path / "result.txt").read_text() == "50.0\n"


def test_the_arrays_score_as_our_dicts(evaluated, data, nets, tmp_path):
    common = {"--list": nets / "list.txt", "--gt_dir": data.root / "VOC2012" / "SegmentationClass", "--type": "npy"}
    common |= {"--curve": (), "--comment": "x", "--logfile": tmp_path / "log"}
    found = []
    for name in ("cam_npy", "camnpy"):
        flags = {**common, "--predict_dir": evaluated / name, "--json": tmp_path / f"{name}.json"}
        assert_succeeded(run("eval.py", flags))
        found.append(json.loads((tmp_path / f"{name}.json").read_text()))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--up": "False", "--refine_list": 0}, "up: True then, False now"),
        ({"--th": 0.5}, "cam_npy: th: 0.9 then, 0.5 now"),
        ({"--sane": "resize"}, "cam_npy: sane: [] then, ['resize'] now"),
    ],
)
def test_files_of_other_switches_are_not_mixed_with_them(evaluated, data, nets, changes, message):
    flags = {"--method": "msa_image", "--weights": nets / "net.pth", "--scn": nets / "scn.pth", "--crf_t": "none"}
    flags |= {**data.for_inference(), "--infer_list": nets / "list.txt", "--backbone": "timm:test_resnet"}
    flags |= {"--beta": 2, "--th": 0.9, "--refine_list": 1, "--device": "cpu", "--work_dir": evaluated}
    assert_refused(run("inference.py", {**flags, **changes}), message)


@pytest.mark.parametrize("method", EVALUATORS)
def test_the_released_defaults_reach_our_scripts(method, monkeypatch):
    maps, sweep = commands(method, f"evaluate_{EVALUATORS[method][1]}", NETS)
    args = vars(parse("inference.py", maps[1:], monkeypatch))
    expected = {"method": method, "beta": 8, "th": 0.6, "sp_cam": True, "refine_list": 0, "savenpy": None}
    expected |= {"scn": "scn.pth", "weights": "net.pth", "crf_t": ["none"], "infer_list": "voc12/train.txt"}
    assert {name: args[name] for name in expected} == expected
    assert args["img_root"].endswith("VOC2012/JPEGImages")
    args = vars(parse("eval.py", sweep[1:], monkeypatch))
    assert tuple(args["thresholds"]) == SWEEP and args["gt_dir"].endswith("VOC2012/SegmentationClassAug")


def test_the_data_set_is_followed(monkeypatch):
    maps, sweep = commands("msa_image", "x", [*NETS, "--dataset", "coco", "--domain", "val"])
    assert parse("inference.py", maps[1:], monkeypatch).data_set == "coco14"
    args = parse("eval.py", sweep[1:], monkeypatch)
    assert (args.data_set, args.list, args.gt_dir) == ("coco14", "coco14/val.txt", "../COCO")


def test_the_baseline_needs_no_superpixels_and_dcr_does(monkeypatch):
    maps, _ = commands("msa_image", "x", [*NETS, "--sp_cam", "FALSE"])
    assert "--scn" not in maps and "--refine_list" not in maps
    with pytest.raises(UserError, match="--Qmodel_path: expected the superpixel network's weights"):
        commands("msa_image", "x", NETS[:2])
