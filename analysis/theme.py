"""How every chart looks: the Altair theme `loadgen`, light or dark, in three sizes, readable to the colour-blind.

Charts are drawn in the light colours and at notebook size. `specification` sets them for another look: the colours of
`DARK` stand for those of the light look one for one, and lengths grow with the size. So no chart knows of either.
Importing this enables the theme where Altair's own was active, so that notebooks show charts in it.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import altair as alt

from analysis.fitting import fitted, plot_width

BLACK, GREY, LIGHT_GREY, WHITE = "#1b1b1b", "#6b6b6b", "#e4e4e4", "#ffffff"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, BROWN, NAVY = "#e69f00", "#56b4e9", "#753f3b", "#041f9e"
SILVER, WARNING = "#b5b5b5", "#9c4700"
DARK_GREEN = "#00664a"

CATEGORIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BROWN, NAVY)
"""In the order given out. Okabe and Ito's without yellow, too pale on white, and black, kept for means; the last two
are those that lie furthest from the rest under simulated protanopia, deuteranopia and tritanopia."""

DARK = {
    BLACK: "#ececec",
    GREY: "#a9a9a9",
    LIGHT_GREY: "#3b3e44",
    WHITE: "#16181c",
    BLUE: "#2f86d6",
    VERMILLION: "#f0682a",
    GREEN: "#12b886",
    PURPLE: "#e793c8",
    ORANGE: "#ffd24d",
    SKY: "#9bdcff",
    BROWN: "#84576a",
    NAVY: "#b34103",
    SILVER: "#6f747c",
    WARNING: "#ffb066",
    DARK_GREEN: "#7ce6c0",
}
"""What stands for each colour of the light look in the dark one."""

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
WIDTH, HEIGHT = 440, 270
WIDE, PANEL_HEIGHT = 960, 110
"""Sizes in pixels of the plot itself: a chart against concurrency, and a panel of the time series."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height of a plain chart's plot in pixels, its letters against those of a notebook.

    `page` is the width that the panels of a chart may have together.
    """

    width: int
    height: int
    letters: float
    page: int


SIZES = {
    "notebook": Size(WIDTH, HEIGHT, 1.0, 10_000),
    "slide": Size(940, 470, 1.75, 940),
    "column": Size(196, 150, 0.68, 440),
}
"""A slide is 16:9 at 1280 pixels; a paper's column 86 mm (244 points), its letters 7 to 8 points high."""

LOOKS = ("light", "dark")


@dataclass(frozen=True, slots=True)
class Style:
    """Look, size, and whether axis titles stand at the ends of their axes, as in high-energy physics."""

    look: str = "light"
    size: str = "notebook"
    hep_labels: bool = False


@alt.theme.register("loadgen", enable=False)
def loadgen_theme(look: str = "light", *, hep_labels: bool = False) -> alt.theme.ThemeConfig:
    """Return the theme; `alt.theme.enable("loadgen", look="dark", hep_labels=True)` uses it in a notebook."""
    ends = {"titleAnchor": "end"} if hep_labels else {}
    config = {**_plain(), "title": _TITLE, "axis": {**_AXIS, **ends}, "legend": _LEGEND, "header": _HEADER}
    painted: Any = fitted({"config": config}, colours=DARK if look == "dark" else {})
    return cast("alt.theme.ThemeConfig", painted)


if alt.theme.active == "default":
    # A notebook that has chosen another theme keeps it.
    alt.theme.enable("loadgen")


def specification(chart: alt.TopLevelMixin, style: Style | None = None) -> dict[str, Any]:
    """Return a chart as the Vega-Lite object that page and picture are both drawn from."""
    style = style or Style()
    with alt.theme.enable("loadgen", hep_labels=style.hep_labels):
        spec: dict[str, Any] = chart.to_dict()
    plain = {key: value for key, value in spec.items() if key != "$schema"}
    size = SIZES[style.size]
    natural = max(plot_width(plain, WIDTH), WIDTH)
    wide = min(size.width / WIDTH, size.page / natural)
    stretch = (wide, size.height / HEIGHT, size.letters)
    fit: dict[str, Any] = fitted(plain, colours=DARK if style.look == "dark" else {}, stretch=stretch)
    return fit


def styled(chart: alt.TopLevelMixin, **style: Any) -> alt.Chart:  # noqa: ANN401 - the fields of Style
    """Return a chart set in another look or size: `styled(chart, look="dark", size="slide")`."""
    set_: alt.Chart = alt.Chart.from_dict(specification(chart, replace(Style(), **style)), validate=False)
    return set_


_TITLE = {
    "anchor": "start",
    "frame": "group",
    "fontSize": 15,
    "fontWeight": 600,
    "color": BLACK,
    "subtitleFontSize": 11,
    "subtitleColor": GREY,
    "subtitlePadding": 5,
    "offset": 12,
    "lineHeight": 19,
    "subtitleLineHeight": 15,
}
_AXIS = {
    "labelFontSize": 11,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "titleColor": BLACK,
    "labelColor": BLACK,
    "gridColor": LIGHT_GREY,
    "domainColor": GREY,
    "tickColor": GREY,
    "titlePadding": 8,
    "labelFlush": False,
}
_LEGEND = {
    "orient": "top",
    "direction": "horizontal",
    "title": None,
    "labelFontSize": 11,
    "columns": 4,
    "symbolStrokeWidth": 2.5,
    "symbolSize": 90,
    "labelLimit": 220,
    "columnPadding": 14,
    "offset": 6,
    "labelColor": BLACK,
    "titleColor": BLACK,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
}
_HEADER = {
    "labelFontSize": 12,
    "labelColor": BLACK,
    "labelPadding": 4,
    "titleFontSize": 12,
    "titleColor": BLACK,
    "titleFontWeight": "normal",
}


def _plain() -> dict[str, Any]:
    return {
        "background": WHITE,
        "font": FONT,
        "padding": 10,
        "view": {"stroke": None, "continuousWidth": WIDTH, "continuousHeight": HEIGHT, "discreteWidth": WIDTH},
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False, "labelPadding": 6, "tickCount": 6},
        "text": {"color": BLACK, "fontSize": 10},
        "line": {"strokeWidth": 2, "strokeJoin": "round"},
        "bar": {"stroke": WHITE, "strokeWidth": 0.5},
        "range": {"category": list(CATEGORIES)},
    }
