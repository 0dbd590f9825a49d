"""Which images a report shows, and which of their files: what the runs left, where there is a ground truth, if any."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tool.cli import FILE, FOLDER, UserError, printable, raise_problems, require_folder, what_is_at
from tool.dataset import DataSet
from tool.lists import Source, check_lines, find_images, find_masks, mask_folders
from tool.places import misplaced, other_ending
from tool.report.image import ImageFiles, RunFiles
from tool.report.run_folder import STAGES, Run, files_by_id

NO_TRUTH = "none"  # --gt_dir's value for images that are shown without scores
# So many images are shown, where no list names them: of those without ground truth, and of those with it.
UNSCORED = 500
SCORED = 3000  # more than VOC has; the others are only scored


class Data(NamedTuple):
    """A data set, and its folders: of images, of ground truth, <id>.png, `truth` the one to name, None for images that
    are shown without scores, and of saliency maps, <id>.png, if there are any."""

    data_set: DataSet
    images: Path
    truth: Path | None
    saliency: Path | None


def find_data(data_root: str, gt_dir: str | None, saliency_root: str | None, data_set: DataSet) -> Data:
    """The data's folders: those that flags name, else those beside the images in the data set's layout. Raises
    `UserError`."""
    first, *others = data_set.images
    suffix, *further = data_set.suffixes
    root = require_folder(data_root, "--data_root", f"{first}, <id>{suffix}")
    images = root / first if not others and what_is_at(root / first) == FOLDER else root
    if not (others or further) and (problem := misplaced(images, suffix, fixed=False)):
        raise UserError(f"--data_root {problem}")
    around = root.resolve() if others else images.resolve().parent
    truth: Path | None
    if gt_dir == NO_TRUTH:
        truth = None
    elif gt_dir is None:
        usual = [*mask_folders(around, data_set, fixed=True), around / f"{data_set.masks[0]}Aug"]
        found = [folder for folder in usual if what_is_at(folder) == FOLDER]
        if not found:
            raise UserError(
                f"--gt_dir: expected the ground truth's folder, as {usual[0]} is not there; name it, or {NO_TRUTH} to"
                " see the images without scores"
            )
        truth = around if len(data_set.masks) > 1 else found[0]
    else:
        truth = require_folder(gt_dir, "--gt_dir", "ground truth, <id>.png")
    if saliency_root is not None:
        return Data(
            data_set, images, truth, require_folder(saliency_root, "--saliency_root", "saliency maps, <id>.png")
        )
    return Data(data_set, images, truth, around / "saliency" if what_is_at(around / "saliency") == FOLDER else None)


def plan_images(
    runs: Sequence[Run], data: Data, ids: Sequence[str] | None, *, source: Source
) -> tuple[dict[str, ImageFiles], list[str]]:
    """The files of every image to show, by id, and what a reader should know of what is left out.

    A kind of files that several runs have counts where all of these have it, so that their scores are of the same
    images. Changes `runs` to these. Raises `UserError` for images or ground truths that are missing.

    Args:
        ids: of the images to show, or None for all with ground truth, of which `SCORED` are shown and the others only
            scored; where there is none, for `UNSCORED` of them. source: of these, or of the first run.
    """
    notes: list[str] = []
    kinds: dict[str, Callable[[Run], dict[str, Path]]] = {"CAMs": lambda run: run.cams}
    kinds |= {stage.title: lambda run, key=key: run.labels[key] for key, stage in STAGES.items()}
    made = {image_id for run in runs for files_of in kinds.values() for image_id in files_of(run)}
    if ids is not None:
        check_lines(ids, made.__contains__, source=source)
        raise_problems(f"{source.flag}: ids of which the runs hold nothing", sorted(set(ids) - made))
    if data.truth is None:
        truths, shown = {}, set(_some(sorted(made), notes, most=UNSCORED) if ids is None else ids)
        notes.append("There is no ground truth: nothing is scored.")
    else:
        truths = _find_truths(data.truth, data.data_set, made, ids, source=source)
        shown = (made if ids is None else set(ids)) & set(truths)
    for title, files_of in kinds.items():
        _keep_common(title, [files_of(run) for run in runs], shown, notes)
    shown = {image_id for run in runs for files_of in kinds.values() for image_id in files_of(run)}
    images = find_images(sorted(shown), data.images, data.data_set, flag="--data_root", source=source)
    _check_images(images, data.images)
    saliency = {} if data.saliency is None else files_by_id([data.saliency], ".png")
    missing = len(shown - set(saliency))
    if missing:
        why = None if data.saliency is None or missing < len(shown) else misplaced(data.saliency, ".png", fixed=False)
        none = f"No saliency maps were found: {why}." if why else "No saliency maps were found."
        notes.append(none if missing == len(shown) else f"{missing} images have no saliency map.")
    drawn = shown if ids is not None else set(_some(sorted(shown), notes, most=SCORED, others=" all are scored;"))
    files = {
        image_id: _image_files(image_id, runs, path if image_id in drawn else None, truths, saliency)
        for image_id, path in images.items()
    }
    return files, notes


def _find_truths(
    folder: Path, data_set: DataSet, made: set[str], ids: Sequence[str] | None, *, source: Source
) -> dict[str, Path]:
    """The ground truths in `folder` by id. Raises `UserError` if one of `ids` has none, or without these none of the
    images that runs `made` something of; if they lie elsewhere, it says where."""
    truths = files_by_id(reversed(mask_folders(folder, data_set)), ".png")
    find_masks(sorted(made) if ids is None else ids, folder, data_set, flag="--gt_dir", source=source)
    if ids is not None:
        raise_problems(f"{source.flag}: ids without ground truth in {folder}", sorted(set(ids) - set(truths)))
    if made and not made & set(truths):
        raise UserError(
            f"--gt_dir {folder}: expected ground truth, <id>.png, for the runs' {len(made)} images (as"
            f" {printable(min(made))}), found none; name the folder that belongs to them, or {NO_TRUTH} to see the"
            " images without scores"
        )
    return truths


def _some(ids: Sequence[str], notes: list[str], *, most: int, others: str = "") -> Sequence[str]:
    """At most `most` of `ids`, from the first to the last in even steps; notes what is left out, and of it `others`."""
    if len(ids) <= most:
        return ids
    notes.append(
        f"Shown are {most} of {len(ids)} images, in even steps through their ids;{others} --list names others."
    )
    return [ids[k * (len(ids) - 1) // (most - 1)] for k in range(most)]


def _keep_common(title: str, files: Sequence[dict[str, Path]], shown: set[str], notes: list[str]) -> None:
    """Drop the images not `shown`, and those that only some of the runs' `files` have; none where one run has none."""
    ids = [set(of_run) & shown for of_run in files]
    there = [of_run for of_run in ids if of_run]
    common = set.intersection(*there) if there else set()
    dropped = len(set().union(*there) - common)
    if dropped:
        notes.append(f"{title}: {dropped} images that only some of the runs have are left out.")
    for of_run in files:
        for image_id in set(of_run) - common:
            del of_run[image_id]


def _check_images(images: Mapping[str, Path], folder: Path) -> None:
    found = {path: what_is_at(path) for path in images.values()}
    raise_problems(
        f"--data_root {folder}: images of the runs that are not there",
        [f"{path}: {what}{other_ending(path)}" for path, what in found.items() if what != FILE],
    )


def _image_files(
    image_id: str, runs: Sequence[Run], image: Path | None, truths: Mapping[str, Path], saliency: Mapping[str, Path]
) -> ImageFiles:
    of_runs = [
        RunFiles(
            run.cams.get(image_id),
            {stage: files[image_id] for stage, files in run.labels.items() if image_id in files},
        )
        for run in runs
    ]
    return ImageFiles(image, truths.get(image_id), saliency.get(image_id), of_runs)
