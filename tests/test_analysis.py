"""From a sealed run to figures, CSV and charts: what is drawn is what was measured, what is missing stays missing."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sealed_run
from sealed_run import Story, write_run

import analysis
from analysis import charts, figures, hardware, perf_analyzer, timeline
from analysis.report import write_report
from analysis.runs import open_run
from analysis.summary import sentences
from loadgen import points as measured
from loadgen.errors import PlanError

HEADER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,"
    "Avg latency,request/response,response wait,Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,"
    "Total GPU Memory"
)


def tables_of(folder: Path, **story: Any) -> figures.Tables:
    """Return the tables of a made-up run."""
    return figures.tables(open_run(write_run(folder / "run", Story(**story))))


def point(**facts: object) -> dict[str, object]:
    """Return a points row with these facts, null elsewhere."""
    return (
        dict.fromkeys(measured.SCHEMA)
        | {"completed": 10, "verdict": "converged", "reason": "", "concurrency": 1}
        | facts
    )


def test_what_is_not_a_sealed_run_is_one_line(tmp_path: Path) -> None:
    """A missing folder, another folder, and a run that crashed: each is told, the last with what to do."""
    with pytest.raises(PlanError, match="no such folder"):
        open_run(tmp_path / "nosuch")
    with pytest.raises(PlanError, match=r"no plan\.json"):
        open_run(tmp_path)
    run = write_run(tmp_path / "run")
    (run / "manifest.json").unlink()
    with pytest.raises(PlanError, match="python -m loadgen seal"):
        open_run(run)


# --- perf_analyzer's CSV -------------------------------------------------------------------------------------------


def test_the_csv_to_the_letter() -> None:
    """Header, order by throughput, whole microseconds rounded down, six digits, GPU cells: written out by hand."""
    times = {"p50": 81_999_999, "p90": 90_000_000, "p95": 95_000_500, "p99": 99_000_000, "mean": 82_500_123}
    stages = {"queue": 45_999, "compute_input": 8_000, "compute_infer": 70_000_000, "compute_output": 7_999}
    row = {f"service_{name}_ns": float(value) for name, value in times.items()}
    row |= {f"server_{name}_ns": float(value) for name, value in stages.items()} | {"network_ns": -5.0}
    points = measured.table(
        [
            point(point=1, concurrency=8, throughput_per_s=25.2345678, **row),
            point(point=2, concurrency=1, throughput_per_s=1234567.8, **row),
            point(point=3, concurrency=4, throughput_per_s=0.827548123, **row),
            point(point=4, concurrency=2, throughput_per_s=0.0, completed=0),
        ]
    )
    gpus = pl.DataFrame(
        [
            {"point": 1, "gpu": "GPU-b", "utilisation": 0.5, "power_w": 118.4, "memory_used_max_bytes": 4044357632.0},
            {"point": 1, "gpu": "GPU-a", "utilisation": 0.264, "power_w": None, "memory_used_max_bytes": 5.0},
        ],
        schema=hardware.GPU_SCHEMA,
    )
    times_text = "0,45,8,70000,7,0,81999,90000,95000,99000,82500,0,82500"
    assert perf_analyzer.csv_text(points, gpus) == "\n".join(
        [
            HEADER,
            f"4,0.827548,0,{times_text},,,,",
            f"8,25.2346,0,{times_text},GPU-a:0.264;GPU-b:0.5;,GPU-b:118.4;,GPU-a:5;GPU-b:4044357632;,",
            f"1,1.23457e+06,0,{times_text},,,,",
            "",
        ]
    )


def test_without_statistics_the_server_columns_are_absent(tmp_path: Path) -> None:
    """As in perf_analyzer, five columns vanish; and every row has as many cells as the header."""
    of = tables_of(tmp_path, statistics=False, gpus=0)
    rows = list(csv.reader(io.StringIO(perf_analyzer.csv_text(of.points, of.gpus))))
    assert not any("Server" in name for name in rows[0])
    assert {len(row) for row in rows} == {len(HEADER.split(",")) - 5}
    assert len(rows) == 1 + 8


def test_a_real_perf_analyzer_file_has_our_header(field_data: Path) -> None:
    """The header of a file written by perf_analyzer with metrics is ours."""
    name = "perf_analyzer-2.49.0__c4_collect_metrics_no_gpu.csv"
    assert (field_data / "perf_csv" / name).read_text().splitlines()[0].strip() == HEADER


# --- GPU figures ---------------------------------------------------------------------------------------------------


def gpu_samples(*facts: tuple[int, str, str, float]) -> pl.DataFrame:
    """Return samples from (at_ns, metric, gpu, value)."""
    rows = [(at, "metrics", metric, f'{{"gpu_uuid":"{gpu}"}}', value) for at, metric, gpu, value in facts]
    return pl.DataFrame(rows, schema=sealed_run.SAMPLES, orient="row")


def test_gpu_figures_are_those_of_the_window() -> None:
    """Samples outside the window do not count; memory is the largest, the rest means; a lost GPU is absent."""
    points = measured.table(
        [
            point(point=1, window_start_ns=100, window_end_ns=200),
            point(point=2, window_start_ns=300, window_end_ns=400),
        ]
    )
    samples = gpu_samples(
        *((at, "nv_gpu_utilization", "a", value) for at, value in [(50, 0.0), (100, 0.5), (150, 0.7), (200, 0.0)]),
        *((at, "nv_gpu_memory_used_bytes", "a", value) for at, value in [(100, 10.0), (150, 30.0), (199, 20.0)]),
        *((at, "nv_energy_consumption", "a", float(at)) for at in (50, 250)),
        (350, "nv_gpu_power_usage", "b", 100.0),
    )
    first, second = hardware.gpu_figures(points, samples).iter_rows(named=True)
    assert (first["point"], first["gpu"], first["utilisation"]) == (1, "a", 0.6)
    assert first["memory_used_max_bytes"] == 30.0
    assert first["energy_j"] == 100.0
    assert first["power_w"] is None
    assert (second["point"], second["gpu"], second["power_w"]) == (2, "b", 100.0)
    assert second["utilisation"] is None


def test_energy_needs_samples_on_both_sides() -> None:
    """A counter that was not read before and after the window gives no energy, and a reset gives none either."""
    points = measured.table([point(point=1, window_start_ns=100, window_end_ns=200)])
    inside = gpu_samples((110, "nv_energy_consumption", "a", 1.0), (150, "nv_energy_consumption", "a", 2.0))
    assert hardware.gpu_figures(points, inside)["energy_j"].to_list() == [None]
    reset = gpu_samples((50, "nv_energy_consumption", "a", 900.0), (250, "nv_energy_consumption", "a", 1.0))
    assert hardware.gpu_figures(points, reset)["energy_j"].drop_nulls().to_list() == []


# --- charts --------------------------------------------------------------------------------------------------------


def data_of(spec: dict[str, Any]) -> pl.DataFrame:
    """Return the rows of a chart's largest data set."""
    return pl.DataFrame(max(spec["datasets"].values(), key=len))


