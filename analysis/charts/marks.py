"""What every chart is put together from: axes, curves with bands, hollow points, ratio panels, titles.

Tables come in as `tidy.CURVE`; a band joins the intervals of neighbouring places, a bar repeats each one, so that a
place alone shows its interval too. Rows without value stay in the table and break line and band.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt
import polars as pl

from analysis import theme
from analysis.charts.registry import Chart
from analysis.charts.tidy import Quantity
from analysis.fitting import wrapped_to

MOST_MARKS = 5000
MOST_SERIES = 8
MOST_TICKS = 16
REACH, LOG_REACH = 1.5, 4.0
DECADES_WITH_FIVES = 2.2
LEAST_GAP = 0.04
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
HOLLOW = "Hollow: there is an objection to this point."
BANDS = {
    "takes": "Bands and bars: 95 % interval over takes (Student's t on their spread).",
    "window": "Bands and bars: 95 % interval within the one window measured.",
    "mixed": "Bands and bars: 95 % interval over takes, or within the window where there is one take.",
}


@dataclass(frozen=True, slots=True)
class Axes:
    """Titles and scales of a panel; `top` fixes the upper end, `log_y` wants values above 0."""

    x: str
    y: str
    unit: str = ""
    log_y: bool = False
    top: float | None = None
    zero: bool = True
    x_labels: bool = True
    x_values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """Colours and shapes of a panel's series, in the legend's order; the legend is left out for one series."""

    names: tuple[str, ...]
    colours: tuple[str, ...] = ()
    legend: bool = True
    columns: int = 3

    def colour(self) -> alt.Color:
        """Encode the series as colour."""
        colours = self.colours or theme.CATEGORIES[: len(self.names)]
        scale = alt.Scale(domain=[*self.names], range=[*colours])
        shown = alt.Legend(columns=self.columns, symbolOpacity=1) if self.legend and len(self.names) > 1 else None
        return alt.Color("series:N", scale=scale, legend=shown)

    def shape(self) -> alt.Shape:
        """Encode the series as shape too, for those who do not see the colours."""
        shapes = [SHAPES[place % len(SHAPES)] for place in range(len(self.names))]
        legend = alt.Legend(columns=self.columns, symbolOpacity=1) if self.legend and len(self.names) > 1 else None
        return alt.Shape("series:N", scale=alt.Scale(domain=[*self.names], range=shapes), legend=legend)


def axes_of(
    quantity: Quantity, x: str, every: tuple[float, ...] = (), *, bare: bool = False, top: float | None = None
) -> Axes:
    """Return the axes of a quantity; `bare` leaves the lower one to the panel below."""
    return Axes(x, quantity.title, quantity.unit, x_labels=not bare, x_values=every, top=top)


def look(of: pl.DataFrame, **options: Any) -> Look:  # noqa: ANN401 - fields of Look
    """Return the look of a table's series in order of appearance; a series named `mean of ...` is black and last."""
    names = of["series"].unique(maintain_order=True).to_list()
    plain = [name for name in names if not str(name).startswith("mean of ")]
    means = [name for name in names if name not in plain]
    colours = [theme.CATEGORIES[place % len(theme.CATEGORIES)] for place in range(len(plain))]
    return Look((*plain, *means), (*colours, *(theme.BLACK for _ in means)), **options)


def curves(  # noqa: PLR0913 - a panel's parts
    of: pl.DataFrame,
    axes: Axes,
    by: Look,
    *,
    width: int | None = None,
    height: int | None = None,
    x: alt.X | None = None,
) -> Any:  # noqa: ANN401 - altair's types
    """Return a panel of curves: band, line, bars, points; hollow where there is an objection."""
    drawn = _positive(of) if axes.log_y else of
    low, high = limits(drawn, axes)
    drawn = drawn.with_columns(drawn_low=pl.col("low").clip(low, high), drawn_high=pl.col("high").clip(low, high))
    base = alt.Chart(drawn).encode(x=x or x_axis(drawn["x"], axes), color=by.colour(), tooltip=_tooltip(axes))
    y, y_low = y_axis("value", drawn, axes), y_axis("drawn_low", drawn, axes)
    layers: list[Any] = []
    if drawn.drop_nulls(["low", "high"]).height:
        layers.append(base.mark_area(opacity=_band_opacity(by)).encode(y=y_low, y2="drawn_high:Q"))
        known = base.transform_filter("isValid(datum.drawn_low) && isValid(datum.drawn_high)")
        layers.append(known.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y=y_low, y2="drawn_high:Q"))
    layers.append(base.mark_line().encode(y=y))
    seen = base.transform_filter("isValid(datum.value)").encode(y=y, shape=by.shape())
    layers.append(seen.mark_point(size=55, filled=True, opacity=1))
    if not drawn.drop_nulls("value")["measured"].all():
        hollow = seen.transform_filter("!datum.measured")
        layers.append(hollow.mark_point(size=55, fill=theme.WHITE, opacity=1, strokeWidth=2))
    return sized(alt.layer(*layers), width, height)


