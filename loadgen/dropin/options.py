"""perf_analyzer's command line -> what it asks for, by the rules of getopt_long. Pure but for looking at files.

Any unique beginning of a long name will do, with `=` or a space, short letters with or without one, options in any
order, the last one counting.
"""

import getopt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from loadgen.errors import PlanError

SHORT_FLAGS = "vdaz"
SHORT_VALUES = "cumxbtpiHlrsf"


@dataclass(frozen=True, slots=True)
class Range:
    """`start[:end[:step]]`; an end below the start stands for the start alone, 0 for no end."""

    start: float = 1
    end: float = 1
    step: float = 1


@dataclass(frozen=True, slots=True)
class Ssl:
    """The TLS options of both protocols."""

    use_grpc: bool = False
    grpc_ca: str = ""
    grpc_key: str = ""
    grpc_cert: str = ""
    https_verify_peer: int = 1
    https_verify_host: int = 2
    https_ca: str = ""
    https_cert: str = ""
    https_key: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """Every option, with perf_analyzer's defaults; fields have its names."""

    model: str = ""
    model_version: str = ""
    url: str = ""
    protocol: Literal["http", "grpc"] = "http"
    composing_models: tuple[str, ...] = ()
    verbose: int = 0
    concurrency_range: Range | None = None
    request_rate_range: Range | None = None
    request_intervals: str = ""
    request_distribution: Literal["constant", "poisson"] = "constant"
    binary_search: bool = False
    latency_threshold_ms: int = 0
    max_threads: int = 0
    is_async: bool = False
    is_sync: bool = False
    streaming: bool = False
    old_start: int | None = None
    old_end: int | None = None
    old_dynamic: bool = False
    measurement_mode: Literal["time_windows", "count_windows"] = "time_windows"
    measurement_interval_ms: int = 5000
    measurement_request_count: int = 50
    stability_percentage: float = 10.0
    max_trials: int = 10
    percentile: int = -1
    request_count: int = 0
    warmup_request_count: int = 0
    input_data: tuple[str, ...] = ()
    batch: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    string_length: int = 128
    string_data: str | None = None
    request_parameters: Mapping[str, bool | int | str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    compression: Literal["none", "gzip", "deflate"] | None = None
    num_of_sequences: int = 4
    sequence_length: int = 0
    sequence_length_variation: float = 20.0
    sequence_ids: tuple[int, int] = (1, 0)
    serial_sequences: bool = False
    ssl: Ssl = Ssl()
    collect_metrics: bool = False
    metrics_url: str = ""
    metrics_interval_ms: int | None = None
    csv: str = ""
    verbose_csv: bool = False
    profile_export: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)
    version: bool = False
    help: bool = False
    keep_unstable: bool = False
    runs: str = ""


Change = Callable[[Asked, str], Asked]


class Misused(ValueError):  # noqa: N818 - what is wrong with one value, told to the user behind the option's name
    """A value that an option does not take; its words follow the option's name."""


def parse(arguments: Sequence[str]) -> Asked:
    """Read a command line.

    Raises:
        PlanError: an option is not known, ambiguous, of another back end, or has a value it does not take.
    """
    from loadgen.dropin.table import LONG, SHORT  # noqa: PLC0415 - the table is made of what this module defines

    longs = [name + "=" * each.takes_value for name, each in LONG.items() if len(name) > 1]
    shorts = SHORT_FLAGS + "?h" + "".join(f"{letter}:" for letter in SHORT_VALUES)
    try:
        found, rest = getopt.gnu_getopt(list(arguments), shorts, longs)
    except getopt.GetoptError as error:
        raise PlanError(f"{error.msg}; --help lists the options") from error
    if rest:
        raise PlanError(f"{rest[0]}: is no option, and belongs to none")
    asked = Asked()
    for name, value in found:
        option = LONG[name[2:]] if name.startswith("--") else LONG[SHORT.get(name[1:], name[1:])]
        try:
            asked = option.change(asked, value)
        except Misused as error:
            raise PlanError(f"Failed to parse {name}. {error}") from error
        except ValueError as error:
            raise PlanError(f"Failed to parse {name}. Invalid value provided: {value}") from error
    return asked


def put(name: str, convert: Callable[[str], Any] = str) -> Change:
    """Return what stores a converted value in a field."""
    return lambda asked, value: replace(asked, **{name: convert(value)})


def flag(**fields: object) -> Change:
    """Return what sets fields, for an option without a value."""
    return lambda asked, _: replace(asked, **fields)  # type: ignore[arg-type]


def add(name: str, convert: Callable[[str], tuple[str, Any]]) -> Change:
    """Return what adds a pair to a mapping."""

    def change(asked: Asked, value: str) -> Asked:
        key, content = convert(value)
        changed: dict[str, Any] = {name: {**getattr(asked, name), key: content}}
        return replace(asked, **changed)

    return change


def put_ssl(name: str, convert: Callable[[str], Any] = str) -> Change:
    """Return what stores a converted value among the TLS options."""
    return lambda asked, value: replace(asked, ssl=replace(asked.ssl, **{name: convert(value)}))
