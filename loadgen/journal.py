"""Rows as they happen, in memory-mapped files of fixed size: a killed process loses none of them.

A segment's blocks are allocated before its first row, so that a full disk is an error when the segment is made and
never a fault in the middle of a row. The outcome byte is written last: a row is whole or it reads as not born.
Digests of answers, where they are wanted, are a column of their own beside each segment, 0 where there is none.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from loadgen.errors import FleetError
from loadgen.records import OUTCOME_OFFSET, ROW, ROW_FORMAT, Outcome, Reply, Rows

ROW_BYTES = ROW.itemsize
SEGMENT_ROWS = 51_200
"""4 MB a segment: allocated in about a millisecond, full after 50,000 requests."""

_BIRTH = struct.Struct(ROW_FORMAT)
_END = struct.Struct("<qqq")
_END_OFFSET = 40
_CONNECTION = struct.Struct("<H")
_CONNECTION_OFFSET = 6
_RESPONSES = struct.Struct("<H")
_RESPONSES_OFFSET = 22
RESPONSES_MOST = 0xFFFF
OK = Outcome.OK
_TIME = struct.Struct("<q")
_SENT_OFFSET = 32
_COUNT = struct.Struct("<Q")
_RESPONSE_BYTES_OFFSET = 72
DIGEST_BYTES = _COUNT.size


class Journal:
    """Writes the rows of one worker into `directory`; use as a context manager."""

    def __init__(
        self, directory: Path, worker: int, segment_rows: int = SEGMENT_ROWS, *, digests: bool = False
    ) -> None:
        self.directory = directory
        self.worker = worker
        self._segment_rows = segment_rows
        self._segments: list[mmap.mmap] = []
        self._with_digests = digests
        self._digests: list[mmap.mmap] = []
        self._newest: mmap.mmap
        self.rows = 0
        self._add_segment()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unmap the segments; the kernel keeps what was written."""
        for segment in (*self._segments, *self._digests):
            segment.close()

    def born(  # noqa: PLR0913, PLR0917 - the fields of a row, once a request: a struct would cost more than all of them
        self,
        point: int,
        body: int,
        due_ns: int,
        request_bytes: int,
        now_ns: Callable[[], int] | None,
        outcome: Outcome = Outcome.OPEN_AT_END,
    ) -> tuple[int, int]:
        """Write a new row, with outcome `open_at_end` unless it ends here; return its number, and when it was sent.

        That is read from `now_ns` when all else is written, so that it is no part of the service time; None: never.

        Raises:
            FleetError: the disk is full, so that no further row can be kept.
        """
        row = self.rows
        if row == self._segment_rows * len(self._segments):
            self._add_segment()
        segment, offset = self._newest, row % self._segment_rows * ROW_BYTES
        _BIRTH.pack_into(
            segment, offset, point, self.worker, 0, row, body, 0, 0, 0, due_ns, 0, 0, 0, 0, request_bytes, 0
        )
        segment[offset + OUTCOME_OFFSET] = outcome
        self.rows = row + 1
        if now_ns is None:
            return row, 0
        sent_ns = now_ns()
        _TIME.pack_into(segment, offset + _SENT_OFFSET, sent_ns)
        return row, sent_ns

    def ended(self, row: int, reply: Reply) -> None:
        """Complete a row with what became of its request."""
        index, place = divmod(row, self._segment_rows)
        segment, offset = self._segments[index], place * ROW_BYTES
        outcome = reply.outcome
        _END.pack_into(segment, offset + _END_OFFSET, reply.flushed_ns, reply.first_byte_ns, reply.done_ns)
        _COUNT.pack_into(segment, offset + _RESPONSE_BYTES_OFFSET, reply.response_bytes or len(reply.response))
        if outcome is OK or reply.response_bytes:
            _RESPONSES.pack_into(segment, offset + _RESPONSES_OFFSET, min(reply.responses, RESPONSES_MOST))
        if reply.connection:
            _CONNECTION.pack_into(segment, offset + _CONNECTION_OFFSET, reply.connection)
        segment[offset + OUTCOME_OFFSET] = outcome

    def answered(self, row: int, digest: int) -> None:
        """Keep the digest of a row's answer, of a journal that was made to have `digests`."""
        index, place = divmod(row, self._segment_rows)
        _COUNT.pack_into(self._digests[index], place * DIGEST_BYTES, digest)

    def _add_segment(self) -> None:
        path = self.directory / f"worker-{self.worker:05}-{len(self._segments):06}.rows"
        if self._with_digests:  # first, so that no row is born without its place there
            self._digests.append(_mapped(digests_of(path), self._segment_rows * DIGEST_BYTES))
        self._newest = _mapped(path, self._segment_rows * ROW_BYTES)
        self._segments.append(self._newest)


def digests_of(segment: Path) -> Path:
    """Return the file with the digests of a segment's answers; not there if none were wanted."""
    return segment.with_suffix(".digests")


def segments(directory: Path) -> Iterator[Path]:
    """Yield the journal's segment files, worker by worker, oldest first."""
    yield from sorted(directory.glob("worker-*.rows"))


def read_segment(path: Path) -> Rows:
    """Return the born rows of one segment, as a structured array of dtype `ROW`; also while it is being written."""
    rows: Rows = np.fromfile(path, dtype=ROW)
    return np.asarray(rows[rows["outcome"] != Outcome.NOT_BORN])


def read_digests(path: Path) -> npt.NDArray[np.uint64]:
    """Return the digests of the born rows of one segment, in their order; 0 where there is none."""
    born = np.fromfile(path, dtype=ROW)["outcome"] != Outcome.NOT_BORN
    digests = np.fromfile(digests_of(path), dtype="<u8")
    return np.asarray(digests[born[: len(digests)]])


def read_point(directory: Path, point: int) -> Rows:
    """Return the born rows of one point; segments are mapped, so that only its own pages are copied."""
    parts = [np.empty(0, dtype=ROW)]
    for path in segments(directory):
        rows = np.memmap(path, dtype=ROW, mode="r")
        parts.append(np.array(rows[(rows["point"] == point) & (rows["outcome"] != Outcome.NOT_BORN)]))
    return np.concatenate(parts)


def _mapped(path: Path, size: int) -> mmap.mmap:
    try:
        with path.open("x+b") as file:
            _allocate(file.fileno(), size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise FleetError(f"{path}: cannot keep another row: {error.strerror}; free some space") from error


def _allocate(descriptor: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size_bytes)
        return
    written = 0
    while written < size_bytes:  # macOS has no fallocate: writing zeros takes the blocks too
        written += os.write(descriptor, bytes(size_bytes - written))
