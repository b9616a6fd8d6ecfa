"""Two tools on one server, in turns: takes -> what they agree on, as tables, words and charts."""

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import altair as alt
import polars as pl
from rich.console import Console
from rich.table import Column, Table

from analysis import theme
from analysis.equivalence import MARGINS, Agreement, agreement
from analysis.levels import level_text
from analysis.readable import duration, number
from loadgen import atomic

OURS, THEIRS = "loadgen", "perf_analyzer"
HALF_A_STEP_NS = 500
"""perf_analyzer reports whole microseconds."""

BUSY = 0.97
PIPED_WIDTH = 160
RATIO_TICKS = (0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3)
LARGEST_DRAWN = 3.0
"""Ratios beyond this, or below its inverse, are drawn at the edge."""

TAKES: dict[str, pl.DataType] = {
    "block": pl.UInt32(),
    "place": pl.UInt32(),
    "level": pl.Float64(),
    "side": pl.String(),
    **{quantity: pl.Float64() for quantity in MARGINS},
    "completed": pl.Float64(),
    "in_flight": pl.Float64(),
    "failure": pl.String(),
    "where": pl.String(),
}
"""A row a take: `place` is its turn in the block, `where` its file or run; figures are null where it failed."""

AGREEMENTS: dict[str, pl.DataType] = {
    "level": pl.Float64(),
    "quantity": pl.String(),
    "ours": pl.Float64(),
    "theirs": pl.Float64(),
    "ratio": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "margin": pl.Float64(),
    "blocks": pl.UInt32(),
    "verdict": pl.String(),
    "words": pl.String(),
}
"""A row a level and quantity: geometric means of both sides, ours over theirs with its 90 % interval, verdict."""


def agreements(takes: pl.DataFrame, margins: dict[str, float] | None = None) -> pl.DataFrame:
    """Judge every level and quantity that both sides have in at least one block; columns as `AGREEMENTS`.

    perf_analyzer reports whole microseconds, rounded down; half of one is part of the interval.
    """
    rows: list[dict[str, Any]] = []
    for (level,), group in takes.sort("level").group_by("level", maintain_order=True):
        for quantity, margin in (MARGINS | (margins or {})).items():
            known = group.filter(pl.col(quantity) > 0)
            found = _agreement(known, quantity, margin)
            if found is not None:
                means = {side: _geometric(known.filter(pl.col("side") == side)[quantity]) for side in (OURS, THEIRS)}
                rows.append(_row(level, quantity, means, found))
    return pl.DataFrame(rows, schema=AGREEMENTS)


def _agreement(known: pl.DataFrame, quantity: str, margin: float) -> Agreement | None:
    logs = known.with_columns(pl.col(quantity).log()).group_by("block", "side").agg(pl.col(quantity).mean())
    wide = logs.pivot("side", index="block", values=quantity)
    if not {OURS, THEIRS} <= set(wide.columns):
        return None
    differences = wide.drop_nulls([OURS, THEIRS]).select(pl.col(OURS) - pl.col(THEIRS)).to_series().to_list()
    theirs = _geometric(known.filter(pl.col("side") == THEIRS)[quantity])
    rounding = HALF_A_STEP_NS / theirs if quantity.endswith("_ns") else 0.0
    return agreement(differences, margin, rounding) if differences else None


def _geometric(values: pl.Series) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _row(level: object, quantity: str, means: dict[str, float], found: Agreement) -> dict[str, Any]:
    return {
        "level": level,
        "quantity": quantity,
        "ours": means[OURS],
        "theirs": means[THEIRS],
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "margin": found.margin,
        "blocks": found.blocks,
        "verdict": found.verdict,
        "words": found.words,
    }


def lines(found: pl.DataFrame, level_name: str) -> list[list[str]]:
    """Return the agreements as cells, a heading first."""
    head = [level_name, "quantity", OURS, THEIRS, "ratio (90 %)", "blocks", "verdict"]
    return [head, *([*map(str, _cells(row))] for row in found.iter_rows(named=True))]


def _cells(row: dict[str, Any]) -> Iterable[object]:
    shown = duration if row["quantity"].endswith("_ns") else number
    ratio = f"{row['ratio']:.3f}"
    if row["low"] is not None:
        ratio += f" ({row['low']:.3f} to {row['high']:.3f})"
    yield level_text(row["level"])
    yield name_of(row["quantity"])
    yield from (shown(row[side]) for side in ("ours", "theirs"))
    yield from (ratio, row["blocks"], row["words"])


