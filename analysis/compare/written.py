"""A comparison as text for a terminal, as Markdown for a pull request, and as JSON. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import msgspec

from analysis.compare.result import ALL_POINTS, Comparison, Pair
from analysis.readable import MISSING, counted, duration, listed, number

SIMULATED = "SIMULATED: a stand-in model, a stub or synthetic inputs; no physics figure."
HEADINGS = ("load", "quantity", "A", "B", "B - A", "B / A", "takes", "verdict")
NAMED_PLACES, NAMED_UNSTEADY = 4, 6
RULE = (
    "Intervals are 95 %. Verdicts and limits hold together for all points of a quantity (Holm): of sides that are "
    "equal at every point, one comparison in twenty names a point different."
)


def text(found: Comparison) -> str:
    """Return the whole comparison for a terminal: sentences, a table a side, limits, notes."""
    parts = [*_simulated(found), *_answers(found), ""]
    for label in found.labels:
        rows = [_cells(pair) for pair in _of(found, label)]
        parts += [f"A = {found.baseline}, B = {label}", *_aligned([HEADINGS, *rows]), ""]
    return "\n".join([*parts, *_limits(found), *_remarks(found), RULE]) + "\n"


def markdown(found: Comparison) -> str:
    """Return a comment for a pull request: the answer first, the points folded away."""
    parts = [f"**{line}**" for line in _simulated(found)] + [""] * found.simulated
    parts += [f"- {_escaped(line)}" for line in _answers(found)]
    parts += [f"- {_escaped(line)}" for line in _limits(found)]
    for label in found.labels:
        pairs = _of(found, label)
        title = f"{counted(len(pairs), 'row')}: A = {found.baseline}, B = {label}"
        parts += ["", f"<details><summary>{_html(title)}</summary>", "", *_table(pairs), "", "</details>"]
    parts += ["", *(f"> {_escaped(line)}\n>" for line in _remarks(found)), f"> {RULE}"]
    return "\n".join(parts) + "\n"


def json(found: Comparison) -> str:
    """Return everything found as one JSON object: the fields of `Comparison`, and `failed`."""
    return msgspec.json.format(msgspec.json.encode(asdict(found) | {"failed": found.failed})).decode()


def _simulated(found: Comparison) -> list[str]:
    return [SIMULATED] if found.simulated else []


def _answers(found: Comparison) -> list[str]:
    """Say of each quantity what the whole sweep shows, and how many points agree."""
    said = [] if found.whole else ["No verdict: no point has an interval on both sides. The values are below."]
    for whole in found.whole:
        points = [one for one in found.points if (one.label, one.quantity) == (whole.label, whole.quantity)]
        verdicts = Counter(one.verdict for one in points)
        counts = listed(f"{verdict} at {count}" for verdict, count in verdicts.most_common())
        said.append(f"{whole.label} against {found.baseline}, {whole.quantity}: {whole.words} [{counts}]")
    return said


def _of(found: Comparison, label: str) -> list[Pair]:
    return [pair for pair in (*found.whole, *found.points) if pair.label == label]


def _cells(pair: Pair) -> tuple[str, ...]:
    return (
        pair.place,
        pair.quantity,
        _figure(pair.a, pair),
        _figure(pair.b, pair),
        _difference(pair),
        _ratio(pair),
        f"{pair.takes_a} + {pair.takes_b}",
        pair.words,
    )


def _figure(value: float | None, pair: Pair) -> str:
    return duration(value) if pair.unit == "ns" else number(value)


def _difference(pair: Pair) -> str:
    if pair.place == ALL_POINTS or pair.difference is None:
        return MISSING
    sign = "+" if pair.difference > 0 else ""
    value = f"{sign}{_figure(pair.difference, pair)}"
    if pair.difference_low is None or pair.difference_high is None:
        return value
    return f"{value} ({_figure(pair.difference_low, pair)} to {_figure(pair.difference_high, pair)})"


def _ratio(pair: Pair) -> str:
    if pair.ratio is None:
        return MISSING
    if pair.ratio_low is None or pair.ratio_high is None:
        return f"{pair.ratio:.3f}"
    return f"{pair.ratio:.3f} ({pair.ratio_low:.3f} to {pair.ratio_high:.3f})"


def _limits(found: Comparison) -> list[str]:
    """Say what became of each limit: exceeded where, or kept; shown to be kept, or not shown to be exceeded."""
    said = []
    for limit in dict.fromkeys(decision.text for decision in found.decisions):
        of = [decision for decision in found.decisions if decision.text == limit]
        beyond, unsure = (
            [f"{one.place} of {one.label}" for one in of if one.outcome == outcome]
            for outcome in ("exceeded", "cannot tell")
        )
        word = "FAILED" if beyond or (found.strict and unsure) else "passed"
        found_at = {"exceeded": beyond, "cannot tell": unsure}
        detail = [f"{outcome} at {_few(places)}" for outcome, places in found_at.items() if places]
        said.append(f"{word}: {limit}: {'; '.join(detail) or 'shown to be kept everywhere'}")
    return said


def _few(places: Sequence[str]) -> str:
    return listed(places) if len(places) <= NAMED_PLACES else f"{len(places)} points"


def _remarks(found: Comparison) -> Sequence[str]:
    """Return what must be known besides; of points not to be used the first few by name."""
    named = found.unsteady[:NAMED_UNSTEADY]
    further = len(found.unsteady) - len(named)
    more = [f"... and {counted(further, 'further point')} not to be used (all are in --json)"] if further else []
    return [*named, *more, *found.unpaired, *found.notes]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _table(pairs: Sequence[Pair]) -> list[str]:
    rows = [HEADINGS, tuple("---" for _ in HEADINGS), *(tuple(map(_escaped, _cells(pair))) for pair in pairs)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _escaped(words: str) -> str:
    """Keep what a user named from being read as Markdown or HTML."""
    return _html(words).replace("|", "\\|").replace("`", "'").replace("\n", " ")


def _html(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
