"""What the tests of the report share: small runs as the scripts leave them, and the command."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from tests.scripts.conftest import ROOT, forker
from tool.artifact import save_cam, save_label_map
from voc12.classes import VOC12

SHAPE = (18, 24)
# An id may be anything that a file can be named; this one would end a script and start another.
HOSTILE = "a'\"><img src=x onerror=document.title=1><!--"
HOSTILE_SETTING = "</script><script>document.title='taken'</script>"


def command(*arguments: object) -> subprocess.CompletedProcess:
    """`python -m tool.report` with `arguments`, to its end."""
    return forker().run(["-m", "tool.report", *arguments], ROOT)


def make_data(root: Path, ids: list[str], *, saliency: bool = True) -> dict[str, np.ndarray]:
    """Images, ground truth and saliency maps in VOC's layout in `root`/VOC2012; the truths by id."""
    generator = np.random.default_rng(0)
    voc = root / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", *(["saliency"] if saliency else [])):
        (voc / name).mkdir(parents=True)
    truths = {}
    for number, image_id in enumerate(ids):
        truth = np.zeros(SHAPE, np.uint8)
        truth[4:12, 4:16] = 1 + number % 3
        truth[4, 4:16] = 255
        truths[image_id] = truth
        pixels = generator.integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(voc / "JPEGImages" / f"{image_id}.jpg")
        save_label_map(voc / "SegmentationClass" / f"{image_id}.png", truth, VOC12)
        if saliency:
            Image.fromarray((truth > 0).astype(np.uint8) * 255).save(voc / "saliency" / f"{image_id}.png")
    return truths


def make_run(folder: Path, truths: dict[str, np.ndarray], *, wrong: int, method: str = "hsc") -> None:
    """A run with training log, CAMs, seeds and CRF seeds; of image n the first (n + `wrong`) rows of seeds are 0."""
    generator = np.random.default_rng(wrong)
    for name in ("cam_npy", "cam_png", "crf/crf_8_7"):
        (folder / name).mkdir(parents=True)
        (folder / name / "settings.json").write_text(json.dumps({"network": method, "thr": 0.22}))
    (folder / "args.json").write_text(json.dumps({"method": method, "lr": 0.1 * wrong, "note": HOSTILE_SETTING}))
    lines = [f"2026-01-01 00:00:00 step {k}/60 cls {1 / k + wrong:.4f} total {2 / k + wrong:.4f}" for k in range(1, 61)]
    (folder / "log").write_text("\n".join(lines) + "\n")
    for number, (image_id, truth) in enumerate(truths.items()):
        labels = np.where(truth == 255, 0, truth)
        scores = np.where(truth > 0, 0.8, 0.1) + 0.1 * generator.random(SHAPE)
        save_cam(folder / "cam_npy" / f"{image_id}.npy", {int(labels.max()) - 1: scores.astype(np.float32)}, VOC12)
        save_label_map(folder / "crf" / "crf_8_7" / f"{image_id}.png", labels, VOC12)
        labels = labels.copy()
        labels[: min(number % 12 + wrong, SHAPE[0])] = 0
        save_label_map(folder / "cam_png" / f"{image_id}.png", labels, VOC12)


def make_results(folder: Path, truths: dict[str, np.ndarray], *, pseudo: Path) -> None:
    """A tested DeepLab run that was trained on the label maps in `pseudo`."""
    results = folder / "results" / "VOC2012" / "Segmentation" / "comp6_val_cls"
    results.mkdir(parents=True)
    (folder / "args.json").write_text(json.dumps({"EXP_NAME": folder.name, "DATA_PSEUDO_GT": str(pseudo)}))
    for image_id, truth in truths.items():
        save_label_map(results / f"{image_id}.png", np.where(truth == 255, 0, truth), VOC12)


def page_data(path: Path) -> dict:
    """What the page's script is given."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())[1])
