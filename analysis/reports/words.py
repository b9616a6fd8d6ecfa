"""A study in plain sentences: what was measured, the answer and its uncertainty, what limits it, trust."""

from typing import Any

import polars as pl

from analysis import takes
from analysis.levels import level_text
from analysis.readable import counted, duration, listed, number, percent
from analysis.reports import places
from analysis.reports.gathered import Gathered
from analysis.summary import Sentence

MOST_TOLD = 6
MOST_SETS, IN_FULL = 8, 3
"""Of more sets of inputs only the best configuration is named; what limits it is told of few."""
UNKNOWN = "not recorded"
BUSY, MOSTLY = 0.9, 0.5
OBJECTIONS = "these figures are a first look, not a result"


def sentences(of: Gathered, judged: pl.DataFrame, found: pl.DataFrame) -> list[Sentence]:
    """Return the summary, most important first; `judged` are the points, `found` their places."""
    if found.is_empty():
        return [*_subject(of), *_notes(of)]
    return [
        *_simulated(of),
        *_subject(of),
        *_answers(found),
        *_trusted(judged, found),
        *_scatter(judged),
        *_failures(of, judged),
        *_missing(of, found),
        *_notes(of),
    ]


def place_text(place: dict[str, Any], *, inputs: bool = True) -> str:
    """Return a place in words: `4insts_1gpus at concurrency 8, mu200`."""
    at = "" if place["level"] is None else f" at {noun(place['load'])} {level_text(place['level'])}"
    return f"{place['configuration']}{at}" + (f", {place['input_set']}" if inputs else "")


def noun(load: str | None) -> str:
    """Return what the level of a load is called."""
    return {"closed_loop": "concurrency", "open_loop": "rate"}.get(load or "closed_loop", "level")


def interval(low: float | None, high: float | None, takes_: int) -> str:
    """Return an interval in words."""
    if low is None or high is None:
        return "no interval known"
    kind = f"over {takes_} takes" if takes_ > 1 else "within its one window"
    return f"95 % interval {number(low)} to {number(high)} {kind}"


def _simulated(of: Gathered) -> list[Sentence]:
    if not of.points["simulated"].any():
        return []
    text = "SIMULATED: the model, the server or the inputs are stand-ins. Nothing here is a physics figure."
    return [Sentence(text, "warning")]


def _subject(of: Gathered) -> list[Sentence]:
    points = of.points
    standalone = of.loaded.standalone
    beside = f" {counted(standalone.height, 'standalone result')} beside it." if standalone.height else ""
    if points.is_empty():
        return [Sentence(f"No point of a service.{beside}")]
    models, servers = (listed(_few(points[name])) for name in ("model", "server"))
    servers = "a server not recorded" if servers == UNKNOWN else servers
    on = f"{models} on {servers}" if models != UNKNOWN else f"A model not recorded, on {servers}"
    points = points.sort("mu", nulls_last=True, maintain_order=True)
    sets = f"{counted(points['input_set'].n_unique(), 'input set')} ({listed(_few(points['input_set']))})"
    sets = "inputs not recorded" if set(points["input_set"]) == {"inputs"} else sets
    levels = sorted(points["level"].drop_nulls().unique())
    span = f" at {_nouns(points)} {level_text(levels[0])} to {level_text(levels[-1])}" if levels else ""
    most = int(points["take"].max() or 1)  # type: ignore[arg-type]
    text = (
        f"{on}: {counted(points['configuration'].n_unique(), 'configuration')}, "
        f"{sets}{span}, up to {counted(most, 'take')}; "
        f"{counted(points.height, 'point')} from {counted(of.loaded.runs.height, 'source')}.{beside}"
    )
    return [Sentence(text)]


def _nouns(points: pl.DataFrame) -> str:
    return listed(dict.fromkeys(noun(load) for load in points["load"].unique(maintain_order=True)))


def _few(values: pl.Series) -> list[str]:
    names = values.drop_nulls().unique(maintain_order=True).to_list()
    more = [f"{len(names) - MOST_TOLD} more"] if len(names) > MOST_TOLD else []
    return [*map(str, names[:MOST_TOLD]), *more] or [UNKNOWN]


