"""What the real perf_analyzer leaves of one run against the real Triton: its three outputs tell the same."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import perf_analyzer_binary
import polars as pl
import pytest
from google.protobuf import text_format
from perf_analyzer_binary import PerfAnalyzer
from tritonclient.grpc import model_config_pb2

from analysis.perf_analyzer import load
from analysis.perf_analyzer.tables import Imported
from loadgen.errors import TargetError
from loadgen.server import embedded
from loadgen.server.launch import RunningServer, serve_triton

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]

ECHO_MODEL = Path(__file__).parent / "slow_echo_model.py"
STEPS = ("first", "second")
TIMEOUT_S = 60
SIX_DIGITS = 5e-6
RESOLUTION_NS = 1000
FLOORED = 6
"""How many rounded times a network time that is not printed is made of."""

STAGES = tuple(f"server_{name}_ns" for name in ("queue", "compute_input", "compute_infer", "compute_output"))
CASES = {
    "average": ("first", ["--concurrency-range", "1:3:1", "--sync"]),
    "percentile": ("first", ["--concurrency-range", "2", "--percentile=75"]),
    "rate": ("first", ["--request-rate-range", "80:120:40", "--request-distribution", "poisson"]),
    "ensemble": ("whole", ["--concurrency-range", "1:2:1"]),
}
TWO_DECIMALS = 0.006
"""How output rounds throughput, once a level of rates had late requests, from there on."""


@dataclass(frozen=True)
class Told:
    """One run as its three outputs tell it."""

    csv: Imported
    stdout: Imported
    export: Imported


@pytest.fixture(scope="module")
def told(triton: embedded.Installation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """Return what perf_analyzer tells of each case, all against one server."""
    try:
        perf_analyzer = perf_analyzer_binary.install(triton)
    except TargetError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("import")

    async def serve() -> dict[str, Told]:
        models = write_repository(folder)
        async with serve_triton(triton, models, "whole", log=folder / "log") as server:
            return {name: await asyncio.to_thread(run, perf_analyzer, server, folder, name) for name in CASES}

    return asyncio.run(serve())


def run(perf_analyzer: PerfAnalyzer, server: RunningServer, folder: Path, name: str) -> Told:
    model, load_options = CASES[name]
    (place := folder / name).mkdir()
    target = ["-m", model, "-u", server.grpc, "-i", "grpc", "--input-data", "zero"]
    window = ["-p", "400", "-s", "300", "-r", "30", "-v"]
    files = ["-f", "out.csv", "--verbose-csv", "--profile-export-file", str(place / "profile.json")]
    # The files of composing models are written only where `-f` names no folder.
    done = perf_analyzer.run(*target, *load_options, *window, *files, timeout_s=TIMEOUT_S, folder=place)
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "out.txt").write_text(done.stdout)
    return Told(*(load.read(place / file) for file in ("out.csv", "out.txt", "profile.json")))


def write_repository(folder: Path) -> Path:
    """Write two models that answer a little later, and an ensemble of them."""
    models = folder / "models"
    for name in STEPS:
        (models / name / "1").mkdir(parents=True)
        shutil.copyfile(ECHO_MODEL, models / name / "1" / "model.py")
        write(models / name, model_config_pb2.ModelConfig(name=name, backend="python"))
    whole = model_config_pb2.ModelConfig(name="whole", platform="ensemble")
    for name, given, made in zip(STEPS, ("X", "between"), ("between", "Y"), strict=True):
        step = whole.ensemble_scheduling.step.add(model_name=name, model_version=-1)
        step.input_map["X"], step.output_map["Y"] = given, made
    (models / "whole" / "1").mkdir(parents=True)
    write(models / "whole", whole)
    return models


def write(folder: Path, config: model_config_pb2.ModelConfig) -> None:
    config.input.add(name="X", data_type="TYPE_FP32", dims=[4])
    config.output.add(name="Y", data_type="TYPE_FP32", dims=[4])
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))


@pytest.mark.parametrize("name", CASES)
def test_csv_and_output_are_equal(told: dict[str, Told], name: str) -> None:
    """CSV and standard output give the same levels, and the same whole microseconds wherever both print them."""
    csv, stdout = told[name].csv.points, told[name].stdout.points
    asked = ["load", "concurrency", "rate_per_s"]
    assert csv.select(asked).rows() == stdout.select(asked).rows()
    assert stdout["throughput_per_s"].to_list() == printed_as(csv, name)
    for column in ("client_marshal_ns", "response_wait_ns", *percentiles(csv), *means(csv)):
        assert csv[column].to_list() == stdout[column].to_list(), column
    if name != "ensemble":
        for column in STAGES:
            assert csv[column].to_list() == stdout[column].to_list(), column
        network = (csv["network_ns"] - stdout["network_ns"]).drop_nulls().to_list()
        assert all(abs(apart) <= FLOORED * RESOLUTION_NS for apart in network)
    assert stdout["verdict"].null_count() == stdout.height


@pytest.mark.parametrize("name", CASES)
def test_export_gives_the_same_report(told: dict[str, Told], name: str) -> None:
    """Every time of the export, rounded down, is that of the CSV; counts are equal, throughput to its six digits."""
    csv, stdout, export = told[name].csv.points, told[name].stdout.points, told[name].export.points
    assert export["completed"].to_list() == stdout["completed"].to_list()
    assert export["throughput_per_s"].to_list() == pytest.approx(csv["throughput_per_s"].to_list(), rel=SIX_DIGITS)
    known = [column for column in (*percentiles(csv), *means(csv)) if column in export.columns]
    assert len(known) >= 4
    for column in known:
        above = (export[column] - csv[column]).to_list()
        assert all(0 <= each < RESOLUTION_NS for each in above), column
    requests = told[name].export.requests.collect()
    assert requests["outcome"].unique().to_list() == ["ok"]
    assert requests.height == told[name].export.windows["completed"].sum()


@pytest.mark.parametrize("name", CASES)
def test_windows_are_those_of_the_output(told: dict[str, Told], name: str) -> None:
    """Each pass that -v prints is a window of the export: same throughput to its digits, same mean."""
    printed, exported = told[name].stdout.windows, told[name].export.windows
    assert printed.select("point", "window").rows() == exported.select("point", "window").rows()
    assert exported["throughput_per_s"].to_list() == printed_as(printed, name)
    if printed["statistic"].unique().to_list() == ["mean"]:
        above = (exported["service_ns"] - printed["service_ns"]).drop_nulls().to_list()
        assert all(0 <= each < RESOLUTION_NS for each in above)


def test_composing_models_are_equal(told: dict[str, Told]) -> None:
    """The files of composing models and their blocks of the output give the same stages, level by level."""
    csv, stdout = told["ensemble"].csv.composing, told["ensemble"].stdout.composing
    stages = ["queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns"]
    columns = ["point", "model", "version", *stages]
    assert csv.sort("point", "model").select(columns).equals(stdout.sort("point", "model").select(columns))
    assert csv.select("point", "model").sort("point", "model").rows() == [
        (level, step) for level in (1, 2) for step in STEPS
    ]
    assert csv.filter(pl.col("compute_infer_ns") < 3_000_000).is_empty()


def printed_as(table: pl.DataFrame, name: str) -> Any:
    """Return what equals throughputs that are the same but for how they were printed."""
    rates = table["throughput_per_s"].to_list()
    return pytest.approx(rates, rel=SIX_DIGITS, abs=TWO_DECIMALS if name == "rate" else None)


def percentiles(points: pl.DataFrame) -> list[str]:
    return [name for name in points.columns if name.startswith("service_p") and points[name].is_not_null().all()]


def means(points: pl.DataFrame) -> list[str]:
    return ["service_mean_ns"] if points["service_mean_ns"].is_not_null().all() else []
