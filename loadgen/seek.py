"""A search as points of a run: every probe is a point, and what it found goes back to the search."""

import msgspec

from loadgen import atomic, journal, measure, seal, search, slo
from loadgen.bench import Bench, Point
from loadgen.measure import Window
from loadgen.plan import ByTime, Search
from loadgen.point import measure_point
from loadgen.pointlog import is_closed, load_words
from loadgen.points import Row, percent_name, table
from loadgen.records import Rows
from loadgen.search import Answer, Probe, Trial

WARMUP_SHARE = 0.2
UNFIT = ("records_disagree", "server_disagrees", "client_limited")
"""Verdicts of probes that say nothing about the server."""


async def seek(bench: Bench, asked: Search) -> Answer | None:
    """Carry out a search; None if it was interrupted.

    Raises:
        FleetError: the worker or the disk failed; the log and the journal hold what was done.
    """
    probing = search.search(asked, bench.plan.seed)
    rows: list[Row] = []
    probe = next(probing)
    while True:
        number = len(rows) + 1
        bench.observer.announce(f"{probe.purpose}: {load_words(probe.load)} for {probe.window_s:.0f} s")
        row = await measure_point(bench, _point(bench, probe, number))
        if row is None or bench.interrupt.is_set():
            return None
        rows.append(row)
        seal.write_parquet(table(rows), bench.directory.points)
        bench.observer.point_measured(row)
        trial = trial_of(row, journal.read_point(bench.directory.journal, number), probe, asked)
        bench.log.event("probe_measured", point=number, purpose=probe.purpose, share_over=trial.share)
        try:
            probe = probing.send(trial)
        except StopIteration as stop:
            return _told(bench, stop.value)


def _point(bench: Bench, probe: Probe, number: int) -> Point:
    """Return the point that measures a probe; its arrivals are drawn afresh, so that no luck repeats itself."""
    stopping = ByTime(round(probe.window_s * 1000), round(WARMUP_SHARE * probe.window_s * 1000))
    return Point(number, probe.load, stopping=stopping, seed=bench.plan.seed + number)


def trial_of(row: Row, rows: Rows, probe: Probe, asked: Search) -> Trial:
    """Return what a probe found, from its row of the points table and its requests."""
    objective = slo.parse(asked.slo)
    since = objective.since(closed=is_closed(probe.load))
    window = Window(row["window_start_ns"], row["window_end_ns"])
    due, over = measure.beyond(rows, window, since, objective.limit_ns, search.BATCHES)
    name = f"{'service' if since == 'sent_ns' else 'response'}_{percent_name(objective.percent)}"
    return Trial(
        row["throughput_per_s"],
        due,
        over,
        row.get(f"{name}_low_ns"),
        row.get(f"{name}_ns"),
        row.get(f"{name}_high_ns"),
        row["verdict"] == "overloaded",
        f"{row['verdict']}: {row['reason']}" if row["verdict"] in UNFIT else "",
    )


def _told(bench: Bench, answer: Answer) -> Answer:
    """Keep the answer in the run directory and its log, and say it."""
    facts = msgspec.to_builtins(answer)
    atomic.write(bench.directory.search, msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")
    bench.log.event("search_answer", **facts)
    bench.observer.announce(answer.words)
    return answer
