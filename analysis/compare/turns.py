"""Takes that were measured in turns, A and B one after the other or at once: each with its neighbour. Pure.

What the machine and the network did meanwhile met both of a pair, so that their ratio does not have it.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from analysis.compare.sides import Place, Side, Take
from loadgen.errors import PlanError


def in_pairs(a: Side, b: Side) -> tuple[Side, Side]:
    """Return both sides with what both have, the k-th take of one beside the k-th of the other in order of time.

    Takes of a pair have the same name, that of their turn.

    Raises:
        PlanError: when the takes were measured is not known, or they were not taken in turns.
    """
    paired = {place: _pairs(place, a, b) for place in a.takes if place in b.takes}
    first, second = (
        replace(side, takes={place: tuple(pair[number] for pair in pairs) for place, pairs in paired.items()})
        for number, side in enumerate((a, b))
    )
    return first, second


def _pairs(place: Place, a: Side, b: Side) -> list[tuple[Take, Take]]:
    ours, theirs = (_in_order(side, place) for side in (a, b))
    if len(ours) != len(theirs):
        raise PlanError(
            f"--paired: {place.words}: {a.label} has {len(ours)} takes and {b.label} has {len(theirs)}; "
            "pairs need as many of each"
        )
    pairs = list(zip(ours, theirs, strict=True))
    for number, (one, after) in enumerate(pairwise(pairs), 1):
        if max(take.started_utc_ns or 0 for take in one) >= min(take.started_utc_ns or 0 for take in after):
            raise PlanError(
                f"--paired: {place.words}: takes {number} and {number + 1} of {a.label} and {b.label} were not "
                "measured in turns; compare them without --paired"
            )
    return [(replace(one, run="", number=n), replace(two, run="", number=n)) for n, (one, two) in enumerate(pairs)]


def _in_order(side: Side, place: Place) -> Sequence[Take]:
    takes = side.takes[place]
    if any(take.started_utc_ns is None for take in takes):
        raise PlanError(f"--paired: when the takes of {side.label} were measured is not recorded")
    return sorted(takes, key=lambda take: take.started_utc_ns or 0)
