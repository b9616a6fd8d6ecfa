"""The drop-in beside the real perf_analyzer 2.49 on the same Triton: lines, columns, keys and exit codes."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import perf_analyzer_binary
import pytest
from google.protobuf import text_format
from perf_analyzer_binary import PerfAnalyzer
from tritonclient.grpc import model_config_pb2

from loadgen.errors import TargetError
from loadgen.server import embedded
from loadgen.server.launch import RunningServer, serve_standin, serve_triton

pytestmark = [pytest.mark.live]

LIVE = Path(__file__).parent
TIMEOUT_S = 100
ECHO, REPEAT, STATEFUL, PIPE = "echo", "repeat", "stateful", "pipe"
QUICK = ("-p", "300", "-s", "400", "-r", "8")
"""Windows as short, and agreement as wide, as a busy machine needs."""

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e\+\d+)?")
OPTIONAL = ("Avg send request rate", "[WARNING] Perf Analyzer")
"""Lines that depend on how busy the machine is."""

UNEQUAL_ON_PURPOSE = ("Pass [",)
"""Lines of which there may be more in one run than in another."""

Control = model_config_pb2.ModelSequenceBatching.Control


@dataclass(frozen=True, slots=True)
class Bench:
    """Both programs and the server they are held against."""

    server: RunningServer
    theirs: PerfAnalyzer
    folder: Path
    ours: tuple[str, ...] = (sys.executable, "-m", "loadgen", "perf-analyzer")
    path: str = os.environ.get("PATH", "")

    def both(self, *arguments: str) -> tuple["Outcome", "Outcome"]:
        """Run the same command line by each, in a folder of its own."""
        return self.run_theirs(*arguments), self.run_ours(*arguments)

    def run_theirs(self, *arguments: str) -> "Outcome":
        """Run theirs."""
        folder = fresh(self.folder / "theirs")
        done = self.theirs.run(*placed(arguments, folder), timeout_s=TIMEOUT_S)
        return Outcome(done, folder)

    def run_ours(self, *arguments: str) -> "Outcome":
        """Run ours."""
        folder = fresh(self.folder / "ours")
        command = shlex.join([*self.ours, *placed(arguments, folder)])
        environment = {**os.environ, "LOADGEN_RUNS": str(folder / "runs"), "PATH": self.path}
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env=environment,
            timeout=TIMEOUT_S,
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(done, folder)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program printed and wrote."""

    done: subprocess.CompletedProcess[str]
    folder: Path

    @property
    def shape(self) -> list[str]:
        """The lines of its output with every number replaced, those that chance decides left out."""
        lines = [NUMBER.sub("N", line) for line in self.done.stdout.splitlines()]
        shown = [line for line in lines if not line.strip().startswith(OPTIONAL)]
        return [line for line, after in zip(shown, [*shown[1:], ""], strict=True) if not _is_again(line, after)]

    def header(self, name: str = "out.csv") -> str:
        """The first line of a file it wrote."""
        return (self.folder / name).read_text().splitlines()[0]

    def profile(self) -> Any:
        """Its profile export."""
        return json.loads((self.folder / "out.json").read_text())


def _is_again(line: str, after: str) -> bool:
    return line == after and line.strip().startswith(UNEQUAL_ON_PURPOSE)


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def placed(arguments: Sequence[str], folder: Path) -> list[str]:
    """Put files named `@NAME` into a folder."""
    return [str(folder / each[1:]) if each.startswith("@") else each for each in arguments]


def config(name: str, file: str, max_batch_size: int = 0) -> model_config_pb2.ModelConfig:
    made = model_config_pb2.ModelConfig(name=name, backend="python", max_batch_size=max_batch_size)
    made.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    made.parameters["file"].string_value = file
    return made


def stateful(log: Path) -> model_config_pb2.ModelConfig:
    made = config(STATEFUL, "sequence_model.py", 8)
    made.input.add(name="X", data_type="TYPE_INT32", dims=[2])
    made.output.add(name="COUNT", data_type="TYPE_INT32", dims=[1])
    batching = made.sequence_batching
    flags = {"START": "CONTROL_SEQUENCE_START", "END": "CONTROL_SEQUENCE_END", "READY": "CONTROL_SEQUENCE_READY"}
    for flag, kind in flags.items():
        batching.control_input.add(name=flag).control.add(kind=kind).int32_false_true.extend([0, 1])
    identifier = batching.control_input.add(name="CORRID").control.add(kind="CONTROL_SEQUENCE_CORRID")
    identifier.data_type = model_config_pb2.TYPE_UINT64
    batching.direct.SetInParent()
    made.parameters["log"].string_value = str(log)
    return made


