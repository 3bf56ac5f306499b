"""``clerestory release``: decide, version, promote, roll back, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.core.errors import NotFound
from clerestory.core.release import Decision, Release
from clerestory.stages.release import gate, load_policy, promote, put_to_gate, rollback, verify
from clerestory.store import Store, open_store

VERDICTS = {
    "ship": ("✓ ship", "bold green", 0),
    "refuse": ("✗ do not ship", "bold red", 1),
    "cannot_tell": ("? cannot tell", "bold yellow", 3),
}
OUTCOMES = {"pass": ("✓", "green"), "fail": ("✗", "red"), "cannot_tell": ("?", "yellow")}


def gate_(
    model: str,
    /,
    *,
    data: str = "",
    task: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    name: str = "icons",
    policy: Path | None = None,
    why: str = "",
    dry_run: bool = False,
    common: Common = PLAIN,
) -> int:
    """Put a model to the policy: ship (exit code 0), do not ship (1), or cannot tell (3).

    Args:
        model: A model's digest, or a release to put to the gate again.
        data: The data set its evidence must have been measured on (default: icons, or the data of the first --task).
        task: A task of your own that it was evaluated on: its file, its pack's folder or name.
        name: The line of models the release is numbered in.
        policy: A TOML file with the rules (default: the policy that comes with Clerestory).
        why: The reason, for the journal.
        dry_run: Decide only; make no release.
    """
    store = open_store(common.home)
    digest = store.resolve(model).digest
    held_to = load_policy(policy)
    from clerestory.cli.evaluate import examined  # here, because it brings torch with it

    subject = examined(store, data, task, common.out)
    if dry_run:
        decision = gate(digest, store, held_to, subject.digest, name, task)
        common.out.result(decision, *_decision_lines(decision))
    else:
        release = put_to_gate(store, digest, subject.digest, name=name, policy=held_to, why=why, tasks=task)
        decision = release.decision
        common.out.result(release, f"release   {release.ref}", *_decision_lines(decision))
    if decision.verdict == "ship" and not dry_run:
        common.out.next(f"clerestory release promote {release.ref} --why '...'")
    elif decision.command:
        common.out.next(decision.command)
    return VERDICTS[decision.verdict][2]


def list_(*, name: str = "", common: Common = PLAIN) -> None:
    """Every release and where live and previous point.

    Args:
        name: Only this line of models.
    """
    store = open_store(common.home)
    releases = store.releases(name or None)
    table = Table("release", "", "verdict", "model", "by", "when", "why", box=None)
    for release in releases:
        word, style, _ = VERDICTS[release.decision.verdict]
        marks = ", ".join(_aliases(store, release))
        table.add_row(
            release.ref, marks, Text(word, style), short(release.model), release.who, release.when, release.why
        )
    lines = [table] if releases else ["there is no release yet"]
    data = [{**encode(r), "ref": r.ref, "aliases": _aliases(store, r)} for r in releases]
    common.out.result(data, *lines)
    if not releases:
        common.out.next("clerestory release gate MODEL")


def show_(ref: str, /, *, common: Common = PLAIN) -> None:
    """One release with its decision and reasons.

    Args:
        ref: Such as icons@3 or icons@live.
    """
    store = open_store(common.home)
    release = _release(store, ref)
    marks = _aliases(store, release)
    facts = Table(box=None, show_header=False)
    for key, value in (
        ("release", release.ref + (f"  ({', '.join(marks)})" if marks else "")),
        ("model", release.model),
        ("by", f"{release.who}, {release.when}"),
        ("why", release.why),
        ("policy", release.decision.policy),
    ):
        facts.add_row(key, value)
    from clerestory.cli.since import freshness_table  # here, because they bring torch with them
    from clerestory.stages.evaluate.diff import release_freshness

    states = release_freshness(store, release)
    common.out.result(
        {**encode(release), "ref": release.ref, "aliases": marks, "parts": encode(states)},
        facts,
        *_decision_lines(release.decision),
        "",
        freshness_table(states),
    )
    if any(state.state != "fresh" for state in states):
        common.out.next(f"clerestory evaluate {release.ref} --since {release.ref}")


def promote_(ref: str, /, *, why: str, who: str = "", common: Common = PLAIN) -> None:
    """Make a release live; only one whose decision is "ship" can be.

    Args:
        ref: Such as icons@3.
        why: The reason, for the journal.
        who: Who decides this (default: $CLERESTORY_WHO or the login name).
    """
    alias = promote(ref, open_store(common.home), who=who, why=why)
    common.out.result(alias, f"✓ {alias.name}@{alias.number} is {alias.alias}")
    common.out.next("clerestory serve")


def rollback_(name: str = "icons", /, *, why: str, who: str = "", common: Common = PLAIN) -> None:
    """Go back to the release that was live before.

    Args:
        name: The line of models.
        why: The reason, for the journal.
        who: Who decides this (default: $CLERESTORY_WHO or the login name).
    """
    alias = rollback(name, open_store(common.home), who=who, why=why)
    common.out.result(alias, f"✓ {alias.name}@{alias.number} is {alias.alias} again")


def verify_(ref: str = "icons@live", /, *, common: Common = PLAIN) -> int:
    """Check every digest and compute every number again; exit code 1 when something is wrong.

    Args:
        ref: Such as icons@3 or icons@live.
    """
    findings = verify(ref, open_store(common.home))
    wrong = [finding for finding in findings if finding.state == "fail"]
    table = Table(box=None, show_header=False)
    for finding in findings:
        mark, style = ("✗", "red") if finding.state == "fail" else ("✓", "green")
        if finding.state not in ("pass", "fail"):
            mark, style = "·", "dim"
        table.add_row(Text(mark, style), finding.code, finding.where, finding.message)
    verdict = f"{len(wrong)} of {len(findings)} checks failed" if wrong else f"all {len(findings)} checks hold"
    common.out.result({"ref": ref, "holds": not wrong, "findings": findings}, table, verdict)
    return 1 if wrong else 0


def _release(store: Store, ref: str) -> Release:
    release = store.resolve(ref).release
    if release is None:
        raise NotFound(f"{ref} is a model and not a release", f"put it to the gate: clerestory release gate {ref}")
    return release


def _aliases(store: Store, release: Release) -> list[str]:
    return [alias.alias for alias in store.aliases(release.name) if alias.number == release.number]


def _decision_lines(decision: Decision) -> list[Text | Table]:
    word, style, _ = VERDICTS[decision.verdict]
    table = Table(box=None, show_header=False)
    for reason in decision.reasons:
        mark, colour = OUTCOMES[reason.outcome]
        table.add_row(Text(mark, colour), reason.rule, reason.message)
    return [Text(word, style), table]
