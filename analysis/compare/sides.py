"""What is compared: a side is whatever one argument names, its takes by point; sides must be of the same thing."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from analysis import facts, levels
from analysis.compare.contrast import Value
from analysis.readable import listed
from analysis.sources import labelled, load
from analysis.tidy import Loaded
from loadgen.errors import PlanError

IDENTITY = {
    "inputs": "inputs",
    "model": "model",
    "model_version": "version of the model",
    "server_version": "version of the server",
    "server": "server",
    "instances": "instances",
    "gpus": "GPUs",
    "mu": "pile-up",
}
"""Facts that must be equal; where two inputs both have a sha256 it decides, else their words do."""

OF_ALL = ("inputs", "model", "server")
"""Those that every measurement has, so that it is said where no side records them."""

CLIENT = {"host": "client host", "transport": "transport", "connections": "connections", "workers": "workers"}
"""Facts whose difference is noted."""

TOO_FEW = "too_few"
PERCENTILE = re.compile(r"_p(\d+(?:_\d+)?)_ns")
HEADLINES = ("mean_ns", "std_ns", "min_ns", "max_ns")
SHORT_SHA = 12


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Which points are of the same load on the same thing: what makes a pair.

    `level` is -1 where the load has none; `words` are the level, or the load, and those facts that vary.
    """

    load: str
    level: float
    words: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matching:
    """By which facts points pair, not by those that are `ignored`; those that are `varying` are named.

    `digest`: inputs are the same where their sha256 is, whatever they are called.
    """

    digest: bool
    ignored: frozenset[str]
    varying: frozenset[str]


@dataclass(frozen=True, slots=True)
class Take:
    """One measured point: its quantities, its verdict, and which take it is (run and how many-th of its load).

    `started_utc_ns` is when its window began; None where that is not recorded. `repeated`: its side has others of it.
    `unresolved` are percentiles that its few requests do not reach.
    """

    run: str
    number: int
    values: Mapping[str, Value]
    headline: str
    verdict: str | None
    reason: str
    started_utc_ns: int | None = None
    repeated: bool = False
    unresolved: frozenset[str] = frozenset()

    @property
    def usable(self) -> bool:
        """Whether its numbers may be used; another tool's points have no verdict.

        A take of too few requests for an interval of its own is known by the scatter of several.
        """
        return levels.usable(self.verdict) or (self.repeated and self.verdict == TOO_FEW)


@dataclass(frozen=True, slots=True)
class Side:
    """One argument: its takes by place."""

    label: str
    loaded: Loaded
    takes: Mapping[Place, tuple[Take, ...]]

    @property
    def simulated(self) -> bool:
        """Whether any of it is no physics figure."""
        return bool(self.loaded.runs["simulated"].fill_null(value=False).any())


def read(paths: Sequence[str | Path], *, anyway: bool) -> tuple[list[Side], list[str]]:
    """Read sides (`PATH`, or `LABEL=PATH`); return them with notes on what differs or is not known.

    Raises:
        PlanError: fewer than two, one cannot be read, or they are not of the same thing and `anyway` is not given.
    """
    if len(paths) < 2:  # noqa: PLR2004 - a comparison
        raise PlanError("a comparison needs two runs or more; the first is the baseline")
    split = [labelled(path) for path in paths]
    loads = [load(path) for _, path in split]
    labels = _distinct([label or _own_label(one, path) for one, (label, path) in zip(loads, split, strict=True)])
    differing = _differing(labels, loads)
    if differing and not anyway:
        words = "; ".join(differing.values())
        raise PlanError(f"not compared, for they are not of the same thing: {words}; --anyway compares them")
    matching = matched(loads, differing)
    sides = [side_of(label, one, matching) for label, one in zip(labels, loads, strict=True)]
    notes = [f"Compared anyway: {words}." for words in differing.values()]
    notes += [*_not_recorded(labels, loads), *_clients(labels, loads), *_same_source(labels, loads)]
    return sides, [*notes, *(note for one in loads for note in one.notes)]


