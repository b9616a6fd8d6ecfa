"""Profile exports are read request by request: figures as the requests give them, and memory that stays flat."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_analyzer_files import export_text, read_or_refused, reasons, request

from analysis.perf_analyzer import load, profile_in, profile_split
from analysis.perf_analyzer.tables import REQUESTS_SCHEMA, Imported
from loadgen.errors import PlanError
from loadgen.estimate import nearest_rank

START_NS = 1_795_449_021_562_124_923
MS = 1_000_000
GROWTH_MAX_MB = 40
EXPORT_MB = 200


def imported(folder: Path, text: str | bytes) -> Imported:
    """Write an export and read it."""
    path = folder / "profile.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load.read(path)


def level(mode: str, value: float, requests: list[dict[str, Any]], windows: list[int]) -> dict[str, Any]:
    """Return a level for `export_text`."""
    return {"mode": mode, "value": value, "requests": requests, "windows": windows}


# --- figures ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 4000 * MS), st.integers(0, 900 * MS)), min_size=1, max_size=120),
    st.lists(st.integers(1, 1000 * MS), min_size=2, max_size=6),
    st.sampled_from(["concurrency", "request_rate"]),
)
def test_figures_are_those_of_the_last_three_windows(
    tmp_path_factory: pytest.TempPathFactory, times: list[tuple[int, int]], lengths: list[int], mode: str
) -> None:
    """Counts, throughput, mean and percentiles are those of requests that ended in the windows reported."""
    sent = [START_NS + at for at, _ in times]
    done = [at + took for at, (_, took) in zip(sent, times, strict=True)]
    edges = [START_NS + int(at) for at in np.cumsum([0, *lengths])]
    requests = [request(*each) for each in zip(sent, done, strict=True)]
    of = imported(tmp_path_factory.mktemp("export"), export_text([level(mode, 4, requests, edges)]))
    point = of.points.row(0, named=True)
    start, end = edges[max(0, len(edges) - 4)], edges[-1]
    took = np.sort([b - a for a, b in zip(sent, done, strict=True) if start <= b < end])
    assert (point["window_start_ns"], point["window_end_ns"], point["completed"]) == (start, end, len(took))
    assert point["throughput_per_s"] == pytest.approx(len(took) * 1e9 / (end - start))
    if len(took):
        assert point["service_mean_ns"] == pytest.approx(took.mean())
        assert [point[f"service_p{p}_ns"] for p in (50, 90, 99)] == [nearest_rank(took, p) for p in (50, 90, 99)]
    assert (point["rate_per_s"] if mode == "request_rate" else point["concurrency"]) == 4
    assert of.windows["completed"].to_list() == [sum(a <= b < c for b in done) for a, c in pairwise(edges)]
    rows = of.requests.collect()
    assert rows.schema == pl.Schema(REQUESTS_SCHEMA)
    assert rows.select("point", "sent_ns", "done_ns").rows() == [(1, *each) for each in zip(sent, done, strict=True)]


def test_levels_and_requests_keep_together(tmp_path: Path) -> None:
    """Each request is of the level in whose list it stands; sequences, several answers and none are told apart."""
    first = [request(START_NS, START_NS + 5, START_NS + 9, sequence_id=7), request(START_NS + 1)]
    second = [request(START_NS + 20, START_NS + 30), {"timestamp": START_NS + 21, "response_timestamps": None}]
    levels = [level("concurrency", 1, first, []), level("request_rate", 2.5, second, [])]
    of = imported(tmp_path, export_text(levels))
    columns = ("point", "sequence", "responses", "outcome", "first_byte_ns", "done_ns")
    assert of.requests.collect().select(columns).rows() == [
        (1, 7, 2, "ok", START_NS + 5, START_NS + 9),
        (1, None, 0, "open_at_end", None, None),
        (2, None, 1, "ok", START_NS + 30, START_NS + 30),
        (2, None, 0, "open_at_end", None, None),
    ]
    assert of.points.select("load_words", "completed").rows() == [("concurrency 1", 1), ("2.5/s", 1)]
    assert ("concurrency 1", "1 requests had several answers: service time is until the last of them") in reasons(of)


def test_a_request_count_run_is_measured_over_its_requests(tmp_path: Path) -> None:
    """One window of a whole second hides the rate of 20 requests in 100 ms: here it is theirs, and both are said."""
    requests = [request(START_NS + n * 5 * MS, START_NS + (n + 1) * 5 * MS) for n in range(20)]
    of = imported(tmp_path, export_text([level("concurrency", 1, requests, [START_NS, START_NS + 1000 * MS])]))
    assert of.points["throughput_per_s"][0] == pytest.approx(200)
    assert "perf_analyzer says 20/s" in reasons(of)[0][1]


def test_requests_that_end_before_they_begin(tmp_path: Path) -> None:
    """A clock that was set back makes durations below zero: left out of the figures, kept as rows, and said."""
    requests = [request(START_NS + 50, START_NS + 10), request(START_NS, START_NS + 10)]
    of = imported(tmp_path, export_text([level("concurrency", 1, requests, [])]))
    assert (of.points["completed"][0], of.requests.collect().height) == (1, 2)
    assert any("clock was set" in reason for _, reason in reasons(of))


# --- JSON in any form ---------------------------------------------------------------------------------------------

NASTY = ['}{"]["', 'a\\"}', "\\", "\\\\", '\\\\"', "é€", "", '{"experiments":[{"requests":[{']
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(NASTY), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NASTY) | st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(JSONS, JSONS), max_size=6),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.sampled_from([1, 2, 3, 7, 64, 1 << 20]),
)
def test_any_tensor_any_layout_any_chunk(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: list[tuple[object, object]],
    indent: int | None,
    escaped: bool,
    chunk_bytes: int,
) -> None:
    """Whatever inputs and outputs hold, brackets and quotes in strings too, every request is found, at any chunk."""
    requests = [
        request(START_NS + n, START_NS + n + 3, response_outputs=[{"Y": out}]) | {"request_inputs": {"X": given_in}}
        for n, (given_in, out) in enumerate(tensors)
    ]
    facts = json.loads(export_text([level("concurrency", 1, requests, []), level("concurrency", 2, requests, [])]))
    text = json.dumps(facts, indent=indent, ensure_ascii=escaped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_split, "CHUNK_BYTES", chunk_bytes)
        of = imported(tmp_path_factory.mktemp("layout"), text)
    expected = [(point, START_NS + n) for point in (1, 2) for n in range(len(requests))]
    assert of.requests.collect().select("point", "sent_ns").rows() == expected


SAMPLE = export_text(
    [
        level("concurrency", 1, [request(START_NS, START_NS + 5), request(START_NS + 6, START_NS + 9)], [1, 2]),
        level("concurrency", 2, [request(START_NS, START_NS + 5)], [START_NS, START_NS + 6]),
    ]
).encode()


def test_cut_at_every_byte(tmp_path: Path) -> None:
    """An export cut anywhere gives its whole requests, with a warning; without one it is refused in one line."""
    whole = imported(tmp_path, SAMPLE).requests.collect()
    for length in range(len(SAMPLE)):
        of = read_or_refused(tmp_path, SAMPLE[:length])
        ended = len(re.findall(rb'"response_timestamps":\[\d+\]\}', SAMPLE[:length]))
        assert (of is None) == (ended == 0)
        if of is not None:
            assert of.requests.collect().equals(whole[:ended])
            assert of.points["completed"].sum() <= ended
            assert ("", profile_in.CUT) in reasons(of)
    assert read_or_refused(tmp_path, SAMPLE) is not None
    assert read_or_refused(tmp_path, b"\xef\xbb\xbf" + SAMPLE + b"\n") is not None


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=6))
def test_damaged_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    """An export with bytes overwritten gives tables or one clear line."""
    content = bytearray(SAMPLE)
    for place, byte in damage:
        content[place] = byte
    read_or_refused(tmp_path_factory.mktemp("damaged"), bytes(content))


@settings(deadline=None, max_examples=200)
@given(JSONS, st.sampled_from(["experiments", "requests", "window_boundaries", "value", "timestamp", "mode"]))
def test_values_of_any_kind_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: object, name: str
) -> None:
    """A field with a value of any kind gives tables or one clear line."""
    facts = json.loads(SAMPLE)
    one = facts["experiments"][0]
    holder = {
        "experiments": facts,
        "value": one["experiment"],
        "mode": one["experiment"],
        "timestamp": one["requests"][0],
    }
    holder.get(name, one)[name] = value
    read_or_refused(tmp_path_factory.mktemp("values"), json.dumps(facts).encode())


@pytest.mark.parametrize("stamp", [2**63, 2**64 - 1, 2**70, -1])
def test_times_that_no_clock_shows_are_refused(tmp_path: Path, stamp: int) -> None:
    """A time stamp beyond the range of a clock is refused by the request's number; so is nesting without end."""
    text = export_text([level("concurrency", 1, [request(START_NS, START_NS + 1), request(stamp, stamp)], [])])
    with pytest.raises(PlanError, match="request 2"):
        imported(tmp_path, text)
    with pytest.raises(PlanError, match="request 1"):
        imported(tmp_path, SAMPLE.replace(b"[0.0]", b"[" * 100_000 + b"]" * 100_000, 1))


