"""One run in plain sentences: what was measured on what, the best of it, and what is wrong or missing."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from analysis import replicas, scaling, takes
from analysis.answers import ways
from analysis.figures import Tables
from analysis.levels import SURE, USABLE, axis, headline_of, level_text, levelled
from analysis.readable import counted, duration, listed, number, percent
from analysis.runs import Run
from analysis.scaling import Level
from analysis.server_tables import best_words, gpu_words
from loadgen.clock import NS_PER_S
from loadgen.errors import PlanError

MOST_FAILURES_TOLD = 5


@dataclass(frozen=True, slots=True)
class Sentence:
    """One statement; `kind` is `plain`, `good` or `warning`."""

    text: str
    kind: str = "plain"


def sentences(run: Run, of: Tables) -> list[Sentence]:
    """Return the summary of a run, most important first."""
    if of.points.is_empty():
        return [*_ended(run), Sentence("No point was measured.", "warning"), *_warnings(run)]
    return [
        *_simulated(of.points),
        _subject(run, of.points),
        *_answer(run),
        *_best(of.points),
        *_physics(of),
        *_failures(run, of.points),
        *_verdicts(of.points),
        *_server_counts(run, of.points),
        *_answers(run),
        *_replicas(run, of.points),
        *(Sentence(*words) for words in gpu_words(of)),
        *_ended(run),
        *_older(run),
        *_warnings(run),
    ]


def best_point(points: pl.DataFrame) -> dict[str, float | int | str] | None:
    """Return the point of highest throughput among those measured without objection; of all, if none is."""
    completed = points.filter(pl.col("completed") > 0)
    measured = completed.filter(SURE)
    among = completed if measured.is_empty() else measured
    return None if among.is_empty() else among.sort("throughput_per_s", descending=True).row(0, named=True)


def started_utc(run: Run) -> str:
    """Return when the run started: `2026-09-21 13:46:40 UTC`."""
    seconds = int(run.manifest["started_utc_ns"]) // NS_PER_S
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _simulated(points: pl.DataFrame) -> list[Sentence]:
    if not points["simulated"].any():
        return []
    text = "SIMULATED: the model, the server or the inputs are stand-ins. Nothing here is a physics figure."
    return [Sentence(text, "warning")]


def _subject(run: Run, points: pl.DataFrame) -> Sentence:
    first = points.row(0, named=True)
    instances = f" ({counted(first['instances'], 'instance')})" if first["instances"] else ""
    levels = sorted(set(levelled(points)["level"].to_list()))
    span = f"{level_text(levels[0])} to {level_text(levels[-1])}" if len(levels) > 1 else level_text(levels[0])
    window_s = number((first["window_end_ns"] - first["window_start_ns"]) / NS_PER_S)
    return Sentence(
        f"{first['model']} on {first['server']}{instances} was sent {first['inputs']}: "
        f"{counted(points.height, 'point')} at {axis(points).noun} {span}, {window_s} s in the first, "
        f"from {run.environment.get('host') or 'an unnamed host'} on {started_utc(run)}."
    )


def _answer(run: Run) -> list[Sentence]:
    asked = run.plan.get("search")
    if not asked:
        return []
    answer = run.answer()
    if answer is None:
        return [
            Sentence(f"The search for the highest {asked['over']} that keeps {asked['slo']} did not end.", "warning")
        ]
    unit = " events/s" if answer["over"] == "rate" else " requests in flight"
    known = [f"best estimate {number(answer['estimate'])}{unit}"] if answer["estimate"] is not None else []
    known += [f"it fails at {number(answer['fails_at'])}{unit}"] if answer["fails_at"] is not None else []
    tail = f"; {', '.join(known)}" if known else ""
    if answer["value"] is None or not answer["certified"]:
        return [
            Sentence(f"No {answer['over']} was shown to keep {answer['slo']}: {answer['reason']}{tail}.", "warning")
        ]
    text = f"Up to {number(answer['value'])}{unit} keep {answer['slo']}: {answer['reason']}{tail}."
    return [Sentence(text, "good")]


def _older(run: Run) -> list[Sentence]:
    unrecorded = run.unrecorded()
    if not unrecorded:
        return []
    version = run.manifest.get("loadgen_version", "of an older version")
    return [Sentence(f"Made by loadgen {version}, which did not record {listed(unrecorded)}.", "warning")]


def _answers(run: Run) -> list[Sentence]:
    """Say whether events were answered alike, where digests of the answers were kept."""
    if run.plan.get("answers", "none") == "none":
        return []
    try:
        found = ways.read(run)
    except PlanError as error:
        return [Sentence(f"Whether events were answered alike is not known: {error}.", "warning")]
    doubtful = found.ways.is_empty() or found.lost or found.ways["way"].max() != 1
    return [Sentence(" ".join(ways.sentences(found)), "warning" if doubtful else "good")]


def _best(points: pl.DataFrame) -> list[Sentence]:
    points = levelled(points)
    best = best_point(points)
    if best is None:
        return [Sentence("No request completed, so there are no times.", "warning")]
    kind = headline_of(points)
    doubt = "" if best["verdict"] in USABLE else f", but this point is judged {best['verdict']}"
    text = (
        f"Best throughput: {number(_number(best, 'throughput_per_s'))} events/s "
        f"at {axis(points).noun} {level_text(_number(best, 'level'))}, where a request takes "
        f"{duration(_number(best, f'{kind}_mean_ns'))} in the mean and "
        f"{duration(_number(best, f'{kind}_p99_ns'))} at the 99th percentile of {kind} time{doubt}."
    )
    return [Sentence(text, "good" if not doubt else "warning"), *_recommended(points), *_scatter(points)]


def _recommended(points: pl.DataFrame) -> list[Sentence]:
    """Say which concurrency to use and why, and what law the sweep follows; nothing for other loads."""
    levels = closed_levels(points)
    found = scaling.scaling(levels)
    chosen = scaling.recommended(levels, found) if len(levels) > 1 else None
    if chosen is None:
        return []
    level, reason = chosen
    p99 = f", p99 {duration(level.p99_ns)} there" if level.p99_ns is not None else ""
    said = [Sentence(f"Recommended concurrency: {level_text(level.concurrency)}, {reason}{p99}.")]
    if found is not None and found.law != "bound":
        peak = f", with a peak at concurrency {found.peak:.3g}" if found.peak is not None else ""
        coherency = f" and coherency {found.coherency:.2g}" if found.coherency else ""
        verb = "bend" if coherency else "bends"
        said.append(Sentence(f"Contention {found.contention:.2g}{coherency} {verb} the curve before its end{peak}."))
    return said


def closed_levels(points: pl.DataFrame) -> list[Level]:
    """Return the usable closed-loop levels of a run, takes of the same concurrency combined."""
    closed = points.filter(pl.col("concurrency").is_not_null())
    if closed.is_empty():
        return []
    found: dict[float, dict[str, dict[str, Any]]] = {}
    for row in takes.takes(closed).iter_rows(named=True):
        found.setdefault(row["level"], {})[row["quantity"]] = row
    throughputs = {level: one["throughput_per_s"] for level, one in found.items() if "throughput_per_s" in one}
    return [
        Level(level, row["value"], row["low"], row["high"], _p99(found[level])) for level, row in throughputs.items()
    ]


def _p99(quantities: dict[str, dict[str, Any]]) -> float | None:
    return quantities["p99_ns"]["value"] if "p99_ns" in quantities else None


def _scatter(points: pl.DataFrame) -> list[Sentence]:
    text = takes.scatter_words(takes.takes(points))
    return [Sentence(f"{text}.", "warning")] if text else []


def _number(row: dict[str, float | int | str], column: str) -> float:
    return float(row[column])


def _failures(run: Run, points: pl.DataFrame) -> list[Sentence]:
    failed = points.filter(pl.col("failed") > 0)
    if failed.is_empty():
        return [Sentence("No request failed in any window.", "good")]
    levels = listed(map(level_text, levelled(failed)["level"]))
    told = [_told(event) for event in run.events("failure")]
    reasons = f" First of each kind: {'; '.join(dict.fromkeys(told[:MOST_FAILURES_TOLD]))}." if told else ""
    failures, completed = int(points["failed"].sum()), int(points["completed"].sum())
    share = percent(failures / (failures + completed))
    text = f"{counted(failures, 'request')} failed ({share}), at {axis(points).noun} {levels}.{reasons}"
    return [Sentence(text, "warning")]


def _told(event: dict[str, object]) -> str:
    details = event.get("details")
    return f"{event.get('outcome')} ({details})" if details else str(event.get("outcome"))


def _verdicts(points: pl.DataFrame) -> list[Sentence]:
    wrong = points.filter(~pl.col("verdict").is_in([*USABLE, "failing"]))
    return [
        Sentence(f"{words}: {verdict}: {reason}.", "warning")
        for words, verdict, reason in wrong.select("load_words", "verdict", "reason").iter_rows()
    ]


def _replicas(run: Run, points: pl.DataFrame) -> list[Sentence]:
    said = replicas.words(points, run.replicas())
    return [Sentence(said[0], "plain" if said[1] else "warning")] if said else []


def _server_counts(run: Run, points: pl.DataFrame) -> list[Sentence]:
    counted_points = points.drop_nulls("point_server_success")
    balanced = next(iter(run.events("balanced")), None)
    if balanced is not None:
        text = f"Server statistics are not available: {balanced['reason']}; give each one's page with --metrics-url."
        return [Sentence(text, "warning")]
    if counted_points.is_empty():
        text = "The server has no statistics: queue and compute times, and its own counts, are missing."
        return [Sentence(text, "warning")]
    same = counted_points.filter(pl.col("point_server_success") == pl.col("point_ok")).height
    if same == points.height:
        total = int(points["point_ok"].sum())
        text = f"The server's own success counter agrees with ours at every point ({total:,} in all)."
        return [Sentence(text, "good" if total else "plain")]
    text = f"The server's success counter agrees with ours at {same} of {counted(points.height, 'point')}."
    return [Sentence(text, "warning")]


def _physics(of: Tables) -> list[Sentence]:
    best = best_point(of.points)
    words = best_words(of, int(best["point"])) if best is not None else None
    return [Sentence(words)] if words else []


def _ended(run: Run) -> list[Sentence]:
    ended = run.manifest.get("ended")
    if ended == "complete":
        return []
    reason = run.manifest.get("reason")
    return [Sentence(f"The run did not end by itself: {ended}{f' ({reason})' if reason else ''}.", "warning")]


def _warnings(run: Run) -> list[Sentence]:
    texts = dict.fromkeys(warning_text(event) for event in run.events("warning"))
    return [Sentence(text, "warning") for text in texts]


def warning_text(event: dict[str, object]) -> str:
    """Return what a warning of the log says."""
    return str(event.get("text") or {key: value for key, value in event.items() if key not in {"at_ns", "event"}})
