"""The run against time: bins follow the run, not the other way round, and failures are told apart."""

from pathlib import Path

import polars as pl
import pytest
from sealed_run import Story, write_run

from analysis import figures
from analysis.runs import open_run


def tables_of(folder: Path, story: Story) -> figures.Tables:
    """Return the tables of a made-up run."""
    return figures.tables(open_run(write_run(folder / "run", story)))


def test_bins_of_a_slow_run_are_shorter_than_its_windows(tmp_path: Path) -> None:
    """With a handful of answers a point, bins still lie inside points, and together hold every answer."""
    of = tables_of(tmp_path, Story(service_ms=12_000, window_s=120, concurrency=(1, 2, 3)))
    width_s = of.bins["end_s"] - of.bins["start_s"]
    windows_s = (of.points["window_end_ns"] - of.points["window_start_ns"]) / 1e9
    assert max(width_s) <= 0.25 * min(windows_s)
    assert (of.bins["throughput_per_s"] * width_s).sum() == pytest.approx(of.points["point_ok"].sum())


@pytest.mark.parametrize("failing", [(), (2,)])
def test_failures_are_named_on_the_time_chart(tmp_path: Path, failing: tuple[int, ...]) -> None:
    """Where requests failed, axis and subtitle say what the second colour is; elsewhere neither speaks of it."""
    of = tables_of(tmp_path, Story(concurrency=(1, 2), failing=failing))
    spec = figures.specifications(of)["time"]
    assert ("failed" in " ".join(spec["title"]["subtitle"])) is bool(failing)
    assert ("Completed, failed" in str(spec["vconcat"][0])) is bool(failing)
    assert of.bins.filter(pl.col("failed_per_s") > 0).is_empty() is not bool(failing)
