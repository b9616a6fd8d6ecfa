"""A level summed up as perf_analyzer does, and its figures as CSV and as standard output, to the letter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.perf_csv import Form, composing_texts, csv_text
from analysis.perf_level import Asked, Level, Server, level_of
from loadgen.dropin import layout, options
from loadgen.dropin.layout import Model
from loadgen.kserve import Statistics
from loadgen.plan import ClosedLoop, OpenLoop
from loadgen.progress import Edge
from loadgen.records import ROW, Outcome, Rows
from loadgen.rundir import Sample

S, MS, US = 1_000_000_000, 1_000_000, 1000


def rows(*requests: tuple[float, float, float], **fields: Any) -> Rows:
    """Return rows of (due, sent, done) in milliseconds."""
    made = np.zeros(len(requests), ROW)
    for name, column in zip(("due_ns", "sent_ns", "done_ns"), zip(*requests, strict=True), strict=True):
        made[name] = [round(value * MS) for value in column]
    made["outcome"], made["responses"] = Outcome.OK, 1
    for name, value in fields.items():
        made[name] = value
    return made


def statistics(requests: int, composing: dict[str, Statistics] | None = None, **us: int) -> Statistics:
    """Return counters after so many requests, with microseconds a request in each stage."""
    stages = {"queue": 10, "compute_input": 20, "compute_infer": 300, "compute_output": 40, "success": 400, **us}
    times: dict[str, Any] = {f"{name}_ns": each * US * requests for name, each in stages.items()}
    return Statistics(
        0, 0, "1", requests, requests, requests, fail_count=0, fail_ns=0, composing=composing or {}, **times
    )


def level(made: Rows, asked: Asked | None = None, load: Any = None, **edges: Any) -> Level:
    before, after = edges.get("before"), edges.get("after")
    found = level_of(
        load or ClosedLoop(1), made, [Edge(1, before), Edge(S, after)], asked or Asked(), edges.get("samples", ())
    )
    assert found is not None
    return found


TEN = rows(*((10 * k, 10 * k + 1, 10 * k + 1 + k) for k in range(1, 11)))


def test_the_figures_are_perf_analyzers() -> None:
    """Counts of what ended inside, latency from sent to done, nearest rank, the sample's standard deviation."""
    found = level(TEN)
    assert (found.kind, found.value, found.requests) == ("Concurrency", 1, 10)
    assert found.throughput_per_s == pytest.approx(10)
    assert found.mean_ns == 5.5 * MS
    assert found.std_ns == pytest.approx(np.std(np.arange(1, 11), ddof=1) * MS)
    assert found.percentiles_ns == {50: 6 * MS, 90: 9 * MS, 95: 10 * MS, 99: 10 * MS}


def test_what_ended_outside_or_badly_does_not_count() -> None:
    """Windows go by the end of a request; failures are told apart, batches multiply inferences, not requests."""
    made = rows((0, 0, 500), (0, 0, 1000), (0, 0, 999.999), (990, 990, 0))
    made["outcome"][2] = Outcome.TIMEOUT
    made["outcome"][3] = Outcome.OPEN_AT_END
    found = level(made, Asked(batch=4))
    assert (found.requests, found.failed) == (1, 1)
    assert found.throughput_per_s == pytest.approx(4)
    assert found.std_ns == 0
    assert level_of(ClosedLoop(1), made[3:], [Edge(1, None), Edge(S, None)], Asked()) is None


def test_delays_are_of_open_loops_and_overhead_is_what_slots_wait_for_us() -> None:
    """More than a millisecond late is delayed; a slot that waits 1 ms of every 10 for its next request, 10 %."""
    late = rows((0, 0.5, 2), (10, 12, 14), (20, 20, 21), (30, 31.1, 33))
    assert level(late, load=OpenLoop(10)).delayed_percent == pytest.approx(50)
    assert level(late).delayed_percent == 0
    assert level(TEN).overhead_percent == pytest.approx(1)


