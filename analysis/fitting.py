"""A chart's Vega-Lite object -> the same chart in other colours and another size. Pure; data are left alone."""

import textwrap
from collections.abc import Mapping
from typing import Any

SPARED = frozenset({"datasets", "data", "transform", "usermeta", "params", "tooltip"})
"""Keys below which nothing is a colour or a length."""

LETTERS = frozenset({
    *("fontSize", "labelFontSize", "titleFontSize", "subtitleFontSize", "lineHeight", "subtitleLineHeight"),
    *("titlePadding", "labelPadding", "subtitlePadding", "offset", "columnPadding", "padding", "dx", "dy"),
    *("strokeWidth", "symbolStrokeWidth", "spacing", "minExtent", "labelLimit", "cornerRadius", "tickSize"),
    *("rowPadding", "gradientLength", "gradientThickness", "titleLimit", "strokeDash", "labelSeparation"),
})  # fmt: skip
"""Keys of lengths that grow as letters do; areas (`size`, `symbolSize`) grow as their square."""

AREAS = frozenset({"size", "symbolSize"})
WIDTHS, HEIGHTS = frozenset({"width", "continuousWidth", "discreteWidth"}), frozenset({"height", "continuousHeight"})
SUBTITLE_LINES = 8
LETTER_WIDTH = 0.48
"""Mean width of a letter of Arial in units of its size."""

PLAIN = (1.0, 1.0, 1.0)


def fitted(
    spec: Mapping[str, Any], *, colours: Mapping[str, str], stretch: tuple[float, float, float] = PLAIN
) -> dict[str, Any]:
    """Return a specification with its colours exchanged, and widths, heights and letters stretched by those factors.

    Where `usermeta.subtitle` holds the subtitle's parts, titles are broken anew to the width of the chart.
    """
    done: dict[str, Any] = _walked(dict(spec), colours, stretch, "")
    if "config" in done and "view" in done["config"]:
        config = done["config"]
        done = _fitted_titles(done, config["view"]["continuousHeight"], config["axis"]["titleFontSize"])
    return _broken(done) if "title" in done else done


def _walked(node: Any, colours: Mapping[str, str], stretch: tuple[float, float, float], key: str) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, dict):
        done = {
            name: value if name in SPARED else _walked(value, colours, stretch, name) for name, value in node.items()
        }
        if key == "legend" and "columns" in done:
            done["columns"] = max(1, round(done["columns"] * min(1.0, stretch[0] / stretch[2])))
        return done
    if isinstance(node, list):
        return [_walked(item, colours, stretch, key) for item in node]
    if isinstance(node, str):
        return colours.get(node, node)
    if isinstance(node, int | float) and not isinstance(node, bool):
        return _length(node, stretch, key)
    return node


def _length(value: float, stretch: tuple[float, float, float], key: str) -> float:
    width, height, letters = stretch
    if stretch == PLAIN:
        return value
    if key in WIDTHS:
        return round(value * width)
    if key in HEIGHTS:
        return round(value * height)
    if key in AREAS:
        return round(value * letters**2, 2)
    return round(value * letters, 2) if key in LETTERS else value


def _broken(spec: dict[str, Any]) -> dict[str, Any]:
    parts = spec.get("usermeta", {}).get("subtitle")
    title = spec["title"]
    if parts is None or not isinstance(title, dict):
        return spec
    config = spec["config"]["title"]
    width = plot_width(spec, spec["config"]["view"]["continuousWidth"]) + 3 * config["fontSize"]
    lines = wrapped_to([*parts], width, config["subtitleFontSize"])
    text = wrapped_to([" ".join(spec["usermeta"]["title"].split())], width, config["fontSize"] * 1.06)
    return {**spec, "title": {**title, "text": text, "subtitle": lines[:SUBTITLE_LINES]}}


def _fitted_titles(node: Any, height: float, font_size: float) -> Any:  # noqa: ANN401 - any JSON
    """Break the titles of vertical axes that are longer than their axis."""
    if isinstance(node, list):
        return [_fitted_titles(item, height, font_size) for item in node]
    if not isinstance(node, dict):
        return node
    own = node.get("height")
    height = own if isinstance(own, int | float) else height
    done = {
        name: value if name in SPARED or name == "config" else _fitted_titles(value, height, font_size)
        for name, value in node.items()
    }
    y = done.get("encoding", {}).get("y") if isinstance(done.get("encoding"), dict) else None
    if isinstance(y, dict) and isinstance(y.get("title"), str):
        lines = wrapped_to([y["title"]], height * 1.08, font_size)
        done["encoding"] = {**done["encoding"], "y": {**y, "title": lines if len(lines) > 1 else y["title"]}}
    return done


def wrapped_to(parts: list[str], width: float, font_size: float) -> list[str]:
    """Break texts into lines of about `width` pixels."""
    letters = max(12, int(width / (LETTER_WIDTH * font_size)))
    return [line for part in parts for line in textwrap.wrap(part, letters)]


def plot_width(node: Mapping[str, Any], otherwise: float) -> float:
    """Return the width of a view's plots side by side, in pixels; `otherwise` where none is stated."""
    if "hconcat" in node:
        return sum(plot_width(view, otherwise) for view in node["hconcat"])
    if "vconcat" in node:
        return max(plot_width(view, otherwise) for view in node["vconcat"])
    if "concat" in node:
        columns = node.get("columns", len(node["concat"]))
        return float(columns) * max(plot_width(view, otherwise) for view in node["concat"])
    if "layer" in node and "width" not in node:
        return max((plot_width(view, otherwise) for view in node["layer"]), default=otherwise)
    width = node.get("width", otherwise)
    return float(width) if isinstance(width, int | float) else otherwise
