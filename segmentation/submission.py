"""Predictions on VOC's test set, checked and packed as its evaluation server takes them.

    python -m segmentation.submission --results DIR --img_root VOC2012/JPEGImages --out results.tgz

The archive holds results/VOC2012/Segmentation/comp6_test_cls/<id>.png: palette PNGs of VOC's labels, one for each
image of the test set and of its size. Nothing is packed before every file has been looked at; the same files give the
same archive, byte for byte.
"""

import argparse
import gzip
import io
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from data.images import image_size
from tool.artifact import atomic_file, load_label_map
from tool.checks import run_checks
from tool.cli import (
    UserError,
    pace,
    path_text,
    path_value,
    printable,
    raise_problems,
    require_folder,
    require_writable,
    run_script,
    script_parser,
)
from tool.lists import LABEL_MAP_ENDINGS, Source, expect_files, find_images, read_ids
from voc12.classes import VOC12

TEST_IMAGES = 1456  # in VOC 2012's test set
COMPETITIONS = (5, 6)  # of VOC: segmentation with its own training data only, or with any
SUFFIXES = (".tgz", ".tar.gz")
MODIFIED = 1325376000  # the members' time: the beginning of 2012, UTC
_COLOURS = VOC12.palette[: VOC12.num_labels].tobytes()
EXAMPLES = """\
  # what test.py left with TEST_SPLIT=test, for the competition with outside data
  python -m segmentation.submission --img_root VOC2012/JPEGImages --out results.tgz \\
      --results exps/mine/results/VOC2012/Segmentation/comp6_test_cls
  # a trial on another list, with a note that the server would refuse it
  python -m segmentation.submission --img_root VOC2012/JPEGImages --list voc12/val.txt \\
      --results exps/mine/results/VOC2012/Segmentation/comp6_val_cls --out trial.tgz
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "Predictions on VOC's test set, checked and packed as its evaluation server takes them.",
        examples=EXAMPLES,
        prog="python -m segmentation.submission",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--results", type=path_text, required=True, help="folder of the predictions, <id>.png and nothing else"
    )
    data.add_argument("--list", type=path_text, default="voc12/test.txt", help="ids of the test set (%(default)s)")
    data.add_argument("--img_root", type=path_text, required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")

    archive = parser.add_argument_group("archive")
    archive.add_argument("--out", type=path_value, default="results.tgz", help="archive to write (%(default)s)")
    archive.add_argument(
        "--comp",
        type=int,
        choices=COMPETITIONS,
        default=6,
        help="5: trained on VOC's data alone; 6: on other data too, as ImageNet weights are (%(default)s)",
    )
    return parser.parse_args()


def check_out(out: Path, results: Path) -> None:
    """Raise `UserError` if `out` is no place for the archive of the files in `results`."""
    if not out.name.endswith(SUFFIXES):
        raise UserError(f"--out {out}: expected a file name that ends in {' or '.join(SUFFIXES)}")
    require_writable(out, "--out")
    if out.resolve().is_relative_to(results.resolve()):
        raise UserError(f"--out {out}: lies inside --results {results}, which holds predictions only; write elsewhere")


def entry_problem(path: Path, names: set[str], folder: Path) -> str | None:
    """Why an entry of `folder` (resolved) is no prediction of the list, whose file names are `names`."""
    if path.name not in names:
        return "expected <id>.png of the list only, found something else; move it out"
    if not path.is_file():
        return "expected a file, found a folder, a broken link or the like"
    if path.is_symlink() and not path.resolve().is_relative_to(folder):
        return "a link that leaves the folder; put the file itself there"
    return None


def check_prediction(path: Path, shape: tuple[int, int] | None) -> None:
    """Raise `UserError` unless `path` is a palette PNG of VOC's labels in its colours, of `shape` if given."""
    load_label_map(path, VOC12, shape=shape, ignore=False)
    with Image.open(path) as image:
        palette = bytes(image.getpalette() or ())  # None where the image is grey
    if not palette.startswith(_COLOURS):
        found = "another palette" if palette else "8-bit grey"
        raise UserError(
            f"{path}: expected a palette PNG in VOC's colours, found {found}; tool.artifact.save_label_map writes one"
        )


