"""A `~` that no shell has replaced, as after `--flag=`, is the home folder in every script; no folder has that name."""

from functools import partial

import pytest

from tests.scripts.conftest import ROOT, TINY, WIDTH, assert_refused, assert_succeeded, forker, run, words_of


@pytest.fixture
def home(data, undisturbed, tmp_path):
    """A home folder with the data, and a trained net, in it."""
    (tmp_path / "data").symlink_to(data.root)
    (tmp_path / "net").symlink_to(undisturbed)
    return tmp_path


def run_at(home, script, flags):
    """Run a script of a user whose home folder is `home`."""
    return forker().run([script, *words_of(flags)], ROOT, changes={"HOME": str(home)})


def in_home(data, flags):
    """Flags with the paths of the data from `~` on."""
    return {flag: str(path).replace(str(data.root), "~/data") for flag, path in flags.items()}


def test_stage_1_reads_and_writes_in_the_home_folder(data, home):
    run = partial(run_at, home)
    training = {**TINY, **in_home(data, data.for_training()), "--max_iters": 1, "--work_dir": "~/exps"}
    assert_succeeded(run("train_voc.py", training))
    assert (home / "exps" / "hsc" / "hsc.pth").exists()

    (home / "two.txt").write_text("\n".join(data.ids[:2]))
    inference = {
        **{**in_home(data, data.for_inference()), "--infer_list": "~/two.txt"},
        **{"--weights": "~/net/hsc.pth", "--width": WIDTH, "--device": "cpu", "--crf_t": "none", "--scales": 1},
        **{"--work_dir": "~/seeds", "--cam_npy": "~/cams"},
    }
    assert_succeeded(run("inference.py", inference))
    assert list((home / "cams").glob("*.npy")) and list((home / "seeds" / "cam_png").glob("*.png"))

    scores = {
        **{"--list": "~/two.txt", "--predict_dir": "~/seeds/cam_png", "--comment": "~"},
        **{"--gt_dir": "~/data/VOC2012/SegmentationClassAug", "--logfile": "~/log", "--json": "~/scores.json"},
    }
    assert_succeeded(run("eval.py", scores))
    assert "  ~\n" in (home / "log").read_text() and (home / "scores.json").exists()
    assert not (ROOT / "~").exists()


def test_stage_3_reads_and_writes_in_the_home_folder(home):
    settings = [
        *("EXP_ROOT=~/exps", "EXP_NAME=new", "DATA_ROOT=~/data/VOC2012", "DATA_LISTS=~/data"),
        *(
            "DATA_PSEUDO_GT=~/data/VOC2012/SegmentationClassAug",
            "MODEL_BACKBONE=resnet38d",
            "MODEL_BACKBONE_WIDTH=0.0625",
        ),
        *("MODEL_BACKBONE_WEIGHTS=~/net/hsc.pth", "DATA_RANDOMCROP=32", "TRAIN_BATCHES=4", "TRAIN_ITERATION=1"),
        *("DATA_WORKERS=0", "TRAIN_TBLOG=False"),
    ]
    assert_succeeded(run_at(home, "segmentation/experiment/train.py", {"--set": tuple(settings)}))
    assert list((home / "exps" / "new").glob("*_all.pth"))


def test_a_home_folder_that_is_not_there_is_named(data):
    done = run("train_voc.py", {**data.for_training(), "--work_dir": "~nobody_here/exps"})
    assert_refused(
        done,
        "--work_dir: ~nobody_here/exps: there is no home folder ~nobody_here; ./~nobody_here is a folder of that name",
    )
    done = run("segmentation/experiment/train.py", {"--set": "EXP_ROOT=~nobody_here"})
    assert_refused(done, "--set EXP_ROOT: ~nobody_here: there is no home folder ~nobody_here")
