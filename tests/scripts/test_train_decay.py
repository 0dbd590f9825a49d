"""`train_voc.py` says where the learning rate ends its decay long before the training ends."""

import pytest

from method import METHODS
from method.arguments import make_parser
from tests.scripts.conftest import TINY, assert_succeeded, run, run_by_two, words_of

# Sixteen images make four steps of an epoch.
CLS = {"--method": "cls", "--saliency_root": None}
NOTE = (
    "note: the learning rate stays at its lowest after step 4 of 9 (--max_epoches 1; --max_iters 9, --iter_size 1);"
    " to let it fall until the end, take --max_epoches 3\n"
)


def flags_of(data, folder, **changes):
    lengths = {f"--{name}": value for name, value in changes.items()}
    return {**TINY, **data.for_training(), **CLS, "--work_dir": folder, **lengths}


def test_a_decay_that_ends_early_is_said_once_and_again_where_the_run_goes_on(data, tmp_path):
    flags = flags_of(data, tmp_path, max_iters=9, max_epoches=1)
    first, second = run_by_two("train_voc.py", *words_of(flags))
    for done in (first, second):
        assert_succeeded(done)
    assert first.stdout.count(NOTE) == 1 and not second.stdout
    again = run("train_voc.py", {**flags, "--resume": ()})
    assert_succeeded(again)
    assert again.stdout.count(NOTE) == 1
    assert (tmp_path / "cls" / "log").read_text().count(NOTE) == 2


@pytest.mark.parametrize("epochs", [1, 2, 9])
def test_nothing_is_said_of_a_decay_over_half_of_the_steps_or_more(epochs):
    lengths = ["--batch_size", "4", "--max_iters", "4", "--iter_size", "2", "--max_epoches", str(epochs)]
    args = make_parser(METHODS["cls"]).parse_args(["--data_root", "images", *lengths])
    assert METHODS["cls"].steps(args, 16)[0] == 8 and METHODS["cls"].decay_note(args, 16) is None


@pytest.mark.parametrize("name", METHODS)
def test_no_methods_own_lengths_end_early_on_voc_and_steps_do_on_few_photographs(name):
    args = make_parser(METHODS[name]).parse_args(["--data_root", "images"])
    assert METHODS[name].decay_note(args, 10_582) is None
    few = METHODS[name].decay_note(args, 600)
    assert (few is None) == (args.max_iters is None)
    if few is not None:
        args.max_epoches = int(few.split()[-1])
        steps, decay = METHODS[name].steps(args, 600)
        assert steps <= decay < steps + 600 // args.batch_size


def test_a_length_in_epochs_alone_lets_the_rate_fall_to_the_end(data, tmp_path):
    done = run("train_voc.py", flags_of(data, tmp_path, max_iters="none", max_epoches=2, iter_size=2))
    assert_succeeded(done)
    assert "trained 8 steps" in done.stdout and "learning rate" not in done.stdout + done.stderr
    again = run(
        "train_voc.py", {**flags_of(data, tmp_path, max_iters="none", max_epoches=2, iter_size=2), "--resume": ()}
    )
    assert_succeeded(again)
