"""Limits that a run must keep, for use in CI: `p99 > 500ms`, `error_rate > 0.001`, `throughput_per_s < 4`. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadgen.errors import PlanError
from loadgen.slo import UNITS_NS

FORM = re.compile(r"\s*([A-Za-z][\w.]*)\s*(<=|>=|<|>)\s*([-+.\deE]+)\s*(ns|us|ms|s|%)?\s*")
ALIAS = re.compile(r"(mean|std|min|max|p\d+(?:\.\d+)?)")
RATES = ("error_rate", "unsent_rate")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit on a column of the points table; crossing it fails the run."""

    text: str
    quantity: str
    sign: str
    limit: float

    def crossed(self, row: Mapping[str, Any], headline: str) -> bool | None:
        """Say whether a point crosses it; None if the quantity is not known for the point."""
        value = figure(row, self.quantity, headline)
        if value is None:
            return None
        more, at = value > self.limit, value == self.limit
        return {">": more, ">=": more or at, "<": not (more or at), "<=": not more}[self.sign]


def parse(text: str, columns: Mapping[str, object]) -> Threshold:
    """Read a threshold; quantities are numeric columns of the points table, `p99`, `mean`, or `error_rate`.

    A unit makes nanoseconds of a time, and a fraction of `%`.

    Raises:
        PlanError: it is none, or names no known quantity.
    """
    found = FORM.fullmatch(text)
    mend = "write QUANTITY > NUMBER, as 'p99 > 500ms', 'error_rate > 0.001' or 'throughput_per_s < 4'"
    try:
        limit = float(found[3]) if found else math.nan
    except ValueError:
        limit = math.nan
    if found is None or math.isnan(limit):
        raise PlanError(f"--fail-if {text!r}: {mend}")
    name, unit = found[1], found[4]
    if not ALIAS.fullmatch(name) and name not in RATES and name not in columns:
        known = ", ".join(
            [*RATES, "p50", "p99", *(each for each in columns if each.endswith(("_ns", "_per_s")))][:12]
        )
        raise PlanError(f"--fail-if {text!r}: {name} is no known quantity; known are {known}, ...")
    if unit in UNITS_NS and (name in RATES or name.endswith("_per_s")):
        raise PlanError(f"--fail-if {text!r}: {name} is no time; leave out {unit}")
    return Threshold(text, name, found[2], limit / 100 if unit == "%" else limit * UNITS_NS.get(unit or "", 1.0))


def figure(row: Mapping[str, Any], quantity: str, headline: str) -> float | None:
    """Return a quantity of a point; `p99` and the like are of its headline time, `service` or `response`."""
    if quantity == "error_rate":
        ended = row["completed"] + row["failed"]
        return row["failed"] / ended if ended else None
    if quantity == "unsent_rate":
        return row["unsent"] / row["arrived"] if row["arrived"] else None
    name = f"{headline}_{quantity.replace('.', '_')}_ns" if ALIAS.fullmatch(quantity) else quantity
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None
