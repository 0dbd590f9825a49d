"""What the command lines of all trainings have in common: the run's flags, and what is looked at before torch is."""

import argparse
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tool.cli import FILE, UserError, add_switch, path_text, positive, what_is_at
from tool.file_hash import sha256_of
from tool.flags import AMP
from tool.folder import checkpoint_of
from tool.limits import check_loaders
from tool.lock import hold_folder
from tool.torchrun import is_first, loader_processes, own_share
from tool.weights_file import require_weights

RUN_BOUNDS = {"num_workers": (0, 4096), "seed": (0, 2**32 - 1)}
# Flags that may change between a run and its resumption: they do not touch the weights, or what they lead to is known.
RUN_FREE_TO_CHANGE = {
    "resume",
    "device",
    "num_workers",
    "save_every",
    "log_every",
    "work_dir",
    "train_list",
    "data_set",
    "data_root",
}


def add_run_flags(parser: argparse.ArgumentParser, *, session: str | None, save_every: int = 500) -> Any:
    """The run's name, folder, seed, checkpoints and log; the group that they are in.

    session: the name that it has where none is given; None: its method's.
    """
    run = parser.add_argument_group("run")
    run.add_argument(
        "--session_name", "--session", dest="session", default=session,
        help=f"the run's name ({session})" if session else "the run's name (the method's)",
    )  # fmt: skip
    run.add_argument(
        "--work_dir", type=path_text, default="./exps", help="runs go to <work_dir>/<session>/ (%(default)s)"
    )
    run.add_argument("--seed", type=int, default=0, help="random seed of weights, order and augmentation (%(default)s)")
    for flag, number, what in (("save", save_every, "checkpoint"), ("log", 20, "log line")):
        run.add_argument(
            f"--{flag}_every", type=positive, default=number, metavar="STEPS",
            help=f"from one {what} to the next (%(default)s)",
        )  # fmt: skip
    add_switch(run, "--resume", default=False, help="go on from <work_dir>/<session>/last.ckpt (False)")
    return run


def add_device_flags(group: Any, *, amp: Sequence[str] = AMP) -> None:
    """Where the networks are computed, and how precisely."""
    group.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    group.add_argument("--amp", choices=amp, default="off", help="the network in half precision (%(default)s)")


class _Sorted(argparse.Action):
    """Keeps each of a flag's values once, in order, as a run's settings compare them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, sorted({*values}))


def add_sane_flag(group: Any, oddities: Sequence[str]) -> None:
    """--sane: each of `oddities` once, in order."""
    group.add_argument(
        "--sane", nargs="+", choices=oddities, default=[], metavar="ODDITY", action=_Sorted,
        help=f"correct these oddities, which paper/deviations.md lists: {', '.join(oddities)}",
    )  # fmt: skip


def check_run(args: argparse.Namespace) -> None:
    """Raise `UserError` for a --session or, where there is one, a --clip_grad that cannot be."""
    if Path(args.session).name != args.session or args.session in ("", ".", ".."):
        raise UserError(f"--session {args.session}: expected a plain name, it becomes a folder in --work_dir")
    clip = getattr(args, "clip_grad", None)
    if clip is not None and not 0 < clip < math.inf:
        raise UserError(f"--clip_grad {clip}: expected a finite norm above 0")


def hold_run(args: argparse.Namespace, weights: Mapping[str, str], *, words: Collection[str]) -> dict[str, str]:
    """Keep other runs out of the run's folder; look at what it goes on from, or at the files that it starts from.

    weights: flags of files to start from, and what each file should be. words: that may stand in a file's place.

    Returns:
        A hash of each of these files for the run's settings, since one that was trained anew under its old name is
        another start. A run that goes on needs none of them: of one that is gone it holds nothing.

    Raises `UserError` if another run holds the folder, if the run exists and --resume is not there, and for a file that
    is missing or no such file.
    """
    folder = Path(args.work_dir) / args.session
    if is_first():
        hold_folder(folder, "--work_dir")
    if checkpoint_of(folder, resume=args.resume, name_flag="--session") is None:  # a run that goes on has its own
        for flag, what in weights.items():
            if getattr(args, flag) not in words:
                require_weights(getattr(args, flag), f"--{flag}", what)
    paths = {flag: getattr(args, flag) for flag in weights if getattr(args, flag) not in words}
    there = {flag: path for flag, path in paths.items() if what_is_at(path) == FILE}
    return {f"the weights of --{flag} (sha256)": sha256_of(path) for flag, path in there.items()}


def check_batch(args: argparse.Namespace, num_images: int, source: str) -> None:
    """Raise `UserError` where `source`, a list, has fewer images than a step takes."""
    if args.batch_size > num_images:
        raise UserError(f"--batch_size {args.batch_size}: {source} has {num_images} images; take at most that")


def steps_of_epochs(args: argparse.Namespace, num_images: int) -> int:
    """How many steps --max_epoches have, in whole batches."""
    return num_images // args.batch_size * args.max_epoches


def check_run_loaders(args: argparse.Namespace, *, image_bytes: int, num_batches: int) -> None:
    """Raise `UserError` where the machine's shared memory or open files are too few for the run's loader processes.

    image_bytes: of an image's crop and of all that comes with it. num_batches: of the whole run.
    """
    check_loaders(
        workers=loader_processes(args.num_workers),
        batch_bytes=image_bytes * len(own_share(range(args.batch_size))),
        num_batches=num_batches,
        flag="--num_workers",
    )


def recorded_flags(args: argparse.Namespace, free_to_change: Collection[str]) -> dict[str, Any]:
    """The flags that decide what a run's weights become, as its checkpoint keeps them."""
    return {f"--{name}": value for name, value in vars(args).items() if name not in free_to_change}


def flag_defaults(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, Any]:
    """Each flag's default, under the name that `recorded_flags` has: what runs had that are older than the flag."""
    return {f"--{name}": parser.get_default(name) for name in vars(args)}


def hash_of_ids(ids: Sequence[str]) -> str:
    """SHA-256 of a list's ids in their order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
