"""Whatever bytes a server sends: answers or Http2Error, and memory in proportion to what came."""

import random
import tracemalloc
from collections.abc import Sequence

import pytest
from http2_peer import (
    AT,
    HEAD,
    data,
    goaway,
    greeted,
    head,
    heard,
    literal,
    message,
    refusal,
    reset,
    response,
    tail,
    trailers,
    window,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.transport.http2 import Answer, Connection, Http2Error
from loadgen.transport.http2_frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADER_BYTES,
    HEADERS,
    PADDED,
    PING,
    SETTINGS,
    frame,
    settings_frame,
)

REQUESTS = 4
SOUND = (
    response(1, b"r" * 40),
    head(3)
    + data(3, b"\4" + message(b"q" * 30)[:20] + bytes(4), PADDED)
    + data(3, message(b"q" * 30)[20:])
    + tail(3),
    refusal(5, 5, b"not found"),
    frame(HEADERS, 0, 7, HEAD[:4]) + frame(CONTINUATION, 4, 7, HEAD[4:]),
    reset(7, 7),
    window(0, 1000) + window(5, 1000),
    settings_frame({3: 2, 4: 70_000, 5: 20_000, 1: 0}),
    frame(PING, 0, 0, b"12345678"),
    goaway(5, 0, b"bye"),
)
"""Frames of a server that are right on their own, to be shuffled and spoilt."""


def drive(client: Connection, pieces: list[bytes]) -> list[Answer]:
    """Feed a client and pull from it; return every answer, each stream once."""
    answers: list[Answer] = []
    try:
        for piece in pieces:
            answers += client.receive(piece, AT)
            client.pull(10_000)
    except Http2Error as error:
        answers += error.answers
    client.pull()
    answers += client.close()
    assert sorted(answer.stream for answer in answers) == [1 + 2 * number for number in range(REQUESTS)]
    assert all(type(answer.body) is bytes and 0 <= answer.status <= 16 for answer in answers)
    assert (client.in_flight, client.available) == (0, False)
    return answers


def cut(flow: bytes, draw: random.Random) -> list[bytes]:
    """Cut bytes into pieces of random lengths."""
    pieces, pos = [], 0
    while pos < len(flow):
        size = draw.choice((1, 3, 9, 40, 1000))
        pieces.append(flow[pos : pos + size])
        pos += size
    return pieces


def client_with_requests(*, fresh: bool) -> Connection:
    """Return a client with four requests out, before or after the exchange of settings."""
    bodies = [b"a", b"b" * 20_000, b"c" * 60_000, b"d"]
    if not fresh:
        return greeted(bodies=bodies, frame_size=16_384, header_bytes=2048)
    client = Connection("h", "/p", frame_size=16_384, header_bytes=2048)
    for body in bodies:
        client.open_stream(body)
    client.pull()
    return client


@settings(max_examples=1500, deadline=None)
@given(flow=st.binary(max_size=400), fresh=st.booleans(), cuts=st.integers(0, 99))
def test_arbitrary_bytes_are_answers_or_a_typed_error(flow: bytes, fresh: bool, cuts: int) -> None:
    """Bytes of any kind: no other exception, and every stream is told once."""
    drive(client_with_requests(fresh=fresh), cut(flow, random.Random(cuts)))


@settings(max_examples=1500, deadline=None)
@given(
    frames=st.lists(
        st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)), max_size=12
    ),
    fresh=st.booleans(),
)
def test_arbitrary_frames_are_answers_or_a_typed_error(
    frames: list[tuple[int, int, int, bytes]], fresh: bool
) -> None:
    """Frames with any type, flags, stream and payload: the same."""
    flow = b"".join(frame(kind, flags, stream, payload) for kind, flags, stream, payload in frames)
    drive(client_with_requests(fresh=fresh), [settings_frame({}) if fresh else b"", flow])


@pytest.mark.parametrize("seed", range(4))
def test_spoilt_answers_are_answers_or_a_typed_error(seed: int) -> None:
    """Sound frames shuffled, with bytes changed, lost and doubled: the same."""
    for number in range(700):
        draw = random.Random(10_000 * seed + number)
        flow = bytearray(b"".join(draw.choices(SOUND, k=draw.randrange(1, 12))))
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(flow))
            how = draw.randrange(3)
            if how == 0:
                flow[at] = draw.choice((0, 1, 255, draw.randrange(256), flow[at] ^ 1 << draw.randrange(8)))
            elif how == 1:
                del flow[at : at + draw.randrange(12)]
            else:
                flow[at:at] = flow[at : at + draw.randrange(40)]
            if not flow:
                break
        drive(client_with_requests(fresh=False), cut(bytes(flow), draw))


class LongWay(Connection):
    """Takes every response frame by frame."""

    def _whole(self, data: bytes, start: int, stop: int, stream_id: int) -> int:
        return 0


