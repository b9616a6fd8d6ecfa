"""Physics terms of a point: events, cells, energy and GPU time, whole or missing, never less than they were."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sealed_run import Story, write_run

from analysis import figures, hardware, physics, report
from analysis.runs import RECORDS_SCHEMA, open_run
from analysis.summary import sentences
from loadgen import points as measured

S = 1_000_000_000


def point(**facts: Any) -> pl.DataFrame:
    """Return a point of 10 s with 40 events."""
    known = {"point": 1, "window_start_ns": 0, "window_end_ns": 10 * S, "completed": 40, "throughput_per_s": 4.0}
    limits = {"throughput_low_per_s": 3.2, "throughput_high_per_s": 5.0, "simulated": False}
    return measured.table([dict.fromkeys(measured.SCHEMA) | known | limits | facts])


def gpus(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return GPU figures of point 1."""
    return pl.DataFrame([{"point": 1, **row} for row in rows], schema=hardware.GPU_SCHEMA)


NO_CELLS = pl.DataFrame(schema={"point": pl.UInt32, "cells": pl.UInt64})
A = {"gpu": "a", "utilisation": 0.8, "power_w": 300.0, "power_limit_w": 400.0, "energy_j": 2800.0}
B = {"gpu": "b", "utilisation": 0.2, "power_w": 100.0, "power_limit_w": 200.0}


def row(found: pl.DataFrame) -> dict[str, Any]:
    """Return the only row."""
    (only,) = found.iter_rows(named=True)
    return only


def test_one_gpu_with_a_counter() -> None:
    """Joules from the counter, 70 J an event, its interval that of the throughput, kWh and GPU-seconds to match."""
    found = row(physics.physics(point(), gpus(A), NO_CELLS))
    expected = {"joules_per_event": 70.0, "joules_per_event_low": 56.0, "joules_per_event_high": 87.5}
    expected |= {"events_per_kwh": 3.6e6 / 70, "gpu_seconds": 8.0, "gpu_seconds_per_event": 0.2}
    expected |= {"power_fraction": 0.75}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert (found["energy_source"], found["gpus"]) == (physics.COUNTER, 1)
    assert (found["reason"], found["cells_per_s"]) == (None, None)


def test_without_a_counter_mean_power_stands_in_and_says_so() -> None:
    """Power x window, marked; of two GPUs each as it has; sums and GPUs are kept apart and agree."""
    found = row(physics.physics(point(), gpus(A, B), NO_CELLS))
    assert (found["energy_j"], found["energy_source"]) == (3800.0, physics.MIXED)
    assert (found["gpu_seconds"], found["power_fraction"]) == pytest.approx((10.0, 400 / 600))
    each = physics.gpu_physics(point(), gpus(A, B))
    assert each["energy_source"].to_list() == [physics.COUNTER, physics.MEAN_POWER]
    assert each["joules_per_event"].sum() == pytest.approx(found["joules_per_event"])
    assert row(physics.physics(point(), gpus(B), NO_CELLS))["energy_source"] == physics.MEAN_POWER


def test_a_gpu_without_figures_leaves_no_sum() -> None:
    """The energy of one of two GPUs is not that of both: null, with the reason; what both have is still summed."""
    found = row(physics.physics(point(), gpus(A, {"gpu": "b", "utilisation": 0.2}), NO_CELLS))
    assert (found["energy_j"], found["joules_per_event"], found["events_per_kwh"], found["power_w"]) == (None,) * 4
    assert found["reason"] == "1 of 2 GPUs without energy and power"
    assert found["gpu_seconds"] == pytest.approx(10.0)
    assert row(physics.physics(point(), gpus(), NO_CELLS))["reason"] == "no GPU figures"


def test_no_limit_no_fraction_and_no_event_no_share() -> None:
    """A power limit is never assumed, and nothing is divided by no events."""
    found = row(physics.physics(point(completed=0), gpus(A | {"power_limit_w": None}), NO_CELLS))
    assert (found["power_fraction"], found["joules_per_event"], found["gpu_seconds_per_event"]) == (None, None, None)
    assert found["energy_j"] == 2800.0


def test_mig_instances_stand_in_for_a_gpu_without_use_of_its_own() -> None:
    """Power once, from the GPU; time from its instances; where the GPU has its own, that is taken."""
    parts = [{"gpu": "g/1", "utilisation": 0.3}, {"gpu": "g/2", "utilisation": 0.4}]
    whole = {"gpu": "g", "power_w": 200.0}
    found = row(physics.physics(point(), gpus(whole, *parts), NO_CELLS))
    assert (found["gpus"], found["gpu_seconds"], found["energy_j"]) == (1, pytest.approx(7.0), 2000.0)
    with_own = gpus(whole | {"utilisation": 0.5}, *parts)
    assert row(physics.physics(point(), with_own, NO_CELLS))["gpu_seconds"] == pytest.approx(5.0)