def test_charts_draw_the_figures_of_the_table(tmp_path: Path) -> None:
    """Throughput, percentiles and stages in the page are the table's own values, in the unit of the axis."""
    of = tables_of(tmp_path)
    specs = figures.specifications(of)
    assert list(specs) == ["throughput", "utilisation", "latency", "stages", "time"]
    assert data_of(specs["throughput"])["throughput_per_s"].to_list() == of.points["throughput_per_s"].to_list()
    p99 = data_of(specs["latency"]).filter(pl.col("series") == "p99")["value"]
    np.testing.assert_allclose(p99, of.points["service_p99_ns"] / 1e6)
    stacked = data_of(specs["stages"]).group_by("point").agg(pl.col("value").sum()).sort("point")["value"]
    columns = ("server_queue_ns", "server_compute_input_ns", "server_compute_infer_ns", "server_compute_output_ns")
    whole = of.points.select(pl.sum_horizontal(*columns, "network_ns")).to_series() / 1e6
    np.testing.assert_allclose(stacked, whole)


def test_gpus_are_drawn_each_and_as_their_mean_never_their_sum(tmp_path: Path) -> None:
    """Two GPUs give three lines, and the third lies between the other two."""
    of = tables_of(tmp_path, gpus=2)
    drawn, title = charts.utilisation_frame(of.points, of.gpus, of.cpu)
    assert title.startswith("GPU utilisation")
    assert drawn["series"].n_unique() == 3
    for _, at_point in drawn.group_by("point"):
        mean = at_point.filter("mean")["percent"].item()
        each = at_point.filter(~pl.col("mean"))["percent"]
        assert mean == pytest.approx(each.mean())
        assert mean <= 100


def test_without_gpus_the_chart_says_so(tmp_path: Path) -> None:
    """Busy instances and the host's CPU take the place of GPU figures, and the title says that there are none."""
    of = tables_of(tmp_path, gpus=0)
    drawn, title = charts.utilisation_frame(of.points, of.gpus, of.cpu)
    assert "no GPU figures" in title
    assert set(drawn["series"]) == {"server instances busy", "CPU of the server's host"}


