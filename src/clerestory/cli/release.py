"""``clerestory release``: decides, versions, promotes, rolls back, verifies."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.apps.datasets import evaluated_data
from clerestory.apps.loading import resolve_stored
from clerestory.apps.references import model_reference, release_reference
from clerestory.apps.registration import stored_model, what_is_not_pinned
from clerestory.apps.starter import DEFAULT_NAME
from clerestory.cli.help_format import MODEL_FORMS
from clerestory.cli.output import PLAIN, Common
from clerestory.cli.release_approval import approval_facts, approval_json, approval_line
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.core.outputs import check_output, write_output
from clerestory.core.release import VERDICT_TEXTS, Decision, Event, Release
from clerestory.core.units import plural
from clerestory.report.approvals import account_notice, approvals_or_none, next_step
from clerestory.stages.release import gate, load_policy, promote, rollback, run_gate, verify
from clerestory.stages.release.embedding_space import embedding_requests
from clerestory.store import Store, live_events, open_store
from clerestory.store.registry import check_name, is_name

VERDICTS = {
    "ship": (f"✓ {VERDICT_TEXTS['ship']}", "bold green", 0),
    "refuse": (f"✗ {VERDICT_TEXTS['refuse']}", "bold red", 1),
    "cannot_decide": (f"? {VERDICT_TEXTS['cannot_decide']}", "bold yellow", 3),
}
OUTCOMES = {"pass": ("✓", "green"), "fail": ("✗", "red"), "cannot_decide": ("?", "yellow")}


def gate_(
    model: Annotated[
        str,
        Parameter(
            help=f"A {MODEL_FORMS}. A release is decided on again; a model from elsewhere is copied into the store."
        ),
    ],
    /,
    *,
    data: str = "",
    task: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    name: str = "",
    policy: Path | None = None,
    why: str = "",
    dry_run: bool = False,
    common: Common = PLAIN,
) -> int:
    """Decide by the policy whether a model may ship: ship (exit code 0), do not ship (1), or cannot decide (3).

    The decision becomes a release with a number, unless the gate cannot decide.

    Args:
        data: The dataset that its evidence was measured on (default: icons, or the data of the first --task).
        task: A task that it was evaluated on: its file, the folder of its pack or its name.
        name: The model name of the release (default: that of the release that is decided on again, else that of the
            data).
        policy: A TOML file with the rules (default: the included policy).
        why: The reason, for the journal.
        dry_run: Only decide; do not register a release.
    """
    store = open_store(common.home)
    rules = load_policy(policy)
    from clerestory.cli.evaluate import evaluation_data  # here, because it imports torch

    if name:
        check_name("a model", name)
    digest = stored_model(store, model)
    notes = what_is_not_pinned(store, digest)

    dataset = evaluation_data(store, data, task, common.out)
    name = name or _release_name(store, model, dataset.name)
    release = None
    if dry_run:
        decision = gate(digest, store, rules, dataset.digest, name, task, data)
        common.out.result(decision, *_decision_lines(decision))
    else:
        gated = run_gate(
            store, digest, dataset.digest, name=name, policy=rules, why=why, notes=notes, tasks=task, source=data
        )
        if isinstance(gated, Release):
            release, decision = gated, gated.decision
            common.out.result(release, f"release   {release.ref}", *_decision_lines(decision))
        else:
            decision = gated
            common.out.result({"decision": decision}, *_decision_lines(decision, "; no release was registered"))
    if release is not None and decision.verdict == "ship":
        approval = approvals_or_none(store, release)
        step = next_step(approval) if approval is not None else ""
        common.out.next(step or f"clerestory release promote {release.ref} --why '...'")
    elif decision.command:
        common.out.next(decision.command)
    return VERDICTS[decision.verdict][2]


def list_(*, name: str = "", common: Common = PLAIN) -> None:
    """List every release, with the aliases live and previous, who approved it, and who made it live and why.

    Args:
        name: Only releases of this model name.
    """
    store = open_store(common.home)
    releases = store.releases(name or None)
    table = Table("release", "alias", "verdict", "approved by", "made live by", "model", "by", "when", "why", box=None)
    events = live_events(store.journal.records())
    approvals = {release.ref: approvals_or_none(store, release) for release in releases}
    for release in releases:
        verdict, style, _ = VERDICTS[release.decision.verdict]
        aliases = ", ".join(_aliases(store, release))
        table.add_row(
            release.ref,
            aliases,
            Text(verdict, style),
            approval_line(approvals[release.ref]),
            _made_live(events.get(release.ref)),
            short(release.model),
            release.who,
            release.when,
            release.why,
        )
    lines = [table] if releases else ["there are no releases yet"]
    data = [
        {
            **encode(r),
            "ref": r.ref,
            "aliases": _aliases(store, r),
            "approval": approval_json(approvals[r.ref]),
            "made_live_by": events[r.ref].who if r.ref in events else "",
            "made_live_why": events[r.ref].why if r.ref in events else "",
        }
        for r in releases
    ]
    common.out.result(data, *lines)
    if not releases:
        common.out.next("clerestory release gate starter")


def show_(ref: str, /, *, common: Common = PLAIN) -> None:
    """Show one release with its decision and reasons.

    Args:
        ref: A release, such as icons@3 or icons@live.
    """
    store = open_store(common.home)
    release = _release(store, ref)
    aliases = _aliases(store, release)
    approval = approvals_or_none(store, release)
    facts = Table(box=None, show_header=False)
    for key, value in (
        ("release", release.ref + (f"  ({', '.join(aliases)})" if aliases else "")),
        ("model", release.model),
        ("by", f"{release.who}, {release.when}"),
        ("why", release.why),
        *approval_facts(approval),
        ("made live by", _made_live(live_events(store.journal.records()).get(release.ref)) or "nobody"),
        ("policy", release.decision.policy),
        *((name.replace("_", " "), value) for name, value in release.notes.items()),
    ):
        facts.add_row(key, value)
    from clerestory.cli.since import freshness_table  # here, because they import torch
    from clerestory.stages.evaluate.diff import release_freshness

    states = release_freshness(store, release)
    common.out.result(
        {
            **encode(release),
            "ref": release.ref,
            "aliases": aliases,
            "approval": approval_json(approval),
            "suites": encode(states),
        },
        facts,
        *_decision_lines(release.decision),
        "",
        freshness_table(states),
    )
    if any(state.state != "fresh" for state in states):
        common.out.next(f"clerestory evaluate {release.ref}{_data_option(store, release)} --since {release.ref}")


def card_(
    ref: str,
    /,
    *,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Write a model card in the format of the Hugging Face hub: metadata and everything measured.

    Args:
        ref: A release (icons@3, icons@live), a model's digest, starter or photos.
        out: The file to write (default: the release's name and number, such as icons-4.md).
        force: Replace an existing file.
    """
    out = out or Path(f"{ref.replace('@', '-').replace('/', '-')}.md")
    check_output(out, force)
    from clerestory.report.card import model_card  # here, because it imports the client of the hub
    from clerestory.report.collect import collect

    store = open_store(common.home)
    card = model_card(collect(store, model_reference(store, ref)))
    write_output(out, card.encode(), force)
    common.out.result({"file": str(out)}, f"wrote {out}")
    common.out.write_line("notice: the card names no licence of the model itself; choose one before you publish it")


