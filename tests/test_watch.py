"""What watch makes of readings: rates, means, gaps, restarts, which source is believed."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched import KEY, MS, S, at, counters, moment, page, shown, watched

from loadgen.errors import PlanError
from loadgen.server.metrics import parse_page
from loadgen.watch.history import History, binned, gauge, grown, last_minute, last_step
from loadgen.watch.lines import as_json, as_lines
from loadgen.watch.reading import Counters, Gpu, Reading, of_page
from loadgen.watch.spark import spark
from loadgen.watch.targets import Asked, endpoints_of, interval_ns
from loadgen.watch.view import Facts, seen


def history(*readings: Reading) -> History:
    """Return the history of these readings."""
    made = History()
    for reading in readings:
        made = grown(made, reading)
    return made


def test_rates_and_means_are_differences_over_time() -> None:
    """30 requests and 6 failures in 2 s, 8 executions of 32: 15/s, 3/s, each stage over the successes."""
    before = Counters(100, 4, 100, 50, 5 * MS, 1 * MS, 70 * MS, 2 * MS)
    after = Counters(130, 10, 132, 58, 65 * MS, 31 * MS, 370 * MS, 17 * MS)
    readings = [Reading(S, counters={KEY: before}), Reading(3 * S, counters={KEY: after})]
    found = last_step(history(*readings), KEY)
    assert (found.seconds, found.requests_per_s, found.failures_per_s) == (2.0, 15.0, 3.0)
    assert (found.queue_ns, found.compute_input_ns) == (2 * MS, 1 * MS)
    assert (found.compute_infer_ns, found.compute_output_ns) == (10 * MS, 0.5 * MS)
    assert found.batch == 4.0
    assert found.queued == pytest.approx(0.060 / 2)
    assert found.busy == pytest.approx(0.345 * 8 / 30 / 2)


def test_nothing_served_is_a_rate_of_0_and_no_mean() -> None:
    """An idle model's times are missing; its rate, queue and busy instances are truly 0."""
    found = last_step(history(at(1, 7), at(2, 7)), KEY)
    assert (found.requests_per_s, found.queued, found.busy) == (0.0, 0.0, 0.0)
    assert (found.queue_ns, found.compute_infer_ns, found.batch) == (None, None, None)


def test_what_a_source_does_not_tell_is_missing() -> None:
    """A page without the compute times gives rates, and no busy instances."""
    known = [at(1, 7, compute_infer_ns=None), at(2, 9, compute_infer_ns=None)]
    found = last_step(history(*known), KEY)
    assert found.requests_per_s == 2.0
    assert (found.compute_infer_ns, found.busy) == (None, None)


def test_one_reading_is_no_rate() -> None:
    """Nothing can be said before the second."""
    assert last_step(history(at(1, 7)), KEY).requests_per_s is None


def test_a_restart_is_noted_and_is_no_rate() -> None:
    """Counters that go back make no step, before or after an outage; what follows them does."""
    found = history(at(1, 500), at(2, 510), at(3, 4), at(4, 14))
    assert [step.counted.success for step in found.steps[KEY]] == [10, 10]
    assert [(each.at_ns, each.key) for each in found.restarts] == [(3 * S, KEY)]
    away = history(at(1, 500), at(2), at(3, 4))
    assert len(away.restarts) == 1


def test_an_outage_is_no_time_that_is_known() -> None:
    """The minute's mean is over steps between readings that saw the model; the outage has its ends and reason."""
    found = history(at(0, 0), at(1, 10), at(2), at(3), at(4, 90), at(5, 100))
    minute = last_minute(found, KEY, 5 * S)
    assert (minute.seconds, minute.requests_per_s) == (2.0, 10.0)
    ((start, end, fault),) = [(each.from_ns, each.to_ns, each.fault) for each in found.outages]
    assert (start, end, fault) == (2 * S, 4 * S, "no server answers")
    assert found.since_ns == 4 * S