def _answers(found: pl.DataFrame) -> list[Sentence]:
    """Name the best configuration for each set of inputs: other events are another question."""
    sets = found.partition_by("input_set", maintain_order=True)
    said = [_answer(each, several=len(sets) > 1) for each in sets[:MOST_SETS]]
    more = [Sentence(f"{len(sets) - MOST_SETS} more input sets are in the table.")] if len(sets) > MOST_SETS else []
    if len(sets) > IN_FULL:
        return [*(each[0] for each in said), *more]
    return [*(sentence for each in said for sentence in each), *more]


def _answer(found: pl.DataFrame, *, several: bool) -> list[Sentence]:
    best = places.best(found)
    where = f" for {found['input_set'][0]}" if several else ""
    if best is None:
        return [Sentence(f"No request completed{where}, so there is no best configuration.", "warning")]
    known = [
        f"GPUs {percent(best['gpu_utilisation'])} in use" if best["gpu_utilisation"] is not None else "",
        f"{number(best['energy_per_event_j'])} J an event" if best["energy_per_event_j"] is not None else "",
    ]
    absent = [name for name, column in _OF_GPUS.items() if best[column] is None]
    limits = interval(best["throughput_low_per_s"], best["throughput_high_per_s"], best["takes"])
    figures = [
        f"{number(best['throughput_per_s'])} events/s ({limits}{_left_out(best)})",
        _p99(best),
        *known,
        f"{' and '.join(absent)} not recorded" if absent else "",
    ]
    doubt = "" if best["measured"] else "; every take has an objection"
    text = f"Best{where}: {place_text(best, inputs=False)}: {', '.join(filter(None, figures))}{doubt}."
    kind = "warning" if not best["measured"] else "good" if best["verdicts"] else "plain"
    limit = Sentence(_limit(found, best))
    return [Sentence(text, kind), *_doubted(found, best), *_rivals(found, best), limit]


def _p99(best: dict[str, Any]) -> str:
    value, low, high = best["p99_ns"], best["p99_low_ns"], best["p99_high_ns"]
    if value is None:
        return ""
    known = f" ({duration(low)} to {duration(high)})" if low is not None and high is not None else ""
    return f"p99 of {best['headline']} time {duration(value)}{known}"


def _left_out(best: dict[str, Any]) -> str:
    """Say how many takes have an objection and do not count."""
    rest = best["points"] - best["takes"]
    return f"; {counted(rest, 'take')} with an objection left out" if rest and best["measured"] else ""


_OF_GPUS = {"GPU use": "gpu_utilisation", "energy": "energy_per_event_j"}


def _doubted(found: pl.DataFrame, best: dict[str, Any]) -> list[Sentence]:
    """Name the place that measured more but was not chosen, for every take of it has an objection."""
    above = found.filter(~pl.col("measured"), pl.col("throughput_per_s") > best["throughput_per_s"])
    if above.is_empty() or not best["measured"]:
        return []
    most = above.sort("throughput_per_s", descending=True).row(0, named=True)
    text = (
        f"Not chosen, though it measured more: {place_text(most, inputs=False)}, "
        f"{number(most['throughput_per_s'])} events/s, for every take of it has an objection ({most['verdicts']})."
    )
    return [Sentence(text, "warning")]


def _rivals(found: pl.DataFrame, best: dict[str, Any]) -> list[Sentence]:
    """Say which places cannot be told from the best one: their interval reaches up to its own."""
    others = places.comparable(found).filter(
        (pl.col("configuration") != best["configuration"]) | pl.col("level").ne_missing(best["level"])
    )
    if best["throughput_low_per_s"] is None:
        return []
    near = others.filter(pl.col("throughput_high_per_s") >= best["throughput_low_per_s"]).sort(
        "throughput_per_s", descending=True
    )
    if near.is_empty():
        return []
    named = [place_text(row, inputs=False) for row in near.head(2).iter_rows(named=True)]
    more = f" and {near.height - 2} more" if near.height > 2 else ""  # noqa: PLR2004 - two are named
    text = f"Not told apart from it, for the intervals overlap: {'; '.join(named)}{more}."
    return [Sentence(text)]


