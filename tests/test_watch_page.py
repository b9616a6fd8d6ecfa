"""The page of watch, as lines in a terminal of any size."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from watched import KEY, MS, S, at, page, shown, watched

from loadgen.watch.page import Page, Round, lines, number
from loadgen.watch.reading import Gpu, Reading
from loadgen.watch.view import Facts

GPU = Gpu(0.5, 240.0, 300.0, 12e9, 80e9)


def made() -> Round:
    """Return a server with load and two GPUs that was away for ten seconds, and one that is away."""
    readings = [at(second, None if 100 <= second < 110 else 20 * second) for second in range(180)]
    gpus = [page(second, {"GPU-aaaaaaaa-1": GPU, "GPU-bbbbbbbb-2": GPU}, pending=3) for second in range(180)]
    away = [at(second, second if second < 170 else None) for second in range(180)]
    return shown(179.2, watched(readings, gpus), watched(away))


def drawn(what: Round, width: int, height: int = 100) -> list[str]:
    """Return what rich writes into a terminal of this size."""
    console = Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)
    console.print(Page(what))
    return console.export_text().splitlines()


def test_eighty_columns() -> None:
    """Every line stands as it should, and none is longer."""
    page_lines = drawn(made(), 80)
    assert page_lines[0] == "loadgen watch  14:16:19 UTC  every 1 s  lines: 3 min  3 calls, 4 ms a round"
    assert page_lines[2] == "gpu1:8001  triton 2.51.0  ready"
    assert page_lines[3] == "  14:15:10  gRPC is back after 10 s (no server answers)"
    assert page_lines[4] == "  times: ms   req/s fail/s  queue  input  infer output  batch   wait   busy"
    assert page_lines[5].startswith("traccc-gpu 1  req/s ██")
    assert page_lines[5].endswith(" 0..20.0")
    assert "··" in page_lines[5]
    assert page_lines[6] == "  now          20.0      0   2.00   1.00   30.0   1.00   1.00      3  0.6/2"
    assert page_lines[7] == "  last 60 s    20.0      0   2.00   1.00   30.0   1.00   1.00 ~0.040  0.6/2"
    assert page_lines[8].startswith("GPU aaaaaaaa  utilisation 50 %                   ▅▅")
    assert page_lines[9].startswith("              power       240 W, 80 % of 300 W   ▇▇")
    assert page_lines[10].startswith("              memory      12.0 of 80.0 GB        ▂▂")
    assert page_lines[11].startswith("GPU bbbbbbbb  utilisation 50 %")
    assert "  gRPC: unreachable since 14:16:10 (9 s): no server answers" in page_lines
    assert "  now             ·      ·      ·      ·      ·      ·      ·      ·      ·" in page_lines
    assert max(map(cell_len, page_lines)) <= 80


def test_a_wide_terminal_is_used() -> None:
    """Three lines of values stand beside each other, and a GPU takes one row."""
    page_lines = drawn(made(), 160)
    assert page_lines[0].endswith("3 calls, 4 ms a round  no load is sent  Ctrl-C ends")
    (values,) = [line for line in page_lines if "queue ms" in line and "0..2.00" in line and "·" in line][:1]
    assert "req/s" in values
    assert "infer ms" in values
    gpus = [line for line in page_lines if line.startswith("GPU ")]
    assert len(gpus) == 2
    assert all(word in gpus[0] for word in ("utilisation 50 %", "power 240 W, 80 % of 300 W", "12.0 of 80.0 GB"))
    assert 120 < max(map(cell_len, page_lines)) <= 160


@given(width=st.integers(40, 250), name=st.text(max_size=80), reason=st.text(max_size=300), plain=st.booleans())
def test_nothing_overflows(width: int, name: str, reason: str, plain: bool) -> None:
    """Whatever servers call their models and say of their faults: no line is wider, none moves the cursor."""
    key = (name, "1")
    seen = watched([at(1, 0, key), at(2, 1e9, key), Reading(3 * S, reason or "x")], facts=Facts(name, "1"))
    for line in lines(shown(3.2, seen), width, plain=plain):
        assert cell_len(line.plain) <= width
        assert line.plain.isprintable()


def test_a_low_terminal_says_what_it_leaves_out() -> None:
    """No more lines than it has, and the last says how many are missing."""
    page_lines = drawn(made(), 80, 10)
    assert len(page_lines) == 10
    assert page_lines[-1].endswith("more lines: the terminal is too low")
    assert page_lines[-1].startswith(str(len(drawn(made(), 80)) - 9))


def test_models_without_requests_take_one_line() -> None:
    """Fifty models of which one works: its figures, and the names of the others."""
    readings = []
    for second in range(5):
        counters = dict(at(second, 3 * second).counters)
        for other in range(50):
            counters[f"idle{other}", "1"] = at(second, 7).counters[KEY]
        readings.append(Reading(second * S, counters=counters, ready=True))
    page_lines = drawn(shown(4.1, watched(readings)), 80)
    assert len(page_lines) <= 10
    assert page_lines[-3].startswith("  without requests: idle0 1, idle1 1, ")


def test_power_without_a_limit_has_its_own_scale() -> None:
    """No constant is made up for the limit: the line goes from 0 to the highest that was seen."""
    gpus = [page(second, {"G": Gpu(power_w=100.0 + second)}) for second in range(180)]
    (line,) = [line for line in drawn(shown(179.2, watched([], gpus)), 80) if "power" in line]
    assert "279 W   " in line
    assert "%" not in line
    assert line.endswith("0..275")


def test_a_terminal_without_unicode() -> None:
    """Lines of values are drawn in ASCII."""
    whole = "\n".join(line.plain for line in lines(made(), 80, plain=True))
    assert "####" in whole
    assert "█" not in whole


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "·"),
        (0.0, "0"),
        (0.0004, "<.001"),
        (0.0123, "0.012"),
        (0.5, "0.50"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.96, "100"),
        (9999.0, "9999"),
        (12_345.0, "12k"),
        (5e9, "5000M"),
        (1e15, "1e+15"),
    ],
)
def test_figures_fit_their_cells(value: float | None, text: str) -> None:
    """At most six characters; what is missing is no figure."""
    assert number(value) == text
    assert len(text) <= 6


def test_times_are_in_milliseconds() -> None:
    """A queue of 2 ms reads 2.00."""
    readings = [at(1, 0), at(2, 10, queue_ns=10 * 2 * MS)]
    assert any(line.split()[:4] == ["now", "10.0", "0", "2.00"] for line in drawn(shown(2.1, watched(readings)), 80))
