"""Where a run was made: host, processor, versions, git commit, command line."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil

from loadgen.endpoint import masked_words

PACKAGES = ("loadgen", "grpcio", "uvloop", "hpack", "tritonclient", "protobuf", "numpy", "polars", "altair")


def describe() -> dict[str, object]:
    """Return the facts of this host that a figure may depend on; what cannot be found out is None."""
    return {
        "host": host(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "command": masked_words(sys.argv),
    }


def host() -> str:
    """Return the name of this machine."""
    return platform.node()


def version() -> str:
    """Return loadgen's own version, or `unknown` when it runs uninstalled."""
    return _version("loadgen") or "unknown"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or None


def _git_commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