def matched(loads: Sequence[Loaded], differing: Iterable[str] = ()) -> Matching:
    """Say by which facts the points of these pair: not by what differs, nor by what one side does not know."""
    digest = _by_digest(loads)
    known = {fact: [set(_known(one, fact, digest)) for one in loads] for fact in IDENTITY}
    ignored = {*differing, *(fact for fact, sides in known.items() if not all(sides))}
    varying = {fact for fact, sides in known.items() if fact not in ignored and len(set().union(*sides)) > 1}
    return Matching(digest, frozenset(ignored), frozenset(varying))


def side_of(label: str, of: Loaded, matching: Matching | None = None) -> Side:
    """Return loaded tables as a side; its points pair with those of any other where nothing else is said."""
    return Side(label, of, _takes(of, matching or matched([of])))


def _own_label(of: Loaded, path: Path) -> str:
    """Return the name of a side: of one run its own, which in a study says more than the label that all have."""
    if of.runs.height != 1:
        return path.name or str(path.resolve().name)
    row = of.runs.row(0, named=True)
    return facts.label_of(row["run"]) if row["kind"] == "loadgen" else str(row["label"])


def _distinct(labels: Sequence[str]) -> list[str]:
    """Give equal labels letters: `sweep (A)`, `sweep (B)`."""
    letters = [chr(ord("A") + place) for place in range(len(labels))]
    return [
        f"{label} ({letter})" if labels.count(label) > 1 else label
        for label, letter in zip(labels, letters, strict=True)
    ]


def _differing(labels: Sequence[str], loads: Sequence[Loaded]) -> dict[str, str]:
    """Return in words, by fact, what a side has nothing of in common with the first, or what nothing can pair."""
    found: dict[str, str] = {}
    for fact, name in IDENTITY.items():
        known = [_known(one, fact, _by_digest(loads)) for one in loads]
        first, *others = map(set, known)
        if fact == "mu" and "inputs" in found:
            continue
        if first and any(other and not first & other for other in others):
            found[fact] = f"the {name} differ{_s(name)} ({_shown(labels, [each.values() for each in known])})"
        elif words := _mixed(labels, loads, fact):
            found[fact] = words
    return found


def _not_recorded(labels: Sequence[str], loads: Sequence[Loaded]) -> list[str]:
    """Say by sides which facts they do not record; those that no side records once."""
    of: dict[tuple[str, ...], list[str]] = {}
    for fact, name in IDENTITY.items():
        absent = [label for label, one in zip(labels, loads, strict=True) if not _known(one, fact, digest=False)]
        if 0 < len(absent) < len(labels) or (absent and fact in OF_ALL):
            of.setdefault(tuple(absent), []).append(name)
    return [
        f"Not recorded, so that it cannot be checked: the {listed(names)} of "
        f"{'any side' if len(absent) == len(labels) else listed(absent)}."
        for absent, names in of.items()
    ]


def _mixed(labels: Sequence[str], loads: Sequence[Loaded], fact: str) -> str:
    """Say that one side has several values of a fact that another does not record, so that nothing can pair them."""
    known = [_known(one, fact, _by_digest(loads)) for one in loads]
    several = [label for label, values in zip(labels, known, strict=True) if len(values) > 1]
    absent = [label for label, values in zip(labels, known, strict=True) if not values]
    if not several or not absent:
        return ""
    name = IDENTITY[fact]
    return f"{listed(several)} has several {name}{_s(name)}, and {listed(absent)} does not record which it has"


def _clients(labels: Sequence[str], loads: Sequence[Loaded]) -> list[str]:
    notes = []
    for fact, name in CLIENT.items():
        known = [{str(value) for value in one.runs[fact].drop_nulls()} for one in loads]
        if len(set().union(*known)) > 1:
            notes.append(f"The {name} differ{_s(name)}: {_shown(labels, known)}.")
    return notes


def _s(name: str) -> str:
    return "" if name.endswith("s") else "s"


def _shown(labels: Sequence[str], known: Sequence[Collection[str]]) -> str:
    """Say what each side has of a fact."""
    values = [listed(sorted(each)) if each else "not recorded" for each in known]
    return ", ".join(f"{label}: {value}" for label, value in zip(labels, values, strict=True))


def _by_digest(loads: Sequence[Loaded]) -> bool:
    """Say whether every side knows the sha256 of its inputs; else their words must do."""
    return all(one.points["inputs_sha256"].is_not_null().all() for one in loads)


