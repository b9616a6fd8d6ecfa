"""Limits for CI on what changed: `p99_ns > 1.05x`, `throughput_per_s @ all < -3%`, `p99_ns @ 8 > +20ms`. Pure.

A limit is exceeded where the numbers show it: the p-value of "not beyond the limit", adjusted for the points that the
limit speaks of (Holm), is below 5 %. So sides that keep it are failed in at most one comparison of twenty.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from analysis import stats
from analysis.compare.contrast import Contrast
from analysis.compare.verdicts import ALPHA
from loadgen.errors import PlanError
from loadgen.slo import UNITS_NS

FORM = re.compile(
    r"\s*([A-Za-z]\w*?)\s*(?:@\s*(all|any|\d+(?:\.\d+)?)\s*)?([<>])=?\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*"
    r"(x|%|ns|us|ms|s)?\s*"
)
ALIASES = {"throughput": "throughput_per_s"}
SHORT = re.compile(r"mean|p\d+(?:_\d+)?")
MEND = "write QUANTITY [@ LEVEL|all] > CHANGE, as 'p99_ns > 1.05x', 'throughput_per_s < -3%', 'p99_ns @ 8 > +20ms'"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on the change of a quantity: of its ratio (`relative`, then `bound` is a logarithm) or difference.

    `at` is a level, `all` (the whole sweep) or `any` (each point).
    """

    text: str
    quantity: str
    at: str
    more: bool
    bound: float
    relative: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a limit at one place: `exceeded`, `kept`, or `cannot tell`."""

    text: str
    label: str
    place: str
    outcome: str
    p: float | None


def parse(text: str, known: Sequence[str]) -> Limit:
    """Read a limit; `known` are the quantities there are.

    Raises:
        PlanError: it is none, or names no known quantity, or no change.
    """
    found = FORM.fullmatch(text.replace("p99.9", "p99_9"))
    if found is None:
        raise PlanError(f"--fail-if {text!r}: {MEND}")
    name, at, sign, figure, unit = found.groups()
    name = ALIASES.get(name, f"{name}_ns" if SHORT.fullmatch(name) else name)
    if name not in known:
        raise PlanError(f"--fail-if {text!r}: {name} is no quantity of these points; there are {', '.join(known)}")
    value, signed = float(figure), figure[0] in "+-"
    if unit == "x" and value > 0:
        bound, relative = math.log(value), True
    elif unit == "%" and signed and value > -100:  # noqa: PLR2004 - percent
        bound, relative = math.log1p(value / 100), True
    elif signed and at != "all" and unit not in {"x", "%"} and (unit is None or name.endswith("_ns")):
        bound, relative = value * UNITS_NS.get(unit or "", 1.0), False
    else:
        raise PlanError(f"--fail-if {text!r}: {figure}{unit or ''} is no change of {name}; {MEND}")
    return Limit(" ".join(text.split()), name, at or "any", sign == ">", bound, relative)


def decide(limit: Limit, cells: Sequence[tuple[str, str, Contrast | None]]) -> list[Decision]:
    """Decide a limit at the places that it speaks of: (label, place, contrast), None where nothing is known."""
    tested = [cell for cell in cells if cell[2] is not None]
    beyond = stats.holm([_p(limit, contrast, beyond=True) for *_, contrast in tested if contrast is not None])
    within = stats.holm([_p(limit, contrast, beyond=False) for *_, contrast in tested if contrast is not None])
    decided = [
        Decision(limit.text, label, place, _outcome(over, under), over)
        for (label, place, _), over, under in zip(tested, beyond, within, strict=True)
    ]
    unknown = [(label, place) for label, place, contrast in cells if contrast is None]
    return decided + [Decision(limit.text, label, place, "cannot tell", None) for label, place in unknown]


def _p(limit: Limit, contrast: Contrast, *, beyond: bool) -> float:
    return contrast.above(limit.bound) if limit.more == beyond else contrast.below(limit.bound)


def _outcome(over: float, under: float) -> str:
    return "exceeded" if over < ALPHA else "kept" if under < ALPHA else "cannot tell"
