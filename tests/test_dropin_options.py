"""perf_analyzer's command line, read as getopt_long reads it, and the plan it becomes."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import plan as plans
from loadgen.api import dry_run
from loadgen.dropin.options import Asked, Range, parse
from loadgen.dropin.table import LONG, SHORT
from loadgen.dropin.translate import is_async, plan_of
from loadgen.errors import PlanError
from loadgen.ladder import Ladder
from loadgen.plan import Generated, PerfJson, Plan, Replay
from loadgen.windows import ByWindows


def planned(*arguments: str) -> Plan:
    return plan_of(parse(["-m", "m", *arguments]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--measurement-interval", "700"],
        ["--measurement-interval=700"],
        ["--measurement-in=700"],
        ["-p", "700"],
        ["-p700"],
        ["-vp700"],
        ["-p", "1", "--measurement-int", "700"],
    ],
)
def test_every_way_to_write_an_option_is_read(arguments: list[str]) -> None:
    """Long, shortened, with `=` or a space, short, clustered; the last one counts."""
    assert parse(arguments).measurement_interval_ms == 700


def test_options_stand_in_any_order_and_repeat() -> None:
    """Headers, shapes, inputs and verbosity add up."""
    asked = parse(["-v", "-H", "A:b", "--shape", "X:1,2", "-H", "C: d:e", "--shape=Y:n:3", "-v", "-m", "m"])
    assert asked.headers == {"a": "b", "c": "d:e"}
    assert asked.shapes == {"X": (1, 2), "Y:n": (3,)}
    assert asked.verbose == 2


def test_defaults_are_perf_analyzers() -> None:
    """What is not asked for is as perf_analyzer does it: HTTP on its port, random data, windows of 5 s."""
    plan = planned()
    assert plan.endpoint.http == "localhost:8000"
    assert planned("-i", "GRPC").endpoint.grpc == "localhost:8001"
    assert plan.stopping == ByWindows(5000, 0, 0.1, 10, throughput_suffices=None)
    assert plan.ladder == Ladder(1, 1, 1)
    assert plan.inputs == Generated("random", 1)
    assert plan.endpoint.metrics_urls == ()
    assert plan.order == "sequential"


def test_the_names_of_the_note_are_all_known() -> None:
    """Every option of perf_analyzer 2.49's own table, and every letter, is in ours."""
    letters = set("vdazcumxbtpiHlrsf")
    assert letters <= set(LONG) | set(SHORT)
    names = (
        "streaming max-threads sequence-length percentile data-directory shape measurement-interval "
        "concurrency-range latency-threshold stability-percentage max-trials input-data string-length string-data "
        "async sync request-rate-range num-of-sequences binary-search request-distribution request-intervals "
        "shared-memory output-shared-memory-size service-kind model-signature-name "
        "grpc-compression-algorithm measurement-mode measurement-request-count "
        "triton-server-directory model-repository sequence-id-range ssl-grpc-use-ssl "
        "ssl-grpc-root-certifications-file ssl-grpc-private-key-file ssl-grpc-certificate-chain-file "
        "ssl-https-verify-peer ssl-https-verify-host ssl-https-ca-certificates-file "
        "ssl-https-client-certificate-file ssl-https-client-certificate-type ssl-https-private-key-file "
        "ssl-https-private-key-type verbose-csv enable-mpi trace-level trace-rate trace-count log-frequency "
        "collect-metrics metrics-url metrics-interval sequence-length-variation bls-composing-models "
        "serial-sequences input-tensor-format output-tensor-format version profile-export-file "
        "periodic-concurrency-range request-period request-parameter endpoint request-count"
    )
    assert set(names.split()) <= set(LONG)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bogus"], "--bogus"),
        (["--request", "3"], "--request"),
        (["--m", "x"], "--m not a unique prefix"),
        (["--x", "1"], "--x not recognized"),
        (["-p"], "-p"),
        (["-p", "soon"], "Failed to parse -p. Invalid value provided: soon"),
        (["--concurrency-range", "1:2:3:4"], "Failed to parse --concurrency-range"),
        (["--concurrency-range", "0"], "start of the search range must be > 0"),
        (["--service-kind", "openai"], "--service-kind. 'openai' is not supported here"),
        (["--shared-memory", "cuda"], "--shared-memory. 'cuda' is not supported here"),
        (["--model-repository", "x"], "--model-repository. Not supported here: it is of the C API"),
        (["--input-tensor-format=json"], "--input-tensor-format. 'json' is not supported here"),
        (["--input-data", "no such file"], "Failed to parse --input-data. Unsupported type provided: 'no such file'"),
        (["--request-parameter", "a:b"], "does not match <name:value:type>"),
        (["stray"], "stray"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(arguments: list[str], words: str) -> None:
    """One line that names the option and says why."""
    with pytest.raises(PlanError) as caught:
        parse(["-m", "m", *arguments])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--async", "--sync"], "Cannot specify --async and --sync simultaneously."),
        (["--streaming"], "Streaming is only allowed with gRPC protocol."),
        (["--grpc-compression-algorithm", "gzip"], "only allowed with gRPC"),
        (["--binary-search", "--concurrency-range", "1:4"], "--latency-threshold cannot be 0"),
        (["--concurrency-range", "1:0"], "can not be both 0"),
        (["--concurrency-range", "1:4", "--request-rate-range", "1:4"], "more then one inference load mode"),
        (["--concurrency-range", "1:4", "--request-count", "9"], "--request-count not supported"),
        (["--concurrency-range", "10", "--request-count", "9"], "--request-count can not be less"),
        (["--percentile", "100"], "Failed to parse --percentile"),
        (["--metrics-interval", "5"], "Must specify --collect-metrics"),
    ],
)
def test_contradictions_are_refused_in_perf_analyzers_words(arguments: list[str], words: str) -> None:
    """As perf_analyzer, before anything is sent."""
    with pytest.raises(PlanError, match=words.replace(".", r"\.")):
        planned(*arguments)


