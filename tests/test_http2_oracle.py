"""Our half of HTTP/2 against the h2 library's server: whatever happens in whatever order, neither objects."""

import random
from dataclasses import dataclass, field

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, SettingsAcknowledged, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.transport.http2 import Answer, Connection
from loadgen.transport.http2_frames import HEADER_BYTES, PREFACE

CASES = 1500
WALKS = 250
STEPS = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**16)), max_size=60)
BODY = bytes(range(251)) * 300
WINDOWS = (0, 1, 7, 100, 5_000, 65_535, 200_000)
FRAMES = (2**14, 2**14 + 1, 2**15, 2**20)
TABLES = (0, 50, 4096, 65_536)
STATUS = 5
WORDS = "not found: 100% é"


def body_of(size: int) -> bytes:
    """Return a body of a size, told from others by its first bytes."""
    return (b"%d:" % size + BODY)[:size]


@dataclass(slots=True)
class Call:
    """What the server knows of one stream, and what it has still to say."""

    received: bytearray = field(default_factory=bytearray)
    ended: bool = False
    opened: bool = False
    left: bytes = b""
    whole: bytes = b""


class Duet:
    """A client and a server, the bytes between them, and what should come of it."""

    def __init__(self, window: int, frame_size: int) -> None:
        self.client = Connection("host:1", "/s/M", window=window, frame_size=frame_size, metadata=[("k", "v" * 40)])
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.server.initiate_connection()
        self.to_client = bytearray()
        self.calls: dict[int, Call] = {}
        self.sent: dict[int, bytes] = {}
        self.finished: list[int] = []
        self.expected: dict[int, tuple[int, bytes]] = {}
        self.answers: dict[int, Answer] = {}
        self.unread: list[tuple[int, int]] = []
        self.cancelled: set[int] = set()
        self.unacknowledged = True

    def step(self, what: int, value: int) -> None:
        """Do one of the things that can happen."""
        actions = (
            *(self.open, self.open, self.client_writes, self.client_writes, self.server_writes, self.server_writes),
            *(self.respond, self.respond, self.respond, self.read, self.change, self.other),
        )
        actions[what % len(actions)](value)

    def open(self, value: int) -> None:
        """The client opens a stream."""
        if self.client.available:
            body = body_of(value if value % 3 == 0 else value % 300)
            self.sent[self.client.open_stream(body, (b"", b"3S")[value & 1])] = body

    def client_writes(self, value: int) -> None:
        """Some of what the client has to say reaches the server, each frame in two pieces."""
        buffers, done = self.client.pull(1 + value)
        self.finished += done
        flow = b"".join(buffers)
        # Frame by frame: h2 applies settings that an acknowledgement confirms to the next bytes it is given.
        while flow:
            size = len(PREFACE) if flow.startswith(PREFACE) else HEADER_BYTES + int.from_bytes(flow[:3])
            cut = value % (size + 1)
            for piece in (flow[:cut], flow[cut:size]):
                for event in self.server.receive_data(piece):
                    self.happened(event)
            flow = flow[size:]

    def happened(self, event: Event) -> None:
        """The server sees something."""
        if isinstance(event, RequestReceived):
            assert event.headers is not None
            assert ("te", "trailers") in [(str(name), str(value)) for name, value in event.headers]
            self.calls[event.stream_id] = Call()
        elif isinstance(event, DataReceived):
            if event.stream_id in self.calls:
                self.calls[event.stream_id].received += event.data
            self.unread.append((event.flow_controlled_length, event.stream_id))
        elif isinstance(event, StreamEnded):
            self.arrived(event.stream_id)
        elif isinstance(event, SettingsAcknowledged):
            self.unacknowledged = False
        elif isinstance(event, StreamReset):
            self.calls.pop(event.stream_id, None)

    def arrived(self, stream: int) -> None:
        """A request is whole."""
        assert stream in self.finished
        if stream in self.calls:
            self.calls[stream].ended = True
            body = self.sent[stream]
            assert self.calls[stream].received == b"\0" + len(body).to_bytes(4) + body

    def server_writes(self, value: int) -> None:
        """Some of what the server has to say reaches the client, in pieces down to a byte."""
        self.to_client += self.server.data_to_send()
        size = 1 + value % 50 if value & 1 else 1 + value
        for _ in range(8):
            piece = bytes(self.to_client[:size])
            del self.to_client[:size]
            for answer in self.client.receive(piece, 1):
                assert answer.stream not in self.answers
                self.answers[answer.stream] = answer

    def respond(self, value: int) -> None:
        """The server says a part of an answer, or all that the windows allow."""
        early = value % 11 == 0
        for stream in [stream for stream, call in self.calls.items() if call.ended or early][: 1 + value % 3]:
            call = self.calls[stream]
            if not call.opened:
                call.opened = True
                if value % 7 == 0:
                    self.end(stream, STATUS, b"", alone=True)
                    continue
                call.whole = body_of(value)
                call.left = b"\0" + len(call.whole).to_bytes(4) + call.whole
                self.server.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc+proto")])
            elif value & 4:
                self.say(stream, call, value)

    def say(self, stream: int, call: Call, value: int) -> None:
        """Send one frame of an answer's data, or its trailers."""
        padding = value % 200 if value % 5 == 0 else None
        extra = 0 if padding is None else padding + 1
        most = min(self.server.local_flow_control_window(stream), self.server.max_outbound_frame_size) - extra
        size = min(len(call.left), most, 1 + value)
        if size > 0:
            self.server.send_data(stream, call.left[:size], pad_length=padding)
            call.left = call.left[size:]
        if not call.left:
            self.end(stream, 0, call.whole)

    def end(self, stream: int, status: int, body: bytes, *, alone: bool = False) -> None:
        """Send the end of an answer."""
        fields = [("grpc-status", str(status)), ("grpc-message", "not found: 100%25 %C3%A9" if status else "")]
        head = [(":status", "200"), ("content-type", "application/grpc")] if alone else []
        self.server.send_headers(stream, head + fields, end_stream=True)
        self.expected[stream] = (status, body)
        # The stream's windows are of no more use; what was read counts for the connection.
        del self.calls[stream]

    def read(self, value: int) -> None:
        """The server's application reads some of what came, which opens windows."""
        for _ in range(1 + value % 4):
            if self.unread:
                size, stream = self.unread.pop(0)
                if size:
                    self.server.acknowledge_received_data(size, stream)

    def change(self, value: int) -> None:
        """The server changes a setting in mid-flight."""
        kind, pick = value % 4, value // 4
        name, choices = (
            (SettingCodes.INITIAL_WINDOW_SIZE, WINDOWS),
            (SettingCodes.MAX_FRAME_SIZE, FRAMES),
            (SettingCodes.HEADER_TABLE_SIZE, TABLES),
            (SettingCodes.MAX_CONCURRENT_STREAMS, (1, 2, 5, 100)),
        )[kind]
        self.update({name: choices[pick % len(choices)]})

    def update(self, values: dict[SettingCodes | int, int]) -> bool:
        """Send SETTINGS, one at a time: h2 takes an acknowledgement for that of every value it has changed since."""
        if self.unacknowledged:
            return False
        self.server.update_settings(values)
        self.unacknowledged = True
        return True

    def other(self, value: int) -> None:
        """The server pings or resets a stream; the client cancels one; a window is opened by hand."""
        kind = value % 4
        open_calls = list(self.calls)
        if kind == 0:
            self.server.ping(b"12345678")
        elif kind == 1 and self.sent and value % 8 == 1:
            stream = list(self.sent)[value % len(self.sent)]
            self.client.cancel(stream)
            if stream not in self.answers:
                self.cancelled.add(stream)
        elif kind == 2 and open_calls and value % 8 == 2:
            stream = open_calls[value % len(open_calls)]
            self.server.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            self.expected[stream] = (14, b"")
            del self.calls[stream]
        elif kind == 3 and self.server.outbound_flow_control_window:
            self.server.increment_flow_control_window(1 + value)

    def settle(self) -> None:
        """Let everything come to its end."""
        told = False
        for _ in range(2000):
            told = told or self.update(
                {SettingCodes.INITIAL_WINDOW_SIZE: 10**6, SettingCodes.MAX_CONCURRENT_STREAMS: 9}
            )
            self.server_writes(2**16)
            self.client_writes(2**17)
            self.read(3)
            self.respond(LAST)
            self.to_client += self.server.data_to_send()
            if told and not (self.client.in_flight or self.client.pending or self.to_client or self.unread):
                return
        raise AssertionError(f"{self.client.in_flight} streams hang")

    def check(self) -> None:
        """Every stream has its one answer, as the server gave it, or was cancelled."""
        assert set(self.answers) == set(self.sent) - self.cancelled
        for stream, answer in self.answers.items():
            status, body = self.expected[stream]
            assert (answer.status, answer.body) == (status, body)
            assert answer.message == {STATUS: WORDS, 0: ""}.get(status, answer.message)
            assert status == 14 or not answer.retriable


