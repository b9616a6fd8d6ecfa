"""Which request leaves next: bodies in an order, or the steps of sequences that a stateful model follows."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import msgspec

from loadgen import kserve

NO_SEQUENCE = 0


Message = bytes | memoryview


class Take(msgspec.Struct, frozen=True, gc=False):
    """A request to send: its body, its message, and the sequence it is a step of (0: none)."""

    body: int
    message: Message
    sequence: int = NO_SEQUENCE


class Step(Protocol):
    """Makes a step of a sequence of a request."""

    def __call__(self, message: bytes, sequence: int, *, first: bool, last: bool) -> bytes:
        """Return the request with the sequence's id and flags."""


class Walk(Protocol):
    """Hands out requests for ever."""

    def take(self) -> Take:
        """Return the next request."""

    def done(self, sequence: int, *, answered: bool) -> None:
        """Hear that a request of a sequence is over, answered well or not."""

    def closing(self) -> list[Take]:
        """Return what still must be sent to end the sequences that wait for a next step; they are then over."""


@dataclass(slots=True)
class Bodies:
    """Requests without state, in the given order."""

    messages: Sequence[Message]
    order: Iterator[int]

    def take(self) -> Take:
        """Return the next of the order."""
        body = next(self.order)
        return Take(body, self.messages[body])

    def done(self, sequence: int, *, answered: bool) -> None:
        """Keep nothing."""

    def closing(self) -> list[Take]:
        """Leave nothing open."""
        return []


@dataclass(slots=True)
class _Live:
    stream: int
    length: int
    step: int = 0


@dataclass(slots=True)
class Sequences:
    """Steps of sequences: one at a time of each, first to last, with Triton's id, start and end flags.

    A sequence plays one stream for `length` steps, from the beginning again if it is longer (0: once through).
    With `variation` (percent) lengths differ: each is drawn evenly from so far below to so far above. Ids go up from
    `first_id` to `last_id` (0: without end), then from the first again. `streams` are lists of bodies, `order` says
    which stream the next sequence plays. A request that waits goes before a new sequence begins; so N in flight are
    steps of N sequences. One whose request failed is given up: the server no longer knows where it stands.
    """

    messages: Sequence[bytes]
    streams: Sequence[Sequence[int]]
    order: Iterator[int]
    length: int = 0
    first_id: int = 1
    last_id: int = 0
    id_step: int = 1
    step: Step = kserve.step
    variation: float = 0.0
    seed: int = 0
    _next_id: int = 0
    _live: dict[int, _Live] = field(default_factory=dict)
    _waiting: deque[int] = field(default_factory=deque)
    _random: Random = field(default_factory=Random)

    def take(self) -> Take:
        """Return the next step of a sequence that waits, or the first of a new one."""
        return self._step(self._waiting.popleft() if self._waiting else self._begin())

    def done(self, sequence: int, *, answered: bool) -> None:
        """Let the sequence go on, or give it up."""
        live = self._live.get(sequence)
        if live is None:
            return
        if answered:
            self._waiting.append(sequence)
        else:
            del self._live[sequence]

    def closing(self) -> list[Take]:
        """Return one last step, with the end flag, for each sequence that waits."""
        takes = []
        while self._waiting:
            takes.append(self._step(self._waiting.popleft(), last=True))
        return takes

    def __post_init__(self) -> None:
        """Seed what lengths are drawn from."""
        self._next_id, self._random = self.first_id, Random(self.seed)  # noqa: S311 - not for secrets

    def _begin(self) -> int:
        sequence = self._next_id
        self._next_id = following_id(sequence, self.id_step, self.first_id, self.last_id)
        stream = next(self.order)
        length = varied(self.length or len(self.streams[stream]), self.variation, self._random)
        self._live[sequence] = _Live(stream, length)
        return sequence

    def _step(self, sequence: int, *, last: bool = False) -> Take:
        live = self._live[sequence]
        stream = self.streams[live.stream]
        body, first = stream[live.step % len(stream)], live.step == 0
        live.step += 1
        last = last or live.step == live.length
        if last:
            del self._live[sequence]
        return Take(body, self.step(self.messages[body], sequence, first=first, last=last), sequence)


def varied(length: int, variation: float, random: Random) -> int:
    """Draw the length of a sequence evenly from `variation` percent below to as much above; at least one step."""
    if not variation:
        return length
    spread = variation / 100 * length
    return max(1, round(random.uniform(length - spread, length + spread)))


def following_id(sequence: int, step: int, first: int, last: int) -> int:
    """Return the id after one; after the last (0: none) comes the first again."""
    following = sequence + step
    return first if last and following > last else following
