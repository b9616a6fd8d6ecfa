"""perf_analyzer's standard output is read by its labels: whatever stands between, and wherever it ends."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_analyzer_files import SHAPES, STAGES, Said, Shape, read_or_refused, reasons, saids, stdout_text

from analysis.perf_analyzer import load
from analysis.perf_analyzer.tables import Imported
from loadgen.errors import PlanError

NOISE = (
    "",
    "WARNING: something else",
    "I0921 12:00:00 1 grpc_server.cc:1] Started GRPCInferenceService",
    "  % Total    % Received % Xferd  Average Speed",
    "root@host:/workspace# ls -l",
    "latency: 12 usec of another program",
)
TIMES_US = dict.fromkeys(("network", "send", "recv", "hit", "miss", *STAGES), 7)
TIMES_US |= {"mean": 285_000, "std": 20_000, "wait": 12, "request": 5, "overhead": 1, "response": 284_990}
PERCENTILES_US = (280_000, 290_000, 310_000, 330_000)
LEVELS = [Said(3, 10.5, 500, TIMES_US, PERCENTILES_US), Said(4, 14.0, 600, TIMES_US, PERCENTILES_US)]
TEXT = stdout_text(Shape(), LEVELS, passes=True)


def imported(folder: Path, text: str, encoding: str = "utf-8") -> Imported:
    """Write a capture and read it."""
    path = folder / "capture.txt"
    path.write_bytes(text.encode(encoding))
    return load.read(path)


@settings(deadline=None, max_examples=150)
@given(st.data(), st.booleans(), st.sampled_from(["", "# ", "2026-09-21T12:00:00Z stdout F "]), st.booleans())
def test_every_shape_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, passes: bool, before: str, repeated: bool
) -> None:
    """Each figure comes back in its column, with any noise between the lines and any prefix before them."""
    shape = data.draw(SHAPES)
    runs = [data.draw(saids(shape)) for _ in range(1 + repeated)]
    lines = "".join(stdout_text(shape, said, passes=passes) for said in runs).splitlines()
    for place in data.draw(st.lists(st.integers(0, len(lines)), max_size=8)):
        lines.insert(place, data.draw(st.sampled_from(NOISE)))
    of = imported(tmp_path_factory.mktemp("stdout"), "".join(f"{before}{line}\n" for line in lines))
    assert of.kinds == ("stdout",)
    expected = [(run, one) for run, said in enumerate(runs, 1) for one in said]
    assert of.windows.height == (3 * len(expected) if passes else 0)
    for (run, one), point in zip(expected, of.points.iter_rows(named=True), strict=True):
        assert point["run"] == run
        check(shape, one, point)
    gpus = [(number, gpu) for number, (_, one) in enumerate(expected, 1) for gpu in sorted(one.gpus)]
    assert of.gpus.select("point", "gpu").rows() == gpus
    for row, (number, gpu) in zip(of.gpus.iter_rows(named=True), gpus, strict=True):
        used, watts, most, total = expected[number - 1][1].gpus[gpu]
        assert row["utilisation"] == pytest.approx(used)
        assert (row["power_w"], row["memory_used_max_bytes"], row["memory_total_bytes"]) == (watts, most, total)


def check(shape: Shape, said: Said, point: dict[str, object]) -> None:
    assert (point["rate_per_s"] if shape.by_rate else point["concurrency"]) == said.level
    assert (point["throughput_per_s"], point["completed"]) == (said.throughput, said.requests)
    ns = {name: value * 1000.0 for name, value in said.times.items()}
    assert point["service_mean_ns"] == (ns["mean"] if shape.average else None)
    assert point["client_marshal_ns"] == ns["request"]
    assert point["response_wait_ns"] == ns["wait"]
    assert point["client_request_ns"] == ns["response"]
    for percent, value in zip(shape.percentiles, said.percentiles, strict=True):
        assert point[f"service_p{percent}_ns"] == value * 1000.0
    for name in STAGES:
        assert point[f"server_{name}_ns"] == (ns[name] if shape.server else None)
    assert point["server_success"] == (said.requests if shape.server else None)
    assert (point["protocol"], point["batch_size"], point["resolution_ns"]) == ("grpc", 1, 1000.0)
    assert point["verdict"] is None


def test_cut_at_every_byte(tmp_path: Path) -> None:
    """A capture cut anywhere keeps every level before the cut; the last is marked unless its result is whole."""
    whole = imported(tmp_path, TEXT).points.drop("file", "group")
    for length in range(len(TEXT)):
        of = read_or_refused(tmp_path, TEXT[:length].encode())
        if of is None:
            assert length < TEXT.index("  Pass [1]")
            continue
        known = of.points.drop("file", "group")
        assert known[:-1].equals(whole[: known.height - 1])
        last = known.row(-1, named=True)
        assert last["verdict"] in {None, "unfinished"}
        assert (last["verdict"] is None) == (last["service_p99_ns"] is not None)
        full = whole.row(known.height - 1, named=True)
        shown = {name for name, value in last.items() if value is not None} - {"verdict", "reason"}
        assert {name: last[name] for name in shown} == {name: full[name] for name in shown}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(TEXT) - 1), st.integers(0, 255)), max_size=30))
def test_damaged_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    """A capture with bytes overwritten gives tables or one clear line."""
    content = bytearray(TEXT.encode())
    for place, byte in damage:
        content[place] = byte
    read_or_refused(tmp_path_factory.mktemp("damaged"), bytes(content))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(TEXT.splitlines()), max_size=60))
def test_lines_in_any_order_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """Lines of perf_analyzer's in any order and number give tables or one clear line."""
    read_or_refused(tmp_path_factory.mktemp("order"), "\n".join(lines).encode())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    """A capture by a shell that writes UTF-16, or a byte order mark, reads the same."""
    assert imported(tmp_path, TEXT, encoding).points.equals(imported(tmp_path, TEXT).points)