def limits(of: pl.DataFrame, axes: Axes) -> tuple[float | None, float | None]:
    """Return how far intervals are drawn: not so far that one of them squeezes all values together.

    The interval of two takes reaches ten times as far as the values; the tooltip still has its true ends.
    """
    known = of["value"].drop_nulls()
    if known.is_empty():
        return None, None
    least, most = float(known.min()), float(known.max())  # type: ignore[arg-type]
    if axes.log_y:
        return least / LOG_REACH, most * LOG_REACH
    if axes.zero:
        return 0.0, most * REACH
    reach = max(most - least, 0.2 * abs(most))
    return least - reach, most + reach


def reference(at: float) -> alt.Chart:
    """Return a dashed line across at `at`."""
    line: alt.Chart = alt.Chart(pl.DataFrame({"value": [at]})).mark_rule(strokeDash=[5, 4], color=theme.GREY)
    return line.encode(y="value:Q")


def sized(panel: Any, width: int | None = None, height: int | None = None) -> Any:  # noqa: ANN401 - altair's types
    """Give a panel its size, where it is not that of the theme."""
    sizes = {name: size for name, size in (("width", width), ("height", height)) if size is not None}
    return panel.properties(**sizes) if sizes else panel


def stacked(*panels: Any) -> Any:  # noqa: ANN401 - altair's types
    """Return panels below each other: one legend for all, colours shared."""
    return alt.vconcat(*panels, spacing=12).resolve_scale(color="shared", shape="shared")


def grid(panels: Sequence[Any], columns: int) -> Any:  # noqa: ANN401 - altair's types
    """Return panels in rows; colours shared, so that they have one legend."""
    return alt.concat(*panels, columns=columns, spacing=18).resolve_scale(color="shared", shape="shared")


def x_axis(values: pl.Series, axes: Axes, column: str = "x") -> alt.X:
    """Return the axis of loads or counts: ticks at those measured, logarithmic where they would crowd at one end."""
    every = sorted(axes.x_values or set(values))
    low, high = every[0], every[-1]
    shown = ticks(every)
    hidden = alt.Axis(labels=False, ticks=False, title=None, values=shown, grid=False)
    ticked = alt.Axis(values=shown, format=",.4~r", labelOverlap=True, labelSeparation=4) if axes.x_labels else hidden
    crowded = low > 0 and any(right - left < LEAST_GAP * (high - low) for left, right in pairwise(shown))
    title = (f"{axes.x}, log scale" if crowded else axes.x) if axes.x_labels else None
    if crowded:
        scale = alt.Scale(type="log", base=2, domain=[low / 1.15, high * 1.15], nice=False)
    else:
        room = max(0.5, 0.04 * (high - low)) if high >= 1 else max(0.02, 0.06 * (high - low))
        scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    return alt.X(f"{column}:Q", title=title, axis=ticked, scale=scale)


