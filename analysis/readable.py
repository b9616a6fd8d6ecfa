"""Figures as people read them: units that fit, few digits, a dash for what is missing."""

import math
import textwrap
from collections.abc import Iterable, Sequence

from loadgen.clock import NS_PER_MS, NS_PER_S

MISSING = "–"  # noqa: RUF001 - an en dash is what stands for "nothing" in a table
SECONDS_FROM_NS = 10 * NS_PER_S
SUBTITLE_LINES = 4
SIGNIFICANT = 4


def duration_unit(longest_ns: float | None) -> tuple[str, int]:
    """Return the unit for durations up to `longest_ns` and its length in ns: ms below 10 s, s from there."""
    return ("s", NS_PER_S) if longest_ns is not None and longest_ns >= SECONDS_FROM_NS else ("ms", NS_PER_MS)


def duration(value_ns: float | None) -> str:
    """Return one duration with its unit: `82.5 ms`, `12.3 s`."""
    if value_ns is None:
        return MISSING
    unit, unit_ns = duration_unit(value_ns)
    return f"{number(value_ns / unit_ns)} {unit}"


def number(value: float | None) -> str:
    """Return a figure with three or four significant digits and never an exponent: `0.0341`, `25.2`, `1,204`."""
    if value is None:
        return MISSING
    size = abs(value)
    if size == 0 or size >= 100:  # noqa: PLR2004 - three digits stand before the point from here
        return f"{value:,.0f}" if size == 0 or size >= 1000 else f"{value:.4g}"  # noqa: PLR2004
    return f"{value:.3g}" if size >= 0.001 else f"{value:.2g}"  # noqa: PLR2004


def column(values: Sequence[float | None]) -> list[str]:
    """Return figures of one column with as many decimals each: four significant digits in the largest."""
    largest = max((abs(value) for value in values if value), default=1.0)
    decimals = min(4, max(0, SIGNIFICANT - 1 - math.floor(math.log10(largest))))
    return [MISSING if value is None else f"{value:,.{decimals}f}" for value in values]


def percent(fraction: float | None) -> str:
    """Return a fraction in percent: `96.3 %`."""
    return MISSING if fraction is None else f"{100 * fraction:.1f} %"


def gibibytes(size_bytes: float | None) -> str:
    """Return a memory size: `3.77 GiB`."""
    return MISSING if size_bytes is None else f"{size_bytes / 2**30:.2f} GiB"


def listed(items: Iterable[object]) -> str:
    """Return a list in words: `1, 2 and 8`."""
    *head, last = map(str, items)
    return f"{', '.join(head)} and {last}" if head else last


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, plural where it must be: `1 point`, `1,204 requests`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def short_names(names: Iterable[str], length: int = 12) -> dict[str, str]:
    """Return each name cut to `length` characters, or more where that would make two of them equal."""
    wanted = sorted(set(names))
    longest = max(map(len, wanted), default=0)
    while length < longest and len({name[:length] for name in wanted}) < len(wanted):
        length += 1
    return {name: name[:length] for name in wanted}


def wrapped(parts: Iterable[str], width: int) -> list[str]:
    """Break texts into lines of a chart's subtitle; at most four, the last one cut with an ellipsis."""
    lines = [line for part in parts for line in textwrap.wrap(part, width)]
    return lines if len(lines) <= SUBTITLE_LINES else [*lines[: SUBTITLE_LINES - 1], "…"]
