"""Which request leaves next: weights, and sequences that are whole, one step at a time."""

from collections import Counter
from itertools import cycle, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from loadgen import corpus, kserve
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError
from loadgen.plan import ClosedLoop, Generated, Plan, checked
from loadgen.ranges import weights_option
from loadgen.walk import Sequences, Take

STREAMS = [[0, 1, 2], [3], [4, 5]]
MESSAGES = [
    service_pb2.ModelInferRequest(model_name=f"body {number}").SerializeToString()
    for number in range(1 + max(map(max, STREAMS)))
]


def flags(take: Take) -> tuple[int, bool, bool, str]:
    """Decode what the server would see: id, start, end, body."""
    request = service_pb2.ModelInferRequest.FromString(take.message)
    values = request.parameters
    start, end = values["sequence_start"].bool_param, values["sequence_end"].bool_param
    return values["sequence_id"].int64_param, start, end, request.model_name


@settings(deadline=None)
@given(
    in_flight=st.integers(1, 5),
    length=st.integers(0, 7),
    answers=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=80),
)
def test_every_sequence_is_whole_and_in_order(in_flight: int, length: int, answers: list[tuple[int, bool]]) -> None:
    """Whatever order answers come in: start once and first, end last, one step at a time, streams in their order."""
    walk = Sequences(MESSAGES, STREAMS, cycle(range(len(STREAMS))), length)
    out = [walk.take() for _ in range(in_flight)]
    seen: dict[int, list[Take]] = {}
    failed = set()
    for which, answered in answers:
        take = out.pop(which % len(out))
        seen.setdefault(take.sequence, []).append(take)
        if not answered:
            failed.add(take.sequence)
        walk.done(take.sequence, answered=answered)
        out.append(walk.take())
        assert out[-1].sequence not in failed
        assert len({each.sequence for each in out}) == in_flight
    for take in out:
        seen.setdefault(take.sequence, []).append(take)
        walk.done(take.sequence, answered=True)
    for take in walk.closing():
        seen[take.sequence].append(take)
    for sequence, takes in seen.items():
        stream = STREAMS[(sequence - 1) % len(STREAMS)]
        said = [flags(take) for take in takes]
        assert [each[1] for each in said] == [True] + [False] * (len(takes) - 1)
        assert not any(each[2] for each in said[:-1])
        assert said[-1][2] or sequence in failed
        assert [take.body for take in takes] == list(islice(cycle(stream), len(takes)))
        assert [each[3] for each in said] == [f"body {take.body}" for take in takes]
        assert {each[0] for each in said} == {sequence}
        assert len(takes) <= (length or len(stream))


def test_flags_do_not_disturb_the_tensors() -> None:
    """Appending the flags to a serialised request leaves its tensors and parameters as they were."""
    message = kserve.infer_request("m", "1", (), {"priority": 3, "name": "x"})
    request = service_pb2.ModelInferRequest.FromString(
        message + kserve.sequence_parameters(2**40, first=True, last=False)
    )
    assert request.parameters["priority"].int64_param == 3
    assert request.parameters["sequence_id"].int64_param == 2**40
    assert request.model_name == "m"


def test_weights_are_kept_in_proportion() -> None:
    """Bodies are drawn as often as their weights say, one of weight 0 never; the same seed draws the same."""
    drawn = list(islice(corpus.passes(3, 7, "random", (3, 0, 1)), 4000))
    counts = Counter(drawn)
    assert counts[1] == 0
    assert counts[0] / counts[2] == pytest.approx(3, rel=0.1)
    assert drawn == list(islice(corpus.passes(3, 7, "random", (3, 0, 1)), 4000))


def test_weights_that_mean_nothing_are_refused() -> None:
    """Weights need the random order and one above zero; text that is no number is named."""
    plan = Plan(Endpoint("x:1", "m"), Generated("zero"), (ClosedLoop(1),), weights=(1.0,))
    for wrong in (plan, Plan(plan.endpoint, plan.inputs, plan.loads, order="random", weights=(0.0, 0.0))):
        with pytest.raises(PlanError, match="weights: need order random"):
            checked(wrong)
    assert weights_option("1,0.5") == (1.0, 0.5)
    for text in ("1,x", "-1", "nan", ""):
        with pytest.raises(PlanError, match="--weights"):
            weights_option(text)


def taken(walk: Sequences, count: int) -> list[tuple[int, bool, bool, str]]:
    """Take requests one after the other, each answered before the next."""
    found = []
    for _ in range(count):
        take = walk.take()
        found.append(flags(take))
        walk.done(take.sequence, answered=True)
    return found


def test_ids_go_round_in_their_range() -> None:
    """After the last id the first is used again; this worker's own part of them, if it shares the range."""
    walk = Sequences(MESSAGES, [[3]], cycle([0]), first_id=5, last_id=9, id_step=2)
    assert [identifier for identifier, *_ in taken(walk, 6)] == [5, 7, 9, 5, 7, 9]
    walk = Sequences(MESSAGES, [[3]], cycle([0]), first_id=5)
    assert [identifier for identifier, *_ in taken(walk, 3)] == [5, 6, 7]


def test_lengths_vary_within_their_bounds_and_by_their_seed() -> None:
    """20 percent about 10 steps is 8 to 12, all of them, the same for the same seed; never less than one step."""

    def lengths(seed: int) -> list[int]:
        walk = Sequences(MESSAGES, [[0, 1]], cycle([0]), 10, variation=20, seed=seed)
        steps = Counter(identifier for identifier, *_ in taken(walk, 2000))
        return list(steps.values())[:-1]

    assert set(lengths(1)) == {8, 9, 10, 11, 12}
    assert lengths(1) == lengths(1) != lengths(2)
    walk = Sequences(MESSAGES, [[0]], cycle([0]), 1, variation=100)
    assert set(Counter(identifier for identifier, *_ in taken(walk, 40)).values()) == {1, 2}
