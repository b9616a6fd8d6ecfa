"""A ladder of levels as points of a run: how each ended goes back to what chooses the next."""

from loadgen import ladder, seal
from loadgen.bench import Bench, Point
from loadgen.ladder import Ladder
from loadgen.plan import ClosedLoop, Load, OpenLoop
from loadgen.point import measure_point
from loadgen.points import Row, table


async def climb(bench: Bench, asked: Ladder) -> None:
    """Measure one level after another until the ladder, or an interruption, ends it.

    Raises:
        FleetError: the worker or the disk failed; the log and the journal hold what was done.
    """
    chosen, rows = ladder.levels(asked), list[Row]()
    number, level = 1, next(chosen)
    while True:
        row = await measure_point(bench, Point(number, load_of(asked, level)))
        if row is not None:
            rows.append(row)
            seal.write_parquet(table(rows), bench.directory.points)
            bench.observer.point_measured(row)
        if bench.interrupt.is_set():
            return
        try:
            level = chosen.send(bench.status or "unstable")
        except StopIteration:
            return
        number += 1


def load_of(asked: Ladder, level: float) -> Load:
    """Return a level of a ladder as a load."""
    return ClosedLoop(int(level)) if asked.over == "concurrency" else OpenLoop(level, asked.arrivals)