@given(st.lists(st.none() | st.integers(0, 50), min_size=2, max_size=200))
def test_no_rate_is_negative_and_no_reading_counts_twice(counts: list[int | None]) -> None:
    """Whatever comes and goes, successes of steps are no more than the rises between neighbours."""
    found = history(*(at(second, count) for second, count in enumerate(counts)))
    counted = [step.counted.success for step in found.steps.get(KEY, ())]
    kept = counts[-len(found.readings) :]
    rises = [b - a for a, b in pairwise(kept) if a is not None and b is not None and b >= a]
    assert counted == rises
    assert all(each is not None and each >= 0 for each in counted)


def test_old_readings_are_let_go() -> None:
    """Hours of watching keep three minutes."""
    found = history(*(at(second, second) for second in range(1000)))
    assert len(found.readings) == 181
    assert last_minute(found, KEY, 999 * S).seconds == 60.0


def test_models_stay_through_an_outage_and_go_when_they_are_unloaded() -> None:
    """Minutes without the server keep its rows; minutes of a server without the model do not."""
    away = history(at(0, 1), at(1, 2), *(at(second) for second in range(2, 500)))
    assert away.keys == [KEY]
    other = [at(second, 1, ("other", "1")) for second in range(2, 500)]
    assert history(at(0, 1), at(1, 2), *other[:100]).keys == [("other", "1"), KEY]
    assert history(at(0, 1), at(1, 2), *other).keys == [("other", "1")]


def test_a_line_has_gaps_where_nothing_is_known() -> None:
    """Blank before the first look, a point for what is missing, the lowest bar for 0, the highest for the top."""
    readings = [page(second, {"G": Gpu(second / 180)} if second != 120 else {}) for second in (60, 120, 179)]
    values = binned(gauge(readings, "G", lambda gpu: gpu.utilisation), 179 * S, 3, 60 * S)
    assert spark(values, 1.0) == " ▃█"
    assert spark([float("nan"), None, 0.0, 0.5, 1.0, 2.0], 1.0) == " ·▁▅██"
    assert spark([float("nan"), None, 0.0, 1.0], 1.0, plain=True) == "  _#"
    assert spark([0.0, 0.0], 0.0) == "▁▁"


def test_a_server_that_is_away_is_shown_with_its_reason_and_since_when() -> None:
    """Figures of now are missing, those of the minute stay; then it is back, with a note."""
    gone = watched([at(1, 10), at(2, 20), at(3), at(4)])
    view = seen(gone, moment(4.1), S)
    assert view.ready is None
    (source,) = view.sources
    assert (source.reachable, source.reason) == (False, "no server answers")
    assert source.since_utc_ns == moment(3).utc_ns
    (model,) = view.models
    assert (model.now.requests_per_s, model.minute.requests_per_s) == (None, 10.0)
    back = seen(watched([at(1, 10), at(2, 20), at(3), at(4), at(5, 60), at(6, 70)]), moment(6.1), S)
    assert back.models[0].now.requests_per_s == 10.0
    assert [note.words for note in back.notes] == ["gRPC is back after 2 s (no server answers)"]


def test_a_source_that_owes_an_answer_has_no_figures_of_now() -> None:
    """Silence is not the last reading going on."""
    quiet = watched([at(1, 10), at(2, 20)])
    assert seen(quiet, moment(4), S).models[0].now.requests_per_s == 10.0
    assert seen(quiet, moment(5), S).models[0].now.requests_per_s is None


def counted(second: float, success: float) -> Reading:
    """Return a page with counters and a backlog."""
    return Reading(round(second * S), counters={KEY: counters(success)}, pending={KEY: 3.0})


def test_the_page_speaks_where_grpc_cannot_be_reached() -> None:
    """Its counters are shown, and said to be the page's."""
    view = seen(watched([at(1), at(2)], [counted(1, 0), counted(2, 25)]), moment(2.1), S)
    (model,) = view.models
    assert (model.source, model.now.requests_per_s, model.pending) == ("page", 25.0, 3.0)