def test_sequences_end_with_their_last_step() -> None:
    """Counted by the bodies that end a stream, or by the length that was asked for."""
    made = rows(*((k, k, k + 1) for k in range(6)), body=[0, 1, 2, 0, 1, 2])
    assert level(made, Asked(last_steps=frozenset({2}))).sequences == 2
    assert level(made, Asked(last_steps=frozenset({2}), sequence_length=3)).sequences == 2
    assert level(made).sequences is None


def test_the_server_is_the_difference_of_two_readings() -> None:
    """Stages are means over what succeeded between them, rounded down; the network is what is left of the mean."""
    found = level(TEN, before=statistics(100), after=statistics(110))
    assert found.server is not None
    assert (found.server.inferences, found.server.successes, found.server.queue_us) == (10, 10, 10)
    assert found.server.compute_us == 360
    assert found.network_us == 5500 - 370
    assert level(rows((0, 0, 0.1)), before=statistics(0), after=statistics(1)).network_us == 0


def test_http_tells_sending_and_receiving_apart() -> None:
    """From sent to flushed and from the first byte to the last, where the transport saw them."""
    made = rows((0, 1, 9), flushed_ns=3 * MS, first_byte_ns=8 * MS)
    assert (level(made, Asked(http=True)).send_ns, level(made, Asked(http=True)).receive_ns) == (2 * MS, MS)
    assert level(made).send_ns == 0
    assert level(rows((0, 1, 9)), Asked(http=True)).send_ns == 0


def gauge(at_ns: int, metric: str, value: float, gpu: str = "GPU-a") -> Sample:
    return Sample(at_ns, "metrics", metric, f'{{"gpu_uuid":"{gpu}"}}', value)


def test_gpus_are_merged_as_perf_analyzer_merges_them() -> None:
    """Means of utilisation and power, the highest memory in use, the first total; `uuid:value;` repeated."""
    samples = [
        gauge(1, "nv_gpu_utilization", 0.25),
        gauge(2, "nv_gpu_utilization", 0.5),
        gauge(S, "nv_gpu_utilization", 1.0),
        gauge(1, "nv_gpu_power_usage", 55.125, "GPU-b"),
        gauge(1, "nv_gpu_memory_used_bytes", 12345678901),
        gauge(2, "nv_gpu_memory_used_bytes", 12345678900),
        gauge(1, "nv_gpu_memory_total_bytes", 2e10, "GPU-b"),
        gauge(1, "nv_gpu_memory_total_bytes", 3e10),
    ]
    text = csv_text([level(TEN, samples=samples)], Form(verbose=True, metrics=True))
    cells = text.splitlines()[1].split(",")[-4:]
    assert cells == [
        "GPU-a:0.375;",
        "GPU-b:55.125;",
        "GPU-a:12345678901;",
        "GPU-a:30000000000;GPU-b:20000000000;",
    ]


FRONT = "Inferences/Second,Client Send,"
SERVER = "Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,Server Compute Output,"
CACHE = "Server Cache Hit,Server Cache Miss,"
BACK = "Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
BACK_93 = "Client Recv,p50 latency,p90 latency,p93 latency,p95 latency,p99 latency"
MORE = "Avg latency,request/response,response wait"
GPUS = "Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,Total GPU Memory"


@pytest.mark.parametrize(
    ("form", "asked", "served", "expected"),
    [
        (Form(), Asked(), True, f"Concurrency,{FRONT}{SERVER}{BACK}"),
        (Form(), Asked(), False, f"Concurrency,{FRONT}{BACK}"),
        (Form(cache=True), Asked(), True, f"Concurrency,{FRONT}{SERVER}{CACHE}{BACK}"),
        (Form(verbose=True), Asked(), True, f"Concurrency,{FRONT}{SERVER}{BACK},{MORE}"),
        (
            Form(verbose=True, decoupled=True),
            Asked(),
            False,
            f"Concurrency,Inferences/Second,Response Throughput,Client Send,{BACK},{MORE}",
        ),
        (
            Form(verbose=True, metrics=True),
            Asked(percentile=93),
            False,
            f"Concurrency,{FRONT}{BACK_93},request/response,response wait,{GPUS}",
        ),
        (Form(metrics=True), Asked(), False, f"Concurrency,{FRONT}{BACK}"),
    ],
)
def test_the_header_of_every_form(form: Form, asked: Asked, served: bool, expected: str) -> None:
    """Columns and their order, and as many cells in each row."""
    readings = {"before": statistics(0), "after": statistics(10)} if served else {}
    head, row = csv_text([level(TEN, asked, **readings)], form).splitlines()
    assert head == expected
    assert row.count(",") == head.count(",")


