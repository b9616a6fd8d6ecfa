"""Tracks of a service against those of a standalone run: histograms with Poisson bars, their ratio below (3:1).

A bin without an entry draws nothing, in the ratio if either side has none. Entries beyond the last bin are counted in
the subtitle, not moved into it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import numpy.typing as npt
import polars as pl

from analysis import theme
from analysis.readable import counted, number

Floats = npt.NDArray[np.float64]
SERVICE, STANDALONE = "service", "standalone"
COLOURS = (theme.BLUE, theme.VERMILLION)
RATIO_SHARE = 3
HALF = 0.5
"""Where a logarithmic axis of counts begins: below one entry, above none."""

FULL_SHARE = 99.5
"""Percentile of all entries that bins from zero reach to."""

LEAST_BINS = 5
MOST_RATIO = 4.0
"""Where the axis of the ratio ends at most."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is counted: its axis, the noun of an entry, most bins; `steep` counts span decades, over values from 0."""

    title: str
    noun: str
    bins: int
    steep: bool


CHI2_NDF = Quantity("chi2/ndf of a track", "track", 40, steep=True)
TRACKS = Quantity("Tracks an event", "event", 20, steep=False)


def binned(of: Quantity, sides: Mapping[str, Floats], scale: float = 1.0) -> pl.DataFrame:
    """Return one row a side and bin: `side`, `from`, `to`, `middle`, `entries`, `count`, `low`, `high`.

    `low` and `high` are the count -+ the root of its entries; all three are multiplied by `scale` for the standalone
    run: events of the service over its events.
    """
    edges = _edges(of, np.concatenate([*sides.values()]), min(values.size for values in sides.values()))
    rows = []
    for side, values in sides.items():
        entries, factor = np.histogram(values, edges)[0], scale if side == STANDALONE else 1.0
        counts, root = factor * entries, factor * np.sqrt(entries)
        columns = {"from": edges[:-1], "to": edges[1:], "middle": (edges[:-1] + edges[1:]) / 2}
        columns |= {"entries": entries, "count": counts, "low": counts - root, "high": counts + root}
        rows.append(pl.DataFrame(columns).select(pl.lit(side).alias("side"), pl.all()))
    return pl.concat(rows)


def ratios(table: pl.DataFrame) -> pl.DataFrame:
    """Return standalone over service for each bin that both have entries in, with the Poisson error of both."""
    service, standalone = (table.filter(pl.col("side") == side) for side in (SERVICE, STANDALONE))
    both = service.join(standalone.select("middle", other="entries", others="count"), on="middle").filter(
        (pl.col("entries") > 0) & (pl.col("other") > 0)
    )
    ratio = pl.col("others") / pl.col("count")
    error = ratio * (1 / pl.col("other") + 1 / pl.col("entries")).sqrt()
    return both.select("from", "to", "middle", ratio=ratio, low=ratio - error, high=ratio + error)


def chart(
    of: Quantity, sides: Mapping[str, Floats], subtitle: Sequence[str], scale: float = 1.0
) -> alt.VConcatChart | None:
    """Draw the histogram, with the ratio below where there are two sides; None where there is no entry."""
    entries = {side: values for side, values in sides.items() if values.size}
    if not entries:
        return None
    table = binned(of, entries, scale)
    domain = [float(table["from"][0]), float(table["to"].max())]  # type: ignore[arg-type]
    words = [*subtitle, _amounts(of, entries, domain[1])]
    panels = [_counts(of, table, domain, last=len(entries) == 1)]
    if len(entries) > 1:
        shares = ratios(table)
        words += [f"standalone x {number(scale)}, to as many events"] if scale != 1 else []
        above = shares.filter(pl.col("ratio") > MOST_RATIO).height
        words += [f"{counted(above, 'ratio')} above {MOST_RATIO:g} not shown"] if above else []
        panels.append(_ratio(of, shares, domain))
    joined: alt.VConcatChart = alt.vconcat(*panels, spacing=8)
    return joined.properties(title=alt.TitleParams(of.title, subtitle=words))


def _edges(of: Quantity, values: Floats, fewest: int) -> Floats:
    """Return the edges of the bins: as many as the smaller side can fill, up to the most."""
    bins = min(of.bins, max(LEAST_BINS, round(2 * fewest**0.5)))
    low, high = float(values.min()), float(values.max())
    if of.steep:
        low, high = min(0.0, low), float(np.percentile(values, FULL_SHARE))
    room = 0.05 * (high - low) or 0.5
    return np.linspace(low if of.steep else low - room, high + room, bins + 1)