def test_several_pages_are_replicas_behind_one_address() -> None:
    """Each has its row, from its own page; gRPC, which answers for one of them, is not added."""
    pages = [counted(1, 0), counted(2, 25)], [counted(1, 0), counted(2, 5)]
    view = seen(watched([at(1, 0), at(2, 25)], *pages), moment(2.1), S)
    rows = [(model.replica, model.source, model.now.requests_per_s) for model in view.models]
    assert rows == [("gpu1:8002", "page", 25.0), ("gpu2:8002", "page", 5.0)]


def test_counters_that_alternate_are_those_of_a_balancer() -> None:
    """No rate is made of them, and the mend is named; one page is believed instead."""
    turns = [at(second, 1000 + second if second % 2 else second) for second in range(10)]
    view = seen(watched(turns), moment(9.1), S)
    assert view.models[0].minute.requests_per_s is None
    assert "--metrics-url" in view.notes[0].words
    with_page = seen(watched(turns, [counted(8, 0), counted(9, 25)]), moment(9.1), S)
    assert (with_page.models[0].source, with_page.models[0].now.requests_per_s) == ("page", 25.0)


def test_the_backlog_stands_beside_grpc() -> None:
    """The gauge is the page's, the rates are gRPC's."""
    view = seen(watched([at(1, 0), at(2, 8)], [page(1, {}, 4), page(2, {}, 6)]), moment(2.1), S)
    (model,) = view.models
    assert (model.source, model.now.requests_per_s, model.pending) == ("grpc", 8.0, 6.0)
    beside_dcgm = watched([at(1, 0), at(2, 8)], [page(2, {}, 6)], [page(2, {"G": Gpu(0.5)})])
    assert seen(beside_dcgm, moment(2.1), S).models[0].pending == 6.0


def test_models_that_were_asked_for() -> None:
    """Others are not shown; one that is not there is said to be so; one that is not ready, too."""
    facts = Facts(states={KEY: "READY", ("sick", "1"): "UNAVAILABLE"})
    view = seen(watched([at(1, 0), at(2, 8)], models=("sick", "absent"), facts=facts), moment(2.1), S)
    assert view.models == ()
    words = [note.words for note in view.notes]
    assert words == ["no model sick is loaded there", "no model absent is loaded there", "model sick 1: UNAVAILABLE"]


def test_a_real_page(field_data: Path) -> None:
    """Counters of a model on several GPUs are added up; each GPU has its gauges, power is of its own limit."""
    text = (field_data / "metrics" / "drunkcoding__model-inference__metrics_4gpu.txt").read_text()
    found = of_page(parse_page(text, 0), 5)
    assert found.counters["distilgpt2_cola", "0"].success == 151 * 4
    assert found.counters["gpt_neo_cola_ensemble", "1"].success == 1208
    assert len(found.gpus) == 4
    for gpu in found.gpus.values():
        assert gpu.power_w is not None
        assert gpu.power_limit_w is not None
        assert gpu.power_share == gpu.power_w / gpu.power_limit_w
        assert 0 < (gpu.memory_share or 0) < 1


def test_names_of_dcgm_and_parts_of_a_gpu() -> None:
    """The exporter's percent and MiB are fractions and bytes; instances of one GPU are told apart."""
    text = 'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1",GPU_I_ID="2"} 50\nDCGM_FI_DEV_FB_USED{UUID="GPU-1",GPU_I_ID="2"} 2\n'
    found = of_page(parse_page(text, 0), 0)
    assert found.gpus == {"GPU-1/2": Gpu(utilisation=0.5, memory_used_bytes=2 * 1024 * 1024)}