def test_a_model_must_be_named() -> None:
    """There is nothing to measure without."""
    with pytest.raises(PlanError, match="-m"):
        plan_of(parse([]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--concurrency-range", "3"], Ladder(3, 3)),
        (["--concurrency-range", "1:6:2"], Ladder(1, 6, 2)),
        (["--concurrency-range", "5:2"], Ladder(5, 5)),
        (["-l", "9", "--concurrency-range", "1:0"], Ladder(1, 16)),
        (["-l", "9", "--concurrency-range", "1:0", "--max-threads", "7"], Ladder(1, 7)),
        (["--request-rate-range", "0.5:2:.5"], Ladder(0.5, 2, 0.5, "rate")),
        (["-l", "9", "--request-rate-range", "1:0:1"], Ladder(1, 0, 1, "rate")),
        (["--request-rate-range=4", "--request-distribution=poisson"], Ladder(4, 4, 1, "rate", "poisson")),
        (["-l", "9", "--binary-search", "--concurrency-range", "1:8"], Ladder(1, 8, binary=True)),
        (["-t", "4"], Ladder(4, 4)),
        (["-d", "-t", "2", "-c", "5"], Ladder(2, 5)),
    ],
)
def test_ranges_become_ladders(arguments: list[str], expected: Ladder) -> None:
    """Each way to say which levels, the deprecated one too."""
    assert planned(*arguments).ladder == expected


def test_inputs_and_intervals_become_ours(tmp_path: Path) -> None:
    """Files, zeros, strings, shapes and recorded intervals are what our own plan has for them."""
    file, intervals = tmp_path / "in.json", tmp_path / "intervals"
    file.write_text("{}")
    intervals.write_text("5\n")
    assert planned("--input-data", str(file)).inputs == PerfJson((str(file),))
    assert planned("--input-data", str(tmp_path), "--input-data", str(file)).inputs == PerfJson((str(tmp_path),))
    made = Generated("zero", 1, {"X": (2, 3)}, string_bytes=7, string="s")
    assert planned("-z", "--shape=X:2,3", "--string-length=7", "--string-data=s").inputs == made
    plan = planned("--request-intervals", str(intervals))
    assert plan.loads == (Replay(str(intervals)),)
    assert plan.ladder is None