def _known(of: Loaded, fact: str, digest: bool) -> dict[str, str]:
    """Return the values of a fact on one side: what must be equal, and how it is shown."""
    rows = of.points.select(list({fact, "inputs_sha256"})).unique().iter_rows(named=True)
    return {_key(row, fact, digest): _value(row, fact) for row in rows if _value(row, fact)}


def _key(row: Mapping[str, Any], fact: str, digest: bool) -> str:
    return str(row["inputs_sha256"]) if fact == "inputs" and digest else str(row[fact])


def _value(row: Mapping[str, Any], fact: str) -> str:
    if fact == "inputs" and row["inputs_sha256"]:
        return f"{row['inputs'] or 'inputs'}, sha256 {row['inputs_sha256'][:SHORT_SHA]}"
    return "" if row[fact] is None else str(row[fact])


def _same_source(labels: Sequence[str], loads: Sequence[Loaded]) -> list[str]:
    notes = []
    for place, one in enumerate(loads):
        sources = set(one.runs["source"].to_list())
        same = [labels[n] for n in range(place) if sources & set(loads[n].runs["source"].to_list())]
        if same:
            notes.append(f"{labels[place]} and {listed(same)} have runs in common: their difference says nothing.")
    return notes


def _takes(of: Loaded, matching: Matching) -> dict[Place, tuple[Take, ...]]:
    values: defaultdict[tuple[str, int], dict[str, Value]] = defaultdict(dict)
    columns = ("run", "point", "quantity", "value", "low", "high")
    for run, point, quantity, value, low, high in of.quantities.select(columns).iter_rows():
        values[run, point][quantity] = Value(value, low, high)
    found: defaultdict[Place, list[Take]] = defaultdict(list)
    to_utc_ns = dict(of.runs.select("run", pl.col("started_utc_ns") - pl.col("started_at_ns")).iter_rows())
    for row in of.points.sort("run", "point").iter_rows(named=True):
        place = _place(row, matching)
        number = 1 + sum(take.run == row["run"] for take in found[place])
        own = values[row["run"], row["point"]]
        said = (row["headline"], row["verdict"], row["reason"] or "")
        shift_ns, began_ns = to_utc_ns[row["run"]], row["window_start_ns"]
        began_utc_ns = None if shift_ns is None or began_ns is None else began_ns + shift_ns
        found[place].append(Take(row["run"], number, own, *said, began_utc_ns, unresolved=_unresolved(own, row)))
    for place, takes in found.items():
        found[place] = [replace(take, repeated=len(takes) > 1) for take in takes]
    return {place: tuple(takes) for place, takes in sorted(found.items())}


def _unresolved(values: Iterable[str], row: Mapping[str, Any]) -> frozenset[str]:
    """Return the percentiles beyond which no request lies: of few, p99 is the longest, and grows with them."""
    finest = 100 - 100 / max(row["completed"] or 0, 1) if row["verdict"] == TOO_FEW else 100.0
    found = {name: PERCENTILE.search(name) for name in values}
    return frozenset(name for name, one in found.items() if one and float(one[1].replace("_", ".")) > finest)


def _place(row: Mapping[str, Any], matching: Matching) -> Place:
    level = row["level"]
    kinds = {"closed_loop": "concurrency", "open_loop": "rate", "standalone": "threads"}
    words = f"{kinds.get(row['load'], row['load'])} {level:g}" if level is not None else str(row["load_words"])
    words += "/s" if row["load"] == "open_loop" and level is not None else ""
    varying = [
        f"{IDENTITY[fact]} {_value(row, fact) or '?'}"
        for fact in IDENTITY
        if fact in matching.varying and not (fact == "mu" and "inputs" in matching.varying)
    ]
    return Place(
        load=row["load"] or "",
        level=-1.0 if level is None else float(level),
        words=", ".join([words, *varying]),
        facts=tuple(_key(row, fact, matching.digest) for fact in IDENTITY if fact not in matching.ignored),
    )


def named(quantity: str, takes: Sequence[Take]) -> str:
    """Return the column that a quantity means for these takes: `p99_ns` is of the time they are judged by."""
    if quantity in HEADLINES or (quantity.startswith("p") and quantity[1:2].isdigit()):
        kinds = {take.headline for take in takes}
        return f"{kinds.pop() if len(kinds) == 1 else 'service'}_{quantity}"
    return quantity