LAST = 65_532
"""A value that lets `respond` say as much as it can, in order and without padding."""


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=STEPS,
    window=st.sampled_from((1_000, 65_535, 150_000, 2**31 - 1)),
    frame_size=st.sampled_from((2**14, 2**15, 2**20)),
)
def test_no_order_of_events_makes_either_side_object(
    steps: list[tuple[int, int]], window: int, frame_size: int
) -> None:
    """Requests, answers, settings, windows, resets, pings interleaved: no protocol error, no hang, bodies exact."""
    duet = Duet(window, frame_size)
    for what, value in steps:
        duet.step(what, value)
    duet.settle()
    duet.check()


@pytest.mark.parametrize("seed", range(4))
def test_long_walks_of_events_end_well(seed: int) -> None:
    """The same with up to 120 events drawn at random: more streams at once than a search by cases builds up."""
    for number in range(WALKS):
        draw = random.Random(1000 * seed + number)
        duet = Duet(draw.choice((1_000, 65_535, 2**31 - 1)), draw.choice((2**14, 2**20)))
        for _ in range(draw.randrange(20, 120)):
            duet.step(draw.randrange(256), draw.randrange(2**16))
        duet.settle()
        duet.check()


def test_answers_do_not_depend_on_where_the_bytes_are_cut() -> None:
    """What a real server says, cut in two at every byte: the same answers, and the same words in return."""
    flow = recorded()
    whole = replayed([flow])
    assert [answer.status for answer in whole[0]] == [STATUS, 0, 0]
    for cut in range(len(flow) + 1):
        assert replayed([flow[:cut], flow[cut:]]) == whole
    for size in (1, 2, 3, 9, 10):
        assert replayed([flow[at : at + size] for at in range(0, len(flow), size)]) == whole


def recorded() -> bytes:
    """Return all that a server says to three requests, with its dynamic table, padding and settings."""
    duet = Duet(2**31 - 1, 2**14)
    for _ in range(3):
        duet.open(3)
    duet.client_writes(10**6)
    for stream in (1, 5):
        duet.server.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    duet.server.ping(b"12345678")
    duet.end(3, STATUS, b"", alone=True)
    for stream in (1, 5):
        duet.server.send_data(stream, b"\0\0\0\0\x64" + BODY[:30], pad_length=7)
        duet.server.send_data(stream, BODY[30:100])
        duet.end(stream, 0, BODY[:100])
    return duet.server.data_to_send()


def replayed(pieces: list[bytes]) -> tuple[list[Answer], bytes]:
    """Return the answers to three requests when the server's bytes come in pieces, and what is said in return."""
    client = Connection("host:1", "/s/M", frame_size=2**14, metadata=[("k", "v" * 40)])
    for _ in range(3):
        client.open_stream(body_of(3))
    client.pull()
    answers = [answer for piece in pieces for answer in client.receive(piece, 1)]
    return answers, b"".join(client.pull()[0])
