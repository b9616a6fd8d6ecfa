"""What a worker keeps of every answer: a digest in the journal and, if they are to be decoded, a few of them whole.

A digest covers the outputs alone, as they came: not the request's id nor any parameter of the response. Long answers
wait until the loop has sent what it has to send; whole ones are written by a thread, each as a file of its own that
appears at once, so that a killed worker leaves no half of one.
"""

import asyncio
import contextlib
from pathlib import Path

import xxhash

from loadgen import kept
from loadgen.journal import Journal

hashed = xxhash.xxh3_64_intdigest

LATER_BYTES = 1 << 16
"""Longer answers take more than about ten microseconds to read."""

WAYS_KEPT = 4
"""Whole answers that a worker keeps of one body, as long as they differ."""

KEPT_LIMIT_BYTES = 1 << 30
"""What a worker keeps in all."""

HEAD = b"\x0a\x12\x1a\x22"
"""Tags of the fields before the outputs: names, id and parameters, which say what an answer belongs to."""


class Witness:
    """Is given answers; `folder` is where to keep some of them whole, None: nowhere."""

    def __init__(self, journal: Journal, folder: Path | None) -> None:
        self._journal, self._folder = journal, folder
        self._answered = journal.answered
        self._head, self._head_bytes = b"\xff", 0
        self._kept: dict[int, set[int]] = {}
        self._room = KEPT_LIMIT_BYTES

    def __call__(self, row: int, body: int, response: bytes) -> None:
        """Take the answer of a row."""
        if len(response) >= LATER_BYTES:
            asyncio.get_running_loop().call_soon(self._later, row, body, response)
            return
        # The fields before the outputs are nearly always the same bytes: then what follows them begins in one place.
        size = self._head_bytes if response.startswith(self._head) else self._measure(response)
        number = hashed(response[size:]) or 1  # so short, a copy costs less than a view
        self._answered(row, number)
        if self._folder is not None:
            self._keep(self._folder, body, number, response)

    def _later(self, row: int, body: int, response: bytes) -> None:
        number = digest(response)
        self._answered(row, number)
        if self._folder is not None:
            self._keep(self._folder, body, number, response)

    def _measure(self, response: bytes) -> int:
        """Return where the outputs begin, and know other answers by the bytes until then and the tag that follows."""
        size = head_bytes(response)
        if size < len(response) and response[size] not in HEAD:  # else it is malformed, and says nothing of others
            self._head, self._head_bytes = response[: size + 1], size
        return size

    def _keep(self, folder: Path, body: int, number: int, response: bytes) -> None:
        ways = self._kept.setdefault(body, set())
        if number in ways or len(ways) == WAYS_KEPT or len(response) > self._room:
            return
        ways.add(number)
        self._room -= len(response)
        path = folder / kept.file_name(body, number)
        asyncio.get_running_loop().run_in_executor(None, _write, path, response, self._journal.worker)


def digest(response: bytes) -> int:
    """Return the digest of a serialised ModelInferResponse: 64 bits of XXH3 over its outputs, never 0."""
    return hashed(memoryview(response)[head_bytes(response) :]) or 1


def head_bytes(response: bytes) -> int:
    """Return where the outputs begin in a ModelInferResponse; what is none is taken whole, from 0 on."""
    at, end = 0, len(response)
    while at < end and response[at] in HEAD:
        size, at = _varint(response, at + 1)
        at += size
    return at if at <= end else 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            break
    return value, at


def _write(path: Path, response: bytes, worker: int) -> None:
    """Write one answer; a disk that refuses it costs its decoding, and no measurement."""
    draft = path.with_name(f".{path.name}.{worker}")
    with contextlib.suppress(OSError):
        try:
            draft.write_bytes(response)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
