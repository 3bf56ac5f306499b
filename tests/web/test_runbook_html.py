"""Runbooks as blocks: headings, lists with lines that go on, code, and text that looks like HTML."""

from __future__ import annotations

from clerestory.stages.watch.incident_policy import load_incident_policy, runbook
from clerestory.web.runbook_html import RunbookBlock, RunbookSpan, runbook_blocks


def text(block: RunbookBlock) -> list[str]:
    return ["".join(span.text for span in line) for line in block.lines]


def test_the_blocks_of_a_runbook() -> None:
    blocks = runbook_blocks(
        "# Full\n\nThe disk\nis full.\n\n1. Look:\n   `df -h`.\n2. **Then** act.\n- a\n\n```sh\n# no heading\nrm x\n"
    )
    assert [block.kind for block in blocks] == ["heading", "paragraph", "ordered", "bullets", "code"]
    assert text(blocks[1]) == ["The disk is full."]
    assert blocks[2].lines[0][1] == RunbookSpan("code", "df -h")
    assert blocks[2].lines[1][0] == RunbookSpan("bold", "Then")
    assert text(blocks[4]) == ["# no heading\nrm x"]


def test_html_stays_text_and_nothing_is_lost() -> None:
    hostile = '<script>alert("x")</script>'
    assert text(runbook_blocks(hostile)[0]) == [hostile]
    assert runbook_blocks("") == []
    assert text(runbook_blocks("a ` b ** c")[0]) == ["a ` b ** c"]


def test_every_included_runbook_has_steps() -> None:
    for name in {rule.runbook for rule in load_incident_policy().on} | {"open-incident"}:
        assert {"heading", "ordered"} <= {block.kind for block in runbook_blocks(runbook(name))}, name
