"""What the documentation says exists: pages, commands with their options, settings, modules and functions."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.support.pages import GUIDES, PAGES, ROOT, blocks, name_of, spans

from clerestory.cli.main import SUBCOMMANDS, build, commands
from clerestory.cli.settings import explained, merged_settings
from clerestory.core.codec import decode
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.train import TrainConfig
from clerestory.web.serve_config import ServeConfig

APPLICATION = build()
AUDIT_PAGES = ("audit-data", "licences")  # whose settings are those of an audit
SERVE = "clerestory serve"  # has settings of its own
ARCHITECTURE = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]+)?\)", page.read_text("utf-8")):
        file = (page.parent / target) if target else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor[1:] in anchors(file), f"{target}{anchor}"


def anchors(page: Path) -> set[str]:
    """Those of the headings, as GitHub makes them, and those written as HTML."""
    text = page.read_text("utf-8")
    headings = (re.sub(r"[^\w\s-]", "", h.lower()).strip() for h in re.findall(r"^#+ (.+)$", text, re.M))
    return {re.sub(r"\s", "-", heading) for heading in headings} | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_line_fits_the_command(page: Path) -> None:
    """Unknown commands and options, missing arguments and values of the wrong type are errors of the parser."""
    lines = [tokens for block in blocks(page) for tokens in block.commands()]
    for tokens in [*lines, *(span for span in spans(page) if not is_name(span))]:
        APPLICATION.parse_args(tokens, exit_on_error=False, print_error=False)


def is_name(tokens: list[str]) -> bool:
    """Whether it only names a command, as in ``clerestory data show``."""
    verb, *rest = tokens
    return verb in commands() and (not rest or (rest[0] in SUBCOMMANDS.get(verb, {}) and len(rest) == 1))


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_settings_are_accepted(page: Path) -> None:
    """Those of TOML blocks, and those after ``--set``."""
    for block in blocks(page):
        settings = tomllib.loads(block.text) if block.language == "toml" else {}
        if {"preset", "model", "self_supervision"} & set(settings):
            decode(TrainConfig, settings, name_of(page))
    for line in page.read_text("utf-8").splitlines():
        other = AuditConfig if page.stem in AUDIT_PAGES else TrainConfig
        config = ServeConfig if SERVE in line else other
        for pair in set(re.findall(r"--set ([\w.]+=[^\s`]+)", line)) - {"name=value"}:
            decode(config, merged_settings(None, {}, [pair], config), name_of(page))


def test_the_readme_has_every_verb() -> None:
    """A row of the table begins with the command: ``| `clerestory train --data pictures` | …``."""
    rows = re.findall(r"^\| `clerestory ([\w-]+)", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert set(rows) == set(commands())


def test_every_setting_of_a_training_run_has_its_line() -> None:
    page = (ROOT / "docs/reference/training-settings.md").read_text("utf-8").splitlines()
    rows = [line for line in page if line.startswith("| `")]
    assert rows == [f"| `{s.name}` | {s.default} | {s.accepts} | {s.meaning} |" for s in explained(TrainConfig)]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(clerestory(?:\.\w+)+)`", ARCHITECTURE))))
def test_a_name_of_the_architecture_exists(name: str) -> None:
    parts, attributes = name.split("."), []
    while len(parts) > 1 and not _is_module(".".join(parts)):
        attributes.insert(0, parts.pop())
    found = import_module(".".join(parts))
    for attribute in attributes:
        found = getattr(found, attribute)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_the_files_of_the_architecture_exist() -> None:
    for path in re.findall(r"`((?:src|tests|docs)/[\w./-]+|[\w-]+\.(?:toml|md))`", ARCHITECTURE):
        assert (ROOT / path).exists(), path
