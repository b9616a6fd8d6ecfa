"""Our own host, as counters: what all its processors did, and what passed its network interfaces."""

import psutil

from loadgen.rundir import Sample, canonical_labels

SOURCE = "loadgen"
CPU_METRIC = "host_cpu_seconds_total"
RECEIVED_METRIC, SENT_METRIC = "host_network_received_bytes_total", "host_network_sent_bytes_total"
IDLE_MODES = ("idle", "iowait")
COUNTED_TWICE = ("guest", "guest_nice")
"""Linux counts the time of guests in `user` and `nice` as well."""


def read(at_ns: int) -> list[Sample]:
    """Return the counters now: CPU seconds of all cores, `mode` busy and total, and bytes by `interface`.

    Inside a container they are still those of the host, as far as it lets them be seen.
    """
    busy_s, total_s = _cpu_seconds()
    modes = {"busy": busy_s, "total": total_s}
    samples = [_sample(at_ns, CPU_METRIC, "mode", mode, value) for mode, value in modes.items()]
    for interface, counters in sorted(psutil.net_io_counters(pernic=True).items()):
        samples.append(_sample(at_ns, RECEIVED_METRIC, "interface", interface, counters.bytes_recv))
        samples.append(_sample(at_ns, SENT_METRIC, "interface", interface, counters.bytes_sent))
    return samples


def _cpu_seconds() -> tuple[float, float]:
    times = psutil.cpu_times()._asdict()
    total_s = sum(value for mode, value in times.items() if mode not in COUNTED_TWICE)
    return total_s - sum(times.get(mode, 0.0) for mode in IDLE_MODES), total_s


def _sample(at_ns: int, metric: str, label: str, name: str, value: float) -> Sample:
    return Sample(at_ns, SOURCE, metric, canonical_labels({label: name}), float(value))
