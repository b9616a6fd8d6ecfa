"""How evenly a balancer spread each window's requests over the replicas of the server."""

import polars as pl

from analysis.levels import axis, level_text, levelled
from analysis.readable import counted, listed, number, percent

IMBALANCE_SCHEMA: dict[str, pl.DataType] = {
    "point": pl.UInt32(),
    "replicas": pl.UInt32(),
    "imbalance": pl.Float64(),
    "variation": pl.Float64(),
    "chance": pl.Float64(),
}
UNEVEN = 0.10
"""Imbalance from which the summary calls a spread uneven, if it is also three times what chance does."""

CHANCES = 3.0
HEADINGS = (("Replica", True), ("Requests", False), ("Share, %", False), ("Imbalance", False), ("Variation", False))


def imbalance(replicas: pl.DataFrame) -> pl.DataFrame:
    """Return how uneven each point's shares are; columns as `IMBALANCE_SCHEMA`, no row where shares are not known.

    `imbalance` is the busiest replica's share times their number, minus 1: by how much it has more than an even share
    (0: even; n - 1: one has all). `variation` is the coefficient of variation of the shares, which all of them enter.
    `chance` is the variation to expect if each request went to any replica at random: sqrt((n - 1) / requests).
    """
    share, count = pl.col("share"), pl.len()
    found = (
        replicas.group_by("point")
        .agg(
            replicas=count.cast(pl.UInt32),
            imbalance=share.max() * count - 1,
            variation=share.std(ddof=0) * count,
            chance=((count - 1) / pl.col("requests").sum()).sqrt(),
            known=share.is_not_null().all(),
        )
        .filter(pl.col("known"))
    )
    return found.select(pl.col(name).cast(kind) for name, kind in IMBALANCE_SCHEMA.items()).sort("point")


def words(points: pl.DataFrame, replicas: pl.DataFrame) -> tuple[str, bool] | None:
    """Say how the requests were spread at the most uneven point, and whether that is even; None for one replica."""
    found = imbalance(replicas).filter(pl.col("replicas") > 1)
    if found.is_empty():
        return None
    worst = found.sort("imbalance", descending=True).row(0, named=True)
    of_point = replicas.filter(pl.col("point") == worst["point"]).sort("share", descending=True)
    level = levelled(points).filter(pl.col("point") == worst["point"])["level"]
    where = f"{axis(points).noun} {level_text(level[0])}"
    even = worst["imbalance"] < UNEVEN or worst["variation"] < CHANCES * worst["chance"]
    spread = f"{counted(worst['replicas'], 'replica')} shared the requests"
    if even:
        return f"{spread} evenly: the busiest had {percent(of_point['share'][0])} of them at {where}.", True
    idle = of_point.filter(pl.col("requests") == 0)["replica"].to_list()
    of_idle = f" {listed(idle)} had none." if idle else ""
    busiest = f"{of_point['replica'][0]} had {percent(of_point['share'][0])} of them"
    return (
        f"{spread} unevenly: at {where} {busiest}, {percent(worst['imbalance'])} above an even share.{of_idle}",
        False,
    )


def rows(points: pl.DataFrame, replicas: pl.DataFrame) -> list[list[str]]:
    """Return a row of text for each point and replica, below the level and `HEADINGS`; none for one replica."""
    found = {row["point"]: row for row in imbalance(replicas).iter_rows(named=True)}
    if replicas.is_empty() or replicas.group_by("point").len()["len"].max() == 1:
        return []
    levels = dict(levelled(points).select("point", "level").iter_rows())
    return [
        [
            level_text(levels[row["point"]]),
            row["replica"],
            number(row["requests"]),
            number(None if row["share"] is None else 100 * row["share"]),
            *(number(found.get(row["point"], {}).get(name)) for name in ("imbalance", "variation")),
        ]
        for row in replicas.iter_rows(named=True)
        if row["point"] in levels
    ]
