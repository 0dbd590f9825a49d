"""What the tests of `eval.py` share: its command, and small inputs."""

import sys

import numpy as np

from tests.scripts.conftest import ROOT, forker
from tool.artifact import save_cam, save_crf, save_label_map
from tool.lists import read_ids
from voc12.classes import VOC12


def command(folder, *arguments, comment="a comment"):
    """The command line on a folder that holds list.txt and gt/; its log goes to log.txt there."""
    flags = ["--list", folder / "list.txt", "--gt_dir", folder / "gt", "--comment", comment]
    logfile = [] if "--logfile" in arguments else ["--logfile", "log.txt"]
    return [sys.executable, str(ROOT / "eval.py"), *map(str, flags), *logfile, *map(str, arguments)]


def run(cwd, folder, *arguments, **options):
    return forker().run(command(folder, *arguments, **options)[1:], cwd)


def assert_refused(done, cwd, *messages):
    """Exit code 2, one message without traceback, no log file."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    for message in messages:
        assert message in done.stderr
    assert not (cwd / "log.txt").exists()
    assert done.stdout == ""


def many_times(tmp_path, folder, times):
    """The golden CAM dicts and ground truths under `times` names each; scores do not change."""
    for name in ("gt", "npy"):
        (tmp_path / name).mkdir()
    ids = []
    for image_id in read_ids(folder / "list.txt"):
        for copy in range(times):
            ids.append(f"{image_id} copy {copy}")
            (tmp_path / "gt" / f"{ids[-1]}.png").symlink_to(folder / "gt" / f"{image_id}.png")
            (tmp_path / "npy" / f"{ids[-1]}.npy").symlink_to(folder / "npy" / f"{image_id}.npy")
    (tmp_path / "list.txt").write_text("\n".join(ids) + "\n")
    return ids


def make_images(tmp_path):
    """`tmp_path` with ground truth, CAM dicts, CRF dicts and label maps of three images, the last without classes."""
    generator = np.random.default_rng(0)
    for name in ("gt", "cam", "crf", "png"):
        (tmp_path / name).mkdir()
    for image_id, classes in {"a": (0,), "b": (3, 14), "c": ()}.items():
        target = generator.choice([0, *(c + 1 for c in classes), 255], (4, 6)).astype(np.uint8)
        save_label_map(tmp_path / "gt" / f"{image_id}.png", target, VOC12)
        cams = {c: generator.random((4, 6), dtype=np.float32) for c in classes}
        save_cam(tmp_path / "cam" / f"{image_id}.npy", cams, VOC12)
        posterior = generator.dirichlet(np.ones(len(classes) + 1), (4, 6)).astype(np.float32)
        labels = [0, *(c + 1 for c in classes)]
        save_crf(tmp_path / "crf" / f"{image_id}.npy", {k: posterior[..., i] for i, k in enumerate(labels)}, VOC12)
        save_label_map(tmp_path / "png" / f"{image_id}.png", np.array(labels, np.uint8)[posterior.argmax(-1)], VOC12)
    (tmp_path / "list.txt").write_text("a\nb\nc\n")
    return tmp_path
