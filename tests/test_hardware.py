"""GPU figures by whoever collects them: the same columns and units, each GPU once, no zeros of nobody."""

import json
from typing import Any

import polars as pl
import pytest
import sealed_run

from analysis.hardware import dead_collectors, gpu_figures, gpu_figures_by_source
from loadgen import points as measured
from loadgen.gpus import FIGURES, gpu_of
from loadgen.rundir import Sample
from loadgen.server.metrics import parse_page

S = 1_000_000_000
TRITON = """nv_gpu_utilization{{gpu_uuid="{gpu}"}} {use}
nv_gpu_power_usage{{gpu_uuid="{gpu}"}} {power}
nv_gpu_memory_used_bytes{{gpu_uuid="{gpu}"}} {memory}
nv_energy_consumption{{gpu_uuid="{gpu}"}} {energy}
"""
DCGM = """DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="{gpu}",Hostname="n"}} 50
DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="{gpu}",Hostname="n"}} 210
DCGM_FI_DEV_POWER_MGMT_LIMIT{{gpu="0",UUID="{gpu}",Hostname="n"}} 700
DCGM_FI_DEV_FB_USED{{gpu="0",UUID="{gpu}",Hostname="n"}} 1024
DCGM_FI_DEV_FB_FREE{{gpu="0",UUID="{gpu}",Hostname="n"}} 3072
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",UUID="{gpu}",Hostname="n"}} {energy_mj}
"""
MIG = """DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu="0",UUID="G",GPU_I_PROFILE="1g.5gb",GPU_I_ID="{part}"}} {use}
DCGM_FI_DEV_FB_USED{{gpu="0",UUID="G",GPU_I_PROFILE="1g.5gb",GPU_I_ID="{part}"}} 100
DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="G",GPU_I_PROFILE="1g.5gb",GPU_I_ID="{part}"}} 200
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",UUID="G",GPU_I_PROFILE="1g.5gb",GPU_I_ID="{part}"}} {energy_mj}
"""

WINDOW = measured.table([dict.fromkeys(measured.SCHEMA) | {"point": 1, "window_start_ns": S, "window_end_ns": 3 * S}])


def sampled(*samples: Sample) -> pl.DataFrame:
    """Return a samples table."""
    rows = [(each.at_ns, each.source, each.metric, each.labels, each.value) for each in samples]
    return pl.DataFrame(rows, schema=sealed_run.SAMPLES, orient="row")


def triton(gpu: str, use: float, power: float, memory: float = 1e9, per_s: float = 100.0) -> list[Sample]:
    """Return Triton's page at 0, 2 and 4 s."""
    facts = {"gpu": gpu, "use": use, "power": power, "memory": memory}
    return [s for at in (0, 2, 4) for s in parse_page(TRITON.format(**facts, energy=at * per_s), at * S)]


def dcgm(gpu: str) -> list[Sample]:
    """Return the DCGM exporter's page at 0, 2 and 4 s; the GPU takes 210 W."""
    return [s for at in (0, 2, 4) for s in parse_page(DCGM.format(gpu=gpu, energy_mj=at * 210_000), at * S)]


def nvml(gpu: str, **figures: float) -> list[Sample]:
    """Return what our NVML reader gives at 2 s."""
    return [Sample(2 * S, "nvml", name, json.dumps({"gpu_uuid": gpu}), value) for name, value in figures.items()]


def only(found: pl.DataFrame, **expected: Any) -> None:
    """Check columns of the only row."""
    (row,) = found.iter_rows(named=True)
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_dcgm_exporters_names_and_units() -> None:
    """Percent, MiB and mJ become fraction, bytes and joules; the fraction of power is of the limit on the page."""
    figures = {"utilisation": 0.5, "power_w": 210.0, "power_limit_w": 700.0, "power_fraction": 0.3, "energy_j": 420.0}
    memory = {"memory_used_max_bytes": float(1 << 30), "memory_total_bytes": float(4 << 30)}
    only(gpu_figures(WINDOW, sampled(*dcgm("G"))), gpu="G", source="dcgm", **figures, **memory)


def test_amd_exporters_names_need_its_serial_number() -> None:
    """Percent, watts and microjoules; a figure of the same plain name from elsewhere is nobody's."""
    names = {"gpu_gfx_activity": "40", "gpu_package_power": "500", "gpu_energy_consumed": "{uj}"}
    page = "\n".join(f'{name}{{{{{{label}}="x"}}}} {value}' for name, value in names.items())
    pages = [(at, page.format(label="serial_number", uj=at * 5e8)) for at in (0, 2, 4)]
    samples = [sample for at, text in pages for sample in parse_page(text, at * S)]
    only(gpu_figures(WINDOW, sampled(*samples)), source="amd", utilisation=0.4, power_w=500.0, energy_j=1000.0)
    assert gpu_figures(WINDOW, sampled(*parse_page(page.format(label="card", uj=1), 2 * S))).is_empty()