def test_nothing_is_drawn_where_there_is_nothing(tmp_path: Path) -> None:
    """Without metrics, statistics or answers the charts that would need them are left out, not drawn empty."""
    bare = tables_of(tmp_path, samples=False, statistics=False)
    assert list(figures.specifications(bare)) == ["throughput", "latency", "time"]
    failed = tables_of(tmp_path / "failed", all_failed=True, samples=False)
    assert "latency" not in figures.specifications(failed)


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_stands_on_every_chart(tmp_path: Path, simulated: bool) -> None:
    """The word stands in every subtitle of a run that is not a physics figure, and in no other."""
    for spec in figures.specifications(tables_of(tmp_path, simulated=simulated)).values():
        assert ("SIMULATED" in " ".join(spec["title"]["subtitle"])) is simulated


def test_points_that_failed_are_hollow(tmp_path: Path) -> None:
    """A verdict that is not `measured` is visible in the chart's data and in its subtitle."""
    spec = figures.specifications(tables_of(tmp_path, failing=(3,)))["throughput"]
    drawn = data_of(spec)
    assert drawn.filter(~pl.col("measured"))["level"].to_list() == [3]
    assert "Hollow" in " ".join(spec["title"]["subtitle"])


def test_a_long_run_stays_light() -> None:
    """A million requests become a few hundred bins that still count every one of them."""
    generator = np.random.default_rng(0)
    sent_ns = np.sort(generator.integers(0, 600 * 10**9, 1_000_000)) + 10**12
    rows = pl.DataFrame({"sent_ns": sent_ns, "done_ns": sent_ns + generator.integers(10**6, 10**8, 1_000_000)})
    records = rows.with_columns(point=pl.lit(1, pl.UInt32), outcome=pl.lit("ok")).lazy()
    bins = timeline.request_bins(records, 10**12)
    assert bins.height <= 310
    width_s = bins["end_s"] - bins["start_s"]
    assert (bins["throughput_per_s"] * width_s).sum() == pytest.approx(1_000_000)
    overlap_s = float((rows["done_ns"] - rows["sent_ns"]).sum()) / 1e9
    assert (bins["in_flight_mean"] * width_s).sum() == pytest.approx(overlap_s, rel=1e-6)


@pytest.mark.parametrize("kind", figures.FORMATS)
def test_pictures_are_pictures(tmp_path: Path, kind: str) -> None:
    """Every chart is written in the format asked for."""
    run = open_run(write_run(tmp_path / "run", Story(concurrency=(1, 2))))
    paths = figures.write_images(run, tmp_path / "charts", [kind])
    start = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}[kind]
    assert len(paths) == 5
    assert all(path.read_bytes().startswith(start) for path in paths)


# --- the summary ---------------------------------------------------------------------------------------------------


def told(folder: Path, **story: Any) -> str:
    """Return the summary of a made-up run as one text."""
    run = open_run(write_run(folder / "run", Story(**story)))
    return "\n".join(sentence.text for sentence in sentences(run, figures.tables(run)))


def test_the_summary_says_what_was_found_and_what_was_not(tmp_path: Path) -> None:
    """Best point, agreement of the counts, failures, missing figures, an early end: each in a sentence."""
    good = told(tmp_path / "good", simulated=False)
    assert "Best throughput" in good
    assert "agrees with ours at every point" in good
    assert "No request failed" in good
    assert "SIMULATED" not in good
    bad = told(tmp_path / "bad", failing=(3,), gpus=0, ended="interrupted", warnings=("disk nearly full",))
    for words in ("SIMULATED", "failed", "No GPU metrics", "interrupted", "disk nearly full"):
        assert words in bad
    assert "No request completed" in told(tmp_path / "none", all_failed=True)
    assert "has no statistics" in told(tmp_path / "bare", statistics=False)


def test_a_run_of_an_older_version_is_read(tmp_path: Path) -> None:
    """Columns that were added since are null, in points and records; report and tables do without, and it is said."""
    path = write_run(tmp_path / "old")
    points, records = pl.read_parquet(path / "points.parquet"), next((path / "records").glob("*.parquet"))
    added = ["in_flight_cut", "checks", "loop_lag_p99_ns", "service_p99_9_low_ns"]
    points.drop(added, strict=False).write_parquet(path / "points.parquet")
    pl.read_parquet(records).drop("responses", "flushed_ns").write_parquet(records)
    old = open_run(path)
    assert all(old.points()[name].is_null().all() for name in added)
    assert old.records().collect()["responses"].is_null().all()
    (said,) = (each.text for each in sentences(old, figures.tables(old)) if "Made by" in each.text)
    assert all(name in said for name in added)
    assert write_report(path, tmp_path / "report.html").stat().st_size > 100_000
    assert analysis.load(path).points["throughput_per_s"].to_list() == points["throughput_per_s"].to_list()
