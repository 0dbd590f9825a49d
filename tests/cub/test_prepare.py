"""The check of CUB as a command: what it finds, what it refuses, and the generated data in its layout."""

import json

from cub import mini
from tests.scripts.conftest import forker


def run(*words, folder):
    return forker().run(["-m", *map(str, words)], folder)


def test_what_is_there_is_said_and_kept(tmp_path):
    done = run("cub.mini", "--out", "data", "--train", 7, "--test", 2, "--size", 40, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("cub.prepare", "--cub_root", f"data/{mini.FOLDER}", "--json", "new/found.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "found test: 2 images; 4 classes have none" in done.stdout
    assert json.loads((tmp_path / "new" / "found.json").read_text()) == {"classes": 6, "train": 7, "test": 2}
    again = run("cub.mini", "--out", "data", "--train", 8, "--test", 2, "--size", 40, folder=tmp_path)
    assert again.returncode == 2 and "with other settings" in again.stderr


def test_every_fault_is_named_and_nothing_written(tmp_path):
    root = mini.generate(tmp_path, train=6, test=2, size=40)
    boxes = (root / "bounding_boxes.txt").read_text().splitlines()
    (root / "bounding_boxes.txt").write_text("\n".join(["1 0 0 999 9", *boxes[1:]]))
    path = root / "images" / "002.yellow_square" / "000008.jpg"
    path.write_bytes(path.read_bytes()[:500])
    done = run("cub.prepare", "--cub_root", root, "--json", "found.json", folder=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "image 1: the box 0 0 999 9" in done.stderr and "000008.jpg" in done.stderr
    assert not (tmp_path / "found.json").exists()


def test_another_folder_is_refused_in_a_line(tmp_path):
    done = run("cub.prepare", "--cub_root", tmp_path, folder=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: --cub_root") and "images.txt" in done.stderr