def test_an_aborted_level_is_a_row(tmp_path: Path) -> None:
    """A level that failed or was not stable stays as a row with its windows, its verdict, and what was said of it."""
    text = (
        "Request concurrency: 2\n  Pass [1] throughput: 4.5 infer/sec. Avg latency: 9000 usec (std 10 usec). \n"
        "  Pass [2] cb::Error: too slow\n  Pass [3] cb::Error: No valid requests recorded\n"
        "Failed to retrieve results from inference request.\n"
        "Thread [0] had error: Socket closed\nRequest concurrency: 3\n  Client: \n    Request count: 9\n"
        "    Throughput: 1 infer/sec\n    p99 latency: 5 usec\nFailed to obtain stable measurement within 3 windows\n"
    )
    of = imported(tmp_path, text)
    assert of.points.select("concurrency", "throughput_per_s", "completed", "verdict").rows() == [
        (2, None, None, "unfinished"),
        (3, 1.0, 9, "unstable"),
    ]
    windows = of.windows.select("point", "window", "completed", "throughput_per_s", "service_ns").rows()
    assert windows == [(1, 1, None, 4.5, 9e6), (1, 2, None, None, None), (1, 3, 0, 0.0, None)]
    said = [reason for level, reason in reasons(of) if level == "concurrency 2"]
    assert said[:4] == [
        "says: Pass [2] cb::Error: too slow",
        "says: Pass [3] cb::Error: No valid requests recorded",
        "says: Failed to retrieve results from inference request.",
        "says: Thread [0] had error: Socket closed",
    ]


def test_the_table_at_the_end_alone(tmp_path: Path) -> None:
    """Where only the table was kept, its levels are points; its latency goes where its title says."""
    title, line = "Inferences/Second vs. Client p95 Batch Latency", "latency 8000 usec"
    text = f"$ perf_analyzer -m tracks --percentile=95\n{title}\nConcurrency: 1, throughput: 5.5 infer/sec, {line}\n"
    point = imported(tmp_path, text).points.row(0, named=True)
    assert (point["model"], point["concurrency"], point["throughput_per_s"]) == ("tracks", 1, 5.5)
    assert (point["service_p95_ns"], point["service_mean_ns"]) == (8_000_000, None)


def test_a_table_that_disagrees_is_said(tmp_path: Path) -> None:
    """Block and table at the end tell the same level: where they differ, the block stands and it is said."""
    of = imported(tmp_path, TEXT.replace("throughput: 10.5 infer/sec, latency", "throughput: 12 infer/sec, latency"))
    assert of.points["throughput_per_s"][0] == 10.5
    assert ("concurrency 3", "throughput_per_s is 10.5 in the block and 12 in the table at the end") in reasons(of)


