"""Our half of HTTP/2: what goes out, as the server's windows and limits allow."""

import hpack
import pytest
from http2_peer import (
    AT,
    Heard,
    greeted,
    heard,
    message,
    only,
    pulled,
    refusal,
    response,
    sent_body,
    window,
)

from loadgen.transport.http2 import Connection
from loadgen.transport.http2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings_frame,
)


def test_a_connection_begins_with_preface_settings_and_a_wide_window() -> None:
    """The first bytes are the preface, SETTINGS without table and push, and a window of 2^31-1 for the connection."""
    client = Connection("h", "/p")
    sent = b"".join(client.pull()[0])
    assert sent.startswith(PREFACE)
    ours, wide = heard(sent)
    values = {ours.payload[at + 1]: int.from_bytes(ours.payload[at + 2 : at + 6]) for at in range(0, 30, 6)}
    assert (ours.kind, values) == (SETTINGS, {1: 0, 2: 0, 4: 2**31 - 1, 5: 1024 * 1024, 6: 65_536})
    assert (wide.kind, wide.stream, wide.word) == (WINDOW_UPDATE, 0, 2**31 - 1 - 65535)
    assert not client.pending


@pytest.mark.parametrize("timeout", [b"", b"300S"])
@pytest.mark.parametrize("value", ["v", "x" * 127, "y" * 300])
def test_a_request_is_headers_and_one_message(timeout: bytes, value: str) -> None:
    """HEADERS carry the fields gRPC asks for, the timeout and the metadata; DATA the prefixed message and the end."""
    client = Connection("host:8001", "/s/M", scheme="https", user_agent="loadgen/9", metadata=[("x-name", value)])
    assert client.open_stream(b"first") == 1
    assert client.open_stream(b"body", timeout) == 3
    buffers, done = client.pull()
    assert done == [1, 3]
    frames = heard(b"".join(buffers))[4:]
    assert [(each.kind, each.flags, each.stream) for each in frames] == [(HEADERS, END_HEADERS, 3), (DATA, 1, 3)]
    assert frames[1].payload == b"\0\0\0\0\4body"
    decoder = hpack.Decoder()
    assert [(str(name), str(text)) for name, text in decoder.decode(frames[0].payload)] == [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/s/M"),
        (":authority", "host:8001"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "loadgen/9"),
        ("x-name", value),
        *([("grpc-timeout", "300S")] if timeout else []),
    ]
    assert len(decoder.header_table.dynamic_entries) == 0


@pytest.mark.parametrize(
    "pair", [("Upper", "v"), (":path", "v"), ("te", "v"), ("name", "a\nb"), ("name", "é"), ("", "")]
)
def test_metadata_that_cannot_be_sent_is_refused(pair: tuple[str, str]) -> None:
    """A name or value that would break the request is a ValueError at once."""
    with pytest.raises(ValueError, match=r"name|value"):
        Connection("h", "/p", metadata=[pair])


def test_metadata_beyond_a_frame_is_refused() -> None:
    """A header block of 16 KiB is a ValueError at once: it would need a CONTINUATION."""
    with pytest.raises(ValueError, match="do not fit"):
        Connection("h", "/p", metadata=[("name", "v" * 16384)])


def test_an_early_answer_breaks_the_request_off() -> None:
    """An answer before the request is all sent is told; the rest of the request is dropped, the stream reset."""
    client = greeted(bodies=[b"r" * 200_000])
    answer = only(client.receive(refusal(1, 8, b"too large"), AT))
    assert (answer.status, answer.message) == (8, "too large")
    assert [(each.kind, each.stream, each.word) for each in pulled(client)] == [(RST_STREAM, 1, 0)]
    client.receive(window(0, 100_000) + window(1, 100_000), AT)
    assert pulled(client) == []


def test_bodies_obey_both_windows() -> None:
    """No byte beyond the window of the stream or of the connection; WINDOW_UPDATE of either lets the rest go."""
    client = greeted({INITIAL_WINDOW_SIZE: 50_000})
    body = bytes(range(256)) * 500
    for _ in range(2):
        client.open_stream(body)
    frames = pulled(client)
    assert len(sent_body(frames, 1) + sent_body(frames, 3)) == 65_535
    assert not client.pending
    client.receive(window(0, 2**30), AT)
    assert client.pending
    frames += pulled(client)
    assert len(sent_body(frames, 1)) == len(sent_body(frames, 3)) == 50_000
    client.receive(window(3, 2**30), AT)
    frames += pulled(client)
    assert sent_body(frames, 3) == message(body)
    assert frames[-1].flags == END_STREAM
    assert len(sent_body(frames, 1)) == 50_000


def test_a_shrunk_window_goes_negative() -> None:
    """INITIAL_WINDOW_SIZE made smaller in flight takes from open streams, also below 0, and gives back."""
    client = greeted({INITIAL_WINDOW_SIZE: 30_000}, bodies=[b"b" * 60_000])
    client.receive(settings_frame({INITIAL_WINDOW_SIZE: 10_000}), AT)
    client.receive(window(1, 20_000), AT)
    assert sent_body(pulled(client), 1) == b""
    client.receive(window(1, 7), AT)
    assert len(sent_body(pulled(client), 1)) == 7
    client.receive(settings_frame({INITIAL_WINDOW_SIZE: 10_100}), AT)
    assert len(sent_body(pulled(client), 1)) == 100


