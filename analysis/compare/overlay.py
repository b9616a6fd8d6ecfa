"""Sides over each other against the level, with the ratio to the baseline below: a chart a quantity."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from analysis import stats, theme
from analysis.compare.contrast import Value, geometric
from analysis.compare.result import Comparison, Pair
from analysis.compare.sides import Side, named
from analysis.readable import duration_unit, wrapped

Layers: TypeAlias = alt.LayerChart | alt.FacetChart
UPPER, LOWER = 230, 90
SIZE, BASELINE_SIZE = 40, 150
"""Of marks: the baseline's are seen below others of the same value."""

SUBTITLE_WIDTH = 78
TITLES = {"closed_loop": "Concurrency (requests in flight)", "open_loop": "Request rate asked (1/s)"}
LEVELS = alt.Scale(zero=False, nice=False, padding=14)
RATIOS = ["side", "level", "ratio", "low", "high", "words"]
FIGURE, ERROR_WIDTH = ".4~g", 1.5
NOT_USABLE = "Hollow: there is an objection to this point."


def charts(found: Comparison, sides: Sequence[Side]) -> dict[str, dict[str, Any]]:
    """Return a chart of each quantity that has levels to draw, as Vega-Lite, by the name of its picture."""
    drawn = {}
    for quantity in dict.fromkeys(pair.quantity for pair in found.points):
        chart = _chart(found, sides, quantity)
        if chart is not None:
            drawn[f"compare_{quantity}"] = theme.specification(chart)
    return drawn


def _chart(found: Comparison, sides: Sequence[Side], quantity: str) -> alt.VConcatChart | None:
    pairs = [pair for pair in found.points if pair.quantity == quantity and pair.level is not None]
    rows = [row for side in sides for row in _rows(side, quantity)]
    if not rows or not pairs:
        return None
    unit, scale = _unit(pairs)
    values = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("value", "low", "high") / scale)
    labels = [found.baseline, *found.labels]
    colour = alt.Color("side:N", scale=alt.Scale(domain=labels, range=list(theme.CATEGORIES[: len(labels)])))
    load = pairs[0].load
    upper = _values(values, colour, f"{quantity.rsplit('_ns', 1)[0].replace('_per_s', '')} ({unit})")
    lower = _ratios(pairs, colour, TITLES.get(load, "Level"))
    words = [f"{whole.label}: {whole.words}" for whole in found.whole if whole.quantity == quantity]
    notes = ["SIMULATED: no physics figure."] * found.simulated + [NOT_USABLE] * bool((~values["usable"]).any())
    title = alt.Title(f"{quantity}, against {found.baseline}", subtitle=wrapped([*words, *notes], SUBTITLE_WIDTH))
    chart: alt.VConcatChart = alt.vconcat(upper, lower).resolve_scale(x="shared").properties(title=title)
    return chart


def _rows(side: Side, quantity: str) -> list[dict[str, Any]]:
    found = []
    for place, takes in side.takes.items():
        column = named(quantity, takes)
        known = [take for take in takes if column in take.values]
        usable = [take for take in known if take.usable]
        if place.level < 0 or not known:
            continue
        own = [take.values[column] for take in usable or known]
        value, low, high = _summary(own)
        found.append(
            {
                "side": side.label,
                "level": place.level,
                "value": value,
                "low": low,
                "high": high,
                "usable": bool(usable),
                "takes": len(own),
            }
        )
    return found


def _summary(own: Sequence[Value]) -> tuple[float, float | None, float | None]:
    """Return the value with its 95 % interval: a single take's own, of several by their scatter."""
    values = [one.value for one in own]
    if len(own) == 1 or min(values) <= 0:
        return geometric(values), *((own[0].low, own[0].high) if len(own) == 1 else (None, None))
    return stats.mean_of_takes(values)


def _unit(pairs: Sequence[Pair]) -> tuple[str, float]:
    unit = pairs[0].unit
    if unit != "ns":
        return {"1/s": "events/s", "1": "-"}.get(unit, unit), 1.0
    return duration_unit(max((pair.a or 0.0) for pair in pairs))


def _values(values: pl.DataFrame, colour: alt.Color, title: str) -> Layers:
    tooltip = [alt.Tooltip("side:N"), alt.Tooltip("level:Q")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=FIGURE) for name in ("value", "low", "high")]
    tooltip.append(alt.Tooltip("takes:Q"))
    x = alt.X("level:Q", axis=alt.Axis(labels=False, title=None, tickMinStep=1), scale=LEVELS)
    base = alt.Chart(values).encode(x=x, color=colour, tooltip=tooltip)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=True))
    bars = base.mark_rule(strokeWidth=ERROR_WIDTH).encode(y="low:Q", y2="high:Q")
    first = alt.condition(alt.datum["side"] == values["side"][0], alt.value(BASELINE_SIZE), alt.value(SIZE))
    marks = base.mark_point(opacity=1).encode(
        y=y, size=first, fill=alt.condition("datum.usable", colour, alt.value(theme.WHITE))
    )
    return alt.layer(base.mark_line().encode(y=y), bars, marks).properties(height=UPPER)


def _ratios(pairs: Sequence[Pair], colour: alt.Color, title: str) -> Layers:
    known = [pair for pair in pairs if pair.ratio is not None]
    rows = [(pair.label, pair.level, pair.ratio, pair.ratio_low, pair.ratio_high, pair.words) for pair in known]
    frame = pl.DataFrame(rows, schema=RATIOS, orient="row")
    margin = pairs[0].margin
    band = pl.DataFrame({"low": [1 / (1 + margin)], "high": [1 + margin]})
    x = alt.X("level:Q", title=title, axis=alt.Axis(format="~g", tickMinStep=1), scale=LEVELS)
    y: dict[str, Any] = {
        "title": "B / A",
        "scale": alt.Scale(zero=False),
        "axis": alt.Axis(tickCount=4, format=".3~f"),
    }
    tooltip = [alt.Tooltip("side:N"), alt.Tooltip("level:Q"), alt.Tooltip("words:N")]
    base = alt.Chart(frame).encode(x=x, color=colour, tooltip=tooltip)
    within = alt.Chart(band).mark_rect(color=theme.LIGHT_GREY, opacity=0.7)
    within = within.encode(y=alt.Y("low:Q", **y), y2="high:Q")
    equal = alt.Chart(pl.DataFrame({"one": [1.0]})).mark_rule(strokeDash=[4, 3], color=theme.GREY)
    bars = base.mark_rule(strokeWidth=ERROR_WIDTH).encode(y=alt.Y("low:Q", **y), y2="high:Q")
    marks = base.mark_point(size=SIZE, filled=True, opacity=1).encode(y=alt.Y("ratio:Q", **y))
    return alt.layer(within, equal.encode(y=alt.Y("one:Q", **y)), bars, marks).properties(height=LOWER)
