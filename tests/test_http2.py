"""Our half of HTTP/2: how answers come in; what goes out is in test_http2_sending, faults are in test_http2_rules."""

from collections.abc import Iterable

import hpack
import pytest
from http2_peer import (
    AT,
    HEAD,
    Heard,
    data,
    goaway,
    greeted,
    head,
    literal,
    message,
    only,
    pulled,
    refusal,
    reset,
    response,
    tail,
    window,
)

from loadgen.transport.http2 import Answer, Connection
from loadgen.transport.http2_frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    PADDED,
    PING,
    PRIORITISED,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings_frame,
)


def test_an_answer_carries_body_and_first_byte() -> None:
    """Status OK, the message without its prefix, and the time of the piece in which the response began."""
    client = greeted(bodies=[b"a", b"b"])
    whole = response(1, b"reply")
    assert client.receive(whole[:5], 101) == []
    assert client.receive(whole[5:20], 102) == []
    assert client.in_flight == 2
    rest = client.receive(whole[20:] + response(3, b""), 103)
    assert rest == [Answer(1, 0, "", b"reply", 101, retriable=False), Answer(3, 0, "", b"", 103, retriable=False)]
    assert client.in_flight == 0
    assert all(type(answer.body) is bytes for answer in rest)


def test_an_answer_fed_byte_by_byte_is_the_same() -> None:
    """Frames may be cut anywhere, with padding, priority and CONTINUATION in them."""
    prefixed = message(b"x" * 300)
    stream = (
        frame(HEADERS, PADDED | PRIORITISED, 1, b"\2" + b"\0\0\0\0\1" + HEAD[:3] + b"\0\0")
        + frame(CONTINUATION, 0, 1, b"")
        + frame(CONTINUATION, END_HEADERS, 1, HEAD[3:])
        + b"".join(data(1, bytes((pad,)) + prefixed[at : at + 7] + bytes(pad), PADDED) for pad, at in
                   zip(range(99), range(0, len(prefixed), 7), strict=False))
        + data(1, b"\0", PADDED) + data(1, b"")
        + frame(PRIORITY, 0, 1, bytes(5)) + frame(0xEE, 0xFF, 1, b"unknown")
        + tail(1, 0, b"fine")
    )  # fmt: skip
    expected = [Answer(1, 0, "fine", b"x" * 300, AT, retriable=False)]
    assert greeted(bodies=[b"a"]).receive(stream, AT) == expected
    client = greeted(bodies=[b"a"])
    answers = [answer for at in range(len(stream)) for answer in client.receive(stream[at : at + 1], AT + at)]
    assert answers == expected


def test_a_large_answer_in_large_pieces_is_exact() -> None:
    """Bodies of many frames, received in pieces of any size, arrive bit for bit."""
    body = bytes(range(256)) * 8000
    stream = head(1) + b"".join(data(1, message(body)[at : at + 700_000]) for at in range(0, len(body) + 5, 700_000))
    stream += tail(1)
    client = greeted(bodies=[b"a"])
    answers: list[Answer] = []
    for at in range(0, len(stream), 65_000):
        answers += client.receive(stream[at : at + 65_000], AT)
    assert only(answers).body == body