def test_a_collector_that_does_not_work_gives_no_zeros() -> None:
    """Every gauge 0 is a fault that is noted; a GPU that only idles is not."""
    names = ("nv_gpu_utilization", "nv_gpu_power_usage", "nv_gpu_memory_used_bytes")
    dead = of_page(parse_page("".join(f'{name}{{gpu_uuid="G"}} 0\n' for name in names), 0), 0)
    assert dead.gpus == {"G": Gpu()}
    view = seen(watched([at(0, 0)], [dead]), moment(0.1), S)
    assert [note.words for note in view.notes] == ["G: every gauge is 0: the collector does not work"]
    assert of_page(parse_page('nv_gpu_utilization{gpu_uuid="G"} 0\n', 0), 0).gpus == {"G": Gpu(utilisation=0.0)}


def test_lines_for_programs() -> None:
    """A line a model with name=value, a dash for what is missing, text with blanks quoted; a note is told once."""
    away = watched([at(1, 0), at(2, 8)], [Reading(2 * S, "answers 404 Not Found")])
    first, second = as_lines(shown(2.1, away))
    assert "source=http://gpu1:8002/metrics state=unreachable" in first
    assert 'reason="answers 404 Not Found"' in first
    named = dict(word.split("=") for word in second.split(" ")[1:])
    assert (named["model"], named["requests_per_s"], named["queue_ms"], named["busy"]) == (
        "traccc-gpu",
        "8",
        "2",
        "0.256",
    )
    assert named["pending"] == "-"
    back = shown(3.1, watched([at(1, 0), at(2), at(3, 8)]))
    assert sum("note=" in line for line in as_lines(back)) == 1
    told = {("gpu1:8001", back.views[0].notes[0].words)}
    assert not any("note=" in line for line in as_lines(back, told))


def test_a_round_as_json() -> None:
    """One object: times in UTC, what is missing null, figures under their names."""
    gpus = {"GPU-1": Gpu(0.5, 100.0, 400.0)}
    found = msgspec.json.decode(as_json(shown(2.1, watched([at(1, 0), at(2, 8)], [page(2, gpus)]))))
    (endpoint,) = found["endpoints"]
    (model,) = endpoint["models"]
    assert found["at"].endswith("Z")
    assert model["last_interval"]["requests_per_s"] == 8.0
    assert model["pending"] is None
    assert (endpoint["ready"], endpoint["server"]) == (True, "triton")
    (gpu,) = endpoint["gpus"]
    assert (gpu["power_share"], gpu["memory_used_bytes"]) == (0.25, None)


def test_pages_belong_to_servers_in_turn() -> None:
    """One server has all, several have one each, none given are the usual ones; other counts are refused."""
    assert endpoints_of(Asked(("a:1",), ("http://x/m", "http://y/m")))[0].metrics_urls == ("http://x/m", "http://y/m")
    each = endpoints_of(Asked(("a:1", "b:1"), ("http://x/m", "http://y/m")))
    assert [one.metrics_urls for one in each] == [("http://x/m",), ("http://y/m",)]
    assert endpoints_of(Asked(("a:1",)))[0].metrics_urls == ("http://a:8002/metrics",)
    assert endpoints_of(Asked(("a:1",), None))[0].metrics_urls == ()
    for wrong in (
        Asked(("a:1", "b:1"), ("http://x/m",)),
        Asked(("a:1", "a:1")),
        Asked(("a",)),
        Asked(("a:1",), ("x",)),
    ):
        with pytest.raises(PlanError):
            endpoints_of(wrong)


@pytest.mark.parametrize(("text", "length_ns"), [("1s", S), ("500ms", 500 * MS), ("2", 2 * S), ("0.5s", 500 * MS)])
def test_times_between_looks(text: str, length_ns: int) -> None:
    """A number with its unit; seconds if it has none."""
    assert interval_ns(text) == length_ns


@pytest.mark.parametrize("text", ["", "soon", "1h", "0", "10ms", "61s", "-1s"])
def test_times_that_are_none_or_would_be_load(text: str) -> None:
    """Refused in one line that says what to write."""
    with pytest.raises(PlanError, match="--interval"):
        interval_ns(text)
