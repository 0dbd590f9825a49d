"""What `benchmark.systems` compares: runs with their reference, with and without a part, refined, segmented."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmark.system_counts import BEST, CRF, Cost, Run
from benchmark.system_figures import Estimate, Protocol, estimate, gain, stacked
from benchmark.system_refine import REFINEMENTS
from benchmark.system_runs import AFTER_EPS, longer_of
from benchmark.system_seeds import net_of, parts_of
from benchmark.system_segment import MASKS, Segmented
from recipes.combined import FROM_CLASSIFIER

REFERENCE = "eps"  # what gains are measured against
# By segmentation: the same without what makes it one of its own.
WITHOUT = {"dhr": "deeplabv3plus", FROM_CLASSIFIER: "deeplabv2"}
ABLATION = re.compile(rf"(?P<run>.+)_without_(?P<what>[a-z]+)(?P<start>{AFTER_EPS}|)")
SANE = re.compile(rf"(?P<run>.+)_(?P<what>sane_[a-z_]+?)(?P<start>{AFTER_EPS}|)")


class Refined(NamedTuple):
    """A refinement's label maps of some seeds of a run: their score, and its gain on those seeds' own seeds at their
    best threshold and on their CRF seeds."""

    kind: str
    seeds: list[int]
    score: Estimate
    on_seeds: Estimate
    on_crf: Estimate


def by_name_of(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of several seeds together."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.name, []).append(run)
    return found


def seed_list(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def of_fewer(paired: Iterable[int], every: Iterable[int]) -> str:
    """What a gain over the seeds `paired` says where its run has others, too; nothing where these are all."""
    return "" if [*paired] == [*every] else f" (seed {seed_list(paired)})"


def mean_cost(runs: Sequence[Run]) -> Cost:
    return Cost(*np.mean([run.cost for run in runs], axis=0).tolist())


def reference_of(name: str) -> str:
    """The run of as many steps from the same start that gains are measured against; a mean's is that of its parts of
    the most steps."""
    late = any(net_of(part).endswith(AFTER_EPS) for part in parts_of(name) or [name])
    return f"{REFERENCE}{longer_of(name)}{AFTER_EPS * late}"


def reference_gain(
    protocol: Protocol, by_name: Mapping[str, Sequence[Run]], name: str
) -> tuple[list[int], Estimate] | None:
    """As `paired_gain`, of the run `name` on its reference; None for that itself."""
    reference = reference_of(name)
    return None if name == reference else paired_gain(protocol, by_name[name], by_name.get(reference, []))


def paired_gain(protocol: Protocol, runs: Iterable[Run], reference: Iterable[Run]) -> tuple[list[int], Estimate] | None:
    """The seeds that both have, and the gain of `runs`' CRF seeds on `reference`'s over them; None if there is none."""
    theirs = {run.seed: run for run in reference}
    ours = {run.seed: run for run in runs if run.seed in theirs}
    if not ours:
        return None
    counts = stacked(ours.values(), CRF), stacked((theirs[seed] for seed in ours), CRF)
    return list(ours), gain(*counts, protocol.labels)


def what_changes_bring(
    protocol: Protocol, by_name: dict[str, list[Run]]
) -> dict[tuple[str, str], tuple[list[int], Estimate]]:
    """How far a run's CRF seeds are above those without one of its parts, and below those with an oddity's sane value,
    by run and part or oddity, with the seeds that have both; only what has any."""
    brought = {}
    for name, runs in by_name.items():
        if match := ABLATION.fullmatch(name) or SANE.fullmatch(name):
            whole = match["run"] + match["start"]
            pair = by_name.get(whole, []), runs
            found = paired_gain(protocol, *(pair if match.re is ABLATION else reversed(pair)))
            if found is not None:
                brought[whole, match["what"]] = found
    return brought


def refined(protocol: Protocol, runs: Sequence[Run]) -> Iterator[Refined]:
    """The refinements of a run's seeds that are there."""
    for kind in REFINEMENTS:
        there = [run for run in runs if kind in run.counts]
        if there:
            masks = stacked(there, kind)
            gains = [gain(masks, stacked(there, what), protocol.labels) for what in (BEST, CRF)]
            yield Refined(kind, [run.seed for run in there], estimate(masks, protocol.labels), *gains)


def segmentation_gains(
    protocol: Protocol, found: Mapping[Segmented, Mapping[int, np.ndarray]], asked: Segmented
) -> list[tuple[str, Estimate]]:
    """The gain of a segmentation on the one that learnt alike from the reference's seeds, and on the one that it is but
    for one part, with their names. found: counts by seed."""
    others = [asked._replace(run=reference_of(asked.run))] if asked.run != MASKS else []
    plain = WITHOUT.get(asked.segmentation)
    others += [] if plain is None else [asked._replace(segmentation=plain)]
    gains = []
    for other in others:
        both = [seed for seed in found[asked] if seed in found.get(other, {})]
        if other != asked and both:
            counts = [np.stack([found[each][seed] for seed in both]) for each in (asked, other)]
            gains.append((f"{other}{of_fewer(both, found[asked])}", gain(*counts, protocol.labels)))
    return gains
