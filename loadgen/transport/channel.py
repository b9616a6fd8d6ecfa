"""grpcio channels to an endpoint: with or without TLS, and the headers of every call."""

from pathlib import Path

import grpc

from loadgen import endpoint as endpoints
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
    if endpoint.tls is None:
        return grpc.aio.insecure_channel(endpoint.grpc, options=OPTIONS)
    endpoints.ssl_context(endpoint.tls)  # its checks, with messages of ours
    name = endpoint.tls.server_name
    options = (
        (*OPTIONS, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)) if name else OPTIONS
    )
    return grpc.aio.secure_channel(endpoint.grpc, _credentials(endpoint.tls), options=options)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    ca, key, chain = (
        Path(path).read_bytes() if path else None for path in (tls.ca_file, tls.key_file, tls.cert_file)
    )
    return grpc.ssl_channel_credentials(ca, key, chain)
