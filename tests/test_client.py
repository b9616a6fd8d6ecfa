"""Our own host: its counters are read, and a point has what they grew by in its window."""

import socket

import polars as pl
import pytest
import sealed_run

from analysis.client import CLIENT_SCHEMA, client_figures
from loadgen import host
from loadgen import points as measured

S = 1_000_000_000
FACTS = {"point": 1, "window_start_ns": S, "window_end_ns": 3 * S, "loop_lag_p99_ns": 5.0}
POINT = measured.table([dict.fromkeys(measured.SCHEMA) | FACTS])


def counters(**series: tuple[str, float]) -> pl.DataFrame:
    """Return samples at 0, 2 and 4 s of counters that grow so much a second: name=(labels, rate)."""
    rows = [
        (at * S, "loadgen", name.rstrip("_"), labels, at * per_s)
        for name, (labels, per_s) in series.items()
        for at in (0, 2, 4)
    ]
    return pl.DataFrame(rows, schema=sealed_run.SAMPLES, orient="row")


def test_the_figures_of_a_window() -> None:
    """Busy over total of all cores, our workers together, interfaces together, the loopback apart."""
    samples = counters(
        host_cpu_seconds_total=('{"mode":"busy"}', 3.0),
        host_cpu_seconds_total_=('{"mode":"total"}', 16.0),
        process_cpu_seconds_total=('{"worker":"0"}', 0.5),
        process_cpu_seconds_total_=('{"worker":"1"}', 0.25),
        host_network_received_bytes_total=('{"interface":"eth0"}', 1000.0),
        host_network_received_bytes_total_=('{"interface":"lo"}', 7.0),
        host_network_sent_bytes_total=('{"interface":"eth0"}', 20.0),
        host_network_sent_bytes_total_=('{"interface":"eth1"}', 22.0),
        host_network_sent_bytes_total__=('{"interface":"lo"}', 7.0),
    )
    (row,) = client_figures(POINT, samples).rows()
    assert row == pytest.approx((1, 3 / 16, 0.75, 5.0, 1000.0, 42.0, 7.0))


def test_what_was_not_sampled_is_null() -> None:
    """No samples, or none that enclose the window: no 0."""
    empty = client_figures(POINT, counters())
    assert dict(empty.schema) == CLIENT_SCHEMA
    assert empty.row(0) == (1, None, None, 5.0, None, None, None)
    inside = counters(host_cpu_seconds_total=('{"mode":"total"}', 1.0)).filter(pl.col("at_ns") == 2 * S)
    assert client_figures(POINT, inside)["host_cpu"].to_list() == [None]


def test_the_counters_are_this_hosts() -> None:
    """Busy is part of total; bytes sent over the loopback are counted, sent and received."""

    def read() -> dict[tuple[str, str], float]:
        return {(each.metric, each.labels): each.value for each in host.read(1)}

    before = read()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        with peer:
            client.sendall(b"x" * 1_000_000)
            client.shutdown(socket.SHUT_WR)
            assert sum(map(len, iter(lambda: peer.recv(1 << 16), b""))) == 1_000_000
    after = read()
    busy, total = (after[host.CPU_METRIC, f'{{"mode":"{mode}"}}'] for mode in ("busy", "total"))
    assert 0 < busy <= total
    assert all(after[key] >= value for key, value in before.items() if key in after)
    if (lo := (host.SENT_METRIC, '{"interface":"lo"}')) in before:
        assert after[lo] - before[lo] >= 1_000_000