def _amounts(of: Quantity, sides: Mapping[str, Floats], last: float) -> str:
    words = []
    for side, values in sides.items():
        beyond = int(np.count_nonzero(values > last))
        words.append(f"{side}: {counted(values.size, of.noun)}" + (f", {beyond:,} beyond the axis" if beyond else ""))
    return "; ".join(words)


def _counts(of: Quantity, table: pl.DataFrame, domain: list[float], *, last: bool) -> alt.LayerChart:
    shown = table.filter(pl.col("entries") > 0)
    most, least = float(shown["high"].max()), float(shown["count"].min())  # type: ignore[arg-type]
    least = HALF * min(1.0, least) if of.steep else 0.0
    shown = shown.with_columns(pl.col("low").clip(least))
    scale, decades = alt.Scale(domain=[0, most * 1.05]), None
    if of.steep:
        scale = alt.Scale(type="log", domain=[least, most * 1.3], nice=False)
        decades = [10.0**power for power in range(math.ceil(math.log10(least)), math.ceil(math.log10(most * 1.3)))]
    sides = shown["side"].unique(maintain_order=True).to_list()
    colour = alt.Scale(domain=sides, range=list(COLOURS[: len(sides)]))
    base = alt.Chart(shown).encode(
        color=alt.Color("side:N", scale=colour, legend=alt.Legend() if len(sides) > 1 else None),
        tooltip=[
            alt.Tooltip("side:N"),
            alt.Tooltip("from:Q", format=".4~g"),
            alt.Tooltip("to:Q", format=".4~g"),
            alt.Tooltip("entries:Q", format=","),
        ],
    )
    y = alt.Y("count:Q", title=f"{of.noun.capitalize()}s a bin", scale=scale, axis=_ticked(decades))
    x = _axis(of, domain, shown=last)
    # The standalone's lines are broad, so that they are seen where both sides are equal.
    broad = {"broad": 6.0, "opacity": 0.45}
    parts = [
        _crosses(base.transform_filter(alt.datum.side == side), y, x, **(broad if side == STANDALONE else {}))
        for side in reversed(sides)
    ]
    return _layered(*parts).properties(width=theme.WIDTH, height=theme.HEIGHT)


def _ratio(of: Quantity, table: pl.DataFrame, domain: list[float]) -> alt.LayerChart:
    table = table.filter(pl.col("ratio") <= MOST_RATIO)
    bound = 2.0 if table.is_empty() else max(2.0, 1.1 * float(table["ratio"].max()))  # type: ignore[arg-type]
    table = table.with_columns(pl.col("low").clip(0.0), pl.col("high").clip(None, bound))
    scale = alt.Scale(domain=[0, bound], nice=False)
    base = alt.Chart(table).encode(
        color=alt.value(COLOURS[1]), tooltip=[alt.Tooltip("middle:Q"), alt.Tooltip("ratio:Q", format=".3f")]
    )
    y = alt.Y("ratio:Q", title="standalone / service", scale=scale, axis=alt.Axis(tickCount=4))
    one = alt.Chart(pl.DataFrame({"one": [1.0]})).mark_rule(strokeDash=[4, 3], color=theme.GREY).encode(y="one:Q")
    height = theme.HEIGHT // RATIO_SHARE
    parts = (one, _crosses(base, y, _axis(of, domain, shown=True)))
    return _layered(*parts).properties(width=theme.WIDTH, height=height)


def _crosses(base: alt.Chart, y: alt.Y, x: alt.X, broad: float = 2.0, opacity: float = 1.0) -> alt.LayerChart:
    """Draw each bin as a line of its width with its error bar and a mark in the middle."""
    width = base.mark_rule(strokeWidth=broad, opacity=opacity).encode(x=x, x2="to:Q", y=y)
    bar = base.mark_rule(strokeWidth=1.5, opacity=0.6, clip=True).encode(x="middle:Q", y="low:Q", y2="high:Q")
    mark = base.mark_point(size=22, filled=True, opacity=1, clip=True).encode(x="middle:Q", y=y)
    return _layered(bar, width, mark)


def _layered(*charts: alt.Chart | alt.LayerChart) -> alt.LayerChart:
    chart = alt.layer(*charts)
    assert isinstance(chart, alt.LayerChart)  # a facet only where a chart brings one along
    return chart


def _ticked(values: list[float] | None) -> alt.Axis:
    return alt.Axis(format=",~g") if values is None else alt.Axis(values=values, format=",~g")


def _axis(of: Quantity, domain: list[float], *, shown: bool) -> alt.X:
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    axis = alt.Axis(format=",.4~g") if shown else alt.Axis(labels=False, ticks=False)
    return alt.X("from:Q", title=of.title if shown else None, scale=scale, axis=axis)
