"""Every perf_analyzer file from the field is read, each with its levels, its remarks and its own figures."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from perf_analyzer_files import reasons
from typer.testing import CliRunner

from analysis.__main__ import app
from analysis.perf_analyzer import load
from loadgen.errors import PlanError

KINDS = {"perf_csv": "csv", "perf_log": "stdout", "profile_export": "profile_export"}
FILES = {
    "perf_csv/Mutinifni__tritonserver__19.07_16mb_grpc_custom.csv": (2, 0),
    "perf_csv/Mutinifni__tritonserver__19.07_16mb_grpc_graphdef_unstable.csv": (2, 0),
    "perf_csv/hrzhao76__acts-aas__perf_analyzer_1insts_1gpus_sync.csv": (10, 0),
    "perf_csv/perf_analyzer-2.49.0__c1-3_p95_sync.csv": (3, 0),
    "perf_csv/perf_analyzer-2.49.0__c4_collect_metrics_no_gpu.csv": (1, 0),
    "perf_csv/perf_analyzer-2.49.0__rate_poisson_verbose.csv": (3, 0),
    "perf_csv/triton-inference-server__model_analyzer__add_sub-results.csv": (1, 0),
    "perf_csv/vanjaluk8__eksperiment_LLM__combined_results_20250722_042947.csv": (65, 1),
    "perf_csv/vanjaluk8__eksperiment_LLM__neoptimizirano_triton.csv": (12, 1),
    "perf_csv/vanjaluk8__eksperiment_LLM__rt-gemma3_b1_c1-128_8gpu.csv": (8, 0),
    "perf_csv/yongbinfeng__SONIC_miniAOD_paper_2022__deepmet_batch1.csv": (1, 0),
    "perf_log/JeroendenBoef__tritonserver_vllm_showcase__perf_analyzer_runs_raw.txt": (7, 11),
    "perf_log/Mutinifni__tritonserver__19.07_16mb_grpc_custom.log": (2, 2),
    "perf_log/Mutinifni__tritonserver__19.07_16mb_grpc_graphdef_unstable.log": (2, 3),
    "perf_log/UNKNOWNREPO__id30736663930__BraTS_unstable.txt": (2, 3),
    "perf_log/UNKNOWNREPO__id67101351653__spanmarker_request_rate.txt": (5, 5),
    "perf_log/levipereira__triton-server-yolo__report_rtx_4090_yolov7_instance_1_batch_size_1.txt": (1, 0),
    "perf_log/perf_analyzer-2.49.0__c13_p95.txt": (3, 0),
    "perf_log/perf_analyzer-2.49.0__c4_verbose.txt": (1, 4),
    "perf_log/perf_analyzer-2.49.0__http_c2.txt": (1, 2),
    "perf_log/perf_analyzer-2.49.0__rate_poisson.txt": (3, 0),
    "perf_log/shenj68__nvidia-triton-exploration__client_output.txt": (4, 4),
    "perf_log/triton-inference-server__client__output.txt": (8, 0),
    "perf_log/triton-inference-server__perf_analyzer__benchmarking_0.txt": (1, 0),
    "profile_export/perf_analyzer-2.49.0__http_c2_request_count.json": (1, 1),
    "profile_export/perf_analyzer-2.49.0__rate_poisson.json": (3, 0),
    "profile_export/triton-inference-server__perf_analyzer__genai_fixture_L168.json": (1, 4),
    "profile_export/triton-inference-server__perf_analyzer__genai_fixture_L62.json": (2, 7),
}
"""File -> levels and warnings."""

REFUSED = {
    "profile_export/Mutinifni__tritonserver__schema_2023-10.json": "is a JSON schema",
    "profile_export/triton-inference-server__perf_analyzer__benchmarking_doc_sample.txt": "within other text",
}


def point(field_data: Path, ending: str, place: int) -> dict[str, Any]:
    """Return one row, by its place in the table, of the file whose name ends so."""
    name = next(name for name in FILES if name.endswith(ending))
    return load.read(field_data / name).points.row(place, named=True)


def values(row: dict[str, Any], **expected: object) -> bool:
    """Say whether a row has these values; the message of a failure shows both."""
    assert {name: row[name] for name in expected} == expected
    return True


@pytest.mark.parametrize("name", FILES)
def test_levels_and_warnings(field_data: Path, name: str) -> None:
    """The file gives as many levels and warnings as were counted by hand, and nothing of another source."""
    of = load.read(field_data / name)
    assert of.kinds == (KINDS[name.split("/", maxsplit=1)[0]],)
    assert (of.points.height, len(of.warnings)) == FILES[name], of.warnings
    assert of.points["source"].unique().to_list() == ["perf_analyzer"]
    assert of.points["throughput_per_s"].is_not_null().all()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_output_is_refused(field_data: Path, name: str) -> None:
    """A schema and a page of documentation are refused, each for what it is."""
    with pytest.raises(PlanError, match=REFUSED[name]):
        load.read(field_data / name)


def test_no_file_is_forgotten(field_data: Path) -> None:
    """Every file of the field's folders is in the lists above, and they are laid together without loss."""
    there = {f"{folder}/{path.name}" for folder in KINDS for path in (field_data / folder).iterdir()}
    assert there == {*FILES, *REFUSED}
    of = load.together([load.read(field_data / name) for name in FILES])
    assert of.points["point"].to_list() == list(range(1, 156))
    assert of.points.height == sum(levels for levels, _ in FILES.values())
    assert set(of.gpus["point"]) <= set(of.points["point"])


