"""``clerestory release request``, ``approve`` and ``decline``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from clerestory.apps.references import release_reference
from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.report.approvals import account_notice, next_step, rule_words, standing
from clerestory.report.format import listing, sentence
from clerestory.stages.release import approve, decline, request_approval
from clerestory.store import Store, open_store
from clerestory.store.approvals import ApprovalRecord, ApprovalState
from clerestory.store.approvers import Signer, signer_of


def request_(ref: str, /, *, why: str, who: str = "", key: Path | None = None, common: Common = PLAIN) -> None:
    """Ask for the approval of a release, where the policy requires one (its section [approval]).

    Args:
        ref: A release, such as icons@3.
        why: The reason, for the people who approve and for the journal.
        who: The person who asks (default: $CLERESTORY_WHO or the login name, or the owner of --key).
        key: The private key of that person, registered in approvers.toml: the record is signed.
    """
    store = open_store(common.home)
    _show(request_approval(release_reference(store, ref), store, why, who, _signer(store, key, who)), common)


def approve_(ref: str, /, *, why: str, who: str = "", key: Path | None = None, common: Common = PLAIN) -> None:
    """Approve exactly this release: its model, its evidence and its decision.

    Args:
        ref: A release, such as icons@3.
        why: The reason, for the journal.
        who: The person who approves (default: $CLERESTORY_WHO or the login name, or the owner of --key).
        key: The private key of that person, registered in approvers.toml: the record is signed.
    """
    store = open_store(common.home)
    _show(approve(release_reference(store, ref), store, why, who, _signer(store, key, who)), common)


def decline_(ref: str, /, *, why: str, who: str = "", key: Path | None = None, common: Common = PLAIN) -> None:
    """Decline a release; approvals given so far do not count until its approval is requested again.

    Args:
        ref: A release, such as icons@3.
        why: The reason, for the journal.
        who: The person who declines (default: $CLERESTORY_WHO or the login name, or the owner of --key).
        key: The private key of that person, registered in approvers.toml: the record is signed.
    """
    store = open_store(common.home)
    _show(decline(release_reference(store, ref), store, why, who, _signer(store, key, who)), common)


def _signer(store: Store, key: Path | None, who: str) -> Signer | None:
    return signer_of(store.files, key, who) if key is not None else None


def _show(state: ApprovalState, common: Common) -> None:
    facts = Table(box=None, show_header=False)
    for name, value in approval_facts(state):
        facts.add_row(name, value)
    common.out.result(approval_json(state), f"release   {state.ref}", facts)
    common.out.next(next_step(state) or f"clerestory release promote {state.ref} --why '...'")


def approval_facts(state: ApprovalState | None) -> list[tuple[str, str]]:
    """The approval as rows of a table; empty if none is required."""
    if state is None:
        return [("approval", "cannot be read; clerestory release verify says why")]
    if state.rule is None:
        return []
    rows = [("approval", standing(state)[1]), ("requires", rule_words(state.rule))]
    rows += [("requested by", _person(state.request))] if state.request else []
    rows += [("does not count" if each.void else "approved by", _person(each)) for each in state.approvals]
    rows += [("notice", notice)] if (notice := account_notice(state)) else []
    return rows + ([("declined by", _person(state.declined))] if state.declined else [])


def approval_line(state: ApprovalState | None) -> str:
    """The approval in one cell: the people who approved, or where it stands; empty if none is required."""
    if state is None or state.rule is None:
        return ""
    if state.missing or not state.counting:
        return standing(state)[1].rstrip(".")
    people = listing([each.who for each in state.counting])
    return f"{people} (from one account)" if state.shared_accounts else people


def approval_json(state: ApprovalState | None) -> Any:
    """The approval for programs; None if it cannot be read."""
    if state is None:
        return None
    command = next_step(state)
    words = {"standing": standing(state)[1], "notice": account_notice(state), "next": command}
    return {**encode(state), "missing": state.missing, **words}


def _person(record: ApprovalRecord) -> str:
    void = f" ({str(record.void).replace('_', ' ')})" if record.void else ""
    return f"{record.who}, {record.when}: {sentence(record.why)} [{record.identity}]{void}"