def promote_(
    ref: str,
    /,
    *,
    why: str,
    who: str = "",
    new_space: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Make a release live; its decision must be "ship".

    Args:
        ref: A release, such as icons@3.
        why: The reason, for the journal.
        who: The person who decides (default: $CLERESTORY_WHO or the login name).
        new_space: Search indexes that clients have made of the embeddings are made again.
    """
    store = open_store(common.home)
    ref = release_reference(store, ref)
    if not new_space:
        prepare_golden(store, ref)
    alias = promote(ref, store, who=who, why=why, new_space=new_space)
    release = store.release(alias.name, alias.number)
    approval = approvals_or_none(store, release)
    notice = account_notice(approval) if approval is not None else ""
    common.out.result(
        {**encode(alias), "notice": notice},
        f"✓ {alias.name}@{alias.number} is {alias.alias}",
        *([f"notice: {notice}"] if notice else []),
    )
    data = _data_option(store, release)
    name = "" if alias.name == DEFAULT_NAME else f" {quote(alias.name)}"
    common.out.next(f"clerestory serve{name}{data if data != f' --data {DEFAULT_NAME}' else ''}")


def rollback_(
    name: str = "icons",
    /,
    *,
    why: str = "",
    who: str = "",
    rehearse: Annotated[bool, Parameter(negative=())] = False,
    prove: bool = True,
    wait: float = 60.0,
    common: Common = PLAIN,
) -> int:
    """Go back to the previous live release; exit code 3 while a running server does not serve it yet.

    The release to go back to must answer the golden inputs as before; the alias moves then, and the command waits until
    every running server serves it and has answered the golden inputs with it.

    Args:
        name: The model name.
        why: The reason, for the journal; not needed for a rehearsal.
        who: The person who decides (default: $CLERESTORY_WHO or the login name).
        rehearse: Do everything except for moving the alias.
        prove: Replay the golden inputs and wait for the servers; without it, only the alias is moved.
        wait: How long to wait for the servers, in seconds.
    """
    store = open_store(common.home)
    if not prove and not rehearse:
        alias = rollback(name, store, who=who, why=why)
        common.out.result(alias, f"✓ {alias.name}@{alias.number} is {alias.alias} again; nothing was replayed")
        return 0
    from clerestory.apps.proved_rollback import prove_rollback, rehearse_rollback  # here, because it imports torch

    proof = rehearse_rollback(name, store) if rehearse else prove_rollback(name, store, who, why, wait)
    data = {**encode(proof), "mitigated": proof.mitigated}
    replayed = "answers the golden inputs as before" if proof.replayed else "runs on another host: nothing was replayed"
    where = plural(len(proof.servers), "running server")
    if rehearse:
        lines = [f"✓ a rollback from {proof.live} to {proof.target} would succeed: {proof.target} {replayed}"]
        if proof.servers:
            lines.append(f"  {where} {'has' if len(proof.servers) == 1 else 'have'} it in memory")
        common.out.result(data, *lines, *(f"  notice: {each}" for each in proof.lagging))
        return 0
    if proof.mitigated:
        served = f"{where} served it after {proof.seconds:.1f} s" if proof.servers else "no server is running"
        lines = [f"✓ mitigated: {proof.target} is live again and {replayed}; {served}"]
    else:
        lines = [f"? {proof.target} is live again, but not mitigated yet: {proof.target} {replayed}"]
    common.out.result(data, *lines, *(f"  {each}" for each in proof.lagging))
    return 0 if proof.mitigated else 3


def golden_(ref: str, /, *, common: Common = PLAIN) -> None:
    """Load a release and replay the golden inputs: eight texts and eight images with stored answers.

    The first time, the answers are stored; later they must be the same, within a cosine of 0.999.

    Args:
        ref: A release, such as icons@3 or icons@live.
    """
    from clerestory.apps.proved_rollback import replay_release  # here, because it imports torch

    store = open_store(common.home)
    release = _release(store, ref)
    replayed = replay_release(store, release)
    line = (
        f"✓ {release.ref} answers the golden inputs as stored" if replayed else f"· {release.ref} runs on another host"
    )
    common.out.result({"ref": release.ref, "replayed": replayed}, line)


def prepare_golden(store: Store, ref: str) -> None:
    """Replay the golden inputs of two releases, if clients depend on their embeddings; imports torch only then."""
    release = store.resolve(ref).release
    alias = store.alias(release.name, "live") if release is not None else None
    if release is None or alias is None or alias.number == release.number:
        return
    live = store.release(release.name, alias.number)
    if embedding_requests(store, live):
        from clerestory.apps.proved_rollback import ensure_golden

        ensure_golden(store, live, release)


def verify_(ref: str = "icons@live", /, *, common: Common = PLAIN) -> int:
    """Verify every digest and recompute every number; exit code 1 when a check fails.

    Args:
        ref: A release, such as icons@3 or icons@live.
    """
    store = open_store(common.home)
    findings = verify(model_reference(store, ref), store)
    failed = [finding for finding in findings if finding.state == "fail"]
    table = Table(box=None, show_header=False)
    for finding in findings:
        mark, style = ("✗", "red") if finding.state == "fail" else ("✓", "green")
        if finding.state not in ("pass", "fail"):
            mark, style = "·", "dim"
        table.add_row(Text(mark, style), finding.code, finding.where, finding.message)
    summary = (
        f"{len(failed)} of {plural(len(findings), 'check')} failed"
        if failed
        else f"all {plural(len(findings), 'check')} passed"
    )
    common.out.result({"ref": ref, "passed": not failed, "findings": findings}, table, summary)
    return 1 if failed else 0


def _release(store: Store, ref: str) -> Release:
    release = store.resolve(release_reference(store, ref)).release
    assert release is not None  # the reference is that of a release
    return release


def _release_name(store: Store, model: str, data: str) -> str:
    """The name of the release that a reference names, else one made from the name of the data."""
    resolved = resolve_stored(store, model)
    if resolved and resolved.release:
        return resolved.release.name
    name = re.sub(r"[^a-z0-9._-]+", "-", data.lower()).strip("-._")[:64]
    return name if is_name(name) else DEFAULT_NAME


def _data_option(store: Store, release: Release) -> str:
    """The option that names the data of a release's newest evaluation; empty if the store has no name for them."""
    data = evaluated_data(store, release.model)
    return f" --data {quote(data)}" if data else ""


def _aliases(store: Store, release: Release) -> list[str]:
    return [alias.alias for alias in store.aliases(release.name) if alias.number == release.number]


def _made_live(event: Event | None) -> str:
    """Who made a release live, and why."""
    if event is None:
        return ""
    return f"{event.who}: {event.why}" if event.why else event.who


def _decision_lines(decision: Decision, after: str = "") -> list[Text | Table]:
    verdict, style, _ = VERDICTS[decision.verdict]
    table = Table(box=None, show_header=False)
    for reason in decision.reasons:
        mark, colour = OUTCOMES[reason.outcome]
        table.add_row(Text(mark, colour), reason.rule, reason.message)
    return [Text(verdict + after, style), table]
