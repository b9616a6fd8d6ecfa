"""Header blocks: a request's is encoded once, an answer's is decoded the first time its bytes are seen."""

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple
from urllib.parse import unquote

from hpack import Decoder, HPACKError

from loadgen.transport.http2_frames import UNKNOWN, ErrorCode, Http2Error

METADATA_NAME = re.compile(r"[0-9a-z_.-]+")
METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
HTTP_STATUS = re.compile(rb"[1-9][0-9]{2}")
GRPC_STATUS = re.compile(rb"[0-9]{1,2}")
HIGHEST_STATUS = 16
CACHED_BLOCKS = 512
CACHED_BLOCK_BYTES = 1024
FORBIDDEN = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
SUCCESS = 200

TABLE_TO_ZERO = b"\x20"
"""At the head of a block: the encoder uses no dynamic table."""


class Role(IntEnum):
    """What a block is where a response's header block is due."""

    GRPC = 0
    INFORMATIONAL = 1
    FOREIGN = 2
    MALFORMED = 3


class Fields(NamedTuple):
    """What an answer's header block says: `http` is 0 without :status, `grpc` -1 without grpc-status."""

    role: Role
    trailers: bool
    http: int
    grpc: int
    message: str


class BlockReader:
    """Decodes header blocks, each at most `limit` bytes of fields; equal blocks only once, where that is sound."""

    def __init__(self, limit: int) -> None:
        self._decoder = Decoder(max_header_list_size=limit)
        self._stateless = False
        self.cache: dict[bytes, Fields] = {}

    def forbid_table(self) -> None:
        """From the next block on the server has no dynamic table: it acknowledged our SETTINGS.

        Then a block's meaning is in its bytes alone. A server that never used its table need not say that it
        shrank it, so we shrink our copy ourselves; a later use of an entry is an error of the index.
        """
        self._decoder.max_allowed_table_size = 0
        self._decoder.header_table_size = 0
        self._stateless = True

    def read(self, block: bytes) -> Fields:
        """Decode a block that is not in the cache; Http2Error if it cannot be decoded."""
        try:
            fields = interpret(self._decoder.decode(block, raw=True))
        except (HPACKError, IndexError, ValueError) as error:
            raise Http2Error(ErrorCode.COMPRESSION_ERROR, f"header block: {type(error).__name__}") from error
        if self._stateless and len(block) <= CACHED_BLOCK_BYTES:
            if len(self.cache) >= CACHED_BLOCKS:
                self.cache.clear()
            self.cache[block] = fields
        return fields


def interpret(pairs: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Tell what a response's or trailers' fields say."""
    http, grpc, message, content = 0, -1, "", b""
    regular = False
    for name, value in pairs:
        if name[:1] == b":":
            if name != b":status" or regular or http or not HTTP_STATUS.fullmatch(value):
                return _malformed(f"field {_shown(name)} out of place")
            http = int(value)
            continue
        regular = True
        if not name or name != name.lower() or name in FORBIDDEN or not {0, 10, 13}.isdisjoint(value):
            return _malformed(f"field {_shown(name)} is not allowed")
        if name == b"grpc-status":
            grpc = int(value) if GRPC_STATUS.fullmatch(value) and int(value) <= HIGHEST_STATUS else UNKNOWN
        elif name == b"grpc-message":
            message = unquote(value.decode(errors="replace"), errors="replace")
        elif name == b"content-type":
            content = value
    if not http:
        return Fields(Role.MALFORMED, trailers=True, http=0, grpc=grpc, message=message)
    return Fields(_role(http, content), trailers=False, http=http, grpc=grpc, message=message)


def _role(http: int, content: bytes) -> Role:
    if http < SUCCESS:
        return Role.INFORMATIONAL
    return Role.GRPC if http == SUCCESS and content.startswith(b"application/grpc") else Role.FOREIGN


def _malformed(words: str) -> Fields:
    return Fields(Role.MALFORMED, trailers=False, http=0, grpc=-1, message=words)


def _shown(name: bytes) -> str:
    return repr(name[:40])[1:]


def request_block(
    scheme: str, authority: str, path: str, user_agent: str, metadata: Sequence[tuple[str, str]]
) -> bytes:
    """Encode the fields that every request has; ValueError if one cannot be sent.

    Static indexes and literals that are never indexed: nothing depends on the server's table.
    """
    fields = [b"\x83", b"\x87" if scheme == "https" else b"\x86"]  # :method POST, :scheme
    fields += [b"\x04", _text(path), b"\x01", _text(authority)]  # :path, :authority
    fields += [b"\x0f\x10", _text("application/grpc"), b"\x00", _text("te"), _text("trailers")]  # content-type
    fields += [b"\x0f\x2b", _text(user_agent)]
    for name, value in metadata:
        if not METADATA_NAME.fullmatch(name) or name in OURS:
            raise ValueError(
                f"metadata name {name!r}: use lower-case letters, digits, - _ . and no name of gRPC's own"
            )
        fields += [b"\x10", _text(name), _text(value)]
    return b"".join(fields)


OURS = frozenset(("te", "content-type", "user-agent", "grpc-timeout", *(name.decode() for name in FORBIDDEN)))


def timeout_field(timeout: bytes) -> bytes:
    """Encode grpc-timeout, a value such as b"300S"; nothing for b""."""
    return b"\x00\x0cgrpc-timeout" + _string(timeout) if timeout else b""


def _text(value: str) -> bytes:
    if not METADATA_VALUE.fullmatch(value):
        raise ValueError(f"header value {value!r} is not printable ASCII")
    return _string(value.encode())


def _string(value: bytes) -> bytes:
    """Encode a string literal without Huffman: its length with a prefix of seven bits, itself."""
    length = len(value)
    if length < STRING_PREFIX:
        return bytes((length,)) + value
    encoded, length = bytearray((STRING_PREFIX,)), length - STRING_PREFIX
    while length > STRING_PREFIX:
        encoded.append(length & STRING_PREFIX | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + value


STRING_PREFIX = 0x7F
