"""A `~` that no shell has replaced is the home folder in released commands, too."""

import pytest

from released.crt.run_sample import run_words_of
from released.crt_cub.config import in_words
from released.dhr import evaluate, produce_wss_masks
from released.table import ROOT
from tests.scripts.conftest import assert_refused, forker


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def value_of(words, flag):
    return words[words.index(flag) + 1]


def test_dhrs_annotations_are_found_and_its_folders_meant(home):
    tags = home / "root" / "VOC2012" / "train_aug" / "xml"
    tags.mkdir(parents=True)
    words = produce_wss_masks.in_our_words(["--root=~/root"])
    assert value_of(words, "--xml_dir") == str(tags)
    words = evaluate.in_our_words(["--root=~/root", "--pred=~/masks", "--gt=~/truth", "--fix"])
    assert value_of(words, "--data_set") == str(home / "root" / "VOC2012" / "VOC2012.json")
    assert (value_of(words, "--pred_dir"), value_of(words, "--gt_dir")) == (f"{home}/masks", f"{home}/truth")


@pytest.mark.parametrize("flag", ["-c", "--config-path"])
def test_deeplabs_yaml_is_read(home, flag):
    (home / "deeplab.yaml").write_text("EXP: {ID: a}\n")
    done = forker().run(
        ["released/deeplab/main.py", "train", flag, "~/deeplab.yaml"], ROOT, changes={"HOME": str(home)}
    )
    assert_refused(done, f"-c {home / 'deeplab.yaml'}: entries to correct")


def test_the_yaml_of_localisation_is_read(home, capsys):
    (home / "cub.yaml").write_text("MODEL: {CAM_THR: 0.3}\n")
    assert in_words(["--config_file=~/cub.yaml"]) == ["--MODEL.CAM_THR", "0.3"]
    with pytest.raises(SystemExit) as ended:
        in_words(["--config_file=~nobody_here/cub.yaml"])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and "there is no home folder ~nobody_here" in line


def test_crts_data_and_the_list_below_it_lie_there(home, monkeypatch):
    monkeypatch.chdir(home)
    words = run_words_of(["--voc12_root=~/VOC2012", "--chainer_eval_set", "val"])
    assert value_of(words, "--voc12_root") == f"{home}/VOC2012"
    assert f"eval.list={home}/VOC2012/ImageSets/Segmentation/val.txt" in words