def name_of(quantity: str) -> str:
    """Return a quantity in words: `p99`, `compute infer`, `throughput`."""
    return quantity.removesuffix("_per_s").removesuffix("_ns").replace("_", " ")


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Return cells as a Markdown table."""
    rows = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def doubts(takes: pl.DataFrame) -> list[str]:
    """Return what was lost or looks wrong: failed takes, and takes of theirs in which slots stood idle.

    In a closed loop of N, throughput x mean time is N less what the client lets lie; below 0.97 N their throughput
    lacks what their client lost, and a difference is theirs.
    """
    failed = takes.filter(pl.col("failure") != "")
    said = [
        f"block {row['block']}, level {level_text(row['level'])}: {row['side']}: {row['failure']}"
        for row in failed.iter_rows(named=True)
    ]
    return said + _idle(takes)


def _idle(takes: pl.DataFrame) -> list[str]:
    closed = takes.filter(pl.col("side") == THEIRS, pl.col("in_flight").is_not_null())
    said = []
    for (level,), group in closed.sort("level").group_by("level", maintain_order=True):
        asked = float(str(level))
        share = median(group["in_flight"]) / asked
        if share < BUSY:
            said.append(
                f"level {level_text(asked)}: {THEIRS} kept only {share:.1%} of its slots busy "
                "(throughput x mean time): the rest of the throughput is its client's loss"
            )
    return said


def write(folder: Path, takes: pl.DataFrame, found: pl.DataFrame, level_name: str) -> list[Path]:
    """Write takes and agreements as Parquet, the table as Markdown, and the charts as one page; return the paths."""
    takes.write_parquet(folder / "takes.parquet")
    found.write_parquet(folder / "agreements.parquet")
    said = [f"- {words}" for words in doubts(takes)]
    text = "\n".join([markdown(lines(found, level_name)), "", *said, ""])
    written = [atomic.write(folder / "crosscheck.md", text.encode())]
    if found.is_empty():
        return written
    note = f"{int(found['blocks'].max() or 0)} blocks"  # type: ignore[arg-type]
    charts = alt.vconcat(ratio_chart(found, level_name, note), takes_chart(takes, level_name, note))
    charts = charts.resolve_scale(color="independent")
    with alt.theme.enable("loadgen"):
        page = charts.to_html(inline=True, fullhtml=True)
    return [*written, atomic.write(folder / "crosscheck.html", page.encode())]


def show(found: pl.DataFrame, doubtful: Sequence[str], level_name: str) -> None:
    """Print the table and what is doubtful."""
    head, *rows = lines(found, level_name)
    table = Table(*(Column(name, no_wrap=True) for name in head), box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    if rows:
        console.print(table)
    else:
        console.print("nothing to compare: no level has a take of both sides")
    for words in doubtful:
        console.print(f"! {words}", highlight=False, markup=False)


def ratio_chart(found: pl.DataFrame, level_name: str, note: str) -> alt.LayerChart | alt.FacetChart:
    """Draw every ratio with its interval on its margin, a panel a level."""
    clipped = [pl.col(name).clip(1 / LARGEST_DRAWN, LARGEST_DRAWN).alias(name) for name in ("ratio", "low", "high")]
    data = found.with_columns(
        *clipped,
        of=pl.col("quantity").replace_strict({name: name_of(name) for name in MARGINS}),
        panel=pl.lit(f"{level_name} ") + pl.col("level").map_elements(level_text, pl.String),
        least=1 / (1 + pl.col("margin")),
        most=1 + pl.col("margin"),
    )
    order = [name_of(quantity) for quantity in MARGINS]
    base = alt.Chart().encode(y=alt.Y("of:N", title=None, sort=order))
    scale = alt.Scale(type="log", zero=False, nice=False)
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(
            domain=["equivalent", "different", "cannot tell"], range=[theme.GREEN, theme.VERMILLION, theme.GREY]
        ),
    )
    tooltip = ["of:N", "ours:Q", "theirs:Q", "ratio:Q", "low:Q", "high:Q", "words:N"]
    ticks = alt.Axis(values=list(RATIO_TICKS), format=".2~f", labelOverlap="greedy")
    band = base.mark_bar(color=theme.LIGHT_GREY, height=14).encode(
        x=alt.X("least:Q", scale=scale, title="Ours over theirs", axis=ticks), x2="most:Q"
    )
    rule = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", color=colour)
    dot = base.mark_point(filled=True, size=60, opacity=1).encode(x="ratio:Q", color=colour, tooltip=tooltip)
    layers = alt.layer(band, rule, dot).properties(width=260, height=220)
    title = alt.TitleParams(
        f"{OURS} over {THEIRS}", subtitle=[note, "Line: 90 % interval; grey: differences that do not matter."]
    )
    return layers.facet(alt.Facet("panel:N", title=None, sort=None), data=data, columns=3).properties(title=title)


def takes_chart(takes: pl.DataFrame, level_name: str, note: str) -> alt.FacetChart:
    """Draw throughput and p50 of every take in the order measured, both sides."""
    long = (
        takes.filter(pl.col("failure") == "")
        .sort("level", "block", "place")
        .with_columns(
            turn=(pl.col("block") - 1) * 4 + pl.col("place"),
            panel=pl.lit(f"{level_name} ") + pl.col("level").map_elements(level_text, pl.String),
            throughput=pl.col("throughput_per_s"),
            p50_ms=pl.col("p50_ns") / 1e6,
        )
        .unpivot(["throughput", "p50_ms"], index=["turn", "panel", "side", "block"], variable_name="of")
        .with_columns(of=pl.col("of").replace({"throughput": "Throughput (1/s)", "p50_ms": "p50 (ms)"}))
    )
    chart = (
        alt.Chart(long)
        .mark_point(filled=True, size=45, opacity=0.9)
        .encode(
            x=alt.X("turn:Q", title="Turn", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("side:N", scale=alt.Scale(domain=[OURS, THEIRS], range=[theme.BLUE, theme.ORANGE])),
            shape=alt.Shape("side:N", legend=None),
            tooltip=["block:Q", "side:N", "of:N", "value:Q"],
        )
        .properties(width=260, height=120)
    )
    title = alt.TitleParams("Every take, in turn", subtitle=[note])
    faceted: alt.FacetChart = chart.facet(
        row=alt.Row("of:N", title=None, sort=["Throughput (1/s)", "p50 (ms)"]),
        column=alt.Column("panel:N", title=None, sort=None),
    ).resolve_scale(y="independent")
    return faceted.properties(title=title)