def test_a_row_is_to_the_letter() -> None:
    """Six digits of throughput, whole microseconds rounded down; rows by throughput, whatever the level."""
    readings: dict[str, Any] = {"before": statistics(0), "after": statistics(10)}
    slow = replace(level(TEN, **readings), value=3, throughput_per_s=1234567.0)
    fast = replace(level(TEN, load=ClosedLoop(9), **readings), throughput_per_s=2.345678)
    lines = csv_text([slow, fast], Form(verbose=True)).splitlines()
    assert lines[1:] == [
        "9,2.34568,0,5130,10,20,300,40,0,6000,9000,10000,10000,5500,0,5500",
        "3,1.23457e+06,0,5130,10,20,300,40,0,6000,9000,10000,10000,5500,0,5500",
    ]


def test_models_that_are_called_have_a_csv_each() -> None:
    """Named by model and version; the rate is the client's times the calls a request."""
    before = statistics(0, {"part": statistics(0)})
    after = statistics(10, {"part": statistics(20)})
    texts = composing_texts([level(TEN, before=before, after=after)], Form())
    assert list(texts) == ["part_v1"]
    head, row = texts["part_v1"].splitlines()
    assert head == f"Concurrency,{FRONT}{SERVER}Client Recv"
    assert row == "1,20,0,30,10,20,300,40,0"


def test_the_header_of_a_real_file_is_ours(field_data: Path) -> None:
    """Files of the study, by concurrency with metrics, open with the line we write."""
    ours = csv_text(
        [level(TEN, before=statistics(0), after=statistics(10))], Form(verbose=True, metrics=True)
    ).splitlines()[0]
    files = (field_data / "perf_csv").glob("*.csv")
    assert ours in {path.read_text(errors="replace").splitlines()[0].strip() for path in files}


BLOCK = """\
  Server Prometheus Metrics: 
    Avg GPU Utilization:
      GPU-a : 25%
    Avg GPU Power Usage:
    Max GPU Memory Usage:
      GPU-a : 10000000000 bytes
    Total GPU Memory:
"""  # noqa: W291 - as the program prints it
LATE = "[WARNING] Perf Analyzer was not able to keep up with the desired request rate."
REAL = """\
  Client: 
    Request count: 295
    Throughput: 272.773 infer/sec
    Avg latency: 3656 usec (standard deviation 1472 usec)
    p50 latency: 3344 usec
    p90 latency: 3647 usec
    p95 latency: 5589 usec
    p99 latency: 9760 usec
    Avg gRPC time: 3656 usec ((un)marshal request/response 0 usec + response wait 3656 usec)
  Server: 
    Inference count: 295
    Execution count: 295
    Successful request count: 295
    Avg request latency: 3379 usec (overhead 2 usec + queue 23 usec + compute input 10 usec + compute infer 3268 usec + compute output 76 usec)

"""  # noqa: W291, E501 - as the program prints it
FOUND = Level(
    kind="Concurrency",
    value=1,
    requests=295,
    failed=0,
    seconds=1.0815,
    throughput_per_s=272.7734,
    responses_per_s=272.7734,
    mean_ns=3656_999,
    std_ns=1472_500.0,
    percentiles_ns={50: 3344_000, 90: 3647_001, 95: 5589_000, 99: 9760_000},
    send_ns=0,
    receive_ns=0,
    sent_per_s=272.0,
    delayed_percent=0.0,
    overhead_percent=0.314,
    sequences=None,
    server=Server("echo", "1", 295, 295, 295, 3379, 23, 10, 3268, 76, 3354),
)