def check_predictions(results: Path, images: Mapping[str, Path]) -> None:
    """Look at everything the server would refuse, in every file.

    Args:
        results: folder of `<id>.png`, one for each of `images` and nothing else.
        images: the test set's by id, whose sizes the predictions must have.

    Raises:
        UserError: nothing is there; or names each entry that is no prediction of `images`, each prediction that is
            missing, damaged, no palette PNG of VOC's labels in its colours or not of its image's size, and each
            image that is missing or damaged.
    """
    entries = sorted(results.iterdir())
    if not entries:
        raise UserError(f"--results {results}: no predictions there; run test.py with TEST_SPLIT=test first")
    names, folder = {f"{identifier}.png" for identifier in images}, results.resolve()
    refused = {path.name: problem for path in entries if (problem := entry_problem(path, names, folder))}
    present = {path.name for path in entries}

    def check(identifier: str) -> list[str]:
        shape, problems = None, []
        try:
            shape = image_size(images[identifier])[::-1]
        except UserError as error:
            problems.append(str(error))
        prediction = results / f"{identifier}.png"
        if prediction.name not in present:
            problems.append(f"{prediction}: no such file, though {identifier} is in the list")
        elif prediction.name not in refused:
            try:
                check_prediction(prediction, shape)
            except UserError as error:
                problems.append(str(error))
        return problems

    problems = [f"{results / name}: {problem}" for name, problem in refused.items()]
    problems += run_checks(check, list(images), "predictions")
    raise_problems(f"--results {results}: no submission to the VOC server as it is; nothing packed", problems)


def pack(results: Path, ids: Iterable[str], out: Path, *, competition: int) -> None:
    """Write `<id>.png` of `ids` in `results` to the .tgz `out`, where the server looks for them.

    The archive holds nothing of this machine or moment: members are sorted, with fixed owner, mode and time.
    """
    with (
        atomic_file(out) as file,
        # Without a name given, gzip would put the temporary file's into the header.
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for name in sorted(f"{identifier}.png" for identifier in ids):
            try:
                content = (results / name).read_bytes()
            except OSError as error:  # else it would be the archive's
                raise UserError(f"{results / name}: changed while it was packed ({error.strerror})") from error
            member = tarfile.TarInfo(f"results/VOC2012/Segmentation/comp{competition}_test_cls/{name}")
            member.size, member.mode, member.mtime = len(content), 0o644, MODIFIED
            archive.addfile(member, io.BytesIO(content))


def main() -> None:
    args = parse_arguments()
    started = time.perf_counter()
    results = require_folder(args.results, "--results", "predictions, <id>.png")
    check_out(args.out, results)
    image_root = require_folder(args.img_root, "--img_root", "JPEGImages, <id>.jpg")
    ids = read_ids(args.list, "--list")
    source = Source("--list", args.list)
    images = find_images(ids, image_root, VOC12, flag="--img_root", source=source)
    expect_files(ids, results, ".png", flag="--results", endings=LABEL_MAP_ENDINGS, source=source)
    check_predictions(results, images)
    pack(results, ids, args.out, competition=args.comp)
    size, time_taken = f"{args.out.stat().st_size:,} bytes", pace(started, len(ids))
    print(f"wrote {printable(args.out)}: {len(ids)} PNGs for comp{args.comp}, {size} {time_taken}")
    if len(ids) != TEST_IMAGES:
        print(
            f"note: a trial, which the server would refuse: it expects {TEST_IMAGES:,} images, --list"
            f" {printable(args.list)} has {len(ids):,}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run_script(main)
