"""grpcio channels to an endpoint: with or without TLS, and the headers of every call."""

from pathlib import Path

import grpc

from loadgen import endpoint as endpoints
from loadgen import proxies
from loadgen.endpoint import Endpoint, Tls

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
"""No size limit (an event passes gRPC's 4 MB default), a connection of our own, and no hidden second try."""


def channel(endpoint: Endpoint) -> grpc.aio.Channel:
    """Return a channel; it connects at the first call.

    Raises:
        PlanError: a file of `tls` is missing or wrong.
    """
    options: tuple[tuple[str, int | str], ...] = (
        *OPTIONS,
        *_keepalive(endpoint.keepalive_s),
        *proxies.channel_options(endpoint.grpc),
    )
    if endpoint.tls is None:
        return grpc.aio.insecure_channel(endpoint.grpc, options=options)
    endpoints.ssl_context(endpoint.tls)  # its checks, with messages of ours
    name = endpoint.tls.server_name
    if name:
        options = (*options, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
    return grpc.aio.secure_channel(endpoint.grpc, _credentials(endpoint.tls), options=options)


def _keepalive(every_s: float) -> tuple[tuple[str, int], ...]:
    """Return the options that ping a silent connection; without them grpcio pings none."""
    if not every_s:
        return ()
    return (
        ("grpc.keepalive_time_ms", max(1, round(every_s * 1000))),
        ("grpc.keepalive_timeout_ms", round(endpoints.KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    ca, key, chain = (
        Path(path).read_bytes() if path else None for path in (tls.ca_file, tls.key_file, tls.cert_file)
    )
    return grpc.ssl_channel_credentials(ca, key, chain)
