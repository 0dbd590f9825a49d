"""run.py on MSA's recipes: which stages there are, and that each finds what those before it make."""

import shlex

import pytest

from tests.scripts.conftest import ROOT, forker

MSA_DATA = {"msa_image": "--voc12_root", "msa_sal_coco": "--coco14_root"}


@pytest.mark.parametrize("name", MSA_DATA)
@pytest.mark.parametrize("mini", [True, False])
def test_msas_recipes_go_from_superpixels_to_masks_at_the_best_threshold(name, mini, tmp_path):
    data = ["--mini"] if mini else [MSA_DATA[name], "data", "--saliency_root", "elsewhere"]
    done = forker().run(["run.py", name, *data, "--out", tmp_path / "out", "--list"], ROOT)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line, comments=True) for line in done.stdout.splitlines()]
    commands = [line for line in lines if line]
    place = "coco14" if name.endswith("coco") else "voc12"
    assert [line[2] if line[1] == "-m" else line[1] for line in commands] == [
        *([f"{place}.mini"] if mini else []),
        *[f"{place}.prepare", "superpixel/train.py", "train_voc.py", "inference.py", "eval.py", "eval.py"],
        *["inference.py", "segmentation/experiment/train.py", "segmentation/experiment/test.py", "tool.report"],
    ]
    superpixels, train, infer, sweep, crf, infer_aug, deeplab, _, _ = commands[-9:]
    folder = tmp_path / "out" / train[train.index("--method") + 1]

    def value(command, flag):
        return command[command.index(flag) + 1]

    assert [("--th" in command) for command in (train, infer, infer_aug)] == 3 * [mini]
    assert not mini or value(train, "--th") == value(infer, "--th") == value(infer_aug, "--th")
    assert value(train, "--scn") == value(infer, "--scn") == str(tmp_path / "out" / "scn" / "scn.pth")
    assert "--saliency_root" not in superpixels and ("--saliency_root" in train) == name.startswith("msa_sal")
    assert value(infer_aug, "--thr") == value(sweep, "--json") == str(folder / "curve.json")
    assert value(sweep, "--result") == str(folder / "result.txt") and "--curve" not in sweep
    assert value(crf, "--predict_dir") == str(folder / "crf" / "crf_10_thr0.25")
    assert f"DATA_PSEUDO_GT={value(infer_aug, '--cam_png')}" in deeplab
    assert ("DATA_SET=coco14" in deeplab) == (value(infer, "--data_set") == "coco14" if place == "coco14" else False)


def test_msas_baseline_has_no_superpixels_and_seeds_the_oddities_of_training(tmp_path):
    changes = ["--set", "train.sp_cam=False", "train.sane=statistics patch"]
    done = forker().run(["run.py", "msa_image", "--mini", *changes, "--out", tmp_path / "out", "--list"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "superpixel/train.py" not in done.stdout and "--scn" not in done.stdout
    of_net = [line for line in done.stdout.splitlines() if "train_voc.py" in line or "inference.py" in line]
    assert len(of_net) == 3
    assert all("--sp_cam False" in line and "--sane statistics patch" in line for line in of_net)
