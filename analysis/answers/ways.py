"""Digests of a run's answers -> in how many ways each event was answered, where, and what of the tracks differs.

A way is one digest of one body; ways are numbered in the order in which they came. Answers that were kept whole are
decoded, so that a mere change of order or of rounding, as of threads on a GPU, is told from other tracks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.answers.difference import difference
from analysis.readable import counted, listed, number
from analysis.runs import Run
from loadgen import kept, tracks
from loadgen.errors import PlanError
from loadgen.tracks import Found

MOST_TOLD = 5
FIRST = "–"  # noqa: RUF001 - an en dash is what stands for "nothing" in a table

WAYS_SCHEMA: dict[str, pl.DataType] = {
    "body": pl.UInt32(),
    "event": pl.String(),
    "way": pl.UInt32(),
    "digest": pl.String(),
    "answers": pl.UInt32(),
    "points": pl.List(pl.UInt32()),
    "first_point": pl.UInt32(),
    "first_load": pl.String(),
    "kept": pl.Boolean(),
    "tracks": pl.UInt32(),
    "chi2_sum": pl.Float64(),
    "ndf_sum": pl.Float64(),
    "against_first": pl.String(),
}
"""One row a way: how often it came (`answers`), in which points and where first, the sums over its tracks where the
answer was kept whole (else null), and how it differs from the event's first way in words."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A run's answers, reduced: `ways` as `WAYS_SCHEMA`, `first` the decoded first way of each event that was kept.

    `lost` answers came, but a killed worker had no time to keep their digest.
    """

    ways: pl.DataFrame
    first: Mapping[int, Found]
    lost: int = 0
    in_sequences: bool = False


def read(run: Run) -> Answers:
    """Reduce the answers of a run.

    Raises:
        PlanError: the run recorded none, or a file is damaged.
    """
    counts = _counts(run)
    lost = int(counts.filter(pl.col("digest").is_null())["answers"].sum())
    ordered = (
        counts.drop_nulls("digest")
        .sort("first_ns")
        .group_by("body", "digest", maintain_order=True)
        .agg(pl.col("answers").sum(), points=pl.col("point").unique().sort(), first_point=pl.col("point").first())
        .with_columns(way=pl.col("digest").cum_count().over("body"))
        .sort("body", "way")
    )
    found = _kept(run)
    first = {
        row["body"]: found[row["body"], row["digest"]]
        for row in ordered.filter(pl.col("way") == 1).iter_rows(named=True)
        if (row["body"], row["digest"]) in found
    }
    bodies, loads = run.corpus.get("bodies", []), _loads(run)
    rows = [_way(row, bodies, loads, found, first) for row in ordered.iter_rows(named=True)]
    in_sequences = any(body.get("step") for body in bodies)
    return Answers(pl.DataFrame(rows, schema=WAYS_SCHEMA), first, lost, in_sequences)


def sentences(answers: Answers) -> list[str]:
    """Return what is to be said of the answers, the verdict first."""
    ways = answers.ways
    if ways.is_empty():
        return ["No request was answered."]
    each = ways.group_by("body", maintain_order=True).agg(pl.col("answers").sum(), ways=pl.len())
    changed = each.filter(pl.col("ways") > 1)["body"].to_list()
    told = [_changed(ways.filter(pl.col("body") == body)) for body in changed[:MOST_TOLD]]
    if len(changed) > MOST_TOLD:
        told.append(f"{counted(len(changed) - MOST_TOLD, 'further event')} changed too.")
    if changed:
        told.insert(0, f"{len(changed)} of {counted(each.height, 'event')} did not always get the same answer.")
    else:
        told.append(_alike(each))
    if changed and answers.in_sequences:
        told.append("The requests are steps of sequences: an answer may depend on those before it.")
    if answers.lost:
        told.append(f"{counted(answers.lost, 'answer')} came without a digest: a worker was killed.")
    return told


def _alike(each: pl.DataFrame) -> str:
    counts = each["answers"].to_list()
    fewest, most, total = min(counts), max(counts), sum(counts)
    if most == 1:
        return f"Every event was answered once ({counted(each.height, 'event')}): there is nothing to compare."
    times = f"{fewest:,} times" if fewest == most else f"{fewest:,} to {most:,} times"
    return f"Every event was answered alike {times}: {counted(each.height, 'event')}, {counted(total, 'answer')}."


def _changed(ways: pl.DataFrame) -> str:
    first, second = ways.row(0, named=True), ways.row(1, named=True)
    times = listed(f"{count:,}" for count in ways["answers"].to_list())
    where = f"first at {second['first_load']} (point {second['first_point']})"
    head = f"{first['event']} was answered in {ways.height} ways, {where}; {times} times"
    told = dict.fromkeys(ways["against_first"].to_list()[1:])
    return f"{head}: {'; '.join(told)}."


def _way(
    row: Mapping[str, Any],
    bodies: list[dict[str, Any]],
    loads: Mapping[int, str],
    found: Mapping[tuple[int, int], Found],
    first: Mapping[int, Found],
) -> dict[str, Any]:
    body, own = row["body"], found.get((row["body"], row["digest"]))
    sums = (float(own.chi2.sum()), float(own.ndf.sum())) if own is not None and own.chi2.size else (None, None)
    return {
        "body": body,
        "event": _event(bodies, body),
        "way": row["way"],
        "digest": f"{row['digest']:016x}",
        "answers": row["answers"],
        "points": row["points"],
        "first_point": row["first_point"],
        "first_load": loads.get(row["first_point"], "the first request"),
        "kept": own is not None,
        "tracks": own.tracks if own is not None else None,
        "chi2_sum": sums[0],
        "ndf_sum": sums[1],
        "against_first": FIRST if row["way"] == 1 else difference(first.get(body), own),
    }


def _event(bodies: list[dict[str, Any]], body: int) -> str:
    known = bodies[body] if body < len(bodies) else {}
    label = str(known.get("label") or f"event {body}")
    return f"{label} ({known['model']})" if known.get("model") else label


def _loads(run: Run) -> dict[int, str]:
    return dict(run.points().select("point", "load_words").iter_rows())


def _counts(run: Run) -> pl.DataFrame:
    files = sorted((run.path / "answers").glob("*.parquet"))
    if not files:
        kept = run.plan.get("answers")
        why = "they were not to be kept (--answers none)" if kept == "none" else "no answers/*.parquet is in it"
        raise PlanError(f"{run.path}: did not record its answers: {why}; sweep with --answers digest or decode")
    grouped = pl.scan_parquet(files, glob=False).group_by("body", "digest", "point")
    try:
        return grouped.agg(answers=pl.len(), first_ns=pl.col("done_ns").min()).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PlanError(f"{run.path / 'answers'}: cannot read: {' '.join(str(error).split())}") from error


def _kept(run: Run) -> dict[tuple[int, int], Found]:
    found = {}
    for path in kept.files(run.path / "answers"):
        try:
            found[kept.parsed(path)] = tracks.decode(path.read_bytes())
        except (OSError, ValueError) as error:
            raise PlanError(f"{path}: cannot read: {error}") from error
    return found


def lines(answers: Answers) -> list[str]:
    """Return the ways of events as lines of a table: those of events that changed, else of all, twenty at most."""
    ways = answers.ways
    changed = ways.filter(pl.len().over("body") > 1)
    shown = (ways if changed.is_empty() else changed).head(20)
    head = ("event", "way", "answers", "tracks", "chi2/ndf", "first at", "against the first")
    table = [head, *(_cells(row) for row in shown.iter_rows(named=True))]
    widths = [max(len(row[place]) for row in table) for place in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    known = row["ndf_sum"] is not None and row["ndf_sum"] != 0
    mean = number(row["chi2_sum"] / row["ndf_sum"]) if known else FIRST
    amount = FIRST if row["tracks"] is None else f"{row['tracks']:,}"
    return (
        row["event"],
        str(row["way"]),
        f"{row['answers']:,}",
        amount,
        mean,
        row["first_load"],
        row["against_first"],
    )
