"""The flags --without and --sane, for methods that share a list of parts but have only some of them."""

import argparse
from collections.abc import Collection
from typing import Any

from tool.cli import UserError


def add_part_flags(
    group: Any, system: str, *, ablations: Collection[str], oddities: Collection[str], mendable: Collection[str]
) -> None:
    """Add both to a group of a method's flags.

    ablations, oddities: all that the methods of `system` have. mendable: those of the oddities that this one has.
    """
    group.add_argument(
        "--without", nargs="+", choices=ablations, default=[], help=f"parts of {system} to leave out (none)"
    )
    add_oddities_flag(group, mendable, known=oddities)


def add_oddities_flag(group: Any, oddities: Collection[str], *, known: Collection[str] = ()) -> None:
    """--sane: some of `oddities`, or all. known: others that are taken too, for `check_parts` to refuse."""
    group.add_argument(
        "--sane", nargs="+", choices=[*dict.fromkeys((*oddities, *known)), "all"], default=[], metavar="ODDITY",
        help=f"correct these oddities of the recipe, which paper/deviations.md lists: all, {', '.join(oddities)}",
    )  # fmt: skip


def settled_sane(names: Collection[str], mendable: Collection[str]) -> list[str]:
    """What --sane `names` mean: where all is named, everything `mendable` in its order; then the others, sorted.

    A name that is not mendable stays, beside all too, so that `check_parts` can refuse it. Runs record this order.
    """
    many = [*mendable] if "all" in names else []
    return [*many, *sorted({*names} - {"all", *many})]


def check_parts(args: argparse.Namespace, *, without: Collection[str], sane: Collection[str]) -> None:
    """Raise `UserError` where a flag names what args.method does not have; `without` and `sane` are what it has."""
    for flag, known in (("without", without), ("sane", sane)):
        strange = [name for name in getattr(args, flag) if name not in known]
        if strange:
            raise UserError(f"--{flag} {' '.join(strange)}: --method {args.method} has no such part; leave it out")
