"""The approval of a release in words: what is required, who requested, approved and promoted, what is missing."""

from __future__ import annotations

from clerestory.core.errors import ClerestoryError
from clerestory.core.release import ApprovalPolicy, Release
from clerestory.report import format
from clerestory.report.view import ApprovalView, SignatureView
from clerestory.store import Store
from clerestory.store.approvals import ApprovalRecord, ApprovalState, Void, read_approvals

VOID_WORDS: dict[str, str] = {
    Void.AUTHOR: "does not count: the author or the requester gave it",
    Void.DECLINED: "does not count: the release was declined",
    Void.EXPIRED: "has expired",
    Void.NOT_REQUESTED: "does not count: nobody had requested it",
    Void.NOT_VERIFIED: "does not count: it is not signed with a registered key",
    Void.OTHER_RELEASE: "does not count: it is about other content",
    Void.SAME_PERSON: "does not count a second time",
}


def approvals_or_none(store: Store, release: Release) -> ApprovalState | None:
    """Where the approval of a release stands; None if its policy or the journal cannot be read (``release verify``)."""
    try:
        return read_approvals(store, release)
    except ClerestoryError:
        return None


def rule_words(rule: ApprovalPolicy | None) -> str:
    """What is required: ``2 approvals by people other than the author, each valid for 30 days; …``."""
    if rule is None:
        return "The policy requires no approval."
    parts = []
    if rule.approvals:
        other = " by people other than the author and the requester" if rule.approver_must_differ_from_author else ""
        days = f", valid for {format.plural(rule.approval_expires_days, 'day')}" if rule.approval_expires_days else ""
        signed = ", signed with a registered key" if rule.identity == "verified" else ""
        parts.append(f"{format.plural(rule.approvals, 'approval')}{other}{signed}{days}")
    if rule.promoter_must_differ_from_author:
        parts.append("another person than the author promotes it")
    if rule.rollback_needs_approval:
        parts.append("a rollback needs approval, too")
    return format.sentence("; ".join(parts))


def standing(state: ApprovalState) -> tuple[str, str]:
    """Where the approval stands: a state (``yes``, ``no``, ``unsure``, ``plain``) and a sentence."""
    rule = state.rule
    if state.declined is not None:
        return "no", f"Declined by {state.declined.who}."
    if rule is None or not rule.approvals:
        return "plain", "No approval is required."
    if not state.missing:
        return "yes", f"Approved: {len(state.counting)} of {rule.approvals}."
    if state.request is None:
        return "unsure", f"Not requested: {format.plural(rule.approvals, 'approval')} required."
    return "unsure", f"Pending: {len(state.counting)} of {format.plural(rule.approvals, 'approval')} given."


def account_notice(state: ApprovalState) -> str:
    """Says where one account gave several approvals under stated names; empty if none did."""
    return " ".join(
        f"{format.listing(list(people))}: {'both' if len(people) == 2 else 'all'} recorded by the account {login}; "
        "a stated name is not checked."
        for login, people in state.shared_accounts
    )


def declined_words(state: ApprovalState) -> str:
    """Who declined a release, when and why, as a sentence; empty if nobody did."""
    each = state.declined
    if each is None:
        return ""
    return f"{each.who} declined {state.ref} on {format.when(each.when)}: “{each.why.strip()}”"


def next_step(state: ApprovalState) -> str:
    """The command that comes next; empty if nothing is missing."""
    if state.rule is None or not state.rule.approvals or not state.missing:
        return ""
    verb = "request" if state.request is None or state.declined is not None else "approve"
    return f"clerestory release {verb} {state.ref} --why '...'"


def approval_view(state: ApprovalState | None) -> ApprovalView | None:
    """The approval as pages show it; None if it cannot be read."""
    if state is None:
        return None
    label, sentence = standing(state)
    people = [("Submitted to the gate", SignatureView(state.author, "", "", "", ""))]
    people += [("Approval requested", _signature(state.request))] if state.request else []
    people += [("Does not count" if each.void else "Approved", _signature(each)) for each in state.approvals]
    people += [("Declined", _signature(state.declined))] if state.declined else []
    people += [("Made live", _signature(state.promoted))] if state.promoted else []
    return ApprovalView(
        state=label,
        sentence=sentence,
        rule=rule_words(state.rule),
        is_required=state.rule is not None,
        people=tuple(people),
        command=next_step(state),
        notice=account_notice(state),
        declined=declined_words(state),
    )


def _signature(record: ApprovalRecord) -> SignatureView:
    account = f" from the account {record.login}" if record.login and record.login != record.who else ""
    known = "verified by a signature" if record.identity == "verified" else f"stated{account}"
    void = VOID_WORDS.get(record.void, "")
    return SignatureView(record.who, format.when(record.when), record.why, known if record.login else "", void)
