"""The report is one file: it loads nothing, believes no user string, and draws in a real browser without a word."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import vl_convert
from sealed_run import Story, write_run

from analysis import report
from analysis.runs import open_run

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'<b>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOADED = re.compile(r"""(?:src|href)\s*=\s*["']?(?!#|data:)[^"'>\s]+|@import|url\((?!["']?(?:data:|#))""")


def page_of(folder: Path, story: Story) -> str:
    """Return the report of a made-up run."""
    return report.write_report(write_run(folder / "run", story), folder / "report.html").read_text()


def without_scripts(page: str) -> str:
    """Return a page with the text of its scripts left out."""
    return re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)


def test_the_page_refers_to_nothing_outside(tmp_path: Path) -> None:
    """No element names anything to load, and the one library is inside, once."""
    page = page_of(tmp_path, Story())
    assert LOADED.findall(without_scripts(page)) == []
    assert page.count(vl_convert.javascript_bundle(report.VEGA_GLOBALS)) == 1
    assert len(page) < 3_000_000


def test_a_hostile_name_stays_text(tmp_path: Path) -> None:
    """Markup in model, server, inputs or warnings is shown, never interpreted, nor ends a script."""
    story = Story(model=HOSTILE, server=HOSTILE, inputs=HOSTILE, warnings=(HOSTILE,))
    page = page_of(tmp_path, story)
    visible = without_scripts(page)
    assert "<img" not in visible
    assert "&lt;img src=x" in visible
    (specifications,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, flags=re.DOTALL)
    assert "onerror" in specifications
    assert not set("<>&") & set(specifications)


def test_the_page_has_the_numbers(tmp_path: Path) -> None:
    """Every point's throughput and verdict stand in the page's table, readable without scripts."""
    run = write_run(tmp_path / "run", Story(failing=(4,)))
    text = without_scripts(report.page(open_run(run)))
    for point in open_run(run).points().iter_rows(named=True):
        assert f"{point['throughput_per_s']:,.2f}" in text
    assert "failing" in text
    assert "requests failed" in text


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    """A run interrupted before its first window gets a page that says so."""
    run = write_run(tmp_path / "run", Story(concurrency=(1,)))
    points = open_run(run).points().clear()
    points.write_parquet(run / "points.parquet")
    assert "No point was measured" in report.page(open_run(run))


@pytest.fixture(scope="module")
def browser() -> str:
    """Return a headless browser; skip where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser here ({', '.join(BROWSERS)})")
    return found


@pytest.mark.parametrize(
    "story",
    [Story(), Story(concurrency=(1,), gpus=0, samples=False), Story(all_failed=True), Story(model=HOSTILE, gpus=8)],
    ids=["usual", "one point, no metrics", "all failed", "hostile, 8 GPUs"],
)
def test_a_browser_draws_it_without_a_word(browser: str, tmp_path: Path, story: Story) -> None:
    """From file://, with the network switched off: every chart is drawn and the console stays empty."""
    page_of(tmp_path, story)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += [
        "--disable-component-update",
        "--disable-sync",
        "--virtual-time-budget=20000",
        "--enable-logging=stderr",
    ]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--proxy-server=127.0.0.1:9", "--dump-dom"]
    address = (tmp_path / "report.html").as_uri()
    shown = subprocess.run([browser, *flags, address], capture_output=True, text=True, timeout=100, check=False)
    assert 'data-drawn="yes"' in shown.stdout, shown.stderr[-2000:]
    charts = shown.stdout.count("data-chart=")
    assert shown.stdout.count('<svg class="marks"') + shown.stdout.count('class="marks"') >= charts > 0
    console = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    assert "ERR_" not in shown.stderr
