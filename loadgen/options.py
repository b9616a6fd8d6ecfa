"""Options of the command line, each declared once. Names are perf_analyzer's wherever it has one."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[str, typer.Option("-m", "--model", help="Name of the model.")]
Version = Annotated[str, typer.Option("-x", "--model-version", help="Version of the model; the latest if not given.")]
Url = Annotated[
    str,
    typer.Option("-u", "--url", help="HOST:PORT of the server (localhost:8001; HTTP: 8000), or unix:PATH."),
]
Protocol = Annotated[
    Literal["grpc", "http"], typer.Option("-i", "--protocol", help="What to speak: gRPC, or HTTP/1.1.")
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "-H",
        "--header",
        metavar="NAME:VALUE",
        help="Sent with every call; $VAR, $(<FILE), $(COMMAND) are put in.",
    ),
]
UseTls = Annotated[bool, typer.Option("--tls", "--ssl-grpc-use-ssl", help="Speak TLS; implied by the files below.")]
TlsCa = Annotated[
    str,
    typer.Option("--tls-ca", "--ssl-grpc-root-certifications-file", metavar="FILE", help="Authorities (PEM)."),
]
TlsCert = Annotated[
    str,
    typer.Option("--tls-cert", "--ssl-grpc-certificate-chain-file", metavar="FILE", help="Our certificate (PEM)."),
]
TlsKey = Annotated[
    str, typer.Option("--tls-key", "--ssl-grpc-private-key-file", metavar="FILE", help="The key of it (PEM).")
]
TlsServerName = Annotated[
    str, typer.Option("--tls-server-name", metavar="NAME", help="Name that the server's certificate must be for.")
]
TransportOption = Annotated[
    Literal["auto", "direct", "grpcio"],
    typer.Option("--transport", help="What carries requests: our own HTTP/2 (direct), or grpcio; auto chooses."),
]
Compression = Annotated[
    Literal["none", "gzip", "deflate"],
    typer.Option("--compression", "--grpc-compression-algorithm", help="Compress messages; by grpcio only."),
]
Connections = Annotated[int, typer.Option("--connections", min=1, help="TCP connections that share the requests.")]
Keepalive = Annotated[
    float,
    typer.Option("--keepalive", min=0.0, metavar="S", help="Ping a gRPC connection silent for so long; never if 0."),
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes that share the load, a core each.")]
InputPaths = Annotated[
    list[str],
    typer.Option(
        "--input-data",
        help="perf_analyzer JSON, a folder of raw files, cells CSVs (files, folders, patterns), a prepared .corpus, "
        "synthetic, zero or random.",
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        "--also",
        metavar="MODEL=WEIGHT:INPUT",
        help="A further model (MODEL@VERSION for a version) that takes its share of the requests; repeatable.",
    ),
]
ComposingModels = Annotated[
    str,
    typer.Option(
        "--composing-models",
        "--bls-composing-models",
        metavar="NAME,...",
        help="Models that the model calls; their statistics are read too. An ensemble tells its own.",
    ),
]
AnswersOption = Annotated[
    Literal["none", "digest", "decode"],
    typer.Option(
        "--answers", help="digest: keep one of every answer; decode: also a few whole, to count tracks in them."
    ),
]
ModelWeight = Annotated[
    float, typer.Option("--model-weight", min=0.0, help="Weight of the first model beside those of --also.")
]
EachInput = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=zero|random", help="Values of one input, apart from the rest; repeatable."),
]
StringLength = Annotated[int, typer.Option("--string-length", min=0, help="Characters of a random string.")]
StringData = Annotated[str | None, typer.Option("--string-data", help="The string to send, for zero and random.")]
EncoderName = Annotated[
    str,
    typer.Option(
        "--encoder", metavar="NAME", help="What makes tensors of cells: odd, itk, tml, raw, or your MODULE:FUNCTION."
    ),
]
ModuleMap = Annotated[
    list[str] | None,
    typer.Option("--module-map", metavar="FILE", help="Map from id to module index, for raw; repeatable, in turn."),
]
EventRange = Annotated[
    str, typer.Option("--event-range", metavar="FIRST:LAST", help="Take only these events of the cells files.")
]
Poisson = Annotated[
    bool, typer.Option("--poisson", help="Vary the interactions of synthetic events as bunch crossings do.")
]
Weights = Annotated[
    str, typer.Option("--weights", metavar="W0,W1,...", help="How often each request is drawn; with --order random.")
]
SequenceLength = Annotated[
    int, typer.Option("--sequence-length", min=0, help="Steps of a sequence; as many as its stream has if 0.")
]
Cache = Annotated[bool, typer.Option(help="Keep encoded inputs for the next run, and use what is kept.")]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME:D1,D2", help="Dimensions for zero, random; repeatable."),
]
Overlay = Annotated[int, typer.Option("--overlay", min=1, help="Lay so many events of cells over each other.")]
MergeDuplicates = Annotated[bool, typer.Option("--merge-duplicates", help="Sum cells that a file names twice.")]
Batch = Annotated[int, typer.Option("-b", "--batch-size", min=1, help="Events a request, for models that batch.")]
OrderName = Annotated[
    Literal["shuffle", "sequential", "random"],
    typer.Option("--order", help="Order of the requests: shuffle (each once a pass), sequential or random."),
]
Mu = Annotated[float, typer.Option("--mu", min=0.001, help="Pile-up of synthetic events.")]
Events = Annotated[int, typer.Option("--events", min=1, help="How many synthetic events.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of synthetic events and of the order of requests.")]
LOADS, STOPPING, JUDGING = "Loads", "How long to measure", "What to make of it"
SERVER = "The server's side"
ConcurrencyRange = Annotated[
    str | None,
    typer.Option(
        "--concurrency-range",
        metavar="START[:END[:STEP]]",
        help="Closed loops: requests in flight, a point a level.",
        rich_help_panel=LOADS,
    ),
]
RateRange = Annotated[
    str | None,
    typer.Option(
        "--request-rate-range",
        metavar="START[:END[:STEP]]",
        help="Open loops: requests a second, a point a rate.",
        rich_help_panel=LOADS,
    ),
]
Distribution = Annotated[
    Literal["constant", "poisson", "gamma"],
    typer.Option("--request-distribution", help="Gaps between requests of an open loop.", rich_help_panel=LOADS),
]
Burstiness = Annotated[
    float,
    typer.Option(
        "--cv", min=0.01, help="Coefficient of variation of gamma gaps: bursts above 1.", rich_help_panel=LOADS
    ),
]
MaxInFlight = Annotated[
    int,
    typer.Option(
        "--max-in-flight",
        min=1,
        help="What an open loop would send beyond it is recorded as unsent.",
        rich_help_panel=LOADS,
    ),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="RATE:S,...",
        help="Rates in turn, over again; FROM-TO ramps: 10:30,10-50:60.",
        rich_help_panel=LOADS,
    ),
]
StepsOption = Annotated[
    str,
    typer.Option(
        "--concurrency-steps",
        metavar="N:S,...",
        help="Concurrencies in turn, over again: 2:10,8:10.",
        rich_help_panel=LOADS,
    ),
]
RequestIntervals = Annotated[
    str,
    typer.Option(
        "--request-intervals",
        metavar="FILE|RUN",
        help="Replay gaps in microseconds, or a run's arrivals.",
        rich_help_panel=LOADS,
    ),
]
Speed = Annotated[float, typer.Option("--speed", min=0.001, help="How fast to replay.", rich_help_panel=LOADS)]
SpinUs = Annotated[
    int,
    typer.Option(
        "--spin-us",
        min=0,
        help="Busy waiting before a due time; 0 spares a core and costs a millisecond.",
        rich_help_panel=LOADS,
    ),
]
WindowMs = Annotated[
    int | None,
    typer.Option(
        "-p",
        "--measurement-interval",
        min=1,
        metavar="MS",
        help="Measure each point for so long, not until it is precise.",
        rich_help_panel=STOPPING,
    ),
]
WarmupMs = Annotated[
    int, typer.Option("--warmup-ms", min=0, help="Load before the window, with -p.", rich_help_panel=STOPPING)
]
RequestCount = Annotated[
    int | None,
    typer.Option(
        "--request-count", min=1, help="Measure each point over so many requests.", rich_help_panel=STOPPING
    ),
]
Precision = Annotated[
    float, typer.Option(min=0.001, help="Relative 95 % interval asked of the throughput.", rich_help_panel=STOPPING)
]
MinTime = Annotated[
    float, typer.Option("--min-time", min=0.1, metavar="S", help="First look at a point.", rich_help_panel=STOPPING)
]
MaxTime = Annotated[
    float, typer.Option("--max-time", min=0.1, metavar="S", help="Last look at a point.", rich_help_panel=STOPPING)
]
Repeats = Annotated[int, typer.Option(min=1, help="Measure every point so often.", rich_help_panel=STOPPING)]
PointOrder = Annotated[
    Literal["sequential", "shuffle", "interleave"],
    typer.Option(
        "--point-order",
        help="Order of the points; interleave turns every second pass round.",
        rich_help_panel=STOPPING,
    ),
]
Percentile = Annotated[
    list[float] | None,
    typer.Option(
        "--percentile",
        min=0.001,
        max=99.999,
        help="A percentile besides 50, 90, 95, 99, 99.9; repeatable.",
        rich_help_panel=JUDGING,
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 5 if a point is not steady.", rich_help_panel=JUDGING)
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        metavar="'p99 > 500ms'",
        help="Exit with 6 if a point crosses it; repeatable.",
        rich_help_panel=JUDGING,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the points and how long they take; start nothing.")]
DeadlineMs = Annotated[int, typer.Option("--deadline-ms", min=1, help="How long to wait for one answer.")]
CollectMetrics = Annotated[bool, typer.Option(help="Poll the server's metrics page.")]
MetricsUrl = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics-url", help="A page, one a replica; repeatable; http://<host of -u>:8002/metrics if not given."
    ),
]
MetricsHeaders = Annotated[
    list[str] | None,
    typer.Option("--metrics-header", metavar="NAME:VALUE", help="Sent for every page; $VAR works too; repeatable."),
]
PrometheusUrl = Annotated[
    str,
    typer.Option(
        "--prometheus-url",
        metavar="URL",
        help="A Prometheus that scrapes the server, asked after the run.",
        rich_help_panel=SERVER,
    ),
]
PrometheusHeaders = Annotated[
    list[str] | None,
    typer.Option(
        "--prometheus-header",
        metavar="NAME:VALUE",
        help="Sent with every query, as 'authorization: Bearer $TOKEN'; repeatable.",
        rich_help_panel=SERVER,
    ),
]
PrometheusQuery = Annotated[
    list[str] | None,
    typer.Option(
        "--prometheus-query",
        metavar="NAME=PROMQL",
        help="A query of yours; $window, $selector, $model are filled in; repeatable.",
        rich_help_panel=SERVER,
    ),
]
PrometheusSelector = Annotated[
    str,
    typer.Option(
        "--prometheus-selector",
        metavar="MATCHERS",
        help="Labels of this service in it: 'namespace=\"atlas-sonic\"'.",
        rich_help_panel=SERVER,
    ),
]
KubeService = Annotated[
    str,
    typer.Option(
        "--kube",
        metavar="service/NAME",
        help="A Kubernetes service to reach by kubectl's port forwards.",
        rich_help_panel=SERVER,
    ),
]
Namespace = Annotated[str, typer.Option("-n", "--namespace", help="Of --kube.", rich_help_panel=SERVER)]
KubeContext = Annotated[
    str,
    typer.Option(
        "--kube-context", metavar="NAME", help="Of --kube; the current one if not given.", rich_help_panel=SERVER
    ),
]
Replicas = Annotated[
    int,
    typer.Option(
        "--replicas", min=0, help="Servers behind a balancer at -u; found out if 0.", rich_help_panel=SERVER
    ),
]
MetricsIntervalMs = Annotated[
    int, typer.Option("--metrics-interval", min=1, metavar="MS", help="Time between polls.")
]
Nvml = Annotated[
    Literal["auto", "on", "off"],
    typer.Option("--nvml", help="Read this host's GPUs by NVML (extra gpu); auto where the server is on this host."),
]
ReadyTimeoutS = Annotated[float, typer.Option("--ready-timeout-s", min=0.1, help="How long to wait for the server.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder below which the run directory is made.")]
Name = Annotated[str, typer.Option("--name", help="Name of the run directory; the model's if not given.")]
Csv = Annotated[str, typer.Option("-f", help="Also write the CSV (perf_analyzer's format) to this file.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but warnings.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print each point as a JSON object on stdout.")]
Instances = Annotated[int, typer.Option("--instances", min=1, help="Instances of the stand-in model.")]
SignatureName = Annotated[str, typer.Option("--signature", help="Tensors of the stand-in model: odd or itk.")]
Stretch = Annotated[
    float,
    typer.Option("--stretch", min=1.0, help="An answer of the stand-in takes so many times as long as its work."),
]
Stub = Annotated[bool, typer.Option("--stub", help="Serve the simulating stub even where Triton could run.")]
Slo = Annotated[
    str,
    typer.Option(
        "--slo",
        metavar="'p99 < 500ms'",
        help="Say of every point how many requests a second keep it (goodput).",
        rich_help_panel=JUDGING,
    ),
]
Objective = Annotated[
    str,
    typer.Option(
        "--slo",
        metavar="'p99 < 500ms'",
        help="What must hold: a percentile of response time (over rate) or service time (over concurrency).",
    ),
]
Over = Annotated[
    Literal["rate", "concurrency"],
    typer.Option("--over", help="Look for the highest request rate, or the highest concurrency."),
]
SearchDistribution = Annotated[
    Literal["constant", "poisson", "gamma"],
    typer.Option("--request-distribution", help="Gaps between requests of the probes over rate."),
]
Saturation = Annotated[
    int, typer.Option(min=1, metavar="N", help="Requests in flight that find the capacity, for --over rate.")
]
MaxConcurrency = Annotated[
    int, typer.Option("--max-concurrency", min=1, help="Highest tried, for --over concurrency.")
]
ProbeS = Annotated[
    float,
    typer.Option("--probe-s", min=0.1, help="Shortest probe; those for a percentile of few requests are longer."),
]
MaxProbeS = Annotated[float, typer.Option("--max-probe-s", min=0.1, help="Longest probe.")]
