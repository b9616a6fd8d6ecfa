"""Plans: there and back as JSON, and what is wrong with one in one line."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import plan as plans
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError
from loadgen.plan import (
    ByPrecision,
    ByTime,
    Cells,
    ClosedLoop,
    OpenLoop,
    PerfJson,
    Plan,
    Synthetic,
)
from loadgen.ranges import concurrency_levels

texts = st.text(max_size=20)
paths = st.lists(texts, min_size=1, max_size=3).map(tuple)
plan_values = st.builds(
    Plan,
    endpoint=st.builds(Endpoint, grpc=texts, model=texts, version=texts, metrics_urls=st.tuples(texts)),
    inputs=st.builds(PerfJson, paths)
    | st.builds(Cells, paths)
    | st.builds(Synthetic, st.floats(0.1, 1e4), st.integers(1, 10**6), st.integers(0, 2**31)),
    loads=st.lists(
        st.builds(ClosedLoop, st.integers(1, 10**6))
        | st.builds(OpenLoop, st.floats(0.1, 1e5), st.sampled_from(["constant", "poisson", "gamma"])),
        min_size=1,
        max_size=5,
    ).map(tuple),
    name=texts,
    stopping=st.builds(ByTime, st.integers(1, 10**9), st.integers(0, 10**9)) | st.just(ByPrecision()),
    seed=st.integers(0, 2**31),
)


@given(plan_values)
def test_a_plan_read_back_is_the_same_plan(plan: Plan) -> None:
    """plan.json re-runs the run: nothing is lost on the way through the file."""
    assert plans.from_json(plans.to_json(plan), "plan.json") == plan


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"stopping": {"kind": "time", "window_ms": 0}}, "window_ms"),
        ({"stopping": {"kind": "time", "warmup_ms": -1}}, "warmup_ms"),
        ({"stopping": {"kind": "soon"}}, "soon"),
        ({"loads": [{"kind": "closed_loop", "concurrency": 0}]}, "concurrency"),
        ({"loads": [{"kind": "open_loop", "concurrency": 1}]}, "rate_per_s"),
        ({"inputs": {"kind": "synthetic", "mu": 0, "events": 1}}, "mu"),
        ({"sead": 1}, "sead"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], word: str) -> None:
    """The message names the file and the field."""
    plan = Plan(Endpoint("h:1", "m"), PerfJson(("a.json",)), (ClosedLoop(1),))
    text = msgspec.json.encode(msgspec.to_builtins(plan) | change)
    with pytest.raises(PlanError, match=rf"plan\.json: .*{word}"):
        plans.from_json(text, "plan.json")


@given(st.binary(max_size=50))
def test_garbage_is_a_plan_error(text: bytes) -> None:
    """Whatever the file holds, the answer is one line."""
    with pytest.raises(PlanError, match=r"plan\.json"):
        plans.from_json(text, "plan.json")


def test_a_plan_without_load_is_refused() -> None:
    """There is nothing to measure without a load."""
    with pytest.raises(PlanError, match="no load"):
        plans.checked(Plan(Endpoint("h:1", "m"), PerfJson(("a.json",)), ()))


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 9))
def test_concurrency_levels_is_pythons_range(start: int, more: int, step: int) -> None:
    """`s:e:st` gives s, s + st, ... up to e, e included; the shorter forms fill in end = start and step = 1."""
    levels = concurrency_levels(f"{start}:{start + more}:{step}")
    assert levels == tuple(range(start, start + more + 1, step))
    assert concurrency_levels(f"{start}") == concurrency_levels(f"{start}:{start}") == (start,)


@given(st.text(alphabet="0123456789:-+. ٣x", max_size=12))
def test_concurrency_levels_parses_or_says_how_to_write_it(text: str) -> None:
    """Any other text is refused with the right form in the message."""
    try:
        loads = concurrency_levels(text)
    except PlanError as error:
        assert "START:END:STEP" in str(error)  # noqa: PT017 - both ways are fine, one is checked
    else:
        assert loads