def shown(found: Level, *arguments: str, model: Model | None = None) -> str:
    lines = layout.report(found, options.parse(["-i", "grpc", *arguments]), model or Model())
    return "".join(f"{line}\n" for line in lines)


def test_a_levels_block_is_to_the_letter() -> None:
    """Against what perf_analyzer 2.49 printed of the same figures, blanks at the ends of lines included."""
    assert shown(FOUND) == REAL


@pytest.mark.parametrize(
    ("arguments", "found", "model", "expected"),
    [
        (["-v"], FOUND, Model(), "    Avg client overhead: 0.31%\n    Avg latency"),
        (["-v"], FOUND, Model(), "time: 3656 usec (marshal 0 usec + response wait 3656 usec + unmarshal 0 usec)\n"),
        (["-i", "http"], FOUND, Model(), "Avg HTTP time: 3656 usec (send/recv 0 usec + response wait 3656 usec)\n"),
        (
            ["-i", "http", "-v"],
            replace(FOUND, send_ns=5000, receive_ns=6999),
            Model(),
            "Avg HTTP time: 3656 usec (send 5 usec + response wait 3645 usec + receive 6 usec)\n",
        ),
        ([], FOUND, Model(decoupled=True), "    Response Throughput: 272.773 infer/sec\n"),
        ([], FOUND, Model(decoupled=True), "    p99 latency: 9760 usec\n    \n  Server: \n"),
        ([], replace(FOUND, sequences=22), Model(), "    Sequence count: 22 (20.3421 seq/sec)\n    Throughput"),
        (
            [],
            replace(FOUND, delayed_percent=97.066),
            Model(),
            f"    Avg send request rate: 272.00 infer/sec\n    {LATE} 97.07% of the requests were delayed. \n    Thr",
        ),
        ([], replace(FOUND, overhead_percent=51.0), Model(), "[WARNING] Perf Analyzer is not able to keep up"),
        ([], FOUND, Model(cache=True), "    Cache hit count: 0\n    Cache miss count: 0\n    Successful"),
        (
            ["--collect-metrics"],
            replace(FOUND, gauges={"Avg GPU Utilization": {"GPU-a": 0.25}, "Max GPU Memory Usage": {"GPU-a": 1e10}}),
            Model(),
            BLOCK,
        ),
    ],
)
def test_lines_that_are_not_always_there(arguments: list[str], found: Level, model: Model, expected: str) -> None:
    """Each appears when, where and as perf_analyzer prints it."""
    assert expected in shown(found, *arguments, model=model)
    if "-i" not in arguments and not arguments:
        assert shown(FOUND) == REAL


def test_an_ensemble_shows_its_models() -> None:
    """Indented below the whole, whose compute time is theirs together."""
    assert FOUND.server is not None
    part = replace(FOUND.server, name="echo", request_us=3370)
    whole = replace(part, name="pipe", request_us=3400, queue_us=0, compute_us=0, composing=(part, part))
    text = shown(replace(FOUND, server=whole))
    assert "    Avg request latency: 3400 usec (overhead 0 usec + queue 46 usec + compute 6708 usec)\n\n" in text
    assert text.count("  Composing models: \n  echo, version: 1\n      Inference count: 295\n") == 1


def test_a_window_in_which_nothing_ended_says_so() -> None:
    """As perf_analyzer's error line; other windows show rate and latency, the percentile's if asked for."""
    assert layout.window(2, None).startswith("  Pass [2] cb::Error: No valid requests recorded")
    line = "  Pass [1] throughput: 272.773 infer/sec. "
    assert layout.window(1, FOUND) == f"{line}Avg latency: 3656 usec (std 1472 usec). "
    assert layout.window(1, replace(FOUND, percentile=90)) == f"{line}p90 latency: 3647 usec"


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(count: int, random: Any) -> None:
    """Workers' rows come in any order; the figures are the same."""
    made = rows(*((k, k + 0.5, k + 1 + random.random() * 20) for k in range(count)))
    shuffled = made[np.random.default_rng(random.randrange(1000)).permutation(count)]
    assert level(made) == level(shuffled)