def test_figures_of_csvs(field_data: Path) -> None:
    """Figures of CSVs from 2019 to 2025, as they stand in the files."""
    row = point(field_data, "grpc_custom.csv", 1)
    assert values(row, concurrency=2, throughput_per_s=31.0, server_compute_ns=14_329_000)
    assert row["server_compute_infer_ns"] is None
    row = point(field_data, "1insts_1gpus_sync.csv", 9)
    assert values(row, concurrency=10, throughput_per_s=1.09719, server_queue_ns=8_194_788_000, service_mean_ns=None)
    assert values(row, gpus=1, instances_per_gpu=1, instances=1, service_p99_ns=10_087_697_000)
    row = point(field_data, "rate_poisson_verbose.csv", 2)
    assert values(row, load="open_loop", rate_per_s=500.0, throughput_per_s=481.591, service_mean_ns=679_000)
    row = point(field_data, "neoptimizirano_triton.csv", 1)
    assert values(row, model="gemma3", concurrency=17, server_queue_ns=24_127_185_000, batch_size=1)
    row = point(field_data, "deepmet_batch1.csv", 0)
    assert values(row, throughput_per_s=1321.9, client_send_ns=24_000, service_p50_ns=2_955_000, service_mean_ns=None)


def test_gpus_of_csvs(field_data: Path) -> None:
    """The busy GPU of four is that of its own level, though the file's rows stand by throughput; none stays none."""
    of = load.read(field_data / "perf_csv/hrzhao76__acts-aas__perf_analyzer_1insts_1gpus_sync.csv")
    busy = of.gpus.filter(pl.col("utilisation") > 0)
    assert busy["point"].to_list() == list(range(1, 11))
    assert busy.filter(pl.col("point") == 10).select("utilisation", "power_w", "memory_used_max_bytes").rows() == [
        (0.475972, 221.026, 8342470656.0)
    ]
    assert busy.filter(pl.col("point") == 4)["utilisation"].to_list() == [0.451667]
    none = load.read(field_data / "perf_csv/perf_analyzer-2.49.0__c4_collect_metrics_no_gpu.csv")
    assert none.gpus.is_empty()


def test_figures_of_captures(field_data: Path) -> None:
    """Figures of captured output: several runs, caches, ensembles, unstable levels, count windows, comments."""
    row = point(field_data, "perf_analyzer_runs_raw.txt", 3)
    assert values(row, run=1, concurrency=4, completed=6, service_std_ns=1_323_124_000)
    assert row["server_queue_ns"] == 95_052_226_000
    row = point(field_data, "perf_analyzer_runs_raw.txt", 6)
    assert values(row, run=4, throughput_per_s=0.099998, protocol="http")
    row = point(field_data, "graphdef_unstable.log", 1)
    assert values(row, verdict="unstable", throughput_per_s=4.0, server_success=28, server_compute_ns=218_597_000)
    row = point(field_data, "client_output.txt", 1)
    assert values(row, server_mean_batch=330 / 45, client_overhead=0.0001, client_send_ns=4000, client_recv_ns=2000)
    row = point(field_data, "client__output.txt", 2)
    assert values(row, run=3, server_cache_hits=106_071, server_cache_hit_ns=2000, server_compute_infer_ns=0)
    assert values(point(field_data, "spanmarker_request_rate.txt", 0), model="spanmarker", service_mean_ns=2_276_000)
    assert values(point(field_data, "benchmarking_0.txt", 0), throughput_per_s=4.94426, completed=89)
    assert values(point(field_data, "c4_verbose.txt", 0), completed=6166, service_p99_ns=2_400_000, gpus=None)