def test_a_window_of_zero_still_sends_headers() -> None:
    """With INITIAL_WINDOW_SIZE 0 HEADERS go, so that the server can open the stream's window; then byte by byte."""
    client = greeted({INITIAL_WINDOW_SIZE: 0})
    client.open_stream(b"abc")
    frames = pulled(client)
    assert [each.kind for each in frames] == [HEADERS]
    for _ in range(8):
        client.receive(window(1, 1), AT)
        frames += pulled(client)
    assert [len(each.payload) for each in frames[1:]] == [1] * 8
    assert (sent_body(frames, 1), frames[-1].flags) == (message(b"abc"), END_STREAM)


def test_frames_are_as_large_as_the_server_takes() -> None:
    """DATA comes in frames of MAX_FRAME_SIZE: 16384 unless the server says more."""
    for size in (16_384, 40_000):
        client = greeted({MAX_FRAME_SIZE: size, INITIAL_WINDOW_SIZE: 2**30})
        client.receive(window(0, 2**30), AT)
        client.open_stream(b"b" * 100_000)
        assert [len(each.payload) for each in pulled(client)[1:]][:2] == [size, size]


def test_long_bodies_are_views_and_not_copies() -> None:
    """The pieces of a long body share its memory, and the limit of a pull is kept within a frame."""
    client = greeted({MAX_FRAME_SIZE: 50_000, INITIAL_WINDOW_SIZE: 2**30})
    client.receive(window(0, 2**30), AT)
    body = b"b" * 10**6
    client.open_stream(memoryview(body))
    copied = 0
    while True:
        buffers, done = client.pull(100_000)
        views = [buffer for buffer in buffers if isinstance(buffer, memoryview)]
        assert all(view.obj is body for view in views)
        assert sum(map(len, views)) < 100_000 + 16_384
        copied += sum(map(len, buffers)) - sum(map(len, views))
        if done:
            break
    assert done == [1]
    assert copied < 1000
    assert not client.pending


def test_streams_take_turns() -> None:
    """A long body does not hold up those that come later: each gets a frame in turn."""
    client = greeted({INITIAL_WINDOW_SIZE: 2**30})
    client.receive(window(0, 2**30), AT)
    client.open_stream(b"l" * 10**6)
    client.pull(16_384)
    client.open_stream(b"l" * 10**6)
    client.open_stream(b"small")
    buffers, done = client.pull(80_000)
    assert done == [5]
    share = [each.stream for each in heard(b"".join(buffers)) if each.kind == DATA]
    assert (share.count(1), share.count(3)) == (3, 2)


def test_control_frames_go_first() -> None:
    """Acknowledgements are not behind bodies."""
    client = greeted({INITIAL_WINDOW_SIZE: 2**30})
    client.open_stream(b"l" * 60_000)
    client.receive(frame(PING, 0, 0, b"12345678"), AT)
    assert pulled(client)[0] == Heard(PING, ACK, 0, b"12345678")


def test_the_servers_streams_limit_is_obeyed() -> None:
    """MAX_CONCURRENT_STREAMS bounds open streams, also those opened before it was known; an end makes room."""
    client = Connection("h", "/p")
    for _ in range(3):
        client.open_stream(b"early")
    client.receive(settings_frame({MAX_CONCURRENT_STREAMS: 2}), AT)
    assert not client.available
    with pytest.raises(RuntimeError):
        client.open_stream(b"more")
    assert client.pull()[1] == [1, 3]
    assert not client.pending
    client.receive(response(1, b"r"), AT)
    assert client.pull()[1] == [5]
    client.receive(response(3, b"r"), AT)
    assert client.available
    assert client.open_stream(b"more") == 7
    client.receive(settings_frame({MAX_CONCURRENT_STREAMS: 0}), AT)
    assert client.pull()[1] == []


def test_a_cancelled_request_that_never_left_leaves_no_byte() -> None:
    """Cancel before the pull: neither HEADERS nor RST_STREAM; the next stream goes with the next id."""
    client = greeted()
    client.cancel(client.open_stream(b"a"))
    client.open_stream(b"b")
    assert [(each.kind, each.stream) for each in pulled(client)] == [(HEADERS, 3), (DATA, 3)]


def test_stream_ids_run_out() -> None:
    """After the last id the connection is exhausted: not available, while the last stream still ends well."""
    client = greeted()
    client._next_id = 2**31 - 3
    assert client.open_stream(b"a") == 2**31 - 3
    assert client.available
    assert client.open_stream(b"a") == 2**31 - 1
    assert (client.available, client.exhausted) == (False, True)
    assert client.pull()[1] == [2**31 - 3, 2**31 - 1]
    assert only(client.receive(response(2**31 - 1, b"r"), AT)).body == b"r"
    assert not client.available


def test_a_new_table_size_of_the_server_is_confirmed() -> None:
    """After HEADER_TABLE_SIZE our next block begins with a table of 0, once: we use none."""
    client = greeted({HEADER_TABLE_SIZE: 100})
    client.open_stream(b"a")
    client.open_stream(b"b")
    first, _, second, _ = pulled(client)
    assert (first.payload[:1], second.payload) == (b"\x20", first.payload[1:])
