"""Where the large parts of a JSON text lie, found without parsing them: no more than one need be in memory at once.

Looks at brackets and quotes only. A text with a backslash or broken nesting is not split: the JSON library, which
then reads it whole, is the judge of it. Every part is parsed by that library later, so nothing is accepted here.
"""

import mmap
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

CHUNK_BYTES = 1 << 20
LARGE_BYTES = 1 << 20
QUOTE, BACKSLASH = ord('"'), ord("\\")
BRACKET_BITS, BRACKET = 0xD9, 0x59
"""`[`, `]`, `{` and `}` agree in these bits, and so do five other characters, which are sorted out after."""

PLACEHOLDER = b'"\\u0000"'
"""Stands for a part; a text that is split holds no backslash, so it is nothing else."""

STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
DEPTH_STEP = np.array([STEP.get(code, 0) for code in range(256)], np.int64)

Buffer = mmap.mmap | memoryview
Integers = npt.NDArray[np.int64]


def spans(text: Buffer, depth: int) -> list[tuple[int, int]] | None:
    """Return (start, end) of each list or object of a megabyte or more that is nested `depth` deep, 1 the outermost.

    None if the text cannot be split so.
    """
    found: list[tuple[int, int]] = []
    level, start = 0, -1
    for places, steps in _brackets(text):
        if steps is None:
            return None
        levels = level + np.cumsum(steps)
        opened = places[(steps > 0) & (levels == depth)]
        closed = places[(steps < 0) & (levels == depth - 1)]
        for place, opens in sorted([*((int(p), True) for p in opened), *((int(p), False) for p in closed)]):
            if not opens and start >= 0 and place + 1 - start >= LARGE_BYTES:
                found.append((start, place + 1))
            start = place if opens else -1
        level = int(levels[-1]) if levels.size else level
        if levels.size and levels.min() < 0:
            return None
    return found if level == 0 else None


def without(text: Buffer, parts: list[tuple[int, int]]) -> bytes:
    """Return the text with each part replaced by `PLACEHOLDER`."""
    pieces, place = [], 0
    for start, end in parts:
        pieces.append(bytes(text[place:start]))
        place = end
    return PLACEHOLDER.join([*pieces, bytes(text[place:])])


def forget(text: Buffer) -> None:
    """Let go of the pages of a mapped file; they are read again where they are needed."""
    if isinstance(text, mmap.mmap) and hasattr(text, "madvise"):
        text.madvise(mmap.MADV_DONTNEED)


def _brackets(text: Buffer) -> Iterator[tuple[Integers, Integers | None]]:
    """Yield places and steps (+1, -1) of the brackets outside strings, chunk by chunk; None at a backslash."""
    in_string = False
    for begin in range(0, len(text), CHUNK_BYTES):
        chunk = np.frombuffer(text, np.uint8, min(CHUNK_BYTES, len(text) - begin), begin)
        if (chunk == BACKSLASH).any():
            yield np.empty(0, np.int64), None
            return
        quotes = np.flatnonzero(chunk == QUOTE)
        places = np.flatnonzero((chunk & BRACKET_BITS) == BRACKET)
        steps = DEPTH_STEP[chunk[places]]
        inside = (np.searchsorted(quotes, places) + in_string) % 2 == 1
        kept = (steps != 0) & ~inside
        in_string = bool((len(quotes) + in_string) % 2)
        del chunk
        if begin % (64 * CHUNK_BYTES) == 0:
            forget(text)
        yield places[kept] + begin, steps[kept]
