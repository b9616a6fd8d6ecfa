"""Which sequence each request of a stateful model belonged to: found again from the record, which does not hold it.

A walk is determined by what it was asked and by the order of sends and answers, and both are on record: so it is
walked once more. A request that was sent goes on with the first waiting sequence whose next step it is, or begins
one; a point begins with none.
"""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.perf_export import described, rows_of
from analysis.runs import Run
from loadgen.records import Outcome, Rows
from loadgen.walk import following_id, varied

ANSWERED = (Outcome.OK, Outcome.WRONG_ANSWER)
GENERATED_LENGTH = 20

Ids = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Live:
    stream: Sequence[int]
    length: int
    step: int = 0

    @property
    def next_body(self) -> int:
        return self.stream[self.step % len(self.stream)]


@dataclass(frozen=True, slots=True)
class _Asked:
    streams: Sequence[Sequence[int]]
    length: int
    variation: float
    first_id: int
    last_id: int
    id_step: int


@dataclass(slots=True)
class _Walk:
    """One worker's walk; goes on from point to point."""

    asked: _Asked
    first_id: int
    random: Random
    next_id: int
    live: dict[int, _Live] = field(default_factory=dict)
    waiting: deque[int] = field(default_factory=deque)
    ends: list[tuple[int, int, bool]] = field(default_factory=list)

    def take(self, body: int, sent_ns: int) -> int:
        """Return the sequence of a request that leaves now."""
        while self.ends and self.ends[0][0] <= sent_ns:
            _, sequence, answered = heapq.heappop(self.ends)
            self._ended(sequence, answered=answered)
        found = next((each for each in self.waiting if self.live[each].next_body == body), None)
        if found is None:
            return self._begin(body)
        self.waiting.remove(found)
        return found

    def sent(self, sequence: int, done_ns: int, *, answered: bool) -> None:
        """Hear when a request of a sequence ends, if ever."""
        live = self.live[sequence]
        live.step += 1
        if done_ns and live.step < live.length:
            heapq.heappush(self.ends, (done_ns, sequence, answered))
        else:
            del self.live[sequence]

    def forget(self) -> None:
        """Leave a point: whatever was open has been closed."""
        self.live.clear()
        self.waiting.clear()
        self.ends.clear()

    def _ended(self, sequence: int, *, answered: bool) -> None:
        if answered:
            self.waiting.append(sequence)
        else:
            del self.live[sequence]

    def _begin(self, body: int) -> int:
        stream = next(each for each in self.asked.streams if each[0] == body)
        sequence = self.next_id
        self.next_id = following_id(sequence, self.asked.id_step, self.first_id, self.asked.last_id)
        length = varied(self.asked.length or len(stream), self.asked.variation, self.random)
        self.live[sequence] = _Live(stream, length)
        return sequence


def sequence_ids(run: Run) -> dict[int, Ids]:
    """Return, for each point, the sequence of each of its rows as `rows_of` returns them; none for other models."""
    if not described(run).get("metadata", {}).get("sequence"):
        return {}
    plan, asked = run.plan, _asked(run.plan, run.corpus)
    walks = {
        worker: _Walk(asked, first, Random(plan.get("seed", 0) + worker), first)  # noqa: S311 - as the load drew it
        for worker in range(asked.id_step)
        for first in (asked.first_id + 1 + worker,)
    }
    return {event["point"]: _of_point(rows_of(run, event["point"]), walks) for event in run.events("point_started")}


def _asked(plan: Mapping[str, Any], corpus: Mapping[str, Any]) -> _Asked:
    streams: dict[int, list[int]] = {}
    for number, body in enumerate(corpus.get("bodies", ())):
        streams.setdefault(body.get("stream", 0), []).append(number)
    generated = plan["inputs"]["kind"] == "generated"
    first_id, last_id = plan.get("sequence_ids", (1, 0))
    return _Asked(
        streams=list(streams.values()),
        length=plan.get("sequence_length", 0) or (GENERATED_LENGTH if generated else 0),
        variation=plan.get("sequence_length_variation", 0.0),
        first_id=first_id,
        last_id=last_id,
        id_step=plan.get("workers", 1),
    )


def _of_point(rows: Rows, walks: Mapping[int, _Walk]) -> Ids:
    ids = np.zeros(len(rows), np.int64)
    for place in np.lexsort((rows["seq"], rows["worker"])):
        row = rows[place]
        walk, answered = walks[int(row["worker"])], row["outcome"] in ANSWERED
        sequence = walk.take(int(row["body"]), int(row["sent_ns"] or row["due_ns"]))
        walk.sent(sequence, int(row["done_ns"]), answered=bool(answered))
        ids[place] = sequence
    for walk in walks.values():
        walk.forget()
    return ids
