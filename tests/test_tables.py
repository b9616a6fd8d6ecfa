"""`analysis.load`: every source in one schema, lazily; what cannot be read is one line."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from sealed_run import S, Story, write_run
from test_run import FAST, carry_out
from test_standalone import throughput_log

import analysis
from analysis import facts, parts, perf_parts, quantities, tidy
from analysis.hardware import GPU_SCHEMA
from analysis.kinds import Kind, of_text
from analysis.runs import open_run
from loadgen.errors import PlanError


def test_a_run_is_loaded_into_the_documented_schema(tmp_path: Path) -> None:
    """Every table has its columns and types, in order; facts of server, model and inputs stand at every point."""
    write_run(tmp_path / "20260101T000000Z-mine", Story(concurrency=(1, 4), instances=2, gpus=2))
    loaded = analysis.load(tmp_path / "20260101T000000Z-mine")
    assert dict(loaded.runs.schema) == tidy.RUNS
    assert dict(loaded.points.schema) == tidy.POINTS
    assert dict(loaded.quantities.schema) == tidy.QUANTITIES
    assert dict(loaded.gpus.schema) == tidy.GPUS
    assert dict(loaded.pods.schema) == tidy.PODS
    assert dict(loaded.answers.schema) == tidy.ANSWERS
    assert dict(loaded.requests.collect_schema()) == tidy.REQUESTS
    assert dict(loaded.samples.collect_schema()) == tidy.SAMPLES
    row = loaded.points.row(1, named=True)
    known = {name: row[name] for name in ("label", "kind", "model", "server_version", "mu", "instances", "gpus")}
    assert known == {
        "label": "mine",
        "kind": "loadgen",
        "model": "traccc-gpu",
        "server_version": "2.51.0",
        "mu": 20.0,
        "instances": 2,
        "gpus": 2,
    }
    assert (row["level"], row["headline"], row["simulated"], row["inputs_sha256"]) == (
        4.0,
        "service",
        True,
        "00" * 32,
    )


def test_quantities_are_the_wide_table_with_their_limits(tmp_path: Path) -> None:
    """Each known figure of a point is a row with unit and interval; what is null is no row; GPUs are never summed."""
    run = write_run(tmp_path / "run", Story(concurrency=(1, 2), gpus=2))
    loaded = analysis.load(run)
    wide = loaded.points.row(1, named=True)
    rows = {row["quantity"]: row for row in loaded.quantities.filter(pl.col("point") == 2).to_dicts()}
    for name, unit in (("throughput_per_s", "1/s"), ("service_p99_ns", "ns")):
        low, high = quantities.limits(name)
        assert (rows[name]["value"], rows[name]["low"], rows[name]["high"]) == (wide[name], wide[low], wide[high])
        assert rows[name]["unit"] == unit
    assert "service_p99_9_ns" not in rows
    assert not {"window_start_ns", "rate_per_s", "service_p99_low_ns", "completed"} & set(rows)
    gpus = loaded.gpus.filter(pl.col("point") == 2)
    assert gpus.height == 2
    assert rows["gpu_utilisation"]["value"] == pytest.approx(gpus["utilisation"].mean())
    energy = gpus["energy_j"].sum() / wide["completed"]
    assert rows["energy_per_event_j"]["value"] == pytest.approx(energy)


def test_energy_of_one_gpu_alone_is_not_that_of_all(tmp_path: Path) -> None:
    """Where one GPU's energy is not known, the sum is null and no row."""
    run = write_run(tmp_path / "run", Story(concurrency=(1,), gpus=2))
    samples = pl.read_parquet(run / "samples.parquet")
    lost = (pl.col("metric") == "nv_energy_consumption") & pl.col("labels").str.contains("GPU-1")
    samples.filter(~lost).write_parquet(run / "samples.parquet")
    names = analysis.load(run).quantities["quantity"].to_list()
    assert "gpu_power_w" in names
    assert "energy_per_event_j" not in names


def test_requests_are_lazy_and_their_summary_is_that_of_the_points(tmp_path: Path) -> None:
    """Service, response and lag are derived; count, mean and percentiles by point equal numpy's over the window."""
    run = write_run(tmp_path / "run", Story(concurrency=(1, 3), failing=(3,)))
    loaded = analysis.load(run)
    assert isinstance(loaded.requests, pl.LazyFrame)
    rows = loaded.requests.collect()
    assert rows.height == pl.read_parquet(run / "records" / "*.parquet").height
    assert (rows["service_ns"] == rows["done_ns"] - rows["sent_ns"]).all()
    assert (rows["response_ns"] - rows["service_ns"] == rows["send_lag_ns"]).all()
    assert not rows.filter(pl.col("point") == 0)["in_window"].any()
    found = analysis.durations(loaded.requests, percents=(50.0, 99.0, 99.9)).collect()
    assert found["count"].to_list() == loaded.points["completed"].to_list()
    for row in found.to_dicts():
        good = rows.filter(pl.col("point") == row["point"], pl.col("outcome") == "ok", pl.col("in_window"))
        ordered = np.sort(good["service_ns"].to_numpy())
        assert row["mean_ns"] == pytest.approx(ordered.mean())
        for percent, name in ((50, "p50_ns"), (99, "p99_ns"), (99.9, "p99_9_ns")):
            assert row[name] == ordered[int(percent / 100 * (len(ordered) - 1) + 0.5)]


