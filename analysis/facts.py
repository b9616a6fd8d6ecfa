"""What all points of a run have in common: model, server, inputs, pile-up, instances, GPUs, client."""

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis.hardware import gpu_samples
from analysis.runs import Run

STAMP = re.compile(r"^\d{8}T\d{6}Z-")
MU = re.compile(r"(?<![a-z])mu[ _=-]?(\d+(?:\.\d+)?)", re.IGNORECASE)
OVERLAY = re.compile(r"overlay of (\d+) events")
NEVER_NAMED = "run"


def of_run(run: Run, name: str, label: str | None = None) -> dict[str, Any]:
    """Return the row of `analysis.tidy.RUNS` for a run; what its files do not say is None."""
    target: dict[str, Any] = next((event["target"] for event in run.events("target") if "target" in event), {})
    said = next(iter(run.events("server")), {})
    inputs = target.get("inputs") or run.corpus.get("source")
    return {
        "run": name,
        "label": label or label_of(run.path.name),
        "source": str(run.path),
        "kind": "loadgen",
        "model": target.get("model") or run.plan.get("endpoint", {}).get("model"),
        "model_version": model_version(run, said),
        "server": target.get("server"),
        "server_version": _server_version(said),
        "inputs": inputs,
        "inputs_sha256": run.corpus.get("sha256"),
        "mu": pile_up(run.corpus, inputs),
        "instances": target.get("instances"),
        "gpus": gpus_of(said.get("config", {}), run.samples()),
        "simulated": target.get("simulated"),
        "host": run.environment.get("host"),
        **{name: run.plan.get(name) for name in ("transport", "connections", "workers")},
        "started_utc_ns": run.manifest.get("started_utc_ns"),
        "started_at_ns": run.manifest.get("started_at_ns"),
        "ended": run.manifest.get("ended"),
        "loadgen_version": run.manifest.get("loadgen_version"),
    }


def label_of(name: str) -> str:
    """Return a run directory's name without the time it was made at: `20260921T134640Z-sweep` is `sweep`."""
    return STAMP.sub("", name) or NEVER_NAMED


def model_version(run: Run, said: Mapping[str, Any]) -> str | None:
    """Return the version that was asked for, else the highest that the server has, which is what it answers with."""
    asked = run.plan.get("endpoint", {}).get("version")
    versions = said.get("metadata", {}).get("versions") or []
    numbers = [version for version in versions if str(version).isdigit()]
    return asked or (max(numbers, key=int) if numbers else next(iter(versions), None))


def _server_version(said: Mapping[str, Any]) -> str | None:
    server = said.get("server")
    return str(server["version"]) if isinstance(server, dict) and "version" in server else said.get("version")


def pile_up(corpus: Mapping[str, Any], inputs: str | None) -> float | None:
    """Return the pile-up of a run's inputs: as they were made, else the one number that their names tell.

    Events laid over each other add up.
    """
    provenance = corpus.get("provenance", {})
    made = provenance.get("mu") if isinstance(provenance, dict) else None
    one = float(made) if isinstance(made, int | float) else named_pile_up(f"{inputs or ''} {provenance}")
    laid = OVERLAY.search(inputs or "")
    return one * int(laid[1]) if one is not None and laid else one


def named_pile_up(text: str) -> float | None:
    """Return the mu that a text names, as `geant4_ttbar_mu200`; None if it names none, or several."""
    found = {float(number) for number in MU.findall(text)}
    return found.pop() if len(found) == 1 else None


def gpus_of(config: Mapping[str, Any], samples: pl.DataFrame) -> int | None:
    """Return on how many GPUs the model's instances are by its configuration, else how many were sampled."""
    groups = config.get("instance_group") or []
    named = {gpu for group in groups for gpu in group.get("gpus", [])}
    seen = gpu_samples(samples)["gpu"].n_unique() if samples.height else 0
    return len(named) or seen or None