def test_tritons_own_figures_win_and_others_fill_in() -> None:
    """Where both know a GPU, Triton's values are taken, the limit it lacks is DCGM's, and both are named."""
    samples = sampled(*triton("G", 0.9, 300.0), *dcgm("G"))
    only(gpu_figures(WINDOW, samples), utilisation=0.9, power_w=300.0, power_limit_w=700.0, energy_j=200.0)
    assert gpu_figures(WINDOW, samples)["source"].to_list() == ["triton + dcgm"]
    beside = gpu_figures_by_source(WINDOW, samples)
    assert beside["source"].to_list() == ["dcgm", "triton"]
    assert beside["utilisation"].to_list() == [0.5, 0.9]


def test_under_mig_an_instance_has_its_use_and_the_gpu_its_power_once() -> None:
    """The exporter repeats the GPU's power and energy for each instance: they count once, for the whole GPU."""
    samples = [
        sample
        for at in (0, 2, 4)
        for part, use in ((5, 0.25), (6, 0.75))
        for sample in parse_page(MIG.format(part=part, use=use, energy_mj=at * 200_000), at * S)
    ]
    found = gpu_figures(WINDOW, sampled(*samples))
    assert found["gpu"].to_list() == ["G", "G/5", "G/6"]
    assert found["utilisation"].to_list() == [None, 0.25, 0.75]
    assert found["power_w"].to_list() == [200.0, None, None]
    assert found["energy_j"].to_list() == [400.0, None, None]
    assert found["mig_profile"].to_list() == [None, "1g.5gb", "1g.5gb"]


def test_a_collector_of_zeros_is_missing_and_another_takes_its_place() -> None:
    """Use, power and memory of 0 in the whole run are no figures; an idle GPU, which draws power, is one."""
    zeros = triton("G", 0, 0, 0, 0)
    assert gpu_figures(WINDOW, sampled(*zeros)).is_empty()
    assert dead_collectors(sampled(*zeros)).rows() == [("G", "triton")]
    only(gpu_figures(WINDOW, sampled(*zeros, *dcgm("G"))), source="dcgm", utilisation=0.5)
    idle = triton("G", 0, 30.0)
    assert dead_collectors(sampled(*idle)).is_empty()
    only(gpu_figures(WINDOW, sampled(*idle)), utilisation=0.0, power_w=30.0)


def test_an_energy_counter_that_stands_still_is_none() -> None:
    """A GPU that draws power and whose counter stays is one without a counter: its energy is missing, not 0."""
    only(gpu_figures(WINDOW, sampled(*triton("G", 0.5, 30.0, per_s=0.0))), energy_j=None)


def test_a_gpu_of_our_host_that_no_page_names_is_not_the_servers() -> None:
    """NVML fills in for GPUs on a page, or stands alone where no page names any."""
    own = nvml("G", nvml_utilization_gpu_percent=80, nvml_enforced_power_limit_milliwatts=400_000)
    other = nvml("H", nvml_utilization_gpu_percent=5)
    only(gpu_figures(WINDOW, sampled(*triton("G", 0.9, 300.0), *own, *other)), gpu="G", power_limit_w=400.0)
    assert gpu_figures(WINDOW, sampled(*own, *other))["gpu"].to_list() == ["G", "H"]


def test_two_pages_each_have_a_counter_of_their_own() -> None:
    """Energy since each Triton started: two of them on one GPU are not read as one counter that jumps."""
    facts = {"gpu": "G", "use": 1, "power": 100, "memory": 1}
    pages = [
        sample
        for at in (0, 2, 4)
        for offset, instance in ((0, "a:8002"), (5000, "b:8002"))
        for sample in parse_page(TRITON.format(**facts, energy=offset + 100 * at), at * S, instance)
    ]
    only(gpu_figures(WINDOW, sampled(*pages)), energy_j=200.0)


def test_the_table_and_the_page_agree_on_whose_a_figure_is() -> None:
    """`gpu_of`, which looks at a page, and the tables, which look at samples, name the same GPUs."""
    labels = [{"gpu_uuid": "a"}, {"UUID": "b", "GPU_I_ID": "3"}, {"serial_number": "c"}, {"card": "d"}]
    labels += [{"UUID": "b", "GPU_I_ID": ""}, {"gpu_uuid": "e", "serial_number": "f"}]
    for metric in FIGURES:
        for each in labels:
            samples = sampled(Sample(2 * S, "metrics", metric, json.dumps(each), 1.0))
            expected = gpu_of(metric, each)
            assert gpu_figures(WINDOW, samples)["gpu"].to_list() == ([expected] if expected else []), (metric, each)