def test_a_folder_is_all_the_runs_below_it(tmp_path: Path) -> None:
    """Runs at any depth, in order; one that crashed is left out and noted; names are made distinct."""
    for name in ("i1/take", "i2/take"):
        write_run(tmp_path / name, Story(concurrency=(1,), instances=int(name[1])))
    crashed = write_run(tmp_path / "i3" / "take", Story(concurrency=(1,)))
    (crashed / "manifest.json").unlink()
    loaded = analysis.load(tmp_path)
    assert loaded.runs["run"].to_list() == ["take", "take (2)"]
    assert loaded.runs["label"].to_list() == ["i1/take", "i2/take"]
    assert loaded.points["instances"].to_list() == [1, 2]
    (note,) = loaded.notes
    assert f"python -m loadgen seal {crashed}" in note


def test_a_folder_named_like_a_pattern_holds_a_run_like_any_other(tmp_path: Path) -> None:
    """Sealing, tables and what is read of them take a path as it is: brackets and stars are parts of names."""
    directory, _ = carry_out(FAST, tmp_path / "mu [20]*", 2)
    assert directory.manifest.exists()
    loaded = analysis.load(directory.path)
    assert loaded.points["completed"].sum() > 0
    assert loaded.requests.collect().height == open_run(directory.path).manifest["rows"]
    table = tmp_path / "[1].csv"
    loaded.points.select("point", "throughput_per_s").write_csv(table)
    assert analysis.load(table).points.height == 1


def test_a_pattern_stands_for_what_it_matches(tmp_path: Path) -> None:
    """Under one label too; a file whose name looks like a pattern is that file; nothing matched is one line."""
    for name in ("x-1insts", "y-1insts", "z-2insts"):
        write_run(tmp_path / name, Story())
    assert set(analysis.load(f"one={tmp_path}/*-1insts").runs["label"]) == {"one"}
    assert analysis.load(tmp_path / "*-1insts").runs.height == 2
    write_run(tmp_path / "[1]", Story())
    assert analysis.load(tmp_path / "[1]").runs.height == 1
    with pytest.raises(PlanError, match=r"\*-3insts: matches no file or folder"):
        analysis.load(tmp_path / "*-3insts")


def test_several_paths_and_labels_stack(tmp_path: Path) -> None:
    """One schema for runs and logs; each path takes its label."""
    write_run(tmp_path / "run", Story(concurrency=(1, 2)))
    log = tmp_path / "out_gpu_mu200.log"
    log.write_text(throughput_log(new=True, event_ms=50.0, device_name="NVIDIA A100"))
    loaded = analysis.load(tmp_path / "run", log, labels=("service", "alone"))
    assert loaded.points["label"].to_list() == ["service", "service", "alone"]
    alone = loaded.points.row(2, named=True)
    assert (alone["kind"], alone["load"], alone["mu"], alone["level"]) == ("traccc", "standalone", 200.0, 48.0)
    assert (alone["throughput_per_s"], alone["service_mean_ns"], alone["simulated"]) == (20.0, 50e6, False)
    assert loaded.standalone["device"].to_list() == ["cuda"]
    with pytest.raises(PlanError, match="1 labels for 2 paths"):
        analysis.load(tmp_path / "run", log, labels=("one",))


