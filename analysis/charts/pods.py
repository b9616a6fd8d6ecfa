"""Each pod of the service in a panel of its own: is the load spread evenly, and does one of them lag?"""

import altair as alt
import polars as pl

from analysis import levels
from analysis.charts import marks, tidy
from analysis.charts.marks import Axes
from analysis.charts.registry import Chart, chart
from analysis.charts.tidy import Quantity, seconds_or_ms

MOST_PODS = 12
TITLES = ("Throughput", "Mean queue")


@chart("pod-panels", "", "Each pod in a panel of its own", points=("point",), pods=("pod", "throughput_per_s"))
def pod_panels(points: pl.DataFrame, pods: pl.DataFrame) -> Chart:
    """Draw throughput of each pod against the load, and below it its mean queue time, on shared scales."""
    facts, which = tidy.one_label(tidy.loaded(points))
    on = ["run", "point"] if "run" in pods.columns and "run" in points.columns else ["point"]
    own = [name for name in pods.columns if name in on or name not in facts.columns or name == "throughput_per_s"]
    rows = pods.select(own).join(facts.drop("throughput_per_s"), on=on, how="inner", maintain_order="left")
    names = rows["pod"].unique().sort().to_list()
    quantities = [Quantity("throughput_per_s", TITLES[0], "events/s")]
    if "queue_ns" in rows.columns and rows["queue_ns"].is_not_null().any():
        quantities.append(seconds_or_ms(TITLES[1], "queue_ns", rows))
    panels = [
        _panel(
            rows.filter(pl.col("pod") == pod).with_columns(series=pl.lit(quantity.title)), rows, quantity, pod, facts
        )
        for quantity in quantities
        for pod in names[:MOST_PODS]
    ]
    columns = min(len(names), MOST_PODS)
    told = f"{MOST_PODS} of {len(names)} pods are shown." if len(names) > MOST_PODS else ""
    panel = marks.grid(panels, min(columns, 4))
    return marks.entitled(panel, "Each pod in a panel of its own", facts, which, told, "By each pod's own counters.")


def _panel(
    mine: pl.DataFrame, rows: pl.DataFrame, quantity: Quantity, pod: str, facts: pl.DataFrame
) -> alt.LayerChart:
    most = rows[quantity.column].max()
    top = float(most) / quantity.scale if isinstance(most, int | float) else None
    axes = Axes(levels.axis(facts).title, quantity.title, quantity.unit, top=top)
    of = tidy.curve(mine, quantity)
    title = alt.TitleParams(pod, fontSize=11, fontWeight="normal", offset=4)
    by = marks.Look(TITLES, legend=False)
    drawn: alt.LayerChart = marks.curves(of, axes, by, width=190, height=120).properties(title=title)
    return drawn
