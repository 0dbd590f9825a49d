"""`train_voc.py` by two processes: one run, and the same one again. `tests/fault/test_kill_fresh.py` has torchrun."""

import re

from tests.scripts.conftest import (
    TINY,
    assert_refused,
    assert_same,
    assert_succeeded,
    load,
    run_by_two,
    words_of,
)

SCRIPT = "train_voc.py"


def test_two_processes_train_one_net_the_same_again_whether_they_score_it_between_or_not(data, tmp_path):
    flags = {**TINY, **data.for_training(), "--max_iters": 5, "--log_every": 1}
    scoring = {"one": {}, "again": {"--eval_every": 1, "--val_list": data.root / "val.txt"}}
    for name, more in scoring.items():
        first, second = run_by_two(SCRIPT, *words_of({**flags, **more, "--work_dir": tmp_path / name}))
        for ended in (first, second):
            assert_succeeded(ended)
        assert "on 2 x cpu" in first.stdout and first.stdout.count("trained 5 steps in ") == 1
        assert not second.stdout
    one, again = (tmp_path / name / "hsc" for name in ("one", "again"))
    assert (one / "log").read_text().count("step 5/5") == 1
    assert sorted(path.name.split(".")[0] for path in one.iterdir()) == ["args", "events", "hsc", "last", "log"]
    assert_same(load(again / "hsc.pth"), load(one / "hsc.pth"))
    assert re.findall(r"scored image labels .* mean average precision", (again / "log").read_text())[1:]


def test_a_batch_that_does_not_go_round_is_refused(data, tmp_path):
    flags = {**TINY, **data.for_training(), "--work_dir": tmp_path, "--max_iters": 1, "--batch_size": 3}
    for done in run_by_two(SCRIPT, *words_of(flags)):
        assert_refused(done, "error: --batch_size 3: expected a multiple of the number of processes, 2")
    assert not (tmp_path / "hsc" / "last.ckpt").exists()
