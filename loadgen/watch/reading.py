"""What one look at a server saw: counters of its models, gauges of its GPUs, or why it saw nothing. Pure."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields

from loadgen.kserve import Statistics
from loadgen.rundir import Sample

Key = tuple[str, str]
"""A model and its version."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Cumulative counters of one model version; what the source does not tell is None."""

    success: float | None = None
    failed: float | None = None
    inferences: float | None = None
    executions: float | None = None
    queue_ns: float | None = None
    compute_input_ns: float | None = None
    compute_infer_ns: float | None = None
    compute_output_ns: float | None = None


NAMES = tuple(each.name for each in fields(Counters))
US_NS = 1000.0
PAGE_COUNTERS = {
    "nv_inference_request_success": ("success", 1.0),
    "nv_inference_request_failure": ("failed", 1.0),
    "nv_inference_count": ("inferences", 1.0),
    "nv_inference_exec_count": ("executions", 1.0),
    "nv_inference_queue_duration_us": ("queue_ns", US_NS),
    "nv_inference_compute_input_duration_us": ("compute_input_ns", US_NS),
    "nv_inference_compute_infer_duration_us": ("compute_infer_ns", US_NS),
    "nv_inference_compute_output_duration_us": ("compute_output_ns", US_NS),
}
"""Triton's counters on its page: which counter of ours each is, and its unit in that of ours."""

PENDING = "nv_inference_pending_request_count"
MIB = float(1 << 20)
PAGE_GAUGES = {
    "nv_gpu_utilization": ("utilisation", 1.0),
    "nv_gpu_power_usage": ("power_w", 1.0),
    "nv_gpu_power_limit": ("power_limit_w", 1.0),
    "nv_gpu_memory_used_bytes": ("memory_used_bytes", 1.0),
    "nv_gpu_memory_total_bytes": ("memory_total_bytes", 1.0),
    "DCGM_FI_DEV_GPU_UTIL": ("utilisation", 0.01),
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", 1.0),
    "DCGM_FI_DEV_POWER_MGMT_LIMIT": ("power_limit_w", 1.0),
    "DCGM_FI_DEV_FB_USED": ("memory_used_bytes", MIB),
    "DCGM_FI_DEV_FB_TOTAL": ("memory_total_bytes", MIB),
}
"""Gauges of a GPU, by Triton's names and by those of NVIDIA's DCGM exporter."""

GPU_LABELS = ("gpu_uuid", "UUID", "uuid")


@dataclass(frozen=True, slots=True)
class Gpu:
    """Gauges of one GPU; what the page does not tell is None, as is all of it where every gauge is 0."""

    utilisation: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None

    @property
    def power_share(self) -> float | None:
        """Power as a share of this GPU's own limit."""
        return self.power_w / self.power_limit_w if self.power_w is not None and self.power_limit_w else None

    @property
    def memory_share(self) -> float | None:
        """Used memory as a share of all."""
        used, total = self.memory_used_bytes, self.memory_total_bytes
        return used / total if used is not None and total else None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at one source saw at `at_ns`; `fault` says why it saw nothing. `ready` is None where not told."""

    at_ns: int
    fault: str = ""
    counters: Mapping[Key, Counters] = field(default_factory=dict)
    pending: Mapping[Key, float] = field(default_factory=dict)
    gpus: Mapping[str, Gpu] = field(default_factory=dict)
    ready: bool | None = None


def of_statistics(found: Mapping[Key, Statistics], at_ns: int, *, ready: bool) -> Reading:
    """Return what a ModelStatistics call of all models says; it was most likely read between asking and answer."""
    at_ns = next(((each.asked_ns + each.read_ns) // 2 for each in found.values()), at_ns)
    return Reading(at_ns, counters={key: _counters(each) for key, each in found.items()}, ready=ready)


def _counters(found: Statistics) -> Counters:
    return Counters(
        found.success_count,
        found.fail_count,
        found.inference_count,
        found.execution_count,
        found.queue_ns,
        found.compute_input_ns,
        found.compute_infer_ns,
        found.compute_output_ns,
    )


def of_page(samples: Sequence[Sample], at_ns: int) -> Reading:
    """Return what a metrics page says: a model's counters are summed over labels that divide them (GPU, reason)."""
    counts: dict[Key, dict[str, float]] = {}
    pending: dict[Key, float] = {}
    gauges: dict[str, dict[str, float]] = {}
    for sample in samples:
        labels = json.loads(sample.labels)
        if "model" in labels:
            key = (labels["model"], labels.get("version", ""))
            if sample.metric in PAGE_COUNTERS:
                name, unit = PAGE_COUNTERS[sample.metric]
                counts.setdefault(key, {}).setdefault(name, 0.0)
                counts[key][name] += sample.value * unit
            elif sample.metric == PENDING:
                pending[key] = pending.get(key, 0.0) + sample.value
        elif sample.metric in PAGE_GAUGES and (uuid := _uuid(labels)):
            name, unit = PAGE_GAUGES[sample.metric]
            gauges.setdefault(uuid, {})[name] = sample.value * unit
    counters = {key: Counters(**each) for key, each in counts.items()}
    return Reading(at_ns, counters=counters, pending=pending, gpus=_gpus(gauges))


def _gpus(gauges: Mapping[str, Mapping[str, float]]) -> dict[str, Gpu]:
    """Return the GPUs; the gauges of one that are 0 every one come from a collector that does not work."""
    return {uuid: Gpu() if _dead(each.values()) else Gpu(**each) for uuid, each in gauges.items()}


def _dead(values: Collection[float]) -> bool:
    return len(values) > 1 and all(math.isclose(value, 0.0) for value in values)


def _uuid(labels: Mapping[str, str]) -> str:
    uuid = next((labels[name] for name in GPU_LABELS if name in labels), "")
    part = labels.get("GPU_I_ID", "")
    return f"{uuid}/{part}" if part else uuid