def write_repository(folder: Path) -> Path:
    """Write a repository with a model of each kind that the output differs for."""
    echo, repeat = config(ECHO, "slow_echo_model.py"), config(REPEAT, "repeating_model.py")
    echo.input.add(name="X", data_type="TYPE_FP32", dims=[4])
    echo.output.add(name="Y", data_type="TYPE_FP32", dims=[4])
    repeat.input.add(name="N", data_type="TYPE_INT32", dims=[1])
    repeat.output.add(name="OUT", data_type="TYPE_INT32", dims=[1])
    repeat.model_transaction_policy.decoupled = True
    pipe = model_config_pb2.ModelConfig(name=PIPE, platform="ensemble", input=echo.input, output=echo.output)
    step = pipe.ensemble_scheduling.step.add(model_name=ECHO, model_version=-1)
    step.input_map["X"], step.output_map["Y"] = "X", "Y"
    for each in (echo, repeat, stateful(folder / "steps"), pipe):
        version = folder / "models" / each.name / "1"
        version.mkdir(parents=True)
        if each.backend:
            shutil.copyfile(LIVE / each.parameters["file"].string_value, version / "model.py")
        (version.parent / "config.pbtxt").write_text(text_format.MessageToString(each))
    return folder / "models"


@pytest.fixture(scope="module")
def perf_analyzer(triton: embedded.Installation) -> PerfAnalyzer:
    """Return the real perf_analyzer; skip where it cannot be downloaded."""
    try:
        return perf_analyzer_binary.install(triton)
    except TargetError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bench(
    triton: embedded.Installation, perf_analyzer: PerfAnalyzer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """Return both programs beside a Triton that serves every kind of model, for all tests of this file."""
    folder = tmp_path_factory.mktemp("dropin")
    models = write_repository(folder)
    with serving(lambda: serve_triton(triton, models, ECHO, log=folder / "server.log")) as server:
        yield Bench(server, perf_analyzer, folder)


@contextmanager
def serving(serve: Callable[[], AbstractAsyncContextManager[RunningServer]]) -> Iterator[RunningServer]:
    """Serve from a thread of its own while the context lasts."""
    loop, stop, up = asyncio.new_event_loop(), asyncio.Event(), Future[RunningServer]()

    async def main() -> None:
        try:
            async with serve() as server:
                up.set_result(server)
                await stop.wait()
        except BaseException as error:  # noqa: BLE001 - told to who waits
            if not up.done():
                up.set_exception(error)

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        yield up.result()
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def where(bench: Bench, protocol: str) -> tuple[str, ...]:
    return ("-i", "grpc", "-u", bench.server.grpc) if protocol == "grpc" else ("-u", bench.server.http)


@pytest.fixture
def rep(tmp_path: Path) -> str:
    file = tmp_path / "rep.json"
    file.write_text('{"data":[{"N":[3]}]}')
    return str(file)


CASES = {
    "grpc": ("grpc", ECHO, ("--concurrency-range", "1:2:1", "--verbose-csv")),
    "http": ("http", ECHO, ()),
    "verbose": ("grpc", ECHO, ("-v", "--async", "--concurrency-range", "2")),
    "verbose http": ("http", ECHO, ("-v", "--percentile=95", "--verbose-csv")),
    "rate": ("grpc", ECHO, ("--request-rate-range", "20:40:20", "-v", "--verbose-csv")),
    "rate http poisson": ("http", ECHO, ("--request-rate-range=30", "--request-distribution", "poisson")),
    "count windows": ("grpc", ECHO, ("--measurement-mode", "count_windows", "--measurement-request-count", "60")),
    "request count": ("grpc", ECHO, ("--request-count", "20", "--concurrency-range", "2")),
    "request count verbose": ("http", ECHO, ("--request-count", "15", "-v")),
    "over the limit": ("grpc", ECHO, ("-l", "2")),
    "bisected": ("grpc", ECHO, ("-l", "500", "--concurrency-range", "1:3:1", "--binary-search")),
    "sequences": ("grpc", STATEFUL, ("-v", "--percentile", "90")),
    "sequences http": ("http", STATEFUL, ("--concurrency", "2")),
    "ensemble": ("grpc", PIPE, ("--verbose-csv",)),
    "ensemble http": ("http", PIPE, ("-v",)),
}


@pytest.mark.parametrize("name", CASES)
def test_output_and_csv_have_the_shape_of_perf_analyzers(bench: Bench, name: str) -> None:
    """Every line of stdout but for its numbers, the CSV's header, and the exit code are those of perf_analyzer."""
    protocol, model, further = CASES[name]
    theirs, ours = bench.both("-m", model, *where(bench, protocol), *QUICK, *further, "-f", "@out.csv")
    assert ours.shape == theirs.shape, ours.done.stderr
    assert ours.done.returncode == theirs.done.returncode == 0
    assert (ours.folder / "out.csv").exists() == (theirs.folder / "out.csv").exists()
    if (theirs.folder / "out.csv").exists():
        assert ours.header() == theirs.header()


def test_streams_of_a_decoupled_model(bench: Bench, rep: str) -> None:
    """The same for a model that answers more than once: response throughput, and no split of the client library."""
    options = ("--streaming", "--async", "--input-data", rep, "--verbose-csv", "-f", "@out.csv")
    theirs, ours = bench.both("-m", REPEAT, *where(bench, "grpc"), *QUICK, *options)
    assert ours.shape == theirs.shape, ours.done.stderr
    assert ours.header() == theirs.header()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_metrics_columns_and_block(bench: Bench, protocol: str) -> None:
    """With --collect-metrics, the block of GPUs and the columns are there, empty where the server has no GPU."""
    options = ("--collect-metrics", "--metrics-url", bench.server.metrics_url, "--verbose-csv", "-f", "@out.csv")
    theirs, ours = bench.both("-m", ECHO, *where(bench, protocol), *QUICK, *options)
    assert ours.shape == theirs.shape, ours.done.stderr
    assert ours.header() == theirs.header()
    assert ours.header().endswith("Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,Total GPU Memory")


def test_models_that_are_called_have_files_of_their_own(bench: Bench) -> None:
    """The CSV of an ensemble's step has perf_analyzer's header, and lies beside the CSV, not in a lost folder."""
    ours = bench.run_ours("-m", PIPE, *where(bench, "grpc"), *QUICK, "-f", "@out.csv")
    name = "echo_v1.out.csv"
    assert ours.header(name).startswith("Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,")
    assert ours.header(name).endswith("Server Compute Output,Client Recv")


@pytest.mark.parametrize("name", ["grpc", "http", "rate", "sequences", "request count"])
def test_profile_export_has_the_keys_of_perf_analyzers(bench: Bench, name: str) -> None:
    """At every depth the keys, the mode and the kinds of values are those of perf_analyzer's profile export."""
    protocol, model, further = CASES[name]
    options = (*QUICK, *further, "--profile-export-file", "@out.json")
    theirs, ours = bench.both("-m", model, *where(bench, protocol), *options)
    assert keys(ours.profile()) == keys(theirs.profile())
    experiments = ours.profile()["experiments"]
    assert [each["experiment"] for each in experiments] == [
        each["experiment"] for each in theirs.profile()["experiments"]
    ]
    for each in experiments:
        first, *_, last = each["window_boundaries"]
        assert all(first <= end < last for request in each["requests"] for end in request["response_timestamps"])


def keys(content: Any) -> Any:
    """Return the keys of nested objects, and of the first element of lists; contents of answers left out."""
    if isinstance(content, dict):
        return {key: None if key == "response_outputs" else keys(value) for key, value in content.items()}
    if isinstance(content, list):
        return [keys(content[0])] if content else []
    return type(content).__name__


def test_sequences_of_the_export_are_those_the_model_saw(bench: Bench) -> None:
    """Sequence ids, which no record holds, are found again: as many steps of each id as the model was sent."""
    (bench.folder / "steps").unlink(missing_ok=True)
    options = ("--concurrency-range", "3", "--sequence-length", "7", "--profile-export-file", "@out.json")
    ours = bench.run_ours("-m", STATEFUL, *where(bench, "grpc"), *QUICK, *options)
    sent = Counter(json.loads(line)[0] for line in (bench.folder / "steps").read_text().splitlines())
    [level] = ours.profile()["experiments"]
    found = Counter(request["sequence_id"] for request in level["requests"])
    whole = sorted(found)[5:-5]  # those at the edges of the windows are only partly in the export
    assert len(whole) > 20
    assert {each: found[each] for each in whole} == {each: sent[each] for each in whole}
    assert len({sent[each] for each in whole}) > 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bogus",),
        ("-m", ECHO, "--request", "3"),
        ("-m", ECHO, "--concurrency-range", "1:x"),
        ("-m", ECHO, "-u", "localhost:1"),
        ("-m", ECHO, "-i", "grpc", "-u", "localhost:1"),
        ("-m", "nope", "HTTP"),
        ("-m", "nope", "GRPC"),
        ("GRPC",),
        ("-m", ECHO, "GRPC", "--input-data", "no such file"),
        ("-m", ECHO, "GRPC", "--async", "--sync"),
        ("-m", ECHO, "HTTP", "--streaming"),
        ("-m", ECHO, "GRPC", "-p", "100", "-s", "0", "-r", "3"),
        ("-m", ECHO, "GRPC", "--version"),
    ],
)
def test_exit_codes(bench: Bench, arguments: tuple[str, ...]) -> None:
    """A bad option, a server that cannot be reached, an unknown model, an unstable level: the exit code is theirs."""
    filled: list[str] = []
    for each in arguments:
        filled += where(bench, each.lower()) if each in {"GRPC", "HTTP"} else [each]
    theirs, ours = bench.both(*filled)
    assert ours.done.returncode == theirs.done.returncode, ours.done.stderr
    assert "Traceback" not in ours.done.stderr


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_trace_settings_reach_the_server(bench: Bench, protocol: str) -> None:
    """The server has the settings afterwards, as after perf_analyzer; what it refuses ends both alike."""
    options = ("--request-count", "5", "--trace-level", "OFF", "--trace-rate")
    page = f"http://{bench.server.http}/v2/trace/setting"
    found = []
    for run, rate in ((bench.run_theirs, "71"), (bench.run_ours, "73")):
        assert run("-m", ECHO, *where(bench, protocol), *options, rate).done.returncode == 0
        with urllib.request.urlopen(page) as answer:
            found.append(json.loads(answer.read())["trace_rate"])
    assert found == ["71", "73"]
    theirs, ours = bench.both(
        "-m", ECHO, *where(bench, protocol), "--request-count", "5", "--trace-level", "TIMESTAMPS"
    )
    assert ours.done.returncode == theirs.done.returncode