ENDINGS: dict[str, tuple[bytes, int, str]] = {
    "trailers only": (refusal(1, 5, b"no such model"), 5, "no such model"),
    "percent-encoded": (head(1) + tail(1, 3, b"50%25 of %C3%A9 %zz %ff"), 3, "50% of é %zz \ufffd"),
    "after a message": (head(1) + data(1, message(b"part")) + tail(1, 13, b"late"), 13, "late"),
    "status out of range": (refusal(1, 17), 2, ""),
    "status no number": (frame(HEADERS, 5, 1, HEAD + literal(b"grpc-status", b"-1")), 2, ""),
    "OK without message": (head(1) + tail(1), 13, "status OK after no message"),
    "OK in trailers only": (refusal(1, 0), 13, "status OK after no message"),
    "OK after half": (head(1) + data(1, message(b"abcd")[:7]) + tail(1), 13, "2 of 4 bytes"),
    "OK after half a prefix": (head(1) + data(1, b"\0\0") + tail(1), 13, "no message"),
    "two messages": (head(1) + data(1, message(b"a") * 2), 13, "more than one message"),
    "compressed": (head(1) + data(1, b"\1\0\0\0\1a"), 13, "compressed"),
    "no trailers": (head(1) + data(1, message(b"a"), END_STREAM), 2, "without grpc-status"),
    "trailers without status": (head(1) + frame(HEADERS, 5, 1, literal(b"a", b"b")), 2, "without grpc-status"),
    "HTTP 503": (frame(HEADERS, 5, 1, b"\x08\x03503"), 14, "HTTP status 503"),
    "HTTP 404 with a page": (head(1, b"\x8d") + data(1, b"<html>") + data(1, b"", END_STREAM), 12, "HTTP status 404"),
    "HTTP 500 with trailers": (head(1, b"\x8e") + data(1, b"x") + tail(1, 9, b"own"), 9, "own"),
    "another content type": (head(1, b"\x88\x5f\x09text/html") + data(1, b"x", END_STREAM), 2, "without grpc-status"),
    "HTTP 401": (frame(HEADERS, 5, 1, b"\x08\x03401"), 16, "401"),
    "HTTP 302": (frame(HEADERS, 5, 1, b"\x08\x03302"), 2, "302"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_every_ending_has_its_status(name: str) -> None:
    """Whatever way a response ends, one answer says so, with gRPC's status, words, no body and no second try."""
    stream, status, words = ENDINGS[name]
    client = greeted(bodies=[b"a"])
    answer = only(client.receive(stream, AT))
    assert (answer.status, answer.body, answer.retriable, answer.first_byte) == (status, b"", False, AT)
    assert words in answer.message
    assert client.in_flight == 0
    assert client.receive(data(1, b"late"), AT) == []


def test_informational_headers_are_passed_over() -> None:
    """A 100 and a 103 before the response change nothing."""
    client = greeted(bodies=[b"a"])
    assert client.receive(head(1, b"\x08\x03100") + head(1, b"\x08\x03103"), 50) == []
    assert only(client.receive(response(1, b"r"), 60)) == Answer(1, 0, "", b"r", 50, retriable=False)


@pytest.mark.parametrize(
    ("code", "status", "retriable"),
    [
        *((code, 13, False) for code in (0, 1, 2, 3, 4, 6, 9, 10)),
        *((5, 2, False), (7, 14, True), (8, 1, False), (11, 8, False), (12, 7, False)),
        *((13, 2, False), (2**32 - 1, 2, False)),
    ],
)
def test_a_reset_is_its_grpc_status(code: int, status: int, retriable: bool) -> None:
    """RST_STREAM becomes the status of gRPC's table; only REFUSED_STREAM may be tried again."""
    answer = only(greeted(bodies=[b"a"]).receive(reset(1, code), AT))
    assert (answer.stream, answer.status, answer.retriable, answer.first_byte) == (1, status, retriable, 0)


def test_a_reset_after_the_end_is_nothing() -> None:
    """RST_STREAM NO_ERROR behind complete trailers takes nothing from the answer."""
    client = greeted(bodies=[b"a"])
    assert only(client.receive(response(1, b"r") + reset(1, 0), AT)).status == 0
    assert client.receive(reset(1, 8), AT) == []


def test_settings_and_pings_are_acknowledged_once() -> None:
    """Each SETTINGS and PING is acknowledged, acknowledgements are not."""
    client = Connection("h", "/p")
    client.pull()
    client.receive(settings_frame({0xABCD: 1}) + frame(PING, ACK, 0, bytes(8)) + frame(PING, 0, 0, b"abcdefgh"), AT)
    assert pulled(client) == [Heard(SETTINGS, ACK, 0, b""), Heard(PING, ACK, 0, b"abcdefgh")]
    assert client.settled


def test_goaway_ends_what_the_server_will_not_process() -> None:
    """Streams above the last stream, and those not begun, end retriable; the others go on; nothing new opens."""
    client = greeted(bodies=[b"a", b"b", b"c"])
    unsent = client.open_stream(b"never left")
    answers = client.receive(goaway(3, 0, b"bye"), AT)
    assert [(answer.stream, answer.status, answer.retriable) for answer in answers] == [
        (5, 14, True),
        (unsent, 14, True),
    ]
    assert "NO_ERROR bye" in answers[0].message
    assert (client.available, client.going_away, client.exhausted) == (False, True, False)
    assert pulled(client) == []
    assert client.receive(response(5, b"late"), AT) == []
    assert [answer.status for answer in client.receive(response(3, b"r"), AT)] == [0]
    assert [(answer.stream, answer.retriable) for answer in client.receive(goaway(0), AT)] == [(1, True)]


def test_a_graceful_goaway_keeps_what_was_sent() -> None:
    """GOAWAY with the highest id: what was sent goes on, what was not ends retriable."""
    client = greeted(bodies=[b"a"])
    client.open_stream(b"never left")
    assert [answer.stream for answer in client.receive(goaway(2**31 - 1), AT)] == [3]
    assert only(client.receive(response(1, b"r"), AT)).status == 0


def test_a_cancelled_stream_is_forgotten() -> None:
    """Cancel queues RST_STREAM and takes the room back; what still comes is ignored, but kept account of."""
    client = greeted({MAX_CONCURRENT_STREAMS: 1}, bodies=[b"a" * 100_000], window=100_000)
    assert not client.available
    client.cancel(1)
    client.cancel(1)
    client.cancel(99)
    assert (client.available, client.in_flight) == (True, 0)
    assert [(each.kind, each.stream, each.word) for each in pulled(client)] == [(RST_STREAM, 1, 8)]
    late = head(1) + data(1, message(b"l" * 60_000)) + tail(1) + window(1, 5) + reset(1, 0)
    assert client.receive(late, AT) == []
    assert [(each.kind, each.stream, each.word) for each in pulled(client)] == [(WINDOW_UPDATE, 0, 60_005)]


def test_a_cancel_in_the_middle_of_a_frame() -> None:
    """A stream cancelled while its DATA frame is half here: the rest of the frame is passed over."""
    client = greeted(bodies=[b"a", b"b"])
    frames = head(1) + data(1, message(b"x" * 100), END_STREAM)
    client.receive(frames[:60], AT)
    client.cancel(1)
    assert only(client.receive(frames[60:] + response(3, b"r"), AT)).stream == 3


def test_received_bytes_are_given_back_in_batches() -> None:
    """WINDOW_UPDATE of the stream and of the connection once half of each window is used, padding included."""
    client = greeted(bodies=[b"a", b"b"], window=100_000)
    client.receive(head(1) + data(1, message(b"x" * 90_000)[:45_000]), AT)
    assert pulled(client) == []
    client.receive(data(1, b"\xff" + b"x" * 5_000 + bytes(255), PADDED), AT)
    used = 45_000 + 5_256
    assert [(each.stream, each.word) for each in pulled(client)] == [(0, used), (1, used)]


@pytest.mark.parametrize("peers_table", [4096, 0])
def test_before_our_settings_are_acknowledged_the_servers_table_counts(peers_table: int) -> None:
    """Equal bytes that mean different things through the dynamic table are decoded, not looked up."""
    encoder = hpack.Encoder()
    client = Connection("h", "/p")
    client.receive(settings_frame({}), AT)
    for number in range(6):
        client.open_stream(b"%d" % number)
    client.pull()
    seen = set()
    for number, stream in enumerate((1, 3, 5)):
        first = encoder.encode([(":status", "200"), ("content-type", "application/grpc")])
        last = encoder.encode([("grpc-status", "5"), ("grpc-message", f"words {number}")])
        answer = only(client.receive(head(stream, first) + frame(HEADERS, 5, stream, last), AT))
        assert (answer.status, answer.message) == (5, f"words {number}")
        seen.add(first)
    repeated = encoder.encode([("grpc-status", "5"), ("grpc-message", "words 2")])
    assert repeated == b"\xbf\xbe" or len(repeated) == 2
    assert not client._reader.cache
    client.receive(frame(SETTINGS, ACK, 0), AT)
    encoder.header_table_size = 0
    for stream in (7, 9, 11):
        first = encoder.encode([(":status", "200"), ("content-type", "application/grpc")])
        last = encoder.encode([("grpc-status", "6")])
        assert only(client.receive(head(stream, first) + frame(HEADERS, 5, stream, last), AT)).status == 6
    assert client._reader.cache


def test_equal_blocks_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the acknowledgement a block that was seen is looked up; the memory for that is bounded."""
    client = greeted(bodies=[b"a"] * 2000)
    decoder = client._reader._decoder
    calls: list[bytes] = []

    def counted(block: bytes, *, raw: bool) -> Iterable[hpack.HeaderTuple]:
        calls.append(block)
        return hpack.Decoder.decode(decoder, block, raw)

    monkeypatch.setattr(decoder, "decode", counted)
    for stream in range(1, 201, 2):
        assert only(client.receive(response(stream, b"r"), AT)).body == b"r"
    assert len(calls) == 2
    for stream in range(201, 3999, 2):
        assert only(client.receive(head(stream) + tail(stream, 3, b"words %d" % stream), AT)).status == 3
    assert len(client._reader.cache) <= 512


def test_close_tells_every_open_stream() -> None:
    """Each open stream once, UNAVAILABLE, with the time of its first byte; retriable only where nothing left."""
    client = greeted(bodies=[b"a", b"b"])
    client.open_stream(b"unsent")
    client.receive(head(3), 55)
    told = client.close("lost")
    assert [(each.stream, each.status, each.first_byte, each.retriable) for each in told] == [
        (1, 14, 0, False),
        (3, 14, 55, False),
        (5, 14, 0, True),
    ]
    assert (client.close(), client.available, client.in_flight, client.pull()) == ([], False, 0, ([], []))


def test_no_window_is_given_to_a_stream_that_ended() -> None:
    """The last DATA of a stream uses half of its window: only the connection's is given back."""
    client = greeted(bodies=[b"a"], window=100_000)
    client.receive(head(1) + data(1, message(b"x" * 60_000), END_STREAM), AT)
    assert [(each.kind, each.stream) for each in pulled(client)] == [(WINDOW_UPDATE, 0)]


def test_data_is_taken_as_it_comes() -> None:
    """A frame of DATA, padded or not, does not wait in a buffer for its end."""
    for flags, lead in ((0, b""), (PADDED, b"\7")):
        for cut in (9, 10, 20):
            flow = data(1, lead + message(bytes(9000)), flags)
            client = greeted(bodies=[b"a"])
            client.receive(head(1) + flow[:cut], AT)
            client.receive(flow[cut:5000], AT)
            assert client._streams[1].got > 4900
            assert not client._partial


def test_a_small_part_of_what_came_does_not_keep_the_whole() -> None:
    """A piece of a message is kept as a view only of bytes that it is most of."""
    for around, kind in ((100_000, bytearray), (0, memoryview)):
        client = greeted(bodies=[b"a"])
        client.receive(head(1) + data(1, message(bytes(9000))[:5000]) + frame(0x77, 0, 0, bytes(around)), AT)
        assert [type(part) for part in client._streams[1].parts] == [kind]


def test_the_reserved_bit_of_a_stream_is_ignored() -> None:
    """A set highest bit of the stream's number changes nothing."""
    client = greeted(bodies=[b"a"])
    flow = head(1 | 1 << 31) + data(1 | 1 << 31, message(b"r")) + tail(1 | 1 << 31)
    assert only(client.receive(flow, AT)).body == b"r"
