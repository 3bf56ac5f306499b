"""The approval of a release on its page: state, people, and the command; never a form."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import World
from tests.web.test_evidence_page import text

from clerestory.core.release import ApprovalPolicy
from clerestory.report.approvals import approval_view
from clerestory.store.approvals import ApprovalRecord, ApprovalState, Void
from clerestory.web.views import _environment

RULE = ApprovalPolicy(2, approval_expires_days=30)
STATE = ApprovalState("icons@3", "Ada", RULE)
WHEN = "2026-12-01T13:17:00+00:00"
REQUEST = ApprovalRecord(2, "Ada", "ready <now>", WHEN, "stated", "ada-login")
BOB = ApprovalRecord(3, "Bob", "fine", WHEN, "verified", "shared")
CAROL = ApprovalRecord(4, "Carol", "fine", WHEN, "stated", "shared")
EARLY = replace(CAROL, void=Void.EXPIRED)


def shown(state: ApprovalState | None) -> str:
    module = _environment().get_template("decision.html").module
    return str(module.approval(approval_view(state)))  # type: ignore[attr-defined]  # a macro


@pytest.mark.parametrize(
    ("state", "words", "command"),
    [
        (STATE, ["Not requested: 2 approvals required."], "clerestory release request icons@3"),
        (replace(STATE, request=REQUEST), ["Pending: 0 of 2"], "clerestory release approve icons@3"),
        (
            replace(STATE, request=REQUEST, approvals=(BOB, EARLY)),
            ["Pending: 1 of 2", "verified by a signature", "has expired", "stated from the account shared"],
            "clerestory release approve icons@3",
        ),
        (replace(STATE, request=REQUEST, approvals=(BOB, CAROL)), ["Approved: 2 of 2."], ""),
        (replace(STATE, request=REQUEST, declined=CAROL), ["Declined by Carol."], "clerestory release request icons@3"),
        (replace(STATE, rule=None), ["No approval is required.", "The policy requires no approval."], ""),
        (None, ["The approval cannot be read"], "clerestory release verify"),
    ],
)
def test_the_state_and_the_next_command(state: ApprovalState | None, words: list[str], command: str) -> None:
    html = shown(state)
    for each in words:
        assert each in text(html), each
    assert command in html
    if not command:
        assert "clerestory release" not in html
    assert "<form" not in html
    assert "<now>" not in html, "reasons are text"


def test_the_pages_of_a_release_have_it(client: TestClient, world: World) -> None:
    for address in (f"/releases/icons/{world.live.number}", "/releases"):
        page = client.get(address).text
        assert "No approval is required." in text(page[page.index('id="approval"') :])
