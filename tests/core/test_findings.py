"""The registry of finding codes and the page that explains them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clerestory.core.findings import PAGE, finding_codes

ROOT = Path(__file__).parents[2]


def test_the_page_explains_exactly_the_registered_codes() -> None:
    headings = re.findall(r"^### (CLR-[A-Z]\d{3}): (.+)$", (ROOT / PAGE).read_text("utf-8"), re.M)
    assert headings == [(code.code, code.title) for code in finding_codes().values()]


def test_every_entry_has_its_anchor_its_severity_and_a_fix() -> None:
    entries = re.split(r'^(?=<a id="clr-)', (ROOT / PAGE).read_text("utf-8"), flags=re.M)[1:]
    words = {"info": "Information", "warning": "Warning", "error": "Error"}
    for code, entry in zip(finding_codes().values(), entries, strict=True):
        anchor = code.documentation.partition("#")[2]
        assert entry.startswith(f'<a id="{anchor}"></a>\n\n### {code.code}: '), code.code
        assert f"*{words[code.severity]}.*" in entry, code.code
        assert "**Fix:**" in entry, code.code


def test_every_code_in_the_source_is_registered() -> None:
    used = {
        code for file in (ROOT / "src").rglob("*.py") for code in re.findall(r"CLR-[A-Z]\d{3}", file.read_text("utf-8"))
    }
    assert used == set(finding_codes())


@pytest.mark.parametrize("code", finding_codes().values(), ids=lambda code: code.code)
def test_a_code_is_complete(code) -> None:
    assert re.fullmatch(r"CLR-[A-Z]\d{3}", code.code)
    assert code.title == code.title.strip(". ")
    finding = code.finding("here", "one sentence", count=3, task="retrieval")
    assert (finding.code, finding.severity, finding.state, finding.fix) == (
        code.code,
        code.severity,
        code.state,
        code.fix,
    )
    assert (finding.count, finding.details["task"]) == (3, "retrieval")
