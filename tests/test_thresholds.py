"""Limits for CI: read as written, crossed exactly, and never kept by a quantity that is not known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import points, thresholds
from loadgen.errors import PlanError

ROW = dict.fromkeys(points.SCHEMA) | {
    "completed": 990,
    "failed": 10,
    "arrived": 1000,
    "unsent": 5,
    "throughput_per_s": 50.0,
    "service_p99_ns": 5e8,
    "response_p99_ns": 7e8,
    "service_p99_9_ns": 6e8,
}


@pytest.mark.parametrize(
    ("text", "crossed"),
    [
        ("p99 > 499ms", True),
        ("p99 > 500 ms", False),
        ("p99 >= 0.5s", True),
        ("p99_ns > 5e8", None),
        ("service_p99_ns >= 5e8", True),
        ("response_p99_ns < 700000000", False),
        ("p99.9 > 0.55s", True),
        ("error_rate > 0.001", True),
        ("error_rate > 1 %", False),
        ("error_rate >= 1%", True),
        ("unsent_rate > 0.4%", True),
        ("throughput_per_s < 50", False),
        ("throughput_per_s <= 50", True),
        ("server_queue_ns > 1ms", None),
    ],
)
def test_limits(text: str, crossed: bool | None) -> None:
    """Each sign, unit and alias; a quantity that the point does not have is neither kept nor crossed."""
    if text.startswith("p99_ns"):
        with pytest.raises(PlanError, match="p99_ns is no known quantity"):
            thresholds.parse(text, points.SCHEMA)
        return
    assert thresholds.parse(text, points.SCHEMA).crossed(ROW, "service") is crossed


def test_the_headline_is_response_time_in_an_open_loop() -> None:
    """`p99` means what the load is judged by."""
    limit = thresholds.parse("p99 > 600ms", points.SCHEMA)
    assert limit.crossed(ROW, "service") is False
    assert limit.crossed(ROW, "response") is True


@given(st.text(alphabet="p9_ nsrate<>=.0123%", max_size=16))
def test_any_other_text_is_one_line(text: str) -> None:
    """Whatever is written is a limit or a PlanError that quotes it."""
    try:
        assert thresholds.parse(text, points.SCHEMA).text == text
    except PlanError as error:
        assert repr(text) in str(error)  # noqa: PT017 - both ways are fine, one is checked