def test_boundaries_without_end_are_no_window(tmp_path: Path) -> None:
    """Periodic concurrency writes 0 and 2^64 - 1 for its window: taken as the requests' own span."""
    of = imported(
        tmp_path, export_text([level("concurrency", 1, [request(START_NS, START_NS + 10)], [0, 2**64 - 1])])
    )
    assert of.points.select("window_start_ns", "window_end_ns").rows() == [(START_NS, START_NS + 11)]


# --- memory -------------------------------------------------------------------------------------------------------

READ = """
import re, sys
from pathlib import Path
from analysis.perf_analyzer import load

def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

load.read(Path(sys.argv[1]))
before = peak_kb()
read = load.read(Path(sys.argv[2]))
print(read.points["completed"][0], (peak_kb() - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_flat(tmp_path: Path) -> None:
    """An export of 200 requests of a megabyte takes a fifth of its size at most, beyond what a small one takes."""
    tensor = "[" + ",".join(["0.125"] * (EXPORT_MB // 200 * 170_000)) + "]"
    small, large = tmp_path / "small.json", tmp_path / "large.json"
    small.write_bytes(SAMPLE)
    requests = [request(START_NS + n * MS, START_NS + n * MS + 10 * MS) for n in range(200)]
    head, tail = export_text([level("concurrency", 10, requests, [])]).split('"requests":[')
    with large.open("w") as file:
        file.write(head + '"requests":[')
        file.writelines(piece.replace("[0.0]", tensor) for piece in tail.splitlines(keepends=True))
    assert large.stat().st_size > EXPORT_MB * 1_000_000
    command = [sys.executable, "-c", READ, str(small), str(large)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout.split()
    assert said[0] == "200"
    assert float(said[1]) < GROWTH_MAX_MB