def test_a_request_of_a_batch_is_so_many_events() -> None:
    """Three events a request: three times the events, a third of the joules."""
    one, three = (row(physics.physics(point(), gpus(A), NO_CELLS, batch)) for batch in (1, 3))
    assert (three["events"], three["events_per_s"]) == (120, 12.0)
    assert three["joules_per_event"] == pytest.approx(one["joules_per_event"] / 3)


def test_cells_of_what_completed_in_the_window() -> None:
    """Neither what failed, nor what ended outside; null for a point one of whose requests has unknown cells."""
    rows = [(1, 0, "ok", 5), (1, 0, "ok", 9), (1, 1, "ok", 0), (1, 1, "grpc_internal", 5), (1, 1, "ok", 10)]
    rows.append((2, 2, "ok", 15))
    blank: dict[str, Any] = dict.fromkeys(RECORDS_SCHEMA)
    names = ("point", "body", "outcome", "done_ns")
    records = pl.LazyFrame([blank | dict(zip(names, each, strict=True)) for each in rows], schema=RECORDS_SCHEMA)
    windows = [(1, 0, 10), (2, 10, 20)]
    points = pl.concat([point(point=n, window_start_ns=start, window_end_ns=end) for n, start, end in windows])
    corpus = {"bodies": [{"cells": 100}, {"cells": 7}, {"cells": None}]}
    assert physics.completed_cells(points, records, corpus).rows() == [(1, 207), (2, None)]


def test_a_run_has_them_in_its_page_and_its_summary(tmp_path: Path) -> None:
    """`Run.physics`, a table and a sentence about the best point, with the same figures."""
    run = open_run(write_run(tmp_path / "run", Story(concurrency=(1, 2, 4))))
    table = run.physics()
    assert dict(table.schema) == physics.PHYSICS_SCHEMA
    assert table["simulated"].all()
    assert table["events"].to_list() == run.points()["completed"].to_list()
    assert (table["cells"] == 39_600 * table["events"]).all()
    of = figures.tables(run)
    (said,) = [each.text for each in sentences(run, of) if each.text.startswith("In terms of physics")]
    best = table.sort("events_per_s", descending=True).row(0, named=True)
    assert f"{best['joules_per_event']:.3g} J an event" in said
    assert "from counter of 2 GPUs" in said
    page = report.page(run)
    assert "Events, cells and energy" in page
    assert "per kWh" in page


def test_a_run_without_gpus_still_has_events_and_cells(tmp_path: Path) -> None:
    """No energy is claimed, and the page has no column for it."""
    run = open_run(write_run(tmp_path / "run", Story(concurrency=(1, 2), gpus=0)))
    assert run.physics()["joules_per_event"].is_null().all()
    of = figures.tables(run)
    (said,) = [each.text for each in sentences(run, of) if each.text.startswith("In terms of physics")]
    assert "cells/s" in said
    assert "J an event" not in said
    assert "per kWh" not in report.page(run)


def test_a_collector_of_zeros_is_named_once_and_nothing_is_made_of_it(tmp_path: Path) -> None:
    """No utilisation, no power, no joule of it in table or page; the summary says which GPUs, and why."""
    path = write_run(tmp_path / "run", Story(concurrency=(1, 2)))
    is_gpu = pl.col("labels").str.contains("gpu_uuid") & (pl.col("metric") != "nv_gpu_power_limit")
    samples = pl.read_parquet(path / "samples.parquet")
    zeros = samples.with_columns(value=pl.when(is_gpu).then(0.0).otherwise("value"))
    zeros.write_parquet(path / "samples.parquet")
    run = open_run(path)
    of = figures.tables(run)
    assert of.gpus.is_empty()
    assert run.physics()["energy_j"].is_null().all()
    said = [each for each in sentences(run, of) if "that collector does not work" in each.text]
    assert [each.kind for each in said] == ["warning"]
    assert "GPU-0a1b2c3d and GPU-1a1b2c3d" in said[0].text
    assert "0.0 %" not in report.page(run)


def test_figures_of_nvml_alone_are_said_to_be_of_our_own_host(tmp_path: Path) -> None:
    """Where no page names a GPU, the summary says whose GPUs these are."""
    path = write_run(tmp_path / "run", Story(concurrency=(1, 2), gpus=1))
    samples = pl.read_parquet(path / "samples.parquet")
    names = {
        "nv_gpu_utilization": "nvml_utilization_gpu_percent",
        "nv_gpu_power_usage": "nvml_power_usage_milliwatts",
    }
    own = samples.filter(pl.col("metric").is_in(names)).with_columns(
        pl.col("metric").replace(names), source=pl.lit("nvml"), value=1000 * pl.col("value")
    )
    others = samples.filter(~pl.col("labels").str.contains("gpu_uuid"))
    pl.concat([others, own]).write_parquet(path / "samples.parquet")
    run = open_run(path)
    texts = [each.text for each in sentences(run, figures.tables(run))]
    assert sum("our own host, read by NVML" in text for text in texts) == 1
    assert run.physics()["energy_source"].unique().to_list() == [physics.MEAN_POWER]
