"""Counters: rates over exactly the window, and none where they cannot be known."""

import numpy as np
import polars as pl
import pytest
import sealed_run
from hypothesis import given
from hypothesis import strategies as st

from analysis import rates
from analysis.rates import counter_rates, growth
from loadgen import points as measured
from loadgen.server.metrics import parse_page

S = 1_000_000_000


def window(start_ns: int, end_ns: int) -> pl.DataFrame:
    """Return a points table of one point."""
    facts = {"point": 1, "window_start_ns": start_ns, "window_end_ns": end_ns}
    return measured.table([dict.fromkeys(measured.SCHEMA) | facts])


def sampled(*facts: tuple[int, str, str, float]) -> pl.DataFrame:
    """Return samples from (at_ns, metric, labels, value)."""
    rows = [(at_ns, "metrics", *rest) for at_ns, *rest in facts]
    return pl.DataFrame(rows, schema=sealed_run.SAMPLES, orient="row")


@given(
    st.lists(st.integers(1, 10 * S), min_size=3, max_size=20),
    st.floats(0.0, 1e6),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_a_steady_counter_has_its_rate_in_any_window(gaps: list[int], per_s: float, one: float, two: float) -> None:
    """However the samples lie, a counter of constant rate grows by rate x window."""
    at_ns = np.cumsum(np.array(gaps, np.int64))
    start_ns, end_ns = sorted(int(at_ns[0] + share * (at_ns[-1] - at_ns[0])) for share in (one, two))
    found = growth(at_ns, at_ns / S * per_s, start_ns, end_ns)
    assert found.value == pytest.approx(per_s * (end_ns - start_ns) / S, abs=1e-6 * (1 + per_s * at_ns[-1] / S))


@pytest.mark.parametrize(
    ("at", "values", "reason"),
    [
        ([110, 250], [1.0, 2.0], rates.NOT_BEFORE),
        ([50, 190], [1.0, 2.0], rates.NOT_AFTER),
        ([], [], rates.NOT_BEFORE),
        ([50, 150, 160, 250], [100.0, 200.0, 0.0, 900.0], rates.RESET),
    ],
)
def test_no_rate_where_it_cannot_be_known(at: list[int], values: list[float], reason: str) -> None:
    """Samples that do not enclose the window, or a reset in it that later growth hides: null with its reason."""
    found = growth(np.array(at, np.int64), np.array(values, np.float64), 100, 200)
    assert (found.value, found.reason) == (None, reason)


def test_a_reset_outside_the_window_does_no_harm() -> None:
    """What happened before the sample in front of the window is not looked at."""
    at_ns, values = np.array([10, 20, 90, 250], np.int64), np.array([500.0, 0.0, 7.0, 23.0])
    assert growth(at_ns, values, 100, 200).value == pytest.approx(10.0)


def test_any_counter_by_its_labels() -> None:
    """One row a point and series; the rate is per second of the window."""
    models = (("a", 2), ("b", 3))
    facts = [(at, "nv_inference_count", f'{{"model":"{m}"}}', at * k / S) for at in (0, 4 * S) for m, k in models]
    found = counter_rates(window(S, 3 * S), sampled(*facts, (0, "other", "{}", 1.0)), "nv_inference_count")
    assert found["rate_per_s"].to_list() == [2.0, 3.0]
    assert found["growth"].to_list() == [4.0, 6.0]
    assert found["reason"].to_list() == [None, None]
    assert counter_rates(window(S, 3 * S), sampled(), "nv_inference_count").schema == rates.RATES_SCHEMA


def test_a_histogram_and_a_summary_are_kept_and_have_a_mean_in_the_window() -> None:
    """Buckets, quantiles, sums and counts are samples; sum over count, of what they grew, is the mean."""
    page = (
        "# TYPE t_seconds histogram\n"
        't_seconds_bucket{{le="0.1"}} {n}\nt_seconds_bucket{{le="+Inf"}} {n}\n'
        "t_seconds_sum {s}\nt_seconds_count {n}\n"
        '# TYPE q_us summary\nq_us{{quantile="0.99"}} 7\nq_us_sum {s}\nq_us_count {n}\n'
    )
    samples = [*parse_page(page.format(n=10, s=1.0), 0), *parse_page(page.format(n=30, s=2.0), 2 * S)]
    rows = [(each.at_ns, each.metric, each.labels, each.value) for each in samples]
    names = {"t_seconds_bucket", "t_seconds_sum", "t_seconds_count", "q_us", "q_us_sum", "q_us_count"}
    assert {metric for _, metric, _, _ in rows} == names
    found = counter_rates(window(0, 2 * S), sampled(*rows), "t_seconds_sum", "t_seconds_count")
    grown = dict(found.select("metric", "growth").iter_rows())
    assert grown["t_seconds_sum"] / grown["t_seconds_count"] == pytest.approx(0.05)
