"""Vega-Lite specifications -> the same, with parameters that make the page's one selection visible in each of them.

Marks whose `series` is a configuration fade while another one is picked, also under the name that a named chart gives
it (`2insts, mu 20`). What is no configuration (a stage, a GPU, a percentile) stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.charts.marks import SHAPES
from analysis.theme import CATEGORIES

PICKED, KNOWN = "picked", "configurations"
FADED = 0.07
BAND, BAND_PICKED = 0.045, 0.2
"""Bands of several configurations over each other are mud: the one of the picked configuration comes forward."""
MARKS = frozenset({"line", "point", "area", "rule", "bar", "tick", "text"})
OWN = f"{PICKED} != null && {KNOWN}[datum.series] == {PICKED}"
OTHER = f"{PICKED} != null && isValid({KNOWN}[datum.series]) && {KNOWN}[datum.series] != {PICKED}"


@dataclass(frozen=True, slots=True)
class Dressed:
    """The colour and the shape that a configuration has in every chart."""

    colours: Mapping[str, str]
    shapes: Mapping[str, str]


def linked(spec: Mapping[str, Any], names: Mapping[str, str], by: Dressed) -> dict[str, Any]:
    """Return a specification that obeys the signal `picked`; `names` are configurations by the name of a series.

    Scales of which every value is a configuration get its colours and shapes, unless two of them would be alike.
    """
    params = [{"name": PICKED, "value": None}, {"name": KNOWN, "value": dict(names)}]
    done = _walked(_dressed(dict(spec), by), several=len(set(names.values())) > 2)  # noqa: PLR2004 - two can be told apart
    return {**done, "params": [*done.get("params", []), *params]}


def dressed(names: Mapping[str, str], configurations: Sequence[str]) -> Dressed:
    """Give each configuration a colour and a shape by its place; beyond eight they repeat."""
    places = {name: place for place, name in enumerate(configurations)}
    colours = {name: CATEGORIES[places[of] % len(CATEGORIES)] for name, of in names.items()}
    return Dressed(colours, {name: SHAPES[places[of] % len(SHAPES)] for name, of in names.items()})


def series_names(configurations: Sequence[str], pile_ups: Sequence[str]) -> dict[str, str]:
    """Return every name that a chart may give a configuration: alone, and with each pile-up."""
    plain = {name: name for name in configurations}
    return plain | {f"{name}, {mu}": name for name in configurations for mu in pile_ups}


def _walked(node: Any, *, several: bool) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, list):
        return [_walked(each, several=several) for each in node]
    if not isinstance(node, dict):
        return node
    done = {
        key: value if key in {"datasets", "data", "config"} else _walked(value, several=several)
        for key, value in node.items()
    }
    return _fading(done, several=several) if "mark" in done and _by_series(done.get("encoding", {})) else done


def _dressed(node: Any, by: Dressed) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, list):
        return [_dressed(each, by) for each in node]
    if not isinstance(node, dict):
        return node
    done = {key: value if key in {"datasets", "data"} else _dressed(value, by) for key, value in node.items()}
    for channel, looks in (("color", by.colours), ("shape", by.shapes)):
        scale = done[channel].get("scale") if isinstance(done.get(channel), dict) else None
        domain = scale.get("domain") if isinstance(scale, dict) else None
        if scale and isinstance(domain, list) and all(name in looks for name in domain):
            wanted = [looks[name] for name in domain]
            if len(set(wanted)) == len(wanted):
                done[channel] = {**done[channel], "scale": {**scale, "range": wanted}}
    return done


def _by_series(encoding: Mapping[str, Any]) -> bool:
    return any(isinstance(each, dict) and each.get("field") == "series" for each in encoding.values())


def _fading(unit: dict[str, Any], *, several: bool) -> dict[str, Any]:
    mark = unit["mark"] if isinstance(unit["mark"], dict) else {"type": unit["mark"]}
    if mark["type"] not in MARKS or "opacity" in unit["encoding"]:
        return unit
    full = mark.get("opacity", 0.7 if mark["type"] == "point" else 1)
    kept = {key: value for key, value in mark.items() if key != "opacity"}
    faded: dict[str, Any] = {"condition": {"test": OTHER, "value": min(FADED, full / 3)}, "value": full}
    if mark["type"] == "area" and full <= BAND_PICKED:
        conditions = [{"test": OWN, "value": BAND_PICKED}, {"test": OTHER, "value": 0}]
        faded = {"condition": conditions, "value": BAND if several else full}
    return {**unit, "mark": kept, "encoding": {**unit["encoding"], "opacity": faded}}
