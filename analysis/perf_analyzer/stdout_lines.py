"""The lines of perf_analyzer's standard output, each known by its label wherever it stands on a line."""

import re

from analysis.perf_analyzer.cells import count, duration_ns, number
from analysis.perf_analyzer.tables import Row

N, X = r"(\d+)", r"([0-9.eE+-]+)"
BEGIN = r"(?:^|[\s#>|])"

SETTINGS = re.compile(r"\*\*\* Measurement Settings \*\*\*")
COMMAND = re.compile(r"\bperf_analyzer\s(?:.*\s)?-m[ =]?([^\s\\]+)")
BATCH = re.compile(rf"{BEGIN}Batch size: {N}\s*$")
REQUESTS = re.compile(rf"{BEGIN}Sending (?:a total of )?{N} (?:benchmark )?requests?\s*$")
LIMIT = re.compile(rf"{BEGIN}(?:Concurrency limit: {N} concurrent|Request Rate limit: {X}) requests")

CONCURRENCY = re.compile(rf"{BEGIN}Request concurrency: {N}\s*$")
RATE = re.compile(rf"{BEGIN}Request Rate: {X} inference requests per seconds?\s*$")
PASS = re.compile(
    rf"{BEGIN}Pass \[{N}\] throughput: {X} infer/sec\. (Avg|p\d+) latency: {N} usec(?: \(std {N} usec\))?"
)
FAILED_PASS = re.compile(rf"{BEGIN}Pass \[{N}\] cb::Error: (No valid requests)?")
SUMMARY_TITLE = re.compile(r"Inferences/Second vs\. Client (Average|p\d+) Batch Latency")
SUMMARY = re.compile(rf"{BEGIN}(Concurrency|Request Rate): {X}, (?:throughput: )?{X} infer/sec, latency {N} usec")

CLIENT = re.compile(rf"{BEGIN}Client:\s*$")
SERVER = re.compile(rf"{BEGIN}Server:\s*$")
COMPOSING = re.compile(rf"{BEGIN}Composing models:\s*$")
COMPOSING_NAME = re.compile(rf"{BEGIN}(\S+), version: (-?\d+)\s*$")
METRICS = re.compile(rf"{BEGIN}Server Prometheus Metrics:\s*$")
METRIC = re.compile(rf"{BEGIN}(Avg GPU Utilization|Avg GPU Power Usage|Max GPU Memory Usage|Total GPU Memory):\s*$")
GPU = re.compile(rf"{BEGIN}(\S+) : {X}(%| watts| bytes)\s*$")

UNSTABLE = re.compile(r"Failed to obtain stable measurement")
REMARK = re.compile(
    r"\[?WARNING\]?:?\s.*|Pass \[\d+\] cb::Error: .*|.* is not stabilizing.*"
    r"|(?:Failed to maintain requested inference load|Failed to retrieve results from inference request).*"
    r"|Thread \[\d+\] had error: .*|Failed to obtain stable measurement.*"
)
DELAYED = re.compile(rf"{X}% of the requests were delayed")

REQUEST_COUNT = re.compile(rf"{BEGIN}Request count: {N}\s*$")
CLIENT_RATES = {
    "send_rate_per_s": re.compile(rf"{BEGIN}Avg send request rate: {X} infer/sec"),
    "response_throughput_per_s": re.compile(rf"{BEGIN}Response Throughput: {X} infer/sec"),
    "throughput_per_s": re.compile(rf"{BEGIN}Throughput: {X} infer/sec"),
    "sequences_per_s": re.compile(rf"{BEGIN}Sequence count: \d+ \({X} seq/sec\)"),
}
OVERHEAD = re.compile(rf"{BEGIN}Avg client overhead: {X}%")
AVERAGE = re.compile(rf"{BEGIN}Avg latency: {N} usec(?: \(standard deviation {N} usec\))?")
PERCENTILE = re.compile(rf"{BEGIN}p(\d{{1,2}}) latency: {N} usec")
LIBRARY = re.compile(rf"{BEGIN}Avg (gRPC|HTTP) time: {N} usec \((.*)\)")

