"""Tables and sentences of the page about GPUs, energy and our own host."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis import hardware, readable
from analysis.figures import Tables
from analysis.levels import axis, level_text, levelled
from analysis.readable import counted, listed, number, percent
from analysis.tabular import Column, Table
from loadgen.clock import NS_PER_MS

NVML_ONLY = "nvml"


def physics_table(of: Tables) -> Table:
    """Return each point in terms of physics; figures the run has nothing for are left out."""
    frame = _at_levels(of, of.physics).sort("level", "point")
    # Of an interval that is not symmetric the larger side, as for every ± of the page.
    frame = frame.with_columns(
        side=100 * (pl.col("joules_per_event_high") / pl.col("joules_per_event") - 1),
        limit=100 * pl.col("power_fraction"),
        kilocells_per_s=pl.col("cells_per_s") / 1000,
    )
    figures = {
        Column("Events", "1/s"): "events_per_s",
        Column("Cells", "thousands/s"): "kilocells_per_s",
        Column("GPU time", "s/event"): "gpu_seconds_per_event",
        Column("Power", "W"): "power_w",
        Column("Power", "% of limit"): "limit",
        Column("Energy", "J/event"): "joules_per_event",
        Column("± J", "%"): "side",
        Column("Events", "per kWh"): "events_per_kwh",
    }
    known = {column: frame[name] for column, name in figures.items() if frame[name].is_not_null().any()}
    cells = [_level(frame), *(readable.column(values.to_list()) for values in known.values())]
    columns = [_heading(of), *known]
    has_gpus = bool(frame["gpus"].sum())
    if has_gpus:
        columns += [Column("GPUs"), Column("Energy from", words=True)]
        cells += [list(map(str, frame["gpus"])), frame["energy_source"].fill_null(readable.MISSING).to_list()]
    notes = frame["reason"].fill_null("").to_list() if has_gpus else []
    return Table(columns, [list(row) for row in zip(*cells, strict=True)], notes)


def gpu_table(of: Tables) -> Table:
    """Return the figures of every GPU at every point; no rows where there are none."""
    columns = [_heading(of), Column("GPU", words=True), Column("Utilisation"), Column("Power", "W")]
    columns += [Column("Limit", "W"), Column("Power", "of limit"), Column("Memory", "most used, of all")]
    columns += [Column("GPU time", "s/event"), Column("Energy", "J/event")]
    columns += [Column("Energy from", words=True), Column("Read from", words=True)]
    own = of.gpu_physics.select("point", "gpu", "gpu_seconds_per_event", "joules_per_event", "energy_source")
    frame = _at_levels(of, of.gpus.join(own, on=["point", "gpu"], how="left", maintain_order="left"))
    names = readable.short_names(of.gpus["gpu"])
    return Table(columns, [_gpu_row(row, names[row["gpu"]]) for row in frame.iter_rows(named=True)])


def client_table(of: Tables) -> Table:
    """Return what our own host did at every point; no rows where nothing was sampled."""
    frame = _at_levels(of, of.client).sort("level", "point")
    columns = {
        Column("Host CPU", "busy, %"): 100 * frame["host_cpu"],
        Column("Our processes", "cores"): frame["process_cpu_cores"],
        Column("Loop lag", "p99, ms"): frame["loop_lag_p99_ns"] / NS_PER_MS,
        Column("Network in", "MB/s"): frame["network_in_bytes_per_s"] / 1e6,
        Column("Network out", "MB/s"): frame["network_out_bytes_per_s"] / 1e6,
        Column("Loopback", "MB/s"): frame["loopback_bytes_per_s"] / 1e6,
    }
    known = frame["host_cpu"].is_not_null().any() or frame["process_cpu_cores"].is_not_null().any()
    cells = [_level(frame), *(readable.column(values.to_list()) for values in columns.values())]
    return Table([_heading(of), *columns], [list(row) for row in zip(*cells, strict=True)] if known else [])


def best_words(of: Tables, point: int) -> str | None:
    """Return the physics of a point in a sentence; None if nothing but its throughput is known."""
    found = of.physics.filter(pl.col("point") == point).row(0, named=True)
    said = [f"{_rounded(found['cells_per_s'])} cells/s"] if found["cells_per_s"] is not None else []
    if found["joules_per_event"] is not None:
        kwh = f"{_rounded(found['events_per_kwh'])} events/kWh, " if found["events_per_kwh"] is not None else ""
        words = f"{kwh}from {found['energy_source']} of {counted(found['gpus'], 'GPU')}"
        said.append(f"{number(found['joules_per_event'])} J an event ({words})")
    if found["gpu_seconds_per_event"] is not None:
        said.append(f"{number(found['gpu_seconds_per_event'])} GPU-seconds an event")
    if found["power_fraction"] is not None:
        said.append(f"{percent(found['power_fraction'])} of the power limit")
    return f"In terms of physics, at the point of best throughput: {', '.join(said)}." if said else None


def gpu_words(of: Tables) -> list[tuple[str, str]]:
    """Return what is to be said of where GPU figures come from, and what of them is missing and why: text, kind."""
    dead = hardware.dead_collectors(of.samples)
    said = []
    for collector, gpus in dead.group_by("of", maintain_order=True):
        names = listed(readable.short_names(gpus["gpu"]).values())
        text = f"Utilisation, power and memory of {names} are 0 in the whole run as {collector[0]} gives them: "
        said.append((f"{text}that collector does not work, and its figures are treated as missing.", "warning"))
    pages = of.samples.filter(pl.col("source") == hardware.PAGES)
    if of.gpus["utilisation"].is_null().all():
        if pages.is_empty():
            said.append(("No metrics page was read: GPU and CPU utilisation, power and memory are missing.", "plain"))
        elif dead.is_empty():
            text = "No GPU metrics on this server: GPU utilisation, power and memory are missing."
            said.append((text, "plain"))
    elif (of.gpus["source"] == NVML_ONLY).all():
        said.append(("GPU figures are those of our own host, read by NVML: no page has any.", "plain"))
    return said


def _rounded(value: float) -> str:
    """Return three significant digits of a large figure: `2,520,000`."""
    return f"{float(f'{value:.3g}'):,.10g}"


def _at_levels(of: Tables, frame: pl.DataFrame) -> pl.DataFrame:
    facts = levelled(of.points).select("point", "level")
    return frame.join(facts, on="point", how="left", maintain_order="left")


def _heading(of: Tables) -> Column:
    return Column(axis(of.points).heading if of.points.height else "Level")


def _level(frame: pl.DataFrame) -> list[str]:
    return list(map(level_text, frame["level"]))


def _gpu_row(row: Mapping[str, Any], name: str) -> list[str]:
    name = f"{name} ({row['mig_profile']})" if row["mig_profile"] else name
    return [
        *(level_text(row["level"]), name, percent(row["utilisation"])),
        *(number(row["power_w"]), number(row["power_limit_w"]), percent(row["power_fraction"])),
        " of ".join(readable.gibibytes(row[name]) for name in ("memory_used_max_bytes", "memory_total_bytes")),
        *(number(row["gpu_seconds_per_event"]), number(row["joules_per_event"])),
        *(row["energy_source"] or readable.MISSING, row["source"] or readable.MISSING),
    ]