def told(client: Connection, flows: list[bytes]) -> tuple[list[Answer], list[Answer], bytes, str]:
    """Return the answers to flows, those of the streams left over, what is said in return, and the fault."""
    answers: list[Answer] = []
    fault = ""
    try:
        for number, flow in enumerate(flows):
            answers += client.receive(flow, AT + number)
    except Http2Error as error:
        answers, fault = answers + error.answers, str(error)
    return answers, client.close(), b"".join(client.pull()[0]), fault


def nearly_whole(draw: random.Random, stream: int, sizes: Sequence[int]) -> list[bytes]:
    """Return a response in three frames, mostly sound, one piece or several."""
    first = draw.choice((HEAD, HEAD, HEAD, CONTINUE, NOT_FOUND))
    last = draw.choice((trailers(), trailers(), trailers(0, b"fine"), trailers(5), HEAD + trailers()))
    whole = bytearray(head(stream, first) + data(stream, message(bytes(draw.choice(sizes)))))
    start = len(whole)
    whole += frame(HEADERS, END_HEADERS | END_STREAM, stream, last)
    if draw.randrange(3) == 0:
        at = draw.choice((draw.randrange(45), start + draw.randrange(HEADER_BYTES)))
        whole[at] = draw.choice((0, 1, 5, 255, stream ^ 2, whole[at] ^ 1 << draw.randrange(8)))
    return [head(stream, draw.choice((CONTINUE, HEAD))), bytes(whole)] if draw.randrange(4) == 0 else [bytes(whole)]


CONTINUE = literal(b":status", b"100")
NOT_FOUND = literal(b":status", b"404")
BLOCKS = (HEAD, CONTINUE, NOT_FOUND, trailers(), trailers(0, b"fine"), trailers(5), HEAD + trailers())


@pytest.mark.parametrize("seed", range(4))
def test_the_short_way_of_a_whole_response_tells_what_the_long_way_does(seed: int) -> None:
    """Responses whose blocks are known, to requests of which some are not sent; bytes changed, the end cut."""
    for number in range(700):
        draw = random.Random(10_000 * seed + number)
        sizes = draw.choice(((0, 5, 40), (0, 5, 40), (300, 15_000, 15_000), (40, 17_000)))
        flows = [piece for _ in range(8) for piece in nearly_whole(draw, draw.randrange(3, 14, 2), sizes)]
        flows[-1] = flows[-1][: -draw.choice((1, len(literal(b"grpc-message", b"fine")), draw.randrange(1, 60)))]
        if draw.randrange(2):
            flows = [b"".join(flows)]
        window_bytes, response_bytes = draw.choice((200, 66_000, 2**31 - 1)), draw.choice((100, 2**31))
        known = response(1, b"r") + b"".join(head(1, block) for block in BLOCKS)
        found = []
        for kind in (Connection, LongWay):
            client = kind("h", "/p", window=window_bytes, frame_size=16_384, response_bytes=response_bytes)
            client.receive(settings_frame({}) + frame(SETTINGS, ACK, 0), AT)
            for size in (1, 1, 20_000, 1, 60_000, 1, 1):
                client.open_stream(bytes(size))
            client.pull(30_000)
            found.append(told(client, [known, *flows]))
        assert found[0] == found[1]


def test_whole_responses_use_up_the_window_as_others_do() -> None:
    """Seven responses of 15 kB, a connection's window of 66 kB: it is opened again as often, by as much."""
    flows = [response(stream, bytes(15_000)) for stream in range(1, 15, 2)]
    found = []
    for kind in (Connection, LongWay):
        client = kind("h", "/p", window=66_000)
        client.receive(settings_frame({}) + frame(SETTINGS, ACK, 0), AT)
        for _ in flows:
            client.open_stream(b"a")
        client.pull()
        found.append(told(client, flows))
    assert found[0] == found[1]
    assert len(heard(found[0][2])) == 2


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, bytes(8)),
        settings_frame({4: 1, 3: 5}),
        frame(PING, 1, 0, bytes(8)),
        head(1) + data(1, b""),
        data(1, b"\xff" + bytes(255), PADDED),
        window(1, 1) + window(3, 1),
        frame(0x99, 0, 1, bytes(100)),
        data(99, b""),
        goaway(2**31 - 1, 1, b"w" * 1000),
        frame(HEADERS, 4, 1, HEAD) + reset(1, 0),
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b"),
        reset(1, 1) + reset(3, 1),
    ],
)
def test_a_flood_takes_no_memory(flood: bytes) -> None:
    """A megabyte of the same frame over and over, never pulled from, leaves less than 300 kB behind."""
    client = greeted(bodies=[b"a", b"b"], frame_size=16_384)
    client.receive(head(1), AT)
    count = 10**6 // len(flood)
    pieces = [flood * min(count, 500)] * max(1, count // 500)
    tracemalloc.start()
    try:
        for piece in pieces:
            client.receive(piece, AT)
    except Http2Error:
        pass
    finally:
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert taken < 300_000