def test_the_studys_command_lines(perf_analyzer: PerfAnalyzer, triton: embedded.Installation, tmp_path: Path) -> None:
    """The shell pattern runs unchanged where ours is named perf_analyzer on PATH: same header, same lines."""
    script = tmp_path / "bin" / "perf_analyzer"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom loadgen.perf_analyzer_cli import main\nmain()\n")
    script.chmod(0o755)
    made = [sys.executable, "-m", "inputs", "synth", "--mu", "1", "--events", "2", "-o", str(tmp_path / "in.json")]
    subprocess.run(made, check=True, capture_output=True)
    with serving(lambda: serve_standin(directory=tmp_path / "standin", log=tmp_path / "log")) as server:
        path = f"{script.parent}:{os.environ.get('PATH', '')}"
        bench = Bench(server, perf_analyzer, tmp_path, ("perf_analyzer",), path)
        pattern = ["-m", "traccc-gpu", "-i", "grpc", "--input-data", str(tmp_path / "in.json")]
        pattern += ["--measurement-interval", "300", "--sync", "-f", "@out.csv", "-r", "30"]
        pattern += ["--collect-metrics", "--verbose-csv", "-u", server.grpc, "--metrics-url", server.metrics_url]
        for further in (["--concurrency-range", "1:3:1", "-s", "100"], ["--percentile=95", "--concurrency", "2:2:1"]):
            theirs, ours = bench.both(*pattern, *further, "-s", "300")
            assert ours.shape == theirs.shape, ours.done.stderr
            assert ours.header() == theirs.header()
            rows = [(each.folder / "out.csv").read_text().splitlines()[1:] for each in (theirs, ours)]
            assert sorted(row.split(",")[0] for row in rows[0]) == sorted(row.split(",")[0] for row in rows[1])
