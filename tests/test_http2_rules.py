"""What the server may not do: to the connection, which ends it, or to one stream, which ends that alone."""

import pytest
from http2_peer import (
    AT,
    HEAD,
    data,
    goaway,
    greeted,
    head,
    literal,
    message,
    only,
    pulled,
    reset,
    response,
    tail,
    trailers,
    window,
)

from loadgen.transport.http2 import Connection, ErrorCode, Http2Error
from loadgen.transport.http2_frames import (
    CONTINUATION,
    ENABLE_PUSH,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings_frame,
)

OPEN_BLOCK = frame(HEADERS, 0, 1, HEAD[:1])
FATAL: dict[str, tuple[bytes, ErrorCode]] = {
    "DATA on stream 0": (data(0, b"a"), ErrorCode.PROTOCOL_ERROR),
    "DATA on an idle stream": (data(3, b"a"), ErrorCode.PROTOCOL_ERROR),
    "DATA on a server's stream": (data(2, b"a"), ErrorCode.PROTOCOL_ERROR),
    "DATA padded, empty": (data(1, b"", PADDED), ErrorCode.FRAME_SIZE_ERROR),
    "DATA padded too far": (data(1, b"\3ab", PADDED), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on stream 0": (head(0), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on an idle stream": (head(3), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on a server's stream": (head(2), ErrorCode.PROTOCOL_ERROR),
    "HEADERS begun on an idle stream": (frame(HEADERS, 0, 3, HEAD), ErrorCode.PROTOCOL_ERROR),
    "HEADERS padded, empty": (frame(HEADERS, END_HEADERS | PADDED, 1), ErrorCode.FRAME_SIZE_ERROR),
    "HEADERS padded too far": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x02\x88"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS without its priority": (
        frame(HEADERS, END_HEADERS | PRIORITISED, 1, b"\x88"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "HEADERS undecodable": (head(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "HEADERS cut in a field": (head(1, HEAD[:-1]), ErrorCode.COMPRESSION_ERROR),
    "HEADERS of an entry that is not": (head(1, b"\xbe"), ErrorCode.COMPRESSION_ERROR),
    "HEADERS with a table we forbade": (head(1, b"\x3f\xe1\x1f" + HEAD), ErrorCode.COMPRESSION_ERROR),
    "HEADERS too large": (head(1, b"\x00\x01a\x7f\xd1\x0f" + b"a" * 2000), ErrorCode.ENHANCE_YOUR_CALM),
    "HEADERS too large once decoded": (head(1, literal(b"a", b"b") * 40), ErrorCode.COMPRESSION_ERROR),
    "PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on stream 0": (reset(0, 8), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (reset(3, 8), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of three bytes": (frame(RST_STREAM, 0, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS of five bytes": (frame(SETTINGS, 0, 0, b"abcde"), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS acknowledged with values": (frame(SETTINGS, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS that push": (settings_frame({ENABLE_PUSH: 1}), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS window": (settings_frame({INITIAL_WINDOW_SIZE: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
    "SETTINGS window of a stream": (
        window(1, 2**31 - 1 - 65535) + settings_frame({INITIAL_WINDOW_SIZE: 2**31 - 1}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "SETTINGS small frames": (settings_frame({MAX_FRAME_SIZE: 2**14 - 1}), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS large frames": (settings_frame({MAX_FRAME_SIZE: 2**24}), ErrorCode.PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + HEAD), ErrorCode.PROTOCOL_ERROR),
    "PING on a stream": (frame(PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "PING of seven bytes": (frame(PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "GOAWAY of seven bytes": (frame(GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 0": (window(0, 0), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE over the top": (window(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "WINDOW_UPDATE on an idle stream": (window(3, 1), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE on a server's stream": (window(2, 1), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE of five bytes": (frame(WINDOW_UPDATE, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, HEAD), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION on stream 0": (frame(CONTINUATION, END_HEADERS, 0, HEAD), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION of another": (OPEN_BLOCK + frame(CONTINUATION, 4, 3, HEAD[1:]), ErrorCode.PROTOCOL_ERROR),
    "DATA in a block": (OPEN_BLOCK + data(1, b"a"), ErrorCode.PROTOCOL_ERROR),
    "PING in a block": (OPEN_BLOCK + frame(PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "HEADERS in a block": (OPEN_BLOCK + head(1), ErrorCode.PROTOCOL_ERROR),
    "unknown frame in a block": (OPEN_BLOCK + frame(0x77, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION without end": (
        OPEN_BLOCK + frame(CONTINUATION, 0, 1, bytes(500)) * 3,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a frame larger than we take": (frame(0x77, 0, 1, bytes(16_385)), ErrorCode.FRAME_SIZE_ERROR),
    "pings without end": (frame(PING, 0, 0, bytes(8)) * 1001, ErrorCode.ENHANCE_YOUR_CALM),
    "settings without end": (frame(SETTINGS, 0, 0) * 1001, ErrorCode.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("name", FATAL)
def test_a_broken_connection_is_a_typed_error(name: str, bytewise: bool) -> None:
    """Each offence against RFC 9113 is Http2Error of its code and a GOAWAY; nothing else is pulled."""
    stream, code = FATAL[name]
    client = greeted(bodies=[b"a"], frame_size=16_384, header_bytes=1024)
    pieces = [stream[at : at + 1] for at in range(len(stream))] if bytewise else [stream]
    with pytest.raises(Http2Error) as caught:
        [client.receive(piece, AT) for piece in pieces]
    assert caught.value.code == code
    assert [(each.kind, each.word) for each in pulled(client)] == [(GOAWAY, code)]
    assert (client.available, client.pending) == (False, False)
    with pytest.raises(Http2Error, match="dead"):
        client.receive(b"", AT)
    assert [(each.stream, each.status, each.message) for each in client.close("gone")] == [(1, 14, "gone")]


@pytest.mark.parametrize(
    "first", [data(1, b"a"), frame(PING, 0, 0, bytes(8)), frame(SETTINGS, 1, 0), b"HTTP/1.1 400 Bad"]
)
def test_the_first_frame_is_settings(first: bytes) -> None:
    """A server that does not begin with SETTINGS, or is no HTTP/2 server, is an error at once."""
    client = Connection("h", "/p")
    with pytest.raises(Http2Error):
        client.receive(first, AT)


def test_answers_before_the_fault_are_not_lost() -> None:
    """What was complete when the connection broke comes with the error, the rest with close."""
    client = greeted(bodies=[b"a", b"b"])
    with pytest.raises(Http2Error) as caught:
        client.receive(response(1, b"r") + frame(PING, 0, 0, b"short"), AT)
    assert [answer.body for answer in caught.value.answers] == [b"r"]
    assert [answer.stream for answer in client.close()] == [3]


def test_a_dead_connection_sends_no_request() -> None:
    """What was waiting when the connection broke is not pulled: it ends retriable, or cancelled without a word."""
    client = greeted(bodies=[b"a", b"b" * 100_000])
    unsent = [client.open_stream(b"c"), client.open_stream(b"d")]
    with pytest.raises(Http2Error):
        client.receive(window(0, 2**20) + data(0, b""), AT)
    assert not client.available
    client.cancel(unsent[0])
    assert [each.kind for each in pulled(client)] == [GOAWAY]
    assert [(each.stream, each.retriable) for each in client.close()] == [(1, False), (3, False), (unsent[1], True)]


def test_an_answer_to_what_was_never_sent_is_an_error() -> None:
    """A stream that was opened but not pulled is idle for the server."""
    for frames in (head(1), data(1, b"a"), window(1, 1), reset(1, 8)):
        client = greeted()
        client.open_stream(b"a")
        with pytest.raises(Http2Error, match="nobody opened"):
            client.receive(frames, AT)
        assert [answer.retriable for answer in client.close()] == [True]


def test_data_beyond_the_connections_window_is_an_error() -> None:
    """A frame larger than what is left of the window that we opened is a flow control error."""
    client = greeted(bodies=[b"a"], window=65_535, frame_size=2**17)
    with pytest.raises(Http2Error) as caught:
        client.receive(head(1) + data(1, bytes(65_536)), AT)
    assert caught.value.code == ErrorCode.FLOW_CONTROL_ERROR


RESPONSE_HEAD = head(1)
MALFORMED: dict[str, tuple[bytes, ErrorCode]] = {
    "DATA before HEADERS": (data(1, b"a"), ErrorCode.PROTOCOL_ERROR),
    "an end before HEADERS": (data(1, b"", 1), ErrorCode.PROTOCOL_ERROR),
    "no :status": (head(1, literal(b"a", b"b")), ErrorCode.PROTOCOL_ERROR),
    ":status twice": (head(1, b"\x88\x88"), ErrorCode.PROTOCOL_ERROR),
    ":status is no number": (head(1, b"\x08\x03abc"), ErrorCode.PROTOCOL_ERROR),
    ":status last": (head(1, literal(b"a", b"b") + b"\x88"), ErrorCode.PROTOCOL_ERROR),
    "another pseudo-header": (head(1, b"\x88\x83"), ErrorCode.PROTOCOL_ERROR),
    "an upper case name": (head(1, HEAD + literal(b"Name", b"b")), ErrorCode.PROTOCOL_ERROR),
    "a nameless field": (head(1, HEAD + literal(b"", b"b")), ErrorCode.PROTOCOL_ERROR),
    "a field of HTTP/1": (head(1, HEAD + literal(b"connection", b"close")), ErrorCode.PROTOCOL_ERROR),
    "a line break": (head(1, HEAD + literal(b"a", b"b\nc")), ErrorCode.PROTOCOL_ERROR),
    "an informational end": (frame(HEADERS, 5, 1, b"\x08\x03100"), ErrorCode.PROTOCOL_ERROR),
    "trailers without an end": (RESPONSE_HEAD + frame(HEADERS, 4, 1, trailers()), ErrorCode.PROTOCOL_ERROR),
    "two heads": (RESPONSE_HEAD + frame(HEADERS, 5, 1, HEAD), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE of 0": (window(1, 0), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE over the top": (window(1, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "PRIORITY of four bytes": (frame(PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "more than the stream's window": (RESPONSE_HEAD + data(1, bytes(2001)), ErrorCode.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_broken_stream_ends_alone(name: str) -> None:
    """Each malformed response is one INTERNAL answer and a RST_STREAM; the connection and its other streams go on."""
    stream, code = MALFORMED[name]
    client = greeted(bodies=[b"a", b"b"], window=2000)
    answer = only(client.receive(stream + tail(1), AT))
    assert (answer.stream, answer.status, answer.body, answer.retriable) == (1, 13, b"", False)
    assert answer.message
    assert [(each.kind, each.stream, each.word) for each in pulled(client)] == [(RST_STREAM, 1, code)]
    assert only(client.receive(response(3, b"r"), AT)).body == b"r"


def test_a_response_over_the_bound_is_refused_at_its_prefix() -> None:
    """A message longer than we take is RESOURCE_EXHAUSTED as soon as its length is known, and cancelled."""
    client = greeted(bodies=[b"a", b"b"], response_bytes=100)
    prefix = message(bytes(101))[:5]
    answer = only(client.receive(head(1) + data(1, prefix[:2]) + data(1, prefix[2:]), AT))
    assert (answer.status, answer.body) == (8, b"")
    assert [(each.kind, each.word) for each in pulled(client)] == [(RST_STREAM, 8)]
    assert only(client.receive(response(3, bytes(100)), AT)).status == 0


def test_a_block_of_continuations_within_the_bound_is_taken() -> None:
    """A header block of just the bound's bytes, in many frames, is decoded."""
    client = greeted(bodies=[b"a"], header_bytes=4096)
    block = HEAD + literal(b"a", b"b" * 100) * 20
    pieces = [block[at : at + 50] for at in range(0, len(block), 50)]
    flow = frame(HEADERS, 1, 1, pieces[0]) + b"".join(frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:])
    assert client.receive(flow, AT) == []
    assert only(client.receive(frame(CONTINUATION, 4, 1), AT)).status == 2


def test_frames_on_closed_streams_and_unknown_ones_are_ignored() -> None:
    """After its end a stream's late frames, unknown types and settings, and a second GOAWAY change nothing."""
    client = greeted({0x99: 7}, bodies=[b"a", b"b"])
    assert only(client.receive(response(1, b"r"), AT)).stream == 1
    late = response(1, b"late") + window(1, 5) + window(1, 0) + reset(1, 2) + frame(PRIORITY, 0, 1, bytes(4))
    assert client.receive(late + frame(0x42, 1, 0, b"?") + goaway(3) + goaway(5), AT) == []
    assert only(client.receive(response(3, b"r"), AT)).body == b"r"


def test_pulling_makes_room_for_acknowledgements() -> None:
    """The bound is on what waits: a server may ping as often as it likes where we write in between."""
    client = greeted()
    for _ in range(5):
        assert client.receive(frame(PING, 0, 0, bytes(8)) * 999, AT) == []
        assert len(pulled(client)) == 999


def test_small_pieces_do_not_take_many_times_their_size() -> None:
    """A message in pieces of a few bytes is kept in one buffer."""
    client = greeted(bodies=[b"a"])
    body = bytes(range(256)) * 20
    pieces = [message(body)[at : at + 2] for at in range(0, len(body) + 5, 2)]
    client.receive(head(1) + b"".join(data(1, piece) for piece in pieces), AT)
    assert len(client._streams[1].parts) == 1
    assert only(client.receive(tail(1), AT)).body == body


def test_a_partial_frame_is_not_copied_over_and_over() -> None:
    """A frame that comes byte by byte is gathered in one buffer of at most the frame's size."""
    client = greeted(frame_size=16_384)
    for _ in range(16_384 // 8):
        client.receive(frame(0x77, 0, 1, bytes(16_384))[:9] if not client._partial else bytes(8), AT)
        assert len(client._partial) <= 16_393
