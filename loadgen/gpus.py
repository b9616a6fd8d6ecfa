"""Names that collectors of GPU figures use -> the same columns in the same units; pure.

Triton's own (`nv_`), those of NVIDIA's DCGM exporter (`DCGM_FI_`), of AMD's device metrics exporter (`gpu_`), and our
own for what NVML says (`nvml_`). Where several name the same figure of the same GPU, the first in `FIGURES` is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MIB = float(1 << 20)
MIG_SEPARATOR = "/"
"""Between the uuid of a GPU and the number of a MIG instance of it."""

COLUMNS = ("utilisation", "power_w", "power_limit_w", "memory_used_bytes", "memory_free_bytes", "memory_total_bytes")
"""Gauges: a fraction, watts, bytes."""

ENERGY = "energy_j"
"""The one counter."""

NVML_NAMES = {
    "nvml_utilization_gpu_percent": ("utilisation", 0.01),
    "nvml_power_usage_milliwatts": ("power_w", 1e-3),
    "nvml_enforced_power_limit_milliwatts": ("power_limit_w", 1e-3),
    "nvml_memory_used_bytes": ("memory_used_bytes", 1.0),
    "nvml_memory_total_bytes": ("memory_total_bytes", 1.0),
    "nvml_total_energy_consumption_millijoules": (ENERGY, 1e-3),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """What a metric means: whose it is, its column, what its value is multiplied with.

    `whole` is of the whole GPU even where a label names a MIG instance: DCGM repeats the GPU's power for each.
    """

    source: str
    column: str
    factor: float = 1.0
    whole: bool = False


FIGURES: dict[str, Figure] = {
    "nv_gpu_utilization": Figure("triton", "utilisation"),
    "nv_gpu_power_usage": Figure("triton", "power_w"),
    "nv_gpu_power_limit": Figure("triton", "power_limit_w"),
    "nv_gpu_memory_used_bytes": Figure("triton", "memory_used_bytes"),
    "nv_gpu_memory_total_bytes": Figure("triton", "memory_total_bytes"),
    "nv_energy_consumption": Figure("triton", ENERGY),
    "DCGM_FI_DEV_GPU_UTIL": Figure("dcgm", "utilisation", 0.01),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": Figure("dcgm", "utilisation"),  # a ratio, and the one that works under MIG
    "DCGM_FI_DEV_POWER_USAGE": Figure("dcgm", "power_w", whole=True),
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": Figure("dcgm", "power_limit_w", whole=True),
    "DCGM_FI_DEV_POWER_MGMT_LIMIT": Figure("dcgm", "power_limit_w", whole=True),
    "DCGM_FI_DEV_FB_USED": Figure("dcgm", "memory_used_bytes", MIB),
    "DCGM_FI_DEV_FB_FREE": Figure("dcgm", "memory_free_bytes", MIB),
    "DCGM_FI_DEV_FB_TOTAL": Figure("dcgm", "memory_total_bytes", MIB),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": Figure("dcgm", ENERGY, 1e-3, whole=True),
    # Its memory is left out: the exporter gives MB, and does not say whether that is 10^6 or 2^20 bytes.
    "gpu_gfx_activity": Figure("amd", "utilisation", 0.01),
    "gpu_package_power": Figure("amd", "power_w"),
    "gpu_average_package_power": Figure("amd", "power_w"),
    "gpu_power_usage": Figure("amd", "power_w"),
    "gpu_energy_consumed": Figure("amd", ENERGY, 1e-6),
    **{name: Figure("nvml", column, factor) for name, (column, factor) in NVML_NAMES.items()},
}
"""Every metric that is understood, the preferred one of a column first."""

SOURCES = tuple(dict.fromkeys(figure.source for figure in FIGURES.values()))


def gpu_of(metric: str, labels: Mapping[str, str]) -> str | None:
    """Return which GPU a figure is of: its uuid, with `/` and its number for a MIG instance; None if of none."""
    figure = FIGURES.get(metric)
    if figure is None:
        return None
    if figure.source == "amd":  # others may use names so plain, but not with the serial number, which it always gives
        serial = labels.get("serial_number")
        return serial and (labels.get("gpu_uuid") or serial)
    uuid = labels.get("gpu_uuid") or labels.get("UUID")
    instance = labels.get("GPU_I_ID")
    return f"{uuid}{MIG_SEPARATOR}{instance}" if uuid and instance and not figure.whole else uuid


def is_dead(largest: Mapping[str, float], gpu: str) -> bool:
    """Say whether a collector gives nothing but zeros for a GPU, from the largest value of each column.

    A GPU that runs draws power and has memory in use, so zeros of both are none of its figures. An idle MIG instance
    may well have 0 of what is its own.
    """
    told = {name: largest[name] for name in ("utilisation", "power_w", "memory_used_bytes") if name in largest}
    return not any(told.values()) and bool(told.keys() - {"utilisation"}) and MIG_SEPARATOR not in gpu
