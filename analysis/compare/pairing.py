"""Two sides -> contrasts: of every point that both have, and of the whole sweep. Pure.

The whole sweep is one number a take, the mean over points of the logarithm; with one take a side it is the mean of
the points' contrasts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.compare import contrast
from analysis.compare.contrast import Contrast, Scatter, Value, geometric
from analysis.compare.sides import Place, Side, Take, named
from analysis.readable import listed

TakeId = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """One quantity at one place: both sides' values, and how they differ; `objection` says why it is not tested."""

    label: str
    place: Place | None
    quantity: str
    a: tuple[Value, ...]
    b: tuple[Value, ...]
    ratio: Contrast | None
    difference: Contrast | None
    objection: str = ""


def of_points(a: Side, b: Side, quantity: str, floor: Scatter | None, *, paired: bool = False) -> list[Found]:
    """Contrast a quantity at each place that both sides have; `paired`: their takes belong to each other in order."""
    return [
        _point(b.label, place, quantity, (a.takes[place], b.takes[place]), (a.label, b.label), floor, paired=paired)
        for place in a.takes
        if place in b.takes and _known(quantity, a.takes[place], b.takes[place])
    ]


def _known(quantity: str, *sides: Sequence[Take]) -> bool:
    column = named(quantity, [take for side in sides for take in side])
    return all(any(column in take.values for take in side) for side in sides)


def _point(  # noqa: PLR0913, PLR0917 - two sides of one thing
    label: str,
    place: Place,
    quantity: str,
    sides: tuple[Sequence[Take], Sequence[Take]],
    labels: tuple[str, str],
    floor: Scatter | None,
    *,
    paired: bool,
) -> Found:
    column = named(quantity, [*sides[0], *sides[1]])
    objection = _objection(sides, labels, column)
    compared = _whole_pairs(*sides, column) if paired and not objection else sides
    a, b = (_values(takes, column) for takes in compared)
    if not objection and not (a and b):
        objection = f"it is not known of {'both takes of any pair' if paired else 'the usable takes'}"
    if objection:
        return Found(label, place, quantity, a, b, None, None, objection)
    ratio = contrast.of_ratio(a, b, floor, paired=paired)
    return Found(label, place, quantity, a, b, ratio, contrast.of_difference(a, b, floor, paired=paired))


def _objection(sides: tuple[Sequence[Take], Sequence[Take]], labels: tuple[str, str], column: str) -> str:
    """Say why a quantity of these takes is not to be tested; nothing if it may be."""
    both = list(zip(sides, labels, strict=True))
    unusable = [f"{name} is {takes[0].verdict}" for takes, name in both if not any(take.usable for take in takes)]
    if unusable:
        return " and ".join(unusable)
    short = [name for takes, name in both if any(take.usable and column in take.unresolved for take in takes)]
    return f"the takes of {listed(short)} have too few requests for it" if short else ""


def _values(takes: Sequence[Take], column: str) -> tuple[Value, ...]:
    """Return the values of usable takes, or of all where none is."""
    usable = [take for take in takes if take.usable]
    return tuple(take.values[column] for take in usable or takes if column in take.values)


def _whole_pairs(a: Sequence[Take], b: Sequence[Take], column: str) -> tuple[Sequence[Take], Sequence[Take]]:
    """Return the takes of pairs of which both are usable and have the value."""
    pairs = [pair for pair in zip(a, b, strict=True) if all(take.usable and column in take.values for take in pair)]
    return [one for one, _ in pairs], [two for _, two in pairs]


def of_sweep(
    a: Side, b: Side, points: Sequence[Found], floor: Scatter | None, *, paired: bool = False
) -> Found | None:
    """Contrast the whole sweep by the points that were contrasted; None without any."""
    used = [one for one in points if one.ratio is not None and one.place is not None]
    if not used:
        return None
    places = [one.place for one in used if one.place is not None]
    quantity = used[0].quantity
    by_take = [_by_take(side, places, quantity) for side in (a, b)]
    if paired:
        both = by_take[0].keys() & by_take[1].keys()
        by_take = [{take: value for take, value in of.items() if take in both} for of in by_take]
    sides = [list(of.values()) for of in by_take]
    single = all(len(one.a) == len(one.b) == 1 for one in used)
    if single or not all(sides):
        ratio = contrast.mean_of([one.ratio for one in used if one.ratio is not None]) if single else None
    else:
        ratio = contrast.of_ratio(sides[0], sides[1], floor, paired=paired)
    return Found(b.label, None, quantity, tuple(sides[0]), tuple(sides[1]), ratio, None)


def _by_take(side: Side, places: Sequence[Place], quantity: str) -> dict[TakeId, Value]:
    """Return the geometric mean over places of each take that has them all, in their order."""
    found: list[dict[TakeId, float]] = []
    for place in places:
        column = named(quantity, side.takes[place])
        usable = [take for take in side.takes[place] if take.usable and column in take.values]
        found.append({(take.run, take.number): take.values[column].value for take in usable})
    whole = set.intersection(*(set(values) for values in found))
    return {take: Value(geometric([values[take] for values in found])) for take in sorted(whole)}


def scatter_of(takes: Mapping[Place, Sequence[Take]], quantity: str) -> Scatter | None:
    """Return the scatter of a quantity from take to take, pooled over the places of one side."""
    groups = []
    for of in takes.values():
        column = named(quantity, of)
        groups.append([take.values[column].value for take in of if take.usable and column in take.values])
    return contrast.scatter(groups)
