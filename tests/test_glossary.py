"""The glossary: its modules exist, its terms are unique and sorted, and no metric, stage or suite is missing."""

from __future__ import annotations

import re
from pathlib import Path

from clerestory.core.stage import stages
from clerestory.stages.evaluate.suites import SUITES
from clerestory.stats.metrics import registered

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/reference/glossary.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" |")] for line in PAGE.splitlines() if line.startswith("| ")][
    1:
]


def test_every_row_has_a_term_a_meaning_and_a_module() -> None:
    for row in ROWS:
        assert len(row) == 4, row
        assert all(row[:3]), row


def test_every_module_exists() -> None:
    package = ROOT / "src/clerestory"
    for term, _, modules, _ in ROWS:
        names = re.findall(r"`([^`]+)`", modules)
        assert names, term
        for name in names:
            path = package / name.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), f"{term}: {name}"


def test_terms_are_unique_and_sorted() -> None:
    terms = [row[0].replace("`", "").lower() for row in ROWS]
    assert terms == sorted(set(terms))
    assert len(terms) >= 80


def test_every_metric_stage_and_suite_is_there() -> None:
    metrics = {re.sub(r"[{}]", "", name) for name in registered()} - {"recall@1"}  # one of recall@k
    spans = set(re.findall(r"`([^`]+)`", PAGE))
    assert metrics <= spans, metrics - spans
    page = re.sub(r"[-_]", " ", PAGE.lower())
    missing = [name for name in (*stages(), *(suite.name for suite in SUITES)) if name.replace("_", " ") not in page]
    assert missing == []
