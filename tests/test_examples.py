"""Every command that help and pages show can be typed: its options exist; cheap ones are carried out."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from analysis.__main__ import app as analysis_app
from inputs.__main__ import app as inputs_app
from loadgen import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").glob("*.md"))]
APPS = {"loadgen": cli.app, "analysis": analysis_app, "inputs": inputs_app}
TOOLS: dict[str, Any] = {name: typer.main.get_command(app) for name, app in APPS.items()}
"""As typer has them, with a click of its own or click's, by its version."""

MEANT = re.compile(r"python -m (loadgen|analysis|inputs)(?: ([^`\n]*))?")
OWN_PARSER = "perf-analyzer"
"""Takes perf_analyzer's options, which its own tests hold against the original."""


def commands(tool: str) -> dict[str, Any]:
    """Return the commands of a tool."""
    found: dict[str, Any] = TOOLS[tool].commands
    return found


def shown() -> Iterator[tuple[str, str]]:
    """Yield each whole command of a fenced block, and each example of a help text: where, and `TOOL ARGUMENTS`."""
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if found := MEANT.match(line.strip()):
                    yield page.name, f"{found[1]} {found[2] or ''}".strip()
    for tool in TOOLS:
        for name, command in commands(tool).items():
            for text in re.findall(rf"`({re.escape(name)} [^`]*)`", command.help or ""):
                yield f"{tool} {name} --help", f"{tool} {text}"


EXAMPLES = sorted(set(shown()))


def parsed(text: str) -> list[str]:
    """Parse a command line as the tool would, and carry nothing out; return its words."""
    tool, *words = shlex.split(text, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    if not words or words[0] == OWN_PARSER or words[0].startswith("-"):
        return words
    command = commands(tool)[words[0]]
    with command.make_context(words[0], words[1:]):
        return words


@pytest.mark.parametrize(("where", "text"), EXAMPLES, ids=[f"{where}: {text}" for where, text in EXAMPLES])
def test_every_example_can_be_typed(where: str, text: str) -> None:
    """Command and options of it exist, and its values are of their types."""
    assert parsed(text) is not None


def test_examples_are_found_and_a_wrong_one_is_not_taken() -> None:
    """The test above looks at many, and would see an option that is none."""
    assert len(EXAMPLES) > 40
    with pytest.raises(Exception, match="No such option: --concurrency"):
        parsed("loadgen sweep -m a --input-data b --concurrency 4")
    with pytest.raises(KeyError):
        parsed("analysis plot runs/A")


def test_commands_in_running_text_exist() -> None:
    """A command named between words is one."""
    for page in PAGES:
        for tool, rest in re.findall(r"`python -m (loadgen|analysis|inputs) ([a-z-]+)", page.read_text()):
            assert rest.startswith("-") or rest in commands(tool), f"{page.name}: {tool} {rest}"


@pytest.mark.parametrize("tool", TOOLS)
def test_the_readme_names_every_command(tool: str) -> None:
    """Nobody needs to find a command by chance; and the page stays readable."""
    text = (ROOT / "README.md").read_text()
    absent = [name for name in commands(tool) if f"python -m {tool} {name}" not in text]
    assert not absent
    assert len(text.splitlines()) <= 170


def test_the_readme_leads_to_every_page() -> None:
    """Each page of docs/ is linked from README, or from a page that is."""
    seen, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        linked = re.findall(r"\]\(([\w/.-]+\.(?:md|ipynb))(?:#[\w-]*)?\)", page.read_text())
        found = [(page.parent / name).resolve() for name in linked]
        assert all(each.exists() for each in found), page.name
        left += [each for each in found if each not in seen and each.suffix == ".md"]
        seen |= set(found)
    assert {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("notebooks/*.ipynb")} <= seen


def test_exit_codes_are_the_same_in_readme_and_help() -> None:
    """Both list 0 to 7 and 130."""
    table = (ROOT / "README.md").read_text().split("## Exit codes")[1]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    told = {int(code) for code in re.findall(r"(?:^|; |codes: )(\d+) ", " ".join(cli.EXIT_CODES.split()))}
    assert listed == told == {*range(8), 130}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_there_for_both_spellings(tool: str, option: str) -> None:
    """Every command of every tool answers to -h as to --help, but the one that speaks perf_analyzer's language."""
    for name in set(commands(tool)) - {OWN_PARSER}:
        assert CliRunner().invoke(APPS[tool], [name, option]).exit_code == 0, name


@pytest.mark.parametrize(
    "words",
    [
        ["loadgen", "sweep", "-m", "m", "--input-data", "synthetic", "--concurrency-range", "1:8", "--dry-run"],
        ["loadgen", "study", "scan", "--instances", "1,2,4", "--mu", "20,60", "--takes", "2", "--dry-run"],
        ["loadgen", "search", "-m", "m", "--input-data", "synthetic", "--slo", "p99 < 500ms", "--dry-run"],
        ["analysis", "charts"],
        ["inputs", "synth", "--mu", "2", "--events", "1", "-o", "events.json"],
    ],
    ids=" ".join,
)
def test_cheap_ones_run(tmp_path: Path, words: list[str]) -> None:
    """They end with 0 in an empty folder without a server."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
