"""The table of perf_analyzer's options, its deprecated and undocumented ones included."""

from dataclasses import dataclass, replace

from loadgen.dropin import values
from loadgen.dropin.options import Asked, Change, add, flag, put, put_ssl
from loadgen.dropin.values import at_least, ignored, one_of, only, refused

OTHER_SERVER = "this client speaks to Triton alone"
NO_SHARED_MEMORY = "tensors travel in the requests"
NO_JSON = "tensors travel in binary"
PEM_ONLY = "only PEM files can be read"


@dataclass(frozen=True, slots=True)
class Option:
    """What an option does, and in a few words what it is for."""

    change: Change
    about: str = ""
    takes_value: bool = True


def _flag(about: str, **fields: object) -> Option:
    return Option(flag(**fields), about, takes_value=False)


def _verbose(asked: Asked, _: str) -> Asked:
    return replace(asked, verbose=asked.verbose + 1)


def _input_data(asked: Asked, value: str) -> Asked:
    return replace(asked, input_data=values.source(asked, value))


def _trace(name: str) -> Change:
    return add("trace", lambda value: (name, value))


def _ranged(field: str, convert: type) -> Change:
    return put(field, lambda text: values.levels(text, convert))


TARGET = {
    "m": Option(put("model"), "model name"),
    "x": Option(put("model_version"), "model version; the server chooses if not given"),
    "u": Option(put("url"), "HOST:PORT; localhost:8000, or :8001 over gRPC"),
    "i": Option(put("protocol", one_of("http", "grpc", lower=True)), "protocol: http (default) or grpc"),
    "v": Option(_verbose, "a line a window, and more of the client", takes_value=False),
    "bls-composing-models": Option(put("composing_models", values.composing), "models that the model calls"),
    "service-kind": Option(only("triton", OTHER_SERVER), "triton"),
    "endpoint": Option(refused(OTHER_SERVER)),
    "model-signature-name": Option(refused(f"it is of TensorFlow Serving; {OTHER_SERVER}")),
    "triton-server-directory": Option(refused(f"it is of the C API; {OTHER_SERVER}")),
    "model-repository": Option(refused(f"it is of the C API; {OTHER_SERVER}")),
    "grpc-method": Option(refused(OTHER_SERVER)),
    "enable-mpi": Option(refused("measure several models with `loadgen sweep --also`"), takes_value=False),
    "version": _flag("print the version", version=True),
    "help": _flag("print this", help=True),
}
LOAD = {
    "concurrency-range": Option(_ranged("concurrency_range", int), "START[:END[:STEP]]"),
    "request-rate-range": Option(_ranged("request_rate_range", float), "START[:END[:STEP]], requests a second"),
    "request-distribution": Option(put("request_distribution", one_of("constant", "poisson")), "constant or poisson"),
    "request-intervals": Option(put("request_intervals", values.file), "file of microseconds between requests"),
    "fixed-schedule": Option(refused("replay arrivals with --request-intervals"), takes_value=False),
    "schedule": Option(refused("replay arrivals with --request-intervals")),
    "periodic-concurrency-range": Option(refused("it is for language models")),
    "request-period": Option(refused("it is for language models")),
    "session-concurrency": Option(refused("it is for language models")),
    "binary-search": _flag("bisect the range against -l", binary_search=True),
    "latency-threshold": Option(put("latency_threshold_ms", at_least(0)), "milliseconds; 0 for none"),
    "max-threads": Option(put("max_threads", at_least(1)), "accepted; there are no threads here"),
    "async": _flag("as perf_analyzer's stability rule for it", is_async=True),
    "sync": _flag("likewise; the default", is_sync=True),
    "streaming": _flag("each request over a gRPC stream", streaming=True),
    "c": Option(put("old_end", int), "deprecated"),
    "t": Option(put("old_start", int), "deprecated"),
    "d": _flag("deprecated", old_dynamic=True),
}
MEASUREMENT = {
    "measurement-mode": Option(put("measurement_mode", one_of("time_windows", "count_windows")), "kind of window"),
    "measurement-interval": Option(put("measurement_interval_ms", at_least(1)), "milliseconds; a window lasts 1.2 x"),
    "measurement-request-count": Option(put("measurement_request_count", at_least(1)), "requests of a count window"),
    "stability-percentage": Option(put("stability_percentage", at_least(0, float)), "percent between 3 windows"),
    "max-trials": Option(put("max_trials", at_least(1)), "windows a level at most"),
    "percentile": Option(put("percentile", int), "1 to 99: judge and report this one"),
    "request-count": Option(put("request_count", at_least(0)), "so many requests, one window"),
    "warmup-request-count": Option(put("warmup_request_count", at_least(0)), "requests before the first window"),
}
INPUT = {
    "input-data": Option(_input_data, "zero, random, a JSON file or a folder"),
    "data-directory": Option(_input_data, "deprecated: --input-data"),
    "z": _flag("deprecated: --input-data zero", input_data=("zero",)),
    "b": Option(put("batch", at_least(1)), "batch size"),
    "shape": Option(add("shapes", values.shape), "NAME:D1,D2 of what a model leaves free"),
    "string-length": Option(put("string_length", at_least(1)), "of random strings"),
    "string-data": Option(put("string_data"), "this string instead"),
    "shared-memory": Option(only("none", NO_SHARED_MEMORY), "none"),
    "output-shared-memory-size": Option(ignored, "accepted; without meaning here"),
    "request-parameter": Option(add("request_parameters", values.parameter), "NAME:VALUE:TYPE, over gRPC"),
    "H": Option(add("headers", values.header), "NAME:VALUE, sent with every request"),
    "grpc-compression-algorithm": Option(put("compression", one_of("none", "gzip", "deflate")), "of requests"),
    "input-tensor-format": Option(only("binary", NO_JSON), "binary"),
    "output-tensor-format": Option(only("binary", NO_JSON), "binary"),
    "num-of-sequences": Option(put("num_of_sequences", at_least(1)), "accepted; as many live as are needed"),
    "sequence-length": Option(put("sequence_length", int), "steps of a sequence"),
    "sequence-length-variation": Option(put("sequence_length_variation", at_least(0, float)), "percent about it"),
    "sequence-id-range": Option(put("sequence_ids", values.ids), "START[:END]"),
    "serial-sequences": _flag("accepted; sequences are always serial here", serial_sequences=True),
}
SECURITY = {
    "ssl-grpc-use-ssl": Option(put_ssl("use_grpc", lambda _: True), "TLS over gRPC", takes_value=False),
    "ssl-grpc-root-certifications-file": Option(put_ssl("grpc_ca", values.file), "PEM"),
    "ssl-grpc-private-key-file": Option(put_ssl("grpc_key", values.file), "PEM"),
    "ssl-grpc-certificate-chain-file": Option(put_ssl("grpc_cert", values.file), "PEM"),
    "ssl-https-verify-peer": Option(put_ssl("https_verify_peer", lambda text: int(one_of("0", "1")(text))), "0 or 1"),
    "ssl-https-verify-host": Option(
        put_ssl("https_verify_host", lambda text: int(one_of("0", "1", "2")(text))), "0, 1 or 2"
    ),
    "ssl-https-ca-certificates-file": Option(put_ssl("https_ca", values.file), "PEM"),
    "ssl-https-client-certificate-file": Option(put_ssl("https_cert", values.file), "PEM"),
    "ssl-https-client-certificate-type": Option(only("PEM", PEM_ONLY), "PEM"),
    "ssl-https-private-key-file": Option(put_ssl("https_key", values.file), "PEM"),
    "ssl-https-private-key-type": Option(only("PEM", PEM_ONLY), "PEM"),
}
REPORT = {
    "collect-metrics": _flag("poll the metrics page", collect_metrics=True),
    "metrics-url": Option(put("metrics_url"), "HOST:8002/metrics if not given"),
    "metrics-interval": Option(put("metrics_interval_ms", at_least(1)), "milliseconds"),
    "f": Option(put("csv"), "CSV file"),
    "verbose-csv": _flag("further columns", verbose_csv=True),
    "profile-export-file": Option(put("profile_export", values.new_file), "JSON file of every request"),
    "trace-level": Option(_trace("trace_level"), "OFF, TIMESTAMPS or TENSORS: a setting of the server"),
    "trace-rate": Option(_trace("trace_rate"), "a setting of the server"),
    "trace-count": Option(_trace("trace_count"), "a setting of the server"),
    "log-frequency": Option(_trace("log_frequency"), "a setting of the server"),
    "keep-unstable": _flag("ours: unstable levels go into the CSV too", keep_unstable=True),
    "runs": Option(put("runs"), "ours: where run directories go; $LOADGEN_RUNS or `runs` if not given"),
}
LONG: dict[str, Option] = {**TARGET, **LOAD, **MEASUREMENT, **INPUT, **SECURITY, **REPORT}
SHORT = {
    "a": "async",
    "p": "measurement-interval",
    "l": "latency-threshold",
    "r": "max-trials",
    "s": "stability-percentage",
    "h": "help",
    "?": "help",
}
"""Letters that stand for a long name; other letters are names of their own."""
