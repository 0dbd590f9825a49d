"""The flags of seeds that `inference.py` and `merge.py` share: background's score in label maps, and the CRF."""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from method import METHODS
from method.base import Method
from tool.cli import UserError, path_value, require_file
from tool.flags import add_crf_backend
from tool.seed_recipe import CRFRecipe

MAX_CRF_ITERATIONS = 1000


def add_seed_flags(group: Any, method: Method) -> None:
    """Add them to a parser or a group of one; the defaults are those of the method's recipe."""
    first = method.seeds.crf[0]
    iterations = {str(crf.iterations): None for crf in method.seeds.crf}
    alphas = (
        " ".join(f"{crf.alpha:g}" for crf in method.seeds.crf) if first.threshold is None else "none: it scores --thr"
    )
    group.add_argument(
        "--thr", type=threshold_or_file, default=method.seeds.threshold, metavar="THR",
        help="background's score in label maps, 0..1, or eval.py's JSON file, whose best one is taken (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--crf_t", nargs="+", default=[*iterations], metavar="T",
        help=f"CRF iterations; none: no CRF ({first.iterations})",
    )  # fmt: skip
    group.add_argument(
        "--crf_alpha", nargs="+", type=float, metavar="A", help=f"exponents of the background score ({alphas})"
    )
    add_crf_backend(group)


def check_seed_flags(args: argparse.Namespace) -> None:
    """Raise `UserError` for values that are out of range."""
    if not (isinstance(args.thr, Path) or 0 <= args.thr <= 1):
        raise UserError(f"--thr {args.thr}: expected a background score from 0 to 1")
    if not all(0 < alpha < float("inf") for alpha in args.crf_alpha or ()):
        raise UserError(f"--crf_alpha {' '.join(map(str, args.crf_alpha))}: expected positive exponents")


def crf_recipes(args: argparse.Namespace) -> list[CRFRecipe]:
    """The method's, with all iterations and alphas asked for."""
    if args.crf_t == ["none"]:
        return []
    if not all(re.fullmatch("[0-9]{1,4}", text) and 0 < int(text) <= MAX_CRF_ITERATIONS for text in args.crf_t):
        raise UserError(
            f"--crf_t {' '.join(args.crf_t)}: expected numbers of iterations, 1 to {MAX_CRF_ITERATIONS}, or none"
        )
    of_method = METHODS[args.method].seeds.crf
    if of_method[0].threshold is not None:
        if args.crf_alpha is not None:
            raise UserError(f"--crf_alpha: in the CRF of --method {args.method} background scores --thr; leave it out")
        return [replace(of_method[0], iterations=int(t), threshold=args.thr) for t in args.crf_t]
    alphas = args.crf_alpha or [recipe.alpha for recipe in of_method]
    return [replace(of_method[0], iterations=int(t), alpha=alpha) for t in args.crf_t for alpha in alphas]


def threshold_or_file(text: str) -> float | Path:
    """An argparse type: a number, or the path of a file that has one."""
    try:
        return float(text)
    except ValueError:
        return path_value(text)


def threshold_of(thr: float | Path) -> float:
    """The background score that --thr gives: itself, or the best one of eval.py's JSON file. Raises `UserError`."""
    if isinstance(thr, float):
        return thr
    require_file(thr, "--thr", "a number from 0 to 1, or the JSON file of eval.py --curve")
    try:
        found = json.loads(thr.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--thr {thr}: cannot be read as JSON ({error})") from error
    best = found.get("best_threshold") if isinstance(found, dict) else None
    if not isinstance(best, float):
        raise UserError(f"--thr {thr}: expected best_threshold in it, as eval.py --curve --json writes; found none")
    if not 0 <= best <= 1:
        raise UserError(f"--thr {thr}: expected best_threshold from 0 to 1 in it, found {best}")
    return best