SERVER_COUNTS = {
    "inferences": re.compile(rf"{BEGIN}Inference count: {N}\s*$"),
    "executions": re.compile(rf"{BEGIN}Execution count: {N}\s*$"),
    "cache_hits": re.compile(rf"{BEGIN}Cache hit count: {N}\s*$"),
    "cache_misses": re.compile(rf"{BEGIN}Cache miss count: {N}\s*$"),
    "success": re.compile(rf"{BEGIN}(?:Successful request|Request) count: {N}\s*$"),
}
SERVER_TIME = re.compile(rf"{BEGIN}Avg request latency: {N} usec(?: \((.*)\))?")
CACHE_TIME = re.compile(rf"{BEGIN}Average Cache (Hit|Miss) Latency: {N} usec(?: \((.*)\))?")
PART = re.compile(r"([a-z()/ ]+?) (\d+) usec")
STAGES = {
    "queue": "queue_ns",
    "compute": "compute_ns",
    "compute input": "compute_input_ns",
    "compute infer": "compute_infer_ns",
    "compute output": "compute_output_ns",
}
LIBRARY_PARTS = {
    "(un)marshal request/response": "client_marshal_ns",
    "send/recv": "client_marshal_ns",
    "marshal": "client_send_ns",
    "send": "client_send_ns",
    "response wait": "response_wait_ns",
    "unmarshal": "client_recv_ns",
    "receive": "client_recv_ns",
}


def parts(text: str, names: dict[str, str], notes: list[str]) -> Row:
    """Return the times of `queue 27 usec + compute input 39 usec` by the columns that `names` gives them."""
    found = ((match[1].strip(" +"), match[2]) for match in PART.finditer(text))
    return {names[name]: duration_ns(name, value, notes) for name, value in found if name in names}


def client_figures(line: str, notes: list[str]) -> Row:
    """Return the columns that a line of the client's block fills; empty for any other line."""
    for column, pattern in CLIENT_RATES.items():
        if match := pattern.search(line):
            return {column: number(column, match[1], notes)}
    if match := REQUEST_COUNT.search(line):
        return {"completed": count(match[1])}
    if match := OVERHEAD.search(line):
        return {"client_overhead": _fraction("client overhead", match[1], notes)}
    return _client_times(line, notes)


def _client_times(line: str, notes: list[str]) -> Row:
    if match := AVERAGE.search(line):
        std = duration_ns("standard deviation", match[2] or "", notes)
        return {"service_mean_ns": duration_ns("Avg latency", match[1], notes), "service_std_ns": std}
    if match := PERCENTILE.search(line):
        return {f"service_p{int(match[1])}_ns": duration_ns(f"p{match[1]} latency", match[2], notes)}
    if match := LIBRARY.search(line):
        found = parts(match[3], LIBRARY_PARTS, notes)
        if "client_send_ns" in found and None not in found.values():
            found["client_marshal_ns"] = found["client_send_ns"] + found.get("client_recv_ns", 0.0)
        request_ns = duration_ns(f"Avg {match[1]} time", match[2], notes)
        return {"protocol": match[1].lower(), "client_request_ns": request_ns, **found}
    return {}


def server_figures(line: str, notes: list[str]) -> Row:
    """Return what a line of a server's block gives, by column without `server_`; empty for other lines."""
    for name, pattern in SERVER_COUNTS.items():
        if match := pattern.search(line):
            return {name: count(match[1])}
    if match := SERVER_TIME.search(line):
        stages = parts(match[2] or "", STAGES, notes)
        return {"request_ns": duration_ns("Avg request latency", match[1], notes), **stages}
    if match := CACHE_TIME.search(line):
        name = f"cache_{match[1].lower()}_ns"
        return {name: duration_ns(name, match[2], notes), **parts(match[3] or "", STAGES, notes)}
    return {}


def delayed(line: str, notes: list[str]) -> float | None:
    """Return the share of requests that were sent late, if a line tells it."""
    match = DELAYED.search(line)
    return _fraction("delayed requests", match[1], notes) if match else None


def _fraction(name: str, text: str, notes: list[str]) -> float | None:
    percent = number(name, text, notes)
    return None if percent is None else percent / 100
