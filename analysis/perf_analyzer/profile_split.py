"""A profile export cut into its requests while it is read: one request's text in memory, however long the file.

Only brackets, quotes and backslashes are looked at; each part, and what is left when the parts are taken out, is then
judged by the JSON library.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import numpy.typing as npt

CHUNK_BYTES = 1 << 20
REQUEST_DEPTH = 5
"""`{"experiments": [{"requests": [{` are five brackets."""

QUOTE, BACKSLASH = ord('"'), ord("\\")
STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
DEPTH_STEP = np.array([STEP.get(code, 0) for code in range(256)], np.int8)
BRACKET_BITS, BRACKET = 0xD9, 0x59
"""`[`, `]`, `{` and `}` agree in these bits, and so do five others, whose step is 0: faster than a table alone."""

PLACEHOLDER = b"0"
CLOSING = b"]}]}"
"""Ends a list of requests, its level, the list of levels, and the file."""

Places = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Splitter:
    """What is known between chunks; `rest` is the text with each request replaced by `PLACEHOLDER`.

    `ended` is where in `rest` the last whole request has ended.
    """

    depth: int = 0
    in_string: bool = False
    escaping: bool = False
    read_bytes: int = 0
    broken: bool = False
    part: bytearray | None = None
    ended: int = 0
    rest: bytearray = field(default_factory=bytearray)

    def parts(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield the text of each request, in the order of the file; `whole` says afterwards whether that was all."""
        while not self.broken and (chunk := file.read(CHUNK_BYTES)):
            yield from self._chunk(chunk)
            self.read_bytes += len(chunk)

    @property
    def whole(self) -> bool:
        """Say whether every bracket and string that was opened has been closed, and nothing more."""
        return self.depth == 0 and not self.in_string and not self.broken

    def closed(self) -> bytes:
        """Return `rest` closed behind its last whole request, for a file that was cut off; empty if it has none."""
        return bytes(self.rest[: self.ended]) + CLOSING if self.ended and not self.broken else b""

    def _chunk(self, chunk: bytes) -> Iterator[bytes]:
        begin = 0
        for place, opens in self._edges(np.frombuffer(chunk, np.uint8)):
            if opens:
                self.rest += chunk[begin:place]
                self.part, begin = bytearray(), place
            elif self.part is not None:
                yield bytes(self.part + chunk[begin : place + 1])
                self.part, begin = None, place + 1
                self.rest += PLACEHOLDER
                self.ended = len(self.rest)
        if self.part is None:
            self.rest += chunk[begin:]
        else:
            self.part += chunk[begin:]

    def _edges(self, codes: Bytes) -> list[tuple[int, bool]]:
        """Return where requests open and close in a chunk, in order."""
        quotes = self._quotes(codes)
        places = np.flatnonzero((codes & BRACKET_BITS) == BRACKET)
        places = places[DEPTH_STEP[codes[places]] != 0]
        inside = (np.searchsorted(quotes, places) + self.in_string) % 2 == 1
        places = places[~inside]
        self.in_string = bool((len(quotes) + self.in_string) % 2)
        if not len(places):
            return []
        steps = DEPTH_STEP[codes[places]]
        levels = self.depth + np.cumsum(steps, dtype=np.int64)
        self.depth = int(levels[-1])
        self.broken = self.broken or bool(levels.min() < 0)
        opening = (steps > 0) & (levels == REQUEST_DEPTH)
        edges = opening | ((steps < 0) & (levels == REQUEST_DEPTH - 1))
        return list(zip(places[edges].tolist(), opening[edges].tolist(), strict=True))

    def _quotes(self, codes: Bytes) -> Places:
        """Return the places of quotes that no backslash escapes."""
        slashes = np.flatnonzero(codes == BACKSLASH)
        quotes = np.flatnonzero(codes == QUOTE)
        if not len(slashes) and not self.escaping:
            return quotes
        escaped = np.zeros(len(codes) + 1, np.bool_)
        escaped[0] = self.escaping
        starts = slashes[np.diff(slashes, prepend=-2) > 1]
        ends = slashes[np.diff(slashes, append=len(codes) + 1) > 1]
        odd = ((ends - starts) % 2 == 0) ^ (escaped[starts] & (starts == 0))
        escaped[(ends + 1)[odd]] = True
        # A run that the chunk before began: the backslash at 0 is itself escaped, so its run counts one less.
        self.escaping = bool(escaped[len(codes)])
        return quotes[~escaped[quotes]]
