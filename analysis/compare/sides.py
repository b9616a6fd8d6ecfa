"""What is compared: a side is whatever one argument names, its takes by point; sides must be of the same thing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.compare.contrast import Value
from analysis.readable import listed
from analysis.sources import load
from analysis.tidy import Loaded
from loadgen.errors import PlanError
from loadgen.verdict import USABLE

IDENTITY = {
    "inputs": "inputs",
    "model": "model",
    "model_version": "version of the model",
    "server_version": "version of the server",
    "server": "server",
    "instances": "instances",
    "gpus": "GPUs",
}
"""Facts that must be equal; where two inputs both have a sha256 it decides, else their words do."""

CLIENT = {"host": "client host", "transport": "transport", "connections": "connections", "workers": "workers"}
"""Facts whose difference is noted."""

HEADLINES = ("mean_ns", "std_ns", "min_ns", "max_ns")
SHORT_SHA = 12


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Which points are of the same load: what makes a pair. `words` is the level, or the load where it has none."""

    load: str
    level: float
    words: str
    model: str
    inputs: str


@dataclass(frozen=True, slots=True)
class Take:
    """One measured point: its quantities, its verdict, and which take it is (run and how many-th of its load)."""

    run: str
    number: int
    values: Mapping[str, Value]
    headline: str
    verdict: str | None
    reason: str

    @property
    def usable(self) -> bool:
        """Whether its numbers may be used; another tool's points have no verdict."""
        return self.verdict is None or self.verdict in USABLE


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
    split = [_labelled(path) for path in paths]
    loads = [load(path) for _, path in split]
    labels = _distinct([label or _own_label(one, path) for one, (label, path) in zip(loads, split, strict=True)])
    differing, notes = _differences(labels, loads)
    if differing and not anyway:
        words = "; ".join(differing.values())
        raise PlanError(f"not compared, for they are not of the same thing: {words}; --anyway compares them")
    notes = [f"Compared anyway: {words}." for words in differing.values()] + notes
    sides = [side_of(label, one, set(differing)) for label, one in zip(labels, loads, strict=True)]
    return sides, [*notes, *_same_source(labels, loads), *(note for one in loads for note in one.notes)]


def side_of(label: str, of: Loaded, ignored: Iterable[str] = ()) -> Side:
    """Return loaded tables as a side; points pair over `ignored` facts (`model`, `inputs`) that differ."""
    return Side(label, of, _takes(of, set(ignored)))


def _labelled(text: str | Path) -> tuple[str | None, Path]:
    label, sign, path = str(text).partition("=")
    if sign and label and "/" not in label and not Path(text).exists():
        return label, Path(path)
    return None, Path(text)


def _own_label(of: Loaded, path: Path) -> str:
    return str(of.runs["label"][0]) if of.runs.height == 1 else path.name or str(path.resolve().name)


def _distinct(labels: Sequence[str]) -> list[str]:
    """Give equal labels letters: `sweep (A)`, `sweep (B)`."""
    letters = [chr(ord("A") + place) for place in range(len(labels))]
    return [
        f"{label} ({letter})" if labels.count(label) > 1 else label
        for label, letter in zip(labels, letters, strict=True)
    ]


def _differences(labels: Sequence[str], loads: Sequence[Loaded]) -> tuple[dict[str, str], list[str]]:
    """Return what differs in words by fact, and notes on the client's differences and on what is not known."""
    differing, notes = {}, []
    for fact, name in IDENTITY.items():
        known = [_known(one, fact) for one in loads]
        if len({value for values in known for value in values}) > 1:
            differing[fact] = f"the {name} differ{'' if name.endswith('s') else 's'} ({_shown(labels, known)})"
        absent = [label for label, values in zip(labels, known, strict=True) if not values]
        if 0 < len(absent) < len(labels):
            notes.append(f"Not recorded, so that it cannot be checked: the {name} of {listed(absent)}.")
    for fact, name in CLIENT.items():
        known = [_known(one, fact) for one in loads]
        if len({value for values in known for value in values}) > 1:
            notes.append(f"The {name} differ{'' if name.endswith('s') else 's'}: {_shown(labels, known)}.")
    return differing, notes


def _shown(labels: Sequence[str], known: Sequence[set[Any]]) -> str:
    """Say what each side has of a fact."""
    values = [listed(sorted(map(str, each))) if each else "not recorded" for each in known]
    return ", ".join(f"{label}: {value}" for label, value in zip(labels, values, strict=True))


def _known(of: Loaded, fact: str) -> set[Any]:
    """Return the values of a fact on one side; inputs by their sha256 where they have one."""
    if fact != "inputs":
        return set(of.runs[fact].drop_nulls().to_list())
    rows = of.runs.select("inputs", "inputs_sha256").iter_rows()
    return {
        f"{inputs or 'inputs'}, sha256 {digest[:SHORT_SHA]}" if digest else inputs
        for inputs, digest in rows
        if inputs or digest
    }


def _same_source(labels: Sequence[str], loads: Sequence[Loaded]) -> list[str]:
    notes = []
    for place, one in enumerate(loads):
        sources = set(one.runs["source"].to_list())
        same = [labels[n] for n in range(place) if sources & set(loads[n].runs["source"].to_list())]
        if same:
            notes.append(f"{labels[place]} and {listed(same)} have runs in common: their difference says nothing.")
    return notes


def _takes(of: Loaded, ignored: set[str]) -> dict[Place, tuple[Take, ...]]:
    values: defaultdict[tuple[str, int], dict[str, Value]] = defaultdict(dict)
    columns = ("run", "point", "quantity", "value", "low", "high")
    for run, point, quantity, value, low, high in of.quantities.select(columns).iter_rows():
        values[run, point][quantity] = Value(value, low, high)
    found: defaultdict[Place, list[Take]] = defaultdict(list)
    for row in of.points.sort("run", "point").iter_rows(named=True):
        place = _place(row, ignored)
        number = 1 + sum(take.run == row["run"] for take in found[place])
        own = values[row["run"], row["point"]]
        found[place].append(Take(row["run"], number, own, row["headline"], row["verdict"], row["reason"] or ""))
    return {place: tuple(takes) for place, takes in sorted(found.items())}


def _place(row: Mapping[str, Any], ignored: set[str]) -> Place:
    level = row["level"]
    kinds = {"closed_loop": "concurrency", "open_loop": "rate", "standalone": "threads"}
    words = f"{kinds.get(row['load'], row['load'])} {level:g}" if level is not None else str(row["load_words"])
    return Place(
        load=row["load"] or "",
        level=-1.0 if level is None else float(level),
        words=words + ("/s" if row["load"] == "open_loop" and level is not None else ""),
        model="" if "model" in ignored else row["model"] or "",
        inputs="" if "inputs" in ignored else row["inputs"] or "",
    )


def named(quantity: str, takes: Sequence[Take]) -> str:
    """Return the column that a quantity means for these takes: `p99_ns` is of the time they are judged by."""
    if quantity in HEADLINES or (quantity.startswith("p") and quantity[1:2].isdigit()):
        kinds = {take.headline for take in takes}
        return f"{kinds.pop() if len(kinds) == 1 else 'service'}_{quantity}"
    return quantity
