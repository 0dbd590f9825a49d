"""`--sane`: each name turns one switch from its released value to another, and the paper's list knows it."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from method.arguments import parse_arguments
from method.hsc import criterion
from method.hsc.config import CONFIGS, SANE
from method.oddities import mend
from network.build import build_network

DEVIATIONS = Path(__file__).resolve().parents[3] / "paper" / "deviations.md"
HSC = CONFIGS["hsc"]
REQUIRED = ["--data_root", "images", "--saliency_root", "saliency"]


def differences(one: dict, other: dict) -> dict:
    return {key: value for key, value in other.items() if one.get(key) != value}


@pytest.mark.parametrize("name", SANE)
def test_a_name_changes_its_switch_and_nothing_else(name):
    part, switch, value = SANE[name].part, SANE[name].switch, SANE[name].sane
    released, mended = asdict(HSC), asdict(mend(HSC, SANE, [name]))
    assert differences(released, mended) == {part: {**released[part], switch: value}}
    if part == "net":
        net = build_network("resnet38_hsc", num_classes=20, width=0.0625, **{switch: value})
        assert (
            getattr(net, switch) is value
            and getattr(build_network("resnet38_hsc", num_classes=20, width=0.0625), switch) is not value
        )


def test_all_names_together_change_all_switches():
    mended = asdict(mend(HSC, SANE, list(SANE)))
    assert all(mended[oddity.part][oddity.switch] is oddity.sane for oddity in SANE.values())
    assert set(differences(asdict(HSC), mended)) == {oddity.part for oddity in SANE.values()}


@pytest.mark.parametrize(("names", "score"), [([], 0.10), (["background_score"], 0.5)])
def test_the_background_scores_what_the_config_says_in_pseudo_labels_and_class_contrast(monkeypatch, names, score):
    seen = {}

    def watched(name):
        compute = getattr(criterion, name)

        def look(*args, **options):
            seen[name] = next(value for value in args if value.dim() == 5 and value.shape[2] == 21)
            return compute(*args, **options)

        return look

    for name in ("pseudo_labels", "class_contrast"):
        monkeypatch.setattr(criterion, name, watched(name))
    torch.manual_seed(0)
    cams = [torch.rand(2, 21, 4, 4) for _ in range(2)]
    features = {"feat_pixel": [torch.rand(2, 128, 4, 4)] * 2, "feat_region": [torch.rand(2, 256, 4, 4)] * 2}
    label = torch.eye(20)[:2]
    criterion.HSCCriterion(mend(HSC, SANE, names), num_classes=20).contrast(
        cams, **features, image=torch.rand(2, 3, 32, 32), label=label
    )
    assert len(seen) == 2
    for cam in seen.values():
        assert torch.equal(cam[:, :, 20], torch.full_like(cam[:, :, 20], score))


def parsed(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["train_voc.py", *REQUIRED, *words])
    return parse_arguments()


def test_a_recipe_is_a_name_for_mended_oddities_and_the_default_mends_none(monkeypatch):
    assert parsed(monkeypatch) == parsed(monkeypatch, "--recipe", "released")
    assert parsed(monkeypatch).sane == []
    assert parsed(monkeypatch, "--recipe", "sane") == parsed(monkeypatch, "--sane", "background_score")
    assert parsed(monkeypatch, "--recipe", "sane", "--sane", "psc_bank").sane == ["background_score", "psc_bank"]


def test_the_order_of_names_makes_no_other_run(monkeypatch):
    def settings(*names):
        return parsed(monkeypatch, "--sane", *names).sane

    assert settings("rsc_norm", "cam_clamp", "rsc_norm") == settings("cam_clamp", "rsc_norm")
    assert settings("rsc_norm", "all") == settings("all") == sorted(SANE)


def test_names_for_many_mean_those_that_the_method_has(monkeypatch):
    def settings(method, *words):
        return parsed(monkeypatch, "--method", method, *words).sane

    assert settings("eps_seam", "--sane", "all") == ["ecr_channel"]
    assert settings("eps_seam", "--recipe", "sane") == settings("eps", "--sane", "all", "--recipe", "sane") == []


def test_the_list_of_oddities_names_each():
    text = DEVIATIONS.read_text()
    assert not [name for name in SANE if f"`--sane {name}`" not in text]
