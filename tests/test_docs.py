"""What the documentation promises exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clerestory.cli.main import SUBCOMMANDS, commands
from clerestory.cli.settings import explained
from clerestory.stages.train import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])


def test_every_finding_has_its_entry() -> None:
    told = set(re.findall(r"^### (CLR-[A-Z]\d{3})", (ROOT / "docs/reference/findings.md").read_text("utf-8"), re.M))
    used: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        used |= set(re.findall(r"CLR-[A-Z]\d{3}", file.read_text("utf-8")))
    assert used == told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_exist(page: Path) -> None:
    for line in re.findall(r"^\s*(?:\.venv/bin/)?clerestory ([a-z].*)$", page.read_text("utf-8"), re.M):
        verb, *rest = line.split()
        assert verb in commands(), line
        if verb in SUBCOMMANDS:
            assert rest[0] in SUBCOMMANDS[verb], line


def test_the_readme_has_every_verb() -> None:
    """A row of the table begins with the command: ``| `clerestory train --data pictures` | …``."""
    rows = re.findall(r"^\| `clerestory (\w+)", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert set(rows) == set(commands())


def test_every_setting_of_a_training_run_has_its_line() -> None:
    page = (ROOT / "docs/reference/training-settings.md").read_text("utf-8").splitlines()
    rows = [line for line in page if line.startswith("| `")]
    assert rows == [f"| `{s.name}` | {s.default} | {s.accepts} | {s.meaning} |" for s in explained(TrainConfig)]
