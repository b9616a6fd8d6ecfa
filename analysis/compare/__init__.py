"""Runs beside each other: paired by point, with intervals, verdicts in words and limits for CI.

`compare([A, B], Choices())` does what `python -m analysis compare A B` does; what the words mean is in
docs/compare.md.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.compare import limits, pairing, verdicts
from analysis.compare.contrast import Contrast, Scatter, geometric
from analysis.compare.limits import Decision, Limit
from analysis.compare.pairing import Found
from analysis.compare.result import ALL_POINTS, QUANTITIES, Choices, Comparison, Pair
from analysis.compare.sides import Side, Take, read, side_of
from analysis.compare.turns import in_pairs
from analysis.quantities import UNITS, suffix
from analysis.readable import listed
from analysis.sources import load
from loadgen.errors import PlanError

__all__ = ["Choices", "Comparison", "Pair", "between", "compare", "side_of"]

Limits = tuple[float | None, float | None, float | None]

UNTESTED = "not compared"
ONE_TAKE = (
    "One take a side: intervals hold for these windows alone. What restarts, clocks and placement add shows only "
    "between takes: measure each side several times (--repeats, or several runs in a folder), or give --floor."
)
NO_INTERVAL = (
    "cannot tell: nothing says how sure it is (under 80 requests, or a file without intervals); several takes would"
)
ONE_RUN = "All takes of {} are of one run: what a restart of the server changes is not in the intervals."


def compare(paths: Sequence[str | Path], choices: Choices) -> Comparison:
    """Compare runs, folders of runs or other tools' files with the first of them.

    Raises:
        PlanError: a path cannot be read, they are not of the same thing, no load is common, or a limit is none.
    """
    sides, notes = read(paths, anyway=choices.anyway)
    return between(sides, choices, notes)


def between(sides: Sequence[Side], choices: Choices, notes: Sequence[str] = ()) -> Comparison:
    """Compare sides with the first of them; errors as `compare`."""
    baseline, *others = sides
    wanted = _wanted(sides, choices)
    asked = [limits.parse(text, wanted) for text in choices.fail_if]
    floors = _floors(choices.floor, wanted)
    points: list[Found] = []
    whole: list[Found] = []
    for quantity in wanted:
        for other in others:
            a, b = in_pairs(baseline, other) if choices.paired else (baseline, other)
            own = pairing.of_points(a, b, quantity, floors.get(quantity), paired=choices.paired)
            sweep = pairing.of_sweep(a, b, own, floors.get(quantity), paired=choices.paired)
            points += own
            whole += [sweep] if sweep is not None else []
    if not points:
        raise PlanError(f"no point of {listed(side.label for side in sides)} has the same load; {_levels(sides)}")
    return Comparison(
        baseline=baseline.label,
        labels=tuple(side.label for side in others),
        simulated=any(side.simulated for side in sides),
        whole=_judged(whole, choices),
        points=_judged(points, choices),
        decisions=tuple(decision for limit in asked for decision in _decided(limit, points, whole)),
        unpaired=tuple(_unpaired(baseline, others)),
        unsteady=tuple(_unsteady(sides)),
        notes=(*notes, *_about_takes(sides, points)),
        strict=choices.strict,
    )


def _wanted(sides: Sequence[Side], choices: Choices) -> list[str]:
    """Return the quantities to compare: those chosen, and those that limits name.

    Raises:
        PlanError: one of those chosen is known of no point.
    """
    known = sorted({name for side in sides for name in side.loaded.quantities["quantity"].unique()})
    times = {name.split("_", 1)[1] for name in known if name.startswith(("service_", "response_"))}
    there = [*(name for name in QUANTITIES if name in {*known, *times}), *sorted({*known, *times} - {*QUANTITIES})]
    for name in choices.quantities if choices.quantities != QUANTITIES else ():
        if name not in there:
            raise PlanError(f"--quantity {name}: is no quantity of these points; there are {', '.join(there)}")
    named = [limits.parse(text, there).quantity for text in choices.fail_if]
    return list(dict.fromkeys([*(name for name in choices.quantities if name in there), *named]))


def _floors(path: Path | None, wanted: Sequence[str]) -> dict[str, Scatter]:
    if path is None:
        return {}
    side = side_of(str(path), load(path))
    found = {name: scatter for name in wanted if (scatter := pairing.scatter_of(side.takes, name)) is not None}
    if not found:
        raise PlanError(f"--floor {path}: has no load that was measured twice; measure one thing with --repeats 5")
    return found


def _judged(found: Sequence[Found], choices: Choices) -> tuple[Pair, ...]:
    """Give verdicts, each quantity's points adjusted for being many."""
    pairs: dict[int, Pair] = {}
    for quantity in dict.fromkeys(one.quantity for one in found):
        margin = choices.margins.get(quantity, choices.margin or verdicts.margin_of(quantity))
        places = [n for n, one in enumerate(found) if one.quantity == quantity]
        tested = [(n, ratio) for n in places if (ratio := found[n].ratio) is not None]
        chances = verdicts.adjusted([verdicts.chances(ratio, margin) for _, ratio in tested])
        by_place = dict(zip([n for n, _ in tested], chances, strict=True))
        pairs |= {n: _pair(found[n], margin, by_place.get(n)) for n in places}
    return tuple(pairs[n] for n in range(len(found)))


