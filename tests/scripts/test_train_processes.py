"""`train_voc.py` under torchrun: one run of two processes, and the same one again."""

import subprocess
import sys

from tests.scripts.conftest import ROOT, TINY, assert_same, assert_succeeded, command, environment, load

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def run_two(flags):
    words = LAUNCHER + command("train_voc.py", flags)[1:]
    return subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)


def test_two_processes_train_one_net_the_same_again(data, tmp_path):
    flags = {**TINY, **data.for_training(), "--max_iters": 4, "--log_every": 1}
    for name in ("one", "again"):
        done = run_two({**flags, "--work_dir": tmp_path / name})
        assert_succeeded(done)
        assert "on 2 x cpu" in done.stdout and done.stdout.count("trained 4 steps in ") == 1
    one, again = (tmp_path / name / "hsc" for name in ("one", "again"))
    assert (one / "log").read_text().count("step 4/4") == 1
    assert sorted(path.name.split(".")[0] for path in one.iterdir()) == ["args", "events", "hsc", "last", "log"]
    assert_same(load(again / "hsc.pth"), load(one / "hsc.pth"))


def test_a_batch_that_does_not_go_round_is_refused(data, tmp_path):
    flags = {**TINY, **data.for_training(), "--work_dir": tmp_path, "--max_iters": 1, "--batch_size": 3}
    done = run_two(flags)
    assert done.returncode != 0
    assert "error: --batch_size 3: expected a multiple of the number of processes, 2" in done.stderr
    assert not (tmp_path / "hsc" / "last.ckpt").exists()