def _limit(found: pl.DataFrame, best: dict[str, Any]) -> str:
    """Say what keeps the best place from more, as far as its figures tell."""
    told = [
        _share("its GPUs are {} in use", best["gpu_utilisation"], BUSY),
        _share("its model instances are busy {} of the time", best["server_busy"], BUSY),
        _part("requests wait in the server's queue for {} of their time", best, "server_queue_ns"),
        _part("network and client take {} of the time of a request", best, "network_ns"),
        "the client was the limit" if "client_limited" in best["verdicts"] and not best["measured"] else "",
    ]
    known = [each for each in told if each]
    highest = found.filter(pl.col("load") == best["load"])["level"].max()
    edge = (
        f" It stands at the highest {noun(best['load'])} measured: more may give more."
        if best["level"] is not None and best["level"] == highest
        else ""
    )
    if known:
        return f"What limits it: {'; '.join(known)}.{edge}"
    return f"What limits it cannot be told from what was recorded.{edge}"


def _share(words: str, share: float | None, least: float) -> str:
    return words.format(percent(share)) if share is not None and share >= least else ""


def _part(words: str, best: dict[str, Any], column: str) -> str:
    part, whole = best[column], best["mean_ns"]
    return _share(words, part / whole if part is not None and whole else None, MOSTLY)


def _trusted(judged: pl.DataFrame, found: pl.DataFrame) -> list[Sentence]:
    verdicts = judged["verdict"].drop_nulls().value_counts(sort=True)
    if verdicts.is_empty():
        return [Sentence("No verdicts: these figures were not measured by loadgen.")]
    told = listed(f"{count} {verdict}" for verdict, count in verdicts.iter_rows())
    sure = int(judged["measured"].sum())
    if sure == judged.height:
        return [Sentence(f"No point has an objection ({told}).", "good")]
    whole = int(found["measured"].sum())
    text = (
        f"{sure} of {counted(judged.height, 'point')} have no objection ({told}); "
        f"{whole} of {counted(found.height, 'place')} measured have such a point"
    )
    return [Sentence(f"{text}: {OBJECTIONS}." if not sure else f"{text}.", "warning")]


def _scatter(judged: pl.DataFrame) -> list[Sentence]:
    parts = [takes.takes(group) for group in judged.partition_by(*places.KEYS) if group["take"].n_unique() > 1]
    text = takes.scatter_words(pl.concat(parts)) if parts else None
    if text:
        return [Sentence(f"{text}.", "warning")]
    if judged["take"].n_unique() == 1:
        return [Sentence("One take only: how figures change from one take to the next is not known.", "warning")]
    return []


def _failures(of: Gathered, judged: pl.DataFrame) -> list[Sentence]:
    failed, completed = (int(judged[name].sum() or 0) for name in ("failed", "completed"))
    said = []
    if failed:
        share = percent(failed / (failed + completed))
        where = judged.filter(pl.col("failed") > 0)["configuration"].unique(maintain_order=True)
        said.append(Sentence(f"{counted(failed, 'request')} failed ({share}), of {listed(_few(where))}.", "warning"))
    elif judged["failed"].is_not_null().all():
        said.append(Sentence("No request failed in any window.", "good"))
    if of.grid is not None:
        told = of.grid.failures[:MOST_TOLD]
        more = len(of.grid.failures) - len(told)
        said += [Sentence(f"A configuration failed: {line}.", "warning") for line in told]
        said += [Sentence(f"{counted(more, 'more failure')} of configurations.", "warning")] if more else []
    return said


def _missing(of: Gathered, found: pl.DataFrame) -> list[Sentence]:
    if of.grid is None:
        return []
    if not of.grid.missing:
        return [Sentence(f"The grid is complete: {counted(of.grid.asked, 'point')} asked, all measured.", "good")]
    holes = of.grid.holes(found.select("configuration", "input_set", "level").iter_rows())
    gaps = f"; {counted(len(holes), 'place')} without any take, gaps in the charts" if holes else ""
    text = (
        f"{len(of.grid.missing)} of {counted(of.grid.asked, 'point')} are missing{gaps}: see the list below. "
        f"To finish: python -m loadgen study {of.grid.folder}"
    )
    return [Sentence(text, "warning")]


def _notes(of: Gathered) -> list[Sentence]:
    told = [*of.loaded.notes]
    ended = of.loaded.runs.filter(pl.col("ended").ne_missing("complete"), pl.col("kind") == "loadgen")
    told += [f"{run}: did not end by itself ({how})." for run, how in ended.select("run", "ended").iter_rows()]
    more = [f"{len(told) - MOST_TOLD} more such notes: see the provenance."] if len(told) > MOST_TOLD else []
    return [Sentence(text, "warning") for text in (*told[:MOST_TOLD], *more)]
