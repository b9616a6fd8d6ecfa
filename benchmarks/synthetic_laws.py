"""Draw synthetic events against the numbers they are made after: `synthetic_laws.py OUT.png [REAL.csv]`.

Top: rows an event against pile-up, with the published 1,980 rows an interaction. Middle: cells of a cluster by kind
of module, with the fractions of a ten-muon event. Bottom: share of the cells by layer, beside a real CSV if given.
"""

import sys
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from inputs import synthetic, traccc

PILE_UPS = (20, 40, 60, 80, 100, 140, 200, 300)
KINDS = {16: "pixel", 17: "pixel", 18: "pixel", 23: "short strip", 24: "short strip", 25: "short strip"}
GIVEN = {
    "pixel": (0.16, 0.32, 0.19, 0.09, 0.10, 0.04, 0.02, 0.02, 0.01, 0.05),
    "short strip": (0.68, 0.26, 0.04, 0.005),
    "long strip": (0.73, 0.21, 0.03, 0.01),
}
EVENTS = 10


def sizes() -> Any:
    """Rows of ten events at each pile-up, and the line they should follow."""
    rows = [
        {"mu": mu, "rows": event.cells.height, "source": "synthetic, 10 events"}
        for mu in PILE_UPS
        for event in synthetic.events(mu, EVENTS, seed=1)
    ]
    line = [{"mu": mu, "rows": 1980 * mu, "source": "1,980 rows an interaction"} for mu in (0, 300)]
    x, y = alt.X("mu:Q", title="pile-up mu"), alt.Y("rows:Q", title="rows an event")
    points = alt.Chart(pl.DataFrame(rows)).mark_point().encode(x=x, y=y, color="source:N")
    return points + alt.Chart(pl.DataFrame(line)).mark_line().encode(x=x, y=y, color="source:N")


def kinds(cells: pl.DataFrame) -> pl.DataFrame:
    """Add volume, layer and kind of module to cells."""
    volume = (pl.col("geometry_id") // 2**56).cast(pl.Int64)
    layer = (pl.col("geometry_id") // 2**36 % 2**12).cast(pl.Int64)
    kind = volume.replace_strict(KINDS, default="long strip")
    return cells.with_columns(volume=volume, layer=layer, kind=kind)


def clusters(cells: pl.DataFrame) -> Any:
    """Fractions of clusters by their number of cells."""
    unique = kinds(cells).unique(["geometry_id", "channel0", "channel1"])
    found = unique.group_by("kind", "measurement_id").len("cells").with_columns(pl.col("cells").clip(1, 10))
    shares = found.group_by("kind", "cells").len("n").with_columns(share=pl.col("n") / pl.col("n").sum().over("kind"))
    made = shares.select("kind", pl.col("cells").cast(pl.Int64), "share", source=pl.lit("synthetic, mu 200"))
    given = pl.DataFrame(
        [(kind, k, share, "ten-muon event") for kind, law in GIVEN.items() for k, share in enumerate(law, 1)],
        schema=["kind", "cells", "share", "source"],
        orient="row",
    )
    bars = alt.Chart(pl.concat([made, given])).mark_bar()
    x = alt.X("cells:O", title="cells of a cluster (10: or more)")
    return bars.encode(
        x=x, xOffset="source:N", y=alt.Y("share:Q", title="share of clusters"), color="source:N", column="kind:N"
    ).properties(width=200, height=160)


def layers(cells: pl.DataFrame, real: Path | None) -> Any:
    """Share of cells by volume and layer."""
    tables = {"synthetic, mu 200": cells} | ({"ten-muon event": traccc.read_cells(real)} if real else {})
    shares = [
        kinds(table)
        .group_by("volume", "layer")
        .len("n")
        .select(
            place=pl.format("{} / {}", "volume", "layer"),
            share=pl.col("n") / table.height,
            source=pl.lit(name),
        )
        for name, table in tables.items()
    ]
    x = alt.X("place:N", title="volume / layer", sort=None)
    return (
        alt.Chart(pl.concat(shares).sort("place"))
        .mark_bar()
        .encode(x=x, xOffset="source:N", y=alt.Y("share:Q", title="share of cells"), color="source:N")
        .properties(width=760, height=160)
    )


def main() -> None:
    """Draw the three into one picture."""
    out, *real = map(Path, sys.argv[1:])
    (event,) = synthetic.events(200, 1, seed=1)
    top = sizes().properties(width=760, height=180)
    parts = alt.vconcat(top, clusters(event.cells), layers(event.cells, real[0] if real else None))
    parts.resolve_scale(color="independent").save(out, scale_factor=1.5)


if __name__ == "__main__":
    main()