def ticks(levels: Sequence[float]) -> list[float]:
    """Return numbers to label on an axis of loads: the levels measured, or a few of them."""
    wanted = sorted(set(levels))
    step = -(-len(wanted) // MOST_TICKS)
    return wanted[::step]


def y_axis(column: str, of: pl.DataFrame, axes: Axes) -> alt.Y:
    """Return the axis of values: from 0, or logarithmic, or as far as the data go."""
    title = f"{axes.y} ({axes.unit})" if axes.unit else axes.y
    ends = of.select(pl.col("value", "drawn_low", "drawn_high")) if "drawn_low" in of.columns else of.select("value")
    least, most = (
        ends.select(pl.min_horizontal(pl.all()).min()).item(),
        ends.select(pl.max_horizontal(pl.all()).max()).item(),
    )
    if axes.log_y and most:
        scale = alt.Scale(type="log", domain=[least / 1.15, most * 1.15], nice=False)
        return alt.Y(
            f"{column}:Q", title=title, scale=scale, axis=alt.Axis(values=log_ticks(least, most), format=",.3~r")
        )
    if axes.top is not None:
        return alt.Y(f"{column}:Q", title=title, scale=alt.Scale(domain=[0, max(axes.top, most or 0)]))
    if not axes.zero:
        return alt.Y(f"{column}:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=4))
    scale = alt.Scale(domainMin=0, nice=True) if most else alt.Scale(domain=[0, 1])
    return alt.Y(f"{column}:Q", title=title, scale=scale)


def log_ticks(least: float, most: float) -> list[float]:
    """Return what to label on a logarithmic axis: the decades, between them 2 and 5 where there is room."""
    steps = (1, 2, 5) if math.log10(most / least) < DECADES_WITH_FIVES else (1,)
    decades = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 1)
    every = [step * 10.0**decade for decade in decades for step in steps]
    return [tick for tick in every if least / 1.15 <= tick <= most * 1.15]


def entitled(panel: Any, title: str, points: pl.DataFrame, *notes: str) -> Chart:  # noqa: ANN401 - altair's types
    """Give a chart its title; below it what was measured, on what, whether simulated, and notes."""
    simulated = "simulated" in points.columns and bool(points["simulated"].any())
    parts = [*([_simulated(points["simulated"])] if simulated else []), *subject(points), *filter(None, notes)]
    if "left_out" in points.columns and points.height:
        parts.append(points["left_out"][0])
    colour = theme.WARNING if simulated else theme.GREY
    lines = wrapped_to(parts, theme.WIDTH + 45, 11)
    parameters = alt.TitleParams(title, subtitle=lines, subtitleColor=colour)
    done: Chart = panel.properties(title=parameters, usermeta={"title": title, "subtitle": parts})
    return done


def _simulated(of: pl.Series) -> str:
    return f"{'SIMULATED' if of.fill_null(value=False).all() else 'PARTLY SIMULATED'}: not a physics figure."


def subject(points: pl.DataFrame) -> list[str]:
    """Return what the points were measured on, in a line: model, server, instances, inputs; how many if several."""
    model, server = (_one_or_count(points, name, noun) for name, noun in (("model", "models"), ("server", "servers")))
    counts = []
    for column, noun in (("instances", "instance"), ("gpus", "GPU")):
        known = points[column].unique() if column in points.columns else pl.Series([], dtype=pl.Float64)
        if len(known) == 1 and known[0] is not None:
            counts.append(f"{known[0]:g} {noun}{'s' * (known[0] != 1)}")
    on = [" on ".join(filter(None, (model, server)))]
    inputs = _one_or_count(points, "inputs", "inputs")
    line = ", ".join(part for part in (*on, *counts, inputs) if part)
    kinds = points["kind"].drop_nulls().unique().sort().to_list() if "kind" in points.columns else []
    foreign = [kind for kind in kinds if kind != "loadgen"]
    return [*([line] if line else []), *(["Data: " + ", ".join(kinds) + "."] if foreign else [])]


def band_words(*of: pl.DataFrame) -> str:
    """Return what the intervals of these curves are; empty where they have none."""
    known = pl.concat([each.select("low", "high", "takes") for each in of]).drop_nulls(["low", "high"])
    if known.is_empty():
        return ""
    several, alone = (known["takes"] > 1).any(), (known["takes"] <= 1).any()
    return BANDS["mixed" if several and alone else "takes" if several else "window"]


def hollow_words(*of: pl.DataFrame) -> str:
    """Return the sentence on hollow points where there are any."""
    known = pl.concat([each.select("value", "measured") for each in of]).drop_nulls("value")
    return "" if known["measured"].all() else HOLLOW


def _one_or_count(points: pl.DataFrame, column: str, noun: str) -> str:
    every = points[column].unique() if column in points.columns else pl.Series([], dtype=pl.String)
    known = every.drop_nulls()
    if len(known) > 1:
        return f"{len(known)} {noun}"
    absent = f" (some {noun} not recorded)" if len(every) > len(known) else ""
    return f"{known[0]}{absent}" if len(known) else ""


def _tooltip(axes: Axes) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("series:N", title="of"),
        alt.Tooltip("x:Q", title=axes.x.split(" (")[0].lower(), format=",.4~r"),
        alt.Tooltip("value:Q", title=axes.unit or axes.y.lower(), format=",.4~g"),
        alt.Tooltip("low:Q", title="95 % from", format=",.4~g"),
        alt.Tooltip("high:Q", title="95 % to", format=",.4~g"),
        alt.Tooltip("takes:Q"),
        alt.Tooltip("note:N", title="objection"),
    ]


def _band_opacity(by: Look) -> float:
    """Return the opacity of a band: many of them over each other would be mud."""
    return 0.16 if len(by.names) <= 2 else 0.08  # noqa: PLR2004 - two can be told apart


def _positive(of: pl.DataFrame) -> pl.DataFrame:
    """Make null what a logarithmic axis cannot show."""
    names = [name for name in ("value", "low", "high") if name in of.columns]
    return of.with_columns(pl.when(pl.col(name) > 0).then(pl.col(name)).alias(name) for name in names)


def tips(*of: str) -> list[alt.Tooltip]:
    """Return tooltips, each written `column|title|format`, the last two where needed."""
    return [_tip(*each.split("|")) for each in of]


def _tip(column: str, title: str = "", style: str = "") -> alt.Tooltip:
    return alt.Tooltip(column, title=title or alt.Undefined, format=style or alt.Undefined)


def noted(panel: Chart, words: str) -> Chart:
    """Add a sentence to a finished chart's subtitle; none changes nothing."""
    if not words:
        return panel
    told: dict[str, Any] = panel.usermeta
    parts = [*told["subtitle"], words]
    title = panel.title.copy()
    title.subtitle = wrapped_to(parts, theme.WIDTH + 45, 11)
    done: Chart = panel.properties(title=title, usermeta={**told, "subtitle": parts})
    return done
