"""How every chart looks: the Altair theme `loadgen`, in colours that colour-blind readers tell apart."""

from typing import Any

import altair as alt

BLACK, GREY, LIGHT_GREY, WHITE = "#1b1b1b", "#6b6b6b", "#e4e4e4", "#ffffff"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, OCHRE = "#e69f00", "#56b4e9", "#8c6d1f"
WARNING = "#9c4700"

CATEGORIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, OCHRE, GREY)
"""In the order given out; Okabe and Ito's yellow, too pale on white, is replaced by ochre."""

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
WIDTH, HEIGHT = 440, 270
WIDE, PANEL_HEIGHT = 960, 110
"""Sizes in pixels of the plot itself: a chart against concurrency, and a panel of the time series."""


@alt.theme.register("loadgen", enable=False)
def loadgen_theme() -> alt.theme.ThemeConfig:
    """Return the theme; `alt.theme.enable("loadgen")` uses it in a notebook."""
    return {
        "config": {
            "background": WHITE,
            "font": FONT,
            "padding": 10,
            "view": {"stroke": None, "continuousWidth": WIDTH, "continuousHeight": HEIGHT, "discreteWidth": WIDTH},
            "title": {
                "anchor": "start",
                "frame": "group",
                "fontSize": 15,
                "fontWeight": 600,
                "color": BLACK,
                "subtitleFontSize": 11,
                "subtitleColor": GREY,
                "subtitlePadding": 5,
                "offset": 12,
                "subtitleLineHeight": 15,
            },
            "axis": {
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
            },
            "axisX": {"grid": False},
            "axisY": {"domain": False, "ticks": False, "labelPadding": 6, "tickCount": 6},
            "legend": {
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
            },
            "line": {"strokeWidth": 2, "strokeJoin": "round"},
            "bar": {"stroke": WHITE, "strokeWidth": 0.5},
            "range": {"category": list(CATEGORIES)},
        }
    }


def specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Return a chart as the Vega-Lite object that page and picture are both drawn from."""
    with alt.theme.enable("loadgen"):
        spec: dict[str, Any] = chart.to_dict()
    return {key: value for key, value in spec.items() if key != "$schema"}