def test_security_metrics_and_requests_become_ours(tmp_path: Path) -> None:
    """TLS of either protocol, headers, parameters, traces and the metrics page."""
    plan = planned("-u", "https://h:9", "--ssl-https-verify-host", "0", "--collect-metrics", "-H", "X-Y:z")
    assert plan.endpoint.http == "h:9"
    assert plan.endpoint.tls is not None
    assert plan.endpoint.tls.verify == "chain"
    assert plan.endpoint.metrics_urls == ("http://h:8002/metrics",)
    assert plan.endpoint.headers == {"x-y": "z"}
    plan = planned("-i", "grpc", "-u", "h:9", "--ssl-grpc-use-ssl", "--request-parameter", "Limit:7:int")
    assert plan.endpoint.tls is not None
    assert plan.parameters == {"Limit": 7}
    assert planned("--trace-level", "TIMESTAMPS", "--trace-rate", "2").trace == {
        "trace_level": "TIMESTAMPS",
        "trace_rate": "2",
    }
    assert planned("--collect-metrics", "--metrics-url", "a:1/m").endpoint.metrics_urls == ("http://a:1/m",)
    assert planned("-u", "somewhere").endpoint.http == "somewhere:8000"


def test_windows_become_the_stopping_rule() -> None:
    """Mode, interval, counts, agreement, percentile and limit are fields of it."""
    options = "-p 100 -s 5 -r 7 --percentile 90 -l 30 --measurement-mode count_windows --measurement-request-count 11"
    asked = ByWindows(100, 11, 0.05, 7, 90, 30, throughput_suffices=True)
    assert planned(*options.split(), "--async").stopping == asked
    assert planned("--request-count", "20").stopping.total_requests == 20  # type: ignore[union-attr]
    assert planned("--warmup-request-count", "5").stopping.warmup_requests == 5  # type: ignore[union-attr]


def test_sequences_vary_only_where_their_length_is_not_the_files(tmp_path: Path) -> None:
    """As perf_analyzer: a stream of a file is played as it is unless a length is asked for."""
    file = tmp_path / "in.json"
    file.write_text("{}")
    assert planned("--input-data", str(file)).sequence_length_variation == 0
    plan = planned("--input-data", str(file), "--sequence-length", "9", "--sequence-id-range", "5:50")
    assert (plan.sequence_length, plan.sequence_length_variation, plan.sequence_ids) == (9, 20, (5, 50))
    assert planned().sequence_length_variation == 20


def test_asynchronous_calls_are_the_default_of_models_with_state() -> None:
    """And of nothing else, unless asked for."""
    assert is_async(parse([]), keeps_state=True)
    assert not is_async(parse(["--sync"]), keeps_state=True)
    assert not is_async(parse([]), keeps_state=False)
    assert is_async(parse(["--streaming"]), keeps_state=False)


def test_plans_of_the_drop_in_can_be_run_again() -> None:
    """Every option's field survives the plan's own JSON."""
    plan = planned("-l", "9", "--concurrency-range", "1:0", "--trace-rate", "2", "--warmup-request-count", "0")
    assert plans.from_json(plans.to_json(plan), "it") == plan


def test_a_dry_run_of_such_a_plan_says_how_far_it_goes() -> None:
    """Levels and seconds a level, by the rule's windows."""
    lines = list(
        dry_run(planned("-l", "9", "--binary-search", "--concurrency-range", "2:8", "-p", "1000", "-r", "5"))
    )
    assert lines[-2:] == ["concurrency from 2 to 8, bisection", "a level takes 4 to 6 s and the time to drain"]
    assert (
        "to the latency limit, steps of 2" in list(dry_run(planned("-l", "9", "--request-rate-range", "1:0:2")))[-2]
    )


@given(st.lists(st.text(max_size=12), max_size=6))
def test_no_command_line_ends_in_a_traceback(arguments: list[str]) -> None:
    """Anything at all is either read or refused in a line."""
    with contextlib.suppress(PlanError):
        parse(arguments)


@given(
    st.sampled_from(sorted(name for name in LONG if len(name) > 1 and LONG[name].takes_value)),
    st.text(max_size=8),
)
def test_no_value_ends_in_a_traceback(name: str, value: str) -> None:
    """Neither does any value of any option, nor the plan made of it."""
    with contextlib.suppress(PlanError):
        plan_of(parse(["-m", "m", f"--{name}={value}"]))


def test_an_unused_range_is_one_level() -> None:
    """The end of a range defaults to 1, as the start does."""
    assert parse(["--concurrency-range", "4"]).concurrency_range == Range(4, 1, 1)
    asked: Any = Asked()
    assert asked.concurrency_range is None
