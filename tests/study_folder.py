"""Study folders made up for the tests of reports: sealed runs, takes of configurations, and their study.json."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl
from sealed_run import Story, write_run

from loadgen import study_plan
from loadgen.plan import ByTime, Synthetic
from loadgen.study_plan import InputSet, Remote, Study

LEVELS = (1, 2, 4)
STORY = Story(concurrency=LEVELS, window_s=5.0)


def study_of(servers: Iterable[str], pile_ups: Iterable[float] = (20.0,), takes: int = 2) -> Study:
    """Return a study of servers that run already, at three concurrencies."""
    return Study(
        "traccc-gpu",
        tuple(
            Remote(f"localhost:{8001 + place}", name, instances=place + 1, gpus=2)
            for place, name in enumerate(servers)
        ),
        tuple(InputSet(f"mu{mu:g}", Synthetic(mu, 3), mu) for mu in pile_ups),
        concurrency=LEVELS,
        takes=takes,
        stopping=ByTime(400, 100),
    )


def write_study(folder: Path, asked: Study, story: Story = STORY, *, without: tuple[str, ...] = ()) -> Path:
    """Write the folder of a study whose servers are all measured but for those named; return it."""
    (folder / "runs").mkdir(parents=True)
    (folder / "study.json").write_bytes(study_plan.to_json(asked))
    for number, each in enumerate(study_plan.stretches(asked)):
        if each.server.label in without:
            continue
        mu = each.inputs.mu or 20.0
        told = replace(
            story,
            instances=each.server.instances or 1,
            seed=number,
            service_ms=story.service_ms * mu / 20.0 * (1 + 0.02 * each.take),
            inputs=f"synthetic ODD, mu {mu:g}, 10 events, seed 0",
        )
        name = f"20260921T1346{number:02}Z-take{each.take}-{number}"
        plan = write_run(folder / "runs" / name, told) / "plan.json"
        plan.write_text(json.dumps(json.loads(plan.read_text()) | {"labels": each.labels}))
    return folder


def points_of(folder: Path) -> pl.DataFrame:
    """Return every point of a study straight from its Parquet files, with the labels of its run."""
    tables = []
    for path in sorted(folder.glob("runs/*/points.parquet")):
        labels = json.loads((path.parent / "plan.json").read_text())["labels"]
        names = {"server_label": labels["server"], "inputs_label": labels["inputs"], "take": int(labels["take"])}
        tables.append(pl.read_parquet(path).with_columns(pl.lit(value).alias(name) for name, value in names.items()))
    return pl.concat(tables)