def test_another_tools_points_keep_what_they_know() -> None:
    """Native columns go through, absent ones are null; a closed loop without response time is judged by service."""
    points = pl.DataFrame(
        {
            "concurrency": [4],
            "load": ["closed_loop"],
            "throughput_per_s": [10.8746],
            "service_mean_ns": [364_397_000.0],
        }
    )
    read = SimpleNamespace(
        points=points,
        gpus=pl.DataFrame(schema=GPU_SCHEMA),
        requests=pl.LazyFrame(),
        warnings=(SimpleNamespace(file="a.csv", level="", reason="odd"),),
    )
    loaded = parts.joined(perf_parts.imported(read, "data/mu200_2gpus.csv", label="old"))
    assert dict(loaded.points.schema) == tidy.POINTS
    row = loaded.points.row(0, named=True)
    assert (row["kind"], row["label"], row["level"], row["headline"], row["mu"]) == (
        "perf_analyzer",
        "old",
        4.0,
        "service",
        200.0,
    )
    assert row["verdict"] is None
    assert loaded.quantities["quantity"].to_list() == ["throughput_per_s", "service_mean_ns"]
    assert loaded.notes == ("a.csv: odd",)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "is empty"),
        ("a.parquet", b"PAR1\x00\x00", "is a Parquet file; its columns are of no table of ours"),
        ("a.bin", b"\x7fELF\x00\x00", "looks like a binary file"),
        ("a.json", b'{"data": [1, 2], "x": 3}', "looks like JSON with the keys data, x"),
        (
            "cells.csv",
            b"geometry_id,measurement_id,channel0\n1,2,3\n",
            "looks like a CSV whose first line is 'geometry_id",
        ),
        ("notes.txt", b"\nHello there\n", "looks like text that begins 'Hello there'"),
    ],
)
def test_an_unknown_file_is_told_what_it_looks_like(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """One line that names the file and describes it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanError, match=f"{name}: is neither .*{said}") as told:
        analysis.load(tmp_path / name)
    assert "\n" not in str(told.value)


def test_what_is_missing_empty_or_of_another_format_is_one_line(tmp_path: Path) -> None:
    """No path, no such path, a folder of nothing, a run that crashed, a run of another format."""
    with pytest.raises(PlanError, match="nothing to load"):
        analysis.load()
    with pytest.raises(PlanError, match="no such file or folder"):
        analysis.load(tmp_path / "nosuch")
    with pytest.raises(PlanError, match="holds neither a sealed run directory"):
        analysis.load(tmp_path)
    run = write_run(tmp_path / "run", Story(concurrency=(1,)))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(PlanError, match="has format 99, this version reads 1"):
        analysis.load(run)
    (run / "manifest.json").unlink()
    with pytest.raises(PlanError, match="is not sealed; `python -m loadgen seal"):
        analysis.load(run)


def test_a_run_without_requests_or_points_loads_empty(tmp_path: Path) -> None:
    """Stopped before its first point: no rows anywhere, and no error."""
    run = write_run(tmp_path / "run", Story(concurrency=()))
    (run / "records" / "worker-0.parquet").unlink()
    loaded = analysis.load(run)
    assert (loaded.runs.height, loaded.points.height, loaded.quantities.height) == (1, 0, 0)
    assert loaded.requests.collect().height == 0
    assert analysis.durations(loaded.requests).collect().height == 0


@pytest.mark.parametrize(
    ("inputs", "provenance", "mu"),
    [
        ("synthetic ODD, mu 20, 10 events, seed 0", {"mu": 20.0}, 20.0),
        ("overlay of 3 events of cells/geant4_ttbar_mu20", {}, 60.0),
        ("geant4_ttbar_mu200 and geant4_ttbar_mu300", {}, None),
        ("emu-files, 3 events", {}, None),
        (None, {}, None),
    ],
)
def test_pile_up_is_what_was_made_or_named(
    inputs: str | None, provenance: dict[str, float], mu: float | None
) -> None:
    """Events laid over each other add up; two numbers are none."""
    assert facts.pile_up({"provenance": provenance}, inputs) == mu


def test_gpus_of_a_server_are_those_of_its_configuration(tmp_path: Path) -> None:
    """GPUs that are merely visible do not count where the configuration names the model's own."""
    run = open_run(write_run(tmp_path / "run", Story(concurrency=(1,), gpus=4)))
    assert facts.gpus_of({}, run.samples()) == 4
    config = {"instance_group": [{"kind": "KIND_GPU", "gpus": [0, 1]}, {"kind": "KIND_GPU", "gpus": [1]}]}
    assert facts.gpus_of(config, run.samples()) == 2
    assert facts.gpus_of({}, run.samples().clear()) is None


def test_every_field_file_has_the_kind_of_its_folder(field_data: Path) -> None:
    """Files of perf_analyzer and traccc are told apart from each other, from cells and from metrics pages."""
    kinds: dict[str, set[Kind | None]] = {
        "perf_csv": {Kind.PERF_ANALYZER},
        "perf_log": {Kind.PERF_ANALYZER},
        "cells": {None},
        "metrics": {None},
    }
    for folder, expected in kinds.items():
        for file in (field_data / folder).iterdir():
            assert of_text(file.read_bytes()[:65_536]) in expected, file.name
    for file in (field_data / "traccc_log").glob("*.txt"):
        assert of_text(file.read_bytes()) is Kind.TRACCC, file.name


def test_windows_are_half_open(tmp_path: Path) -> None:
    """A request that ends at the window's start counts, one at its end does not."""
    run = write_run(tmp_path / "run", Story(concurrency=(1,)))
    records = pl.read_parquet(run / "records" / "worker-0.parquet")
    start_ns = analysis.load(run).points["window_start_ns"][0]
    one = records.filter(pl.col("point") == 1).head(1)
    moved = [one.with_columns(done_ns=pl.lit(at_ns)) for at_ns in (start_ns - 1, start_ns, start_ns + 5 * S)]
    pl.concat(moved).write_parquet(run / "records" / "worker-0.parquet")
    assert analysis.load(run).requests.collect()["in_window"].to_list() == [False, True, False]