def test_windows_and_composing_models_of_captures(field_data: Path) -> None:
    """Passes of -v are windows of their level, and an ensemble's models have their own rows."""
    passes = load.read(field_data / "perf_log/Mutinifni__tritonserver__19.07_16mb_grpc_graphdef_unstable.log").windows
    assert passes.filter(pl.col("point") == 2)["throughput_per_s"].to_list() == [27, 27, 29, 22, 12, 4, 4, 4, 4, 4]
    assert passes["statistic"].unique().to_list() == ["p95"]
    of = load.read(field_data / "perf_log/triton-inference-server__client__output.txt")
    rows = of.composing.select("point", "version", "success", "request_ns", "compute_infer_ns", "cache_hits").rows()
    assert rows == [
        (1, "3", 1, 272_000, 90_000, 0),
        (2, "3", 85_173, 46_000, 7000, None),
        (5, "-1", 0, None, None, None),
        (6, "3", 59_897, 60_000, 7000, None),
    ]


def test_figures_of_exports(field_data: Path) -> None:
    """The export tells perf_analyzer's own report to the nanosecond, and what its --request-count hid."""
    rows = load.read(field_data / "profile_export/perf_analyzer-2.49.0__rate_poisson.json").points
    report = load.read(field_data / "perf_log/perf_analyzer-2.49.0__rate_poisson.txt").points
    assert rows["completed"].to_list() == report["completed"].to_list() == [154, 545, 869]
    for name in ("mean", "std", "p50", "p90", "p95", "p99"):
        fine, coarse = rows[f"service_{name}_ns"], report[f"service_{name}_ns"]
        assert (((fine - coarse) >= 0) & ((fine - coarse) < 1000)).all(), name
    assert rows["throughput_per_s"].to_list() == pytest.approx(report["throughput_per_s"].to_list(), rel=5e-6)
    row = point(field_data, "http_c2_request_count.json", 0)
    assert values(row, completed=300, concurrency=2)
    assert row["throughput_per_s"] == pytest.approx(2977.69, abs=0.01)
    assert row["in_flight_mean"] == pytest.approx(1.97, abs=0.01)
    several = load.read(
        field_data / "profile_export/triton-inference-server__perf_analyzer__genai_fixture_L62.json"
    ).requests.collect()
    assert several["responses"].to_list() == [3, 3, 4, 3]
    assert several["done_ns"].to_list() == [8, 11, 18, 11]


def test_reasons_of_what_is_suspicious(field_data: Path) -> None:
    """Rows of others that break Little's law are found by level; so is the sweep that ended before its end."""
    found = reasons(load.read(field_data / next(name for name in FILES if name.endswith("042947.csv"))))
    assert found == [
        (
            "model=rt-gemma3 version=1 batch_size=8 concurrency_range=1:128:16, concurrency 97",
            "throughput x latency says 81.9 requests in flight, asked were 97",
        )
    ]
    found = reasons(load.read(field_data / next(name for name in FILES if name.endswith("runs_raw.txt"))))
    assert ("concurrency 4", "the sweep was to reach 8 and ends here: unstable, over the threshold, or cut") in found


def test_the_command(field_data: Path, tmp_path: Path) -> None:
    """`python -m analysis import` lists files, levels and warnings, writes tables, fails only if nothing is read."""
    runner = CliRunner()
    folders = [str(field_data / folder) for folder in KINDS]
    tables = ["-o", str(tmp_path / "points.parquet"), "--requests", str(tmp_path / "requests.csv")]
    done = runner.invoke(app, ["import", *folders, *tables])
    assert done.exit_code == 0
    for name, (levels, warnings) in FILES.items():
        assert re.search(rf"{re.escape(Path(name).name)} +\w+ +{levels} +\S+ +{warnings}\n", done.output), name
    assert "28 files, 155 levels, 48 warnings; 2 files could not be read" in done.output
    assert pl.read_parquet(tmp_path / "points.parquet").height == 155
    assert pl.read_csv(tmp_path / "requests.csv").height == 300 + 1719 + 2 + 4
    refused = runner.invoke(app, ["import", str(field_data / next(iter(REFUSED)))])
    assert refused.exit_code == 2
    assert "not read: " in refused.output
    assert isinstance(runner.invoke(app, ["import", folders[0], "-o", "points.txt"]).exception, PlanError)
