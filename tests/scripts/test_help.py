"""`--help` of every script: flags in groups, each with words of its own, and examples that are commands."""

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from segmentation.experiment.config import config_dict, configurations
from segmentation.settings import read_config

# Each script by what a command calls it.
SCRIPTS = {
    "train_voc.py": "train_voc",
    "inference.py": "inference",
    "merge.py": "merge",
    "eval.py": "eval",
    "demo.py": "demo",
    "run.py": "run",
    "refine/affinity/prepare.py": "refine.affinity.prepare",
    "refine/affinity/train.py": "refine.affinity.train",
    "refine/affinity/infer.py": "refine.affinity.infer",
    "localise/train.py": "localise.train",
    "localise/test.py": "localise.test",
    "superpixel/train.py": "superpixel.train",
    "refine/label_maps.py": "refine.label_maps",
    "refine/irn/labels.py": "refine.irn.labels",
    "refine/irn/train.py": "refine.irn.train",
    "refine/irn/infer.py": "refine.irn.infer",
    "refine/irn/score_instances.py": "refine.irn.score_instances",
    "superpixel/infer.py": "superpixel.infer",
    "rebalance/evaluate.py": "rebalance.evaluate",
    "rebalance/masks.py": "rebalance.masks",
    "rebalance/features.py": "rebalance.features",
    "rebalance/layout.py": "rebalance.layout",
    "rebalance/train.py": "rebalance.train",
    "segmentation/experiment/train.py": "segmentation.experiment.train",
    "segmentation/experiment/test.py": "segmentation.experiment.test",
    "segmentation.submission": "segmentation.submission",
    "voc12.prepare": "voc12.prepare",
    "voc12.mini": "voc12.mini",
    "voc12.relabel": "voc12.relabel",
    "coco14.prepare": "coco14.prepare",
    "coco14.mini": "coco14.mini",
    "own.prepare": "own.prepare",
    "context.prepare": "context.prepare",
    "ade.prepare": "ade.prepare",
    "stuff.prepare": "stuff.prepare",
    "cub.prepare": "cub.prepare",
    "cub.mini": "cub.mini",
    "tool.report": "tool.report.__main__",
}
COLUMNS = 100
# Flags that take text which is no path; --set reads its values by their keys.
NO_PATHS = {
    "recipe",
    "--stages",
    "--session_name",
    "--device",
    "--network",
    "--transformer",
    "--crf_t",
    "--comment",
    "--tag",
    "--wss",
    "--uss",
    "--backbone",
    "--classes",
    "--set",
}


def parse(name, words, monkeypatch):
    """What a script makes of its command line."""
    monkeypatch.setattr(sys, "argv", [name, *words])
    return importlib.import_module(SCRIPTS[name]).parse_arguments()


@pytest.fixture
def help_of(monkeypatch, capsys):
    """From a script to what its --help says."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))

    def ask(name):
        with pytest.raises(SystemExit) as ended:
            parse(name, ["--help"], monkeypatch)
        assert ended.value.code == 0
        return capsys.readouterr().out

    return ask


def groups_in(text):
    """{title: {its flag as it is shown: what is said of it}}"""
    groups = {}
    for part in re.split(r"\n\n(?=\w+:\n)", text.partition("\nexamples:\n")[0])[1:]:
        title, _, flags = part.partition(":\n")
        entries = re.split(r"^  (?=-)", flags, flags=re.MULTILINE)[1:]
        groups[title] = dict(re.split(r"\s{2,}", entry.strip(), maxsplit=1) for entry in entries)
    return groups


def examples_in(text):
    """The commands below "examples:", as words; a backslash joins lines, as in a shell."""
    lines = text.partition("\nexamples:\n")[2].replace("\\\n", " ").splitlines()
    assert all(re.match(r"  (#|python |torchrun )", line) for line in lines), lines
    return [shlex.split(line) for line in lines if not line.startswith("  #")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_flag_is_in_a_group_and_explained(name, help_of):
    text = help_of(name)
    groups = groups_in(text)
    assert list(groups.pop("options")) == ["-h, --help"]
    flags = [flag for group in groups.values() for flag in group]
    assert {word for flag in flags for word in re.findall(r"--\w+", flag)} == set(
        re.findall(r"--\w+", text.partition("\n\n")[0])
    ) | set(re.findall(r", (--\w+)", " ".join(flags)))
    assert max(map(len, text.splitlines())) <= COLUMNS


@pytest.fixture
def parser_of(help_of, monkeypatch):
    """From a script to its parser."""

    def find(name):
        parsers = []
        monkeypatch.setattr(argparse.ArgumentParser, "print_help", lambda parser: parsers.append(parser))
        help_of(name)
        (parser,) = parsers
        return parser

    return find


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_flag_that_takes_text_takes_a_path_whose_home_folder_is_found_or_no_path(name, parser_of):
    taking_text = [
        (action.option_strings or [action.dest])[0]
        for action in parser_of(name)._actions
        if action.nargs != 0 and action.choices is None and action.type in (None, str, Path)
    ]
    assert set(taking_text) <= NO_PATHS


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_plain_default_is_in_its_flags_help(name, parser_of):
    parser = parser_of(name)
    unsaid = []
    for action in parser._actions:
        default = action.default
        is_plain = isinstance(default, str | int | float) and not isinstance(default, bool)
        if is_plain and default not in ("", argparse.SUPPRESS):
            said = action.help % {**vars(action), "prog": parser.prog}
            if not re.search(rf"(?<![\w.]){re.escape(str(default))}(?!\w)", said):
                unsaid.append(f"{action.option_strings[-1]}: {default} is not in: {said}")
    assert not unsaid


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_example_is_a_command_of_the_script_that_it_takes_but_for_an_unknown_flag(
    name, help_of, monkeypatch, capsys
):
    examples = examples_in(help_of(name))
    assert examples
    for words in examples:
        start = ["python", "-m", name] if "/" not in name and not name.endswith(".py") else ["python", name]
        if words[0] == "torchrun":
            words = ["python", *words[words.index(name) :]]  # torchrun's own flags come before
        assert words[: len(start)] == start
        args = parse(name, words[len(start) :], monkeypatch)
        with pytest.raises(SystemExit) as ended:
            parse(name, [*words[len(start) :], "--no_such_flag"], monkeypatch)
        errors = capsys.readouterr().err
        assert ended.value.code == 2 and errors.count("error: ") == 1 and "arguments: --no_such_flag" in errors
        if name.startswith("segmentation/"):
            read_config({**config_dict, **configurations.get(args.config, {})}, args.set)
