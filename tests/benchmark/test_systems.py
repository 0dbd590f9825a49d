"""The bench of all systems: its command on a small data set, its table and page, and what it refuses."""

import argparse
import itertools
import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmark import systems
from benchmark.system_counts import CRF
from benchmark.system_figures import Estimate, Protocol, estimate, stacked
from benchmark.system_gains import what_changes_bring
from benchmark.system_page import write_page
from benchmark.system_segment import segmented
from benchmark.system_table import BEGIN, END, figure_of, write_table
from data.score import count_images, file_pairs
from data.score_table import summarise
from network.backbones import build_backbone
from tests.scripts.conftest import ROOT, forker
from tool.artifact import load_cam, save_cam, save_label_map
from tool.cli import UserError
from tool.lock import turn_in
from voc12.classes import VOC12

BACKBONE = "timm:test_resnet"  # of a sixth of the parameters of the benchmark's own
MEAN = "mean_of_eps_and_hsc_after_eps"
CRF_OF_HSC = "crf/crf_8_7"  # in its recipe


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images as VOC has them, lists beside, weights of a net that learnt nothing; val is train, of the same classes."""
    root = tmp_path_factory.mktemp("real")
    voc = root / "VOC2012"
    counts = ["--train", "8", "--train_aug", "8", "--val", "2", "--test", "1"]
    run("-m", "voc12.mini", "--out", root, "--size", "64", *counts)
    run("-m", "voc12.prepare", "--voc12_root", voc, "--saliency_root", voc / "saliency", "--out", root)
    shutil.copy(root / "train.txt", root / "val.txt")
    torch.manual_seed(0)
    torch.save(build_backbone(BACKBONE).state_dict(), root / "weights.pth")
    return voc


def run(*command: object) -> str:
    done = forker().run(command, ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask_for(monkeypatch: pytest.MonkeyPatch, voc: Path, *flags: object) -> None:
    """The command line of the data in `voc`, with `flags`."""
    classes = [] if "--classes" in flags else ["--classes", "background,car"]
    words = ["--voc12_root", voc, "--lists", voc.parent, "--labels", voc.parent / "cls_labels.npy", *classes, *flags]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["systems", "--weights", str(voc.parent / "weights.pth"), *map(str, words)])


def put_a_run(out: Path) -> None:
    """What is there of a run that has begun."""
    (out / "seed_9" / "cls").mkdir(parents=True)


def put_a_whole_run(protocol: Protocol, seed: int, name: str, *, wrong_rows: int) -> None:
    """A run of HSC's or EPS's whose CRF seeds are the masks but for the first rows, which are background."""
    folder = protocol.out / f"seed_{seed}" / name
    (folder / CRF_OF_HSC).mkdir(parents=True)
    (folder / "cam_npy").mkdir()
    (folder / "curve.json").touch()
    for image_id, mask in protocol.truth("train").items():
        labels = np.where(mask == 255, 0, mask)
        labels[:wrong_rows] = 0
        save_label_map(folder / CRF_OF_HSC / f"{image_id}.png", labels, VOC12)
        save_cam(folder / "cam_npy" / f"{image_id}.npy", {14: np.zeros(mask.shape, np.float32)}, VOC12)


def test_the_command_trains_infers_scores_and_writes_a_table_whose_figures_are_eval_s(voc, tmp_path):
    paper = tmp_path / "results.md"
    paper.write_text(f"before\n{BEGIN}\nearlier\n{END}\nafter\n")
    command = [
        *["-m", "benchmark.systems", "--voc12_root", voc, "--lists", voc.parent],
        *["--labels", voc.parent / "cls_labels.npy", "--weights", voc.parent / "weights.pth"],
        *["--backbone", BACKBONE, "--out", tmp_path / "out", "--runs", MEAN, "hsc_after_eps", "eps", "--seeds", "0"],
        *["--segment", f"{MEAN}+irn+dhr", "masks+deeplabv2"],
        *["--steps", "1", "--batch_size", "2", "--crop_size", "32", "--resize_size", "32", "48", "--view2_size", "16"],
        *["--scales", "0.5", "--segmentation_steps", "1"],
        *["--num_workers", "1", "--classes", "background", "bicycle", "car", "--table", paper],
    ]
    said = run(*command)
    assert said.count("$ python train_voc.py") == 2 and f"{MEAN}+irn+dhr, seed 0\n" in said
    for number, name in enumerate(("eps", "hsc_after_eps", MEAN), start=1):
        assert f"run {number} of 3: {name}, seed 0\n" in said
    assert "step 0 of 1, 8 images" in said, "what the commands say is seen"
    folder = tmp_path / "out" / "seed_0" / "eps"
    labels = [VOC12.label_names.index(name) for name in ("background", "bicycle", "car")]
    pairs = file_pairs(voc.parent / "train.txt", folder / "crf" / "crf_8_7", voc / "SegmentationClass", "png", VOC12)
    crf = summarise(count_images(pairs, "png", VOC12, num_workers=1)[0], VOC12, labels=labels)["mIoU"]
    curve = json.loads((folder / "curve.json").read_text())

    table = paper.read_text()
    assert table.startswith("before\n") and table.endswith("\nafter\n") and "earlier" not in table
    row = next(line for line in table.split("\n") if line.startswith("| eps "))
    assert f"{curve['best_mIoU']:.1f} [" in row and f"at {curve['best_threshold']:.2f}" in row and f"{crf:.1f} [" in row
    started = (tmp_path / "out" / "seed_0" / "hsc_after_eps" / "log").read_text().split("\n")[0]
    assert "eps/eps.pth: " in started and "tensors loaded" in started
    (row,) = (line for line in table.split("\n") if line.startswith("| hsc_after_eps "))
    assert row.split(" | ")[5] == "", "eps going on is not there to be measured against"
    mean = folder.with_name(MEAN)
    image_id = (voc.parent / "train.txt").read_text().split()[0]
    runs = (mean, folder, folder.with_name("hsc_after_eps"))
    found, *cams = (load_cam(run / "cam_npy" / f"{image_id}.npy", VOC12) for run in runs)
    for label, cam in found.items():
        np.testing.assert_allclose(cam, (cams[0][label] + cams[1][label]) / 2, atol=1e-6)
    segmentations = ((f"{MEAN}+irn+dhr", "rebalance/train.py"), ("masks+deeplabv2", "segmentation/experiment/train.py"))
    for name, stage in segmentations:
        assert f"| {name} | 0 | " in table
        (trained,) = (line for line in said.splitlines() if line.startswith(f"$ python {stage}"))
        learnt_from = mean / "sem_seg" if "irn" in name else voc / "SegmentationClass"
        assert f"{learnt_from} " in trained or trained.endswith(f"{learnt_from}")
        if "dhr" in name:  # whose features are any other run's too
            (features,) = (tmp_path / "out" / "features").iterdir()
            assert f" --uss_features {features} " in trained and len([*features.glob("*_*.pt")]) == 8
    for figure in (tmp_path / "out" / "figure.png", tmp_path / "results.png"):
        assert figure.read_bytes().startswith(b"\x89PNG")
    assert "(results.png)" in table
    said_again = run(*command)
    assert "$ python" not in said_again and said_again.endswith(
        f"3 runs are there: {tmp_path / 'out' / 'table.md'}, figure.png, systems.html\n"
    )
    assert paper.read_text() == table

    # IRN, which the segmentation asked for, is there but for its score.
    refine = [*command[: command.index("--runs")], "--runs", MEAN, "--refine", "irn"]
    refine += ["--refine_list", voc.parent / "train.txt", *command[command.index("--seeds") :]]
    del refine[refine.index("--segment") : refine.index("--steps")]
    said += run(*refine)
    assert said.count("python train_voc.py") == 2
    trained = next(line for line in said.splitlines() if line.startswith("$ python refine/irn/train.py"))
    assert f"--backbone {BACKBONE}" in trained and f"--weights {voc.parent / 'weights.pth'}" in trained
    pairs = file_pairs(voc.parent / "train.txt", mean / "sem_seg", voc / "SegmentationClass", "png", VOC12)
    walked = summarise(count_images(pairs, "png", VOC12, num_workers=1)[0], VOC12, labels=labels)["mIoU"]
    assert f"| {MEAN} | irn | 0 | {walked:.1f} [" in paper.read_text()
    assert "python refine/" not in run(*refine)
    other = tmp_path / "other.txt"
    other.write_text((voc.parent / "train.txt").read_text().split("\n", 1)[1])
    with pytest.raises(AssertionError, match=r"--refine_list \(sha256\): "):
        run(*[other if word == voc.parent / "train.txt" else word for word in refine])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--table", "missing.md"], "--table missing.md: expected a file"),
        (["--table", "README.md"], f"--table README.md: expected a line {BEGIN}"),
        (["--table", "paper/photographs.png"], "--table paper/photographs.png: expected Markdown in UTF-8"),
        (["--classes", "cat", "cat"], "--classes: expected each name once; found cat more than once"),
        (["--classes", "background", "boat"], "train.txt has boat; name those that masks have: background "),
        (["--scales", "0"], "--scales 0.0: expected factors above 0"),
        (["--runs", "cls", "hsc_after_eps"], "--runs hsc_after_eps: it starts from eps, which seed 0 has not in"),
        (["--runs", "eps", "--segment", "hsc+crf+dhr"], "--segment hsc+crf+dhr: seed 0 has no hsc in"),
        (["--segment", "masks+deeplabv2_from_classifier"], "from_classifier: expected the seeds of one net"),
        (["--segment_list", "missing.txt"], "missing.txt: expected a file"),
        (["--runs", "eps", "--amp", "fp16", "--segment", "eps+crf+deeplabv2"], "--amp fp16: DeepLab of --segment eps+"),
        (["--runs", "crt_cnn"], "--runs crt_cnn: seed 0 has no crt in"),
        (["--runs", "eps", "mean_of_eps_and_hsc"], "--runs mean_of_eps_and_hsc: seed 0 has no hsc in"),
        (["--runs", "msa_image_ap"], "--runs msa_image_ap: it asks a superpixel network"),
        (["--runs", "cls", "cls_along_superpixels"], "--runs cls_along_superpixels: it asks a superpixel network"),
        (["--out", "README.md/x"], "--out"),
        (["--classes", "unicorn"], "--classes: expected names among background"),
        (["--seeds", "-1"], "--seeds -1: expected whole numbers of at least 0"),
        (["--lists", "voc12"], "--lists"),
        (["--steps", "2"], "--steps: 1 then, 2 now"),
    ],
)
def test_a_mistake_is_named_before_the_first_run(voc, tmp_path, monkeypatch, capsys, flags, expected):
    (tmp_path / "recipe.json").write_text('{"--steps": 1}')
    put_a_run(tmp_path)
    ask_for(monkeypatch, voc, "--out", tmp_path, *flags)
    with pytest.raises(UserError, match=re.escape(expected)):
        systems.main()
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.json", "seed_9"}


def test_a_recipe_is_noted_anew_until_a_run_has_begun_with_it(voc, tmp_path, monkeypatch):
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("train_aug.txt", "train.txt"):
        shutil.copy(voc.parent / name, lists)
    ask_for(monkeypatch, voc, "--lists", lists, "--out", tmp_path)
    args = systems.parse_arguments()
    record = tmp_path / "recipe.json"
    record.write_text("[]")
    systems.check_recipe(args)
    noted = record.read_text()
    systems.check_recipe(args)
    assert record.read_text() == noted

    (lists / "train.txt").write_text((lists / "train.txt").read_text().split("\n", 1)[1])
    with pytest.raises(UserError, match=r"runs of another recipe.*\n  train\.txt \(sha256\): "):
        systems.check_recipe(args)
    record.write_text("[]")
    with pytest.raises(UserError, match=r"recipe\.json: expected what this benchmark writes"):
        systems.check_recipe(args)


def test_commands_that_share_a_folder_write_into_it_one_after_the_other(voc, tmp_path, monkeypatch):
    ask_for(monkeypatch, voc, "--out", tmp_path, "--steps", "2")
    (tmp_path / "recipe.json").write_text('{"--steps": 1}')
    put_a_run(tmp_path)
    protocol = Protocol(tmp_path, voc.parent, voc / "SegmentationClass", ("background",), "a recipe")
    with ThreadPoolExecutor(2) as pool:
        with turn_in(tmp_path):
            jobs = [pool.submit(systems.main), pool.submit(write_table, protocol, None)]
            assert not wait(jobs, timeout=1).done and not (tmp_path / "table.md").exists()
        with pytest.raises(UserError, match="--steps: 1 then, 2 now"):
            jobs[0].result()
        jobs[1].result()
    assert (tmp_path / "table.md").exists()


def test_a_damaged_record_is_named_and_folders_of_others_are_left_alone(voc, tmp_path):
    protocol = Protocol(tmp_path, voc.parent, voc / "SegmentationClass", ("background",), "a recipe")

    def put(name: str) -> None:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "curve.json").touch()

    for name in ("seed_old/hsc", "seed_0/mine", "seed_0/mean_of_hsc"):
        put(name)
    assert protocol.runs() == []
    put("seed_0/hsc")
    with pytest.raises(UserError, match=r"; remove .*seed_0/hsc/curve\.json, and this command makes it anew"):
        write_table(protocol, None)
    (tmp_path / "seed_0" / "hsc" / "stages.json").write_text("{")
    with pytest.raises(UserError, match=r"stages\.json: expected the record that run\.py writes"):
        protocol.runs()


def test_a_part_or_sane_value_brings_what_the_run_with_it_has_more_than_the_run_without(voc, tmp_path):
    protocol = Protocol(tmp_path, voc.parent, voc / "SegmentationClass", ("background", "car"), "a recipe")
    wrong_rows = {"hsc": 4, "hsc_after_eps": 2, "hsc_without_csc": 8, "hsc_without_csc_after_eps": 8, "eps": 30}
    wrong_rows |= {"hsc_sane_rsc_norm": 1, "hsc_sane_all_after_eps": 5}
    there = [(0, "hsc"), (0, "hsc_after_eps"), (0, "hsc_without_csc"), (0, "eps"), (1, "hsc_without_csc")]
    there += [(2, "hsc"), (2, "hsc_without_csc"), (0, "hsc_without_csc_after_eps"), (0, "hsc_sane_all_without_psc")]
    there += [(0, "hsc_sane_rsc_norm"), (1, "hsc_sane_rsc_norm"), (0, "hsc_sane_all_after_eps")]
    for seed, name in there:
        put_a_whole_run(protocol, seed, name, wrong_rows=wrong_rows.get(name, 1) + seed)
    by_name = {}
    for each in protocol.runs():
        by_name.setdefault(each.name, []).append(each)
    brought = what_changes_bring(protocol, by_name)
    # Of the start from eps by itself; nothing of a run without its whole, nor of what is no ablation.
    assert {key: seeds for key, (seeds, _) in brought.items()} == {
        ("hsc", "csc"): [0, 2],
        ("hsc_after_eps", "csc"): [0],
        ("hsc", "sane_rsc_norm"): [0],
        ("hsc_after_eps", "sane_all"): [0],
    }

    def score(seed: int, name: str) -> float:
        run = next(each for each in by_name[name] if each.seed == seed)
        return estimate(stacked([run], CRF), protocol.labels).mean

    expected = [score(seed, "hsc") - score(seed, "hsc_without_csc") for seed in (0, 2)]
    assert min(expected) > 0 and brought["hsc", "csc"][1].mean == pytest.approx(np.mean(expected))
    expected = score(0, "hsc_after_eps") - score(0, "hsc_without_csc_after_eps")
    assert brought["hsc_after_eps", "csc"][1].mean == pytest.approx(expected)
    expected = score(0, "hsc_sane_all_after_eps") - score(0, "hsc_after_eps")
    assert expected < 0 and brought["hsc_after_eps", "sane_all"][1].mean == pytest.approx(expected)
    assert brought["hsc", "sane_rsc_norm"][1].mean > 0
    write_table(protocol, None)
    table = (tmp_path / "table.md").read_text()
    assert f"| hsc | csc | 0, 2 | {brought['hsc', 'csc'][1]} |" in table

    write_page(protocol, voc / "JPEGImages", num_workers=1)
    page = (tmp_path / "systems.html").read_text()
    of_hsc = protocol.figures(by_name["hsc"]).crf
    row = (
        rf'<tr data-stage="CRF seeds"><th scope=row>hsc</th>.*<td>0, 2</td><td class="num" data-value="{of_hsc.mean}">'
    )
    assert re.search(row, page) and "mIoU is over background, car." in page
    scores = [float(each) for each in re.findall(r'<tr data-stage.*?data-value="(.*?)"', page)]
    assert len(scores) > 9 and scores == sorted(scores, reverse=True), "the best at the top"
    shown = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    of_seed = {name for seed, name in there if seed == 0}
    assert shown["runs"] == sorted(sorted(of_seed), key=lambda name: -score(0, name)) and len(shown["images"]) == 8
    (gain_of_fewer,) = re.findall(r"<th scope=row>hsc_without_csc</th>.*?CRF seeds.*?<td>(eps \(seed .*?\))</td>", page)
    assert gain_of_fewer == "eps (seed 0)"


def test_the_figure_has_the_best_at_the_top_and_no_name_on_another():
    names = [f"hsc_sane_rsc_norm_without_csc_after_eps_alpha_{number}" for number in range(30)]
    names += [f"mean_of_eps_after_eps_and_ppc_eps_after_eps_and_msa_sal_alpha_{number}" for number in range(9)]
    scores = {name: Estimate(30.0 + 7 * number % 23, None, 20, 60) for number, name in enumerate(["eps", *names])}
    figure = figure_of(scores, {"hsc: csc": Estimate(-1, None, -2, 3), "hsc: psc": Estimate(1, None, 0, 3)})
    FigureCanvasAgg(figure).draw()
    runs, parts = figure.axes
    labels = runs.get_yticklabels()
    shown = [label.get_text().replace("\n", "") for label in labels]
    assert shown == sorted(scores, key=lambda name: -scores[name].mean)
    assert [label.get_text() for label in parts.get_yticklabels()] == ["hsc: psc", "hsc: csc"]
    boxes = [label.get_window_extent() for label in labels]
    assert all(lower.y1 < upper.y0 for upper, lower in itertools.pairwise(boxes)) and min(box.x0 for box in boxes) >= 0
    assert [line.get_xdata()[0] for line in runs.lines if line.get_linestyle() == "--"] == [scores["eps"].mean]


def test_a_segmentation_is_compared_with_that_of_eps_and_dhr_with_its_net_alone(voc, tmp_path):
    protocol = Protocol(tmp_path, voc.parent, voc / "SegmentationClass", ("background", "car"), "a recipe")
    wrong_rows = {"eps+crf+dhr": 3, "hsc+crf+dhr": 2, "hsc+crf+deeplabv3plus": 9, "masks+deeplabv2": 1}
    scores = {}
    for seed, name in [*((0, name) for name in wrong_rows), (1, "hsc+crf+dhr"), (2, "hsc+crf+deeplabv3plus")]:
        asked = segmented(name)
        folder = tmp_path / f"seed_{seed}" / name
        (folder / asked.predictions).mkdir(parents=True)
        (folder / asked.score).touch()
        for image_id, mask in protocol.truth("val").items():
            labels = np.where(mask == 255, 0, mask)
            labels[: wrong_rows[name] + seed] = 0
            save_label_map(folder / asked.predictions / f"{image_id}.png", labels, VOC12)
        counts = protocol.label_map_counts(folder / asked.predictions, "val")
        scores[seed, name] = estimate(counts[None], protocol.labels).mean
    for folder in ("seed_0/cls+crf+dhr", "seed_0/eps+crf+old", "seed_old/eps+crf+dhr"):  # not whole, or another's
        (tmp_path / folder / "dhr").mkdir(parents=True)
        if "cls" not in folder:
            (tmp_path / folder / "dhr" / "val.json").touch()
    write_table(protocol, None)
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if "+" in line]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in sorted(wrong_rows)]
    (row,) = (row for row in rows if row.startswith("| hsc+crf+dhr "))
    gains = [scores[0, "hsc+crf+dhr"] - scores[0, other] for other in ("eps+crf+dhr", "hsc+crf+deeplabv3plus")]
    *_, seeds, _, gained = row.removesuffix(" |").split(" | ")
    assert seeds == "0, 1"
    for text, value, other in zip(gained.split("; "), gains, ("eps+crf+dhr", "hsc+crf+deeplabv3plus"), strict=True):
        assert text.startswith(f"{value:.1f} [") and text.endswith(f" on {other} (seed 0)")
    assert next(row for row in rows if row.startswith("| masks")).endswith("|  |")


def test_a_table_takes_in_what_others_have_counted(voc, tmp_path, monkeypatch):
    theirs, ours = (
        Protocol(
            tmp_path / name, voc.parent, voc / "SegmentationClass", ("background", "car"), "a recipe", {"--steps": 1}
        )
        for name in ("theirs", "ours")
    )
    for seed, name, wrong_rows in ((0, "eps", 5), (0, "hsc", 3), (1, "eps", 9)):
        put_a_whole_run(theirs, seed, name, wrong_rows=wrong_rows)
    walked = theirs.out / "seed_0" / "hsc" / "out_rw"
    shutil.copytree(walked.with_name("crf") / "crf_8_7", walked)
    (walked.parent / "walk.json").touch()
    asked = segmented("hsc+crf+dhr")
    segmentation = theirs.out / "seed_0" / str(asked) / asked.predictions
    shutil.copytree(walked, segmentation)  # val is train
    (segmentation.parent / "val.json").touch()
    write_table(theirs, None)

    def read(**changes):
        protocol = replace(ours, settings={**ours.settings, **changes.pop("settings", {})}, **changes)
        args = argparse.Namespace(counts=[theirs.out / "counts.npz"])
        return replace(protocol, others=systems.counts_of_others(args, protocol))

    ours.out.mkdir()
    write_table(read(), None)
    assert (ours.out / "table.md").read_text() == (theirs.out / "table.md").read_text()
    assert "| hsc | affinity | 0 |" in (ours.out / "table.md").read_text()
    assert "(hsc's CRF seeds in 5 of 5; seed 0)." in (ours.out / "table.md").read_text()

    # A run that is here too is what it is here, and what another brings is measured against it.
    put_a_whole_run(ours, 0, "eps", wrong_rows=20)
    found = {(run.seed, run.name): run for run in read().runs()}
    assert list(found) == [(0, "eps"), (0, "hsc"), (1, "eps")] and found[0, "eps"].folder is not None
    assert np.array_equal(found[1, "eps"].counts[CRF], theirs.runs()[2].counts[CRF])
    write_table(read(), None)
    assert [line for line in (ours.out / "table.md").read_text().splitlines() if line.startswith("| hsc | 0 ")] != [
        line for line in (theirs.out / "table.md").read_text().splitlines() if line.startswith("| hsc | 0 ")
    ]
    write_page(read(), voc / "JPEGImages", num_workers=1)
    page = (ours.out / "systems.html").read_text()
    assert "<th scope=row>hsc</th>" in page and '"runs": ["eps"]' in page

    with pytest.raises(UserError, match=r"measured with another recipe.*\n  --steps: 1 then, 2 now"):
        read(settings={"--steps": 2})
    read(settings={"--refine_list (sha256)": "new"})
    shutil.copytree(voc.parent, tmp_path / "lists", ignore=lambda folder, names: {*names} - {"train.txt", "val.txt"})
    (tmp_path / "lists" / "train.txt").write_text("\n".join(sorted(theirs.truth("train"), reverse=True)))
    with pytest.raises(UserError, match=r"counts\.npz: scored on other masks of train\.txt than these"):
        read(lists=tmp_path / "lists")
    (theirs.out / "counts.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"--counts .*counts\.npz: cannot be read as an \.npz"):
        read()
    np.savez(theirs.out / "counts.npz", about=np.zeros(3))
    with pytest.raises(UserError, match=r"--counts .*: expected the counts\.npz that this benchmark writes"):
        read()