def _pair(one: Found, margin: float, chances: verdicts.Chances | None) -> Pair:
    a, b = (geometric([each.value for each in side]) if side else None for side in (one.a, one.b))
    verdict, words = _said(one, margin, chances)
    ratio: Limits = (b / a if a and b is not None else None, None, None)
    difference: Limits = (b - a if a is not None and b is not None else None, None, None)
    if one.ratio is not None:
        ratio = _map(math.exp, _limits(one.ratio))
    if one.difference is not None:
        difference = _limits(one.difference)
    return Pair(
        label=one.label,
        place=one.place.words if one.place else ALL_POINTS,
        load=one.place.load if one.place else "",
        level=one.place.level if one.place and one.place.level >= 0 else None,
        quantity=one.quantity,
        unit=UNITS.get(suffix(one.quantity), "1"),
        a=a,
        b=b,
        ratio=ratio[0],
        ratio_low=ratio[1],
        ratio_high=ratio[2],
        difference=difference[0],
        difference_low=difference[1],
        difference_high=difference[2],
        takes_a=len(one.a),
        takes_b=len(one.b),
        basis=one.ratio.basis if one.ratio else "",
        margin=margin,
        p_different=chances.differs if chances else None,
        p_equivalent=chances.equivalent if chances else None,
        verdict=verdict,
        words=words,
    )


def _limits(of: Contrast) -> tuple[float, float, float]:
    half = of.half()
    return of.value, of.value - half, of.value + half


def _map(scale: Callable[[float], float], values: tuple[float, float, float]) -> tuple[float, float, float]:
    return scale(values[0]), scale(values[1]), scale(values[2])


def _said(one: Found, margin: float, chances: verdicts.Chances | None) -> tuple[str, str]:
    if one.objection:
        return UNTESTED, f"not compared: {one.objection}"
    if one.ratio is None or chances is None:
        if any(each.value <= 0 for each in (*one.a, *one.b)):
            return "cannot tell", "cannot tell: a value of 0 has no ratio"
        return "cannot tell", NO_INTERVAL
    verdict = verdicts.word(chances)
    return verdict, verdicts.sentence(verdict, one.quantity, one.ratio, margin, (len(one.a), len(one.b)))


def _decided(limit: Limit, points: Sequence[Found], whole: Sequence[Found]) -> list[Decision]:
    among = [one for one in (whole if limit.at == "all" else points) if one.quantity == limit.quantity]
    if limit.at not in {"all", "any"}:
        among = [one for one in among if one.place is not None and one.place.level == float(limit.at)]
    if not among:
        raise PlanError(f"--fail-if {limit.text!r}: no point that both sides have is at {limit.at}")
    return limits.decide(
        limit,
        [
            (
                one.label,
                one.place.words if one.place else ALL_POINTS,
                one.ratio if limit.relative else one.difference,
            )
            for one in among
        ],
    )


def _levels(sides: Sequence[Side]) -> str:
    return "; ".join(f"{side.label} has {listed(place.words for place in side.takes) or 'none'}" for side in sides)


def _unpaired(baseline: Side, others: Sequence[Side]) -> list[str]:
    said = []
    for other in others:
        for one, two in ((baseline, other), (other, baseline)):
            alone = [place.words for place in one.takes if place not in two.takes]
            if alone:
                said.append(f"Only {one.label} has {listed(alone)}, beside {two.label}.")
    return said


def _unsteady(sides: Sequence[Side]) -> list[str]:
    return [
        f"{side.label}, {place.words}{_which(take, takes)}: "
        f"{take.verdict}{f' ({take.reason})' if take.reason else ''}; not compared"
        for side in sides
        for place, takes in side.takes.items()
        for take in takes
        if not take.usable
    ]


def _which(take: Take, takes: Sequence[Take]) -> str:
    """Name a take where there are several: by its run where those are several, by its number where it has them."""
    run = f", {take.run}" if len({each.run for each in takes}) > 1 else ""
    number = f", take {take.number}" if sum(each.run == take.run for each in takes) > 1 else ""
    return run + number


def _about_takes(sides: Sequence[Side], points: Sequence[Found]) -> list[str]:
    notes = [ONE_TAKE] if any(one.ratio and one.ratio.basis == "windows" for one in points) else []
    one_run = [
        side.label
        for side in sides
        if side.loaded.points["run"].n_unique() == 1 and any(len(takes) > 1 for takes in side.takes.values())
    ]
    return notes + ([ONE_RUN.format(listed(one_run))] if one_run else [])