def test_composing_models(tmp_path: Path) -> None:
    """Each composing model's block fills its own row, and leaves the ensemble's figures alone."""
    times = "Avg request latency: {0} usec (overhead 1 usec + queue {0} usec)"
    block = f"      Successful request count: {{0}}\n      {times}\n"
    text = (
        "Request concurrency: 1\n  Client: \n    Throughput: 2 infer/sec\n    p99 latency: 5 usec\n  Server: \n"
        + block.format(90)
        + "\n  Composing models: \n  first, version: 1\n"
        + block.format(40)
        + "\n  second, version: -1\n"
        + block.format(50)
    )
    of = imported(tmp_path, text)
    assert of.points.select("server_success", "server_queue_ns").rows() == [(90, 90_000)]
    rows = of.composing.select("point", "model", "version", "success", "request_ns", "queue_ns").rows()
    assert rows == [(1, "first", "1", 40, 40_000, 40_000), (1, "second", "-1", 50, 50_000, 50_000)]


CLIENT = "Request concurrency: 4\n  Client: \n    Request count: {n}\n    Throughput: {x} infer/sec\n"
TIMES = "    Avg latency: {mean} usec (standard deviation {std} usec)\n" + "".join(
    f"    p{percent} latency: {{p{percent}}} usec\n" for percent in (50, 90, 95, 99)
)


def test_a_standard_deviation_that_overflowed_is_missing(tmp_path: Path) -> None:
    """A deviation below what its own percentiles require is perf_analyzer's 64-bit overflow, and missing."""
    times = TIMES.format(mean=200_000, std=1_000, p50=100_000, p90=400_000, p95=1_500_000, p99=2_000_000)
    of = imported(tmp_path, CLIENT.format(n=2000, x=20) + times)
    assert of.points["service_std_ns"].to_list() == [None]
    assert "standard deviation 1 ms is below" in reasons(of)[0][1]
    good = TIMES.format(mean=200_000, std=400_000, p50=100_000, p90=400_000, p95=1_500_000, p99=2_000_000)
    assert imported(tmp_path, CLIENT.format(n=2000, x=20) + good).points["service_std_ns"].to_list() == [4e8]


def test_the_deviation_of_one_request_is_missing(tmp_path: Path) -> None:
    """One request has no deviation: the largest integer that stands for it is missing."""
    times = TIMES.format(mean=200_000, std=2**64 - 1, p50=1, p90=1, p95=1, p99=1)
    of = imported(tmp_path, CLIENT.format(n=1, x=20) + times)
    assert of.points["service_std_ns"].to_list() == [None]
    assert any("one request alone" in reason for _, reason in reasons(of))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    Avg client overhead: 61.20%", "perf_analyzer itself was busy for 61% of the time"),
        (
            "    [WARNING] Not able. 42.00% of the requests were delayed. ",
            "42% of requests were sent late",
        ),
        ("  Server: \n    Successful request count: 900", "the server counted 900 requests, the client 600"),
    ],
)
def test_what_the_client_and_server_give_away(tmp_path: Path, line: str, said: str) -> None:
    """A busy client, late requests, another count on the server: each is said of its level."""
    of = imported(tmp_path, CLIENT.format(n=600, x=20) + f"{line}\n")
    assert [level for level, reason in reasons(of) if said in reason] == ["concurrency 4"]


def test_request_count_is_a_lower_bound(tmp_path: Path) -> None:
    """A run by --request-count has throughput over whole seconds: said."""
    of = imported(tmp_path, TEXT.replace("  Measurement window: 5000 msec", "  Sending a total of 300 requests"))
    assert of.points["request_count"].to_list() == [300, 300]
    assert sum("lower bound" in reason for _, reason in reasons(of)) == 2


def test_a_sweep_that_ended_early_is_said(tmp_path: Path) -> None:
    """perf_analyzer says to which level it was to go: an earlier end is said of the last level."""
    of = imported(tmp_path, TEXT.replace("  Using sync", "  Concurrency limit: 8 concurrent requests\n  Using sync"))
    assert [level for level, reason in reasons(of) if "was to reach 8 and ends here" in reason] == ["concurrency 4"]


def test_output_without_a_level_is_refused(tmp_path: Path) -> None:
    """A capture that stops in its settings is refused, with that reason."""
    with pytest.raises(PlanError, match="stops before its first level"):
        imported(tmp_path, "*** Measurement Settings ***\n  Batch size: 1\n")
