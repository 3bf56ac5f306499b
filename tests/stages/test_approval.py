"""Approval of releases: who may approve and promote, what voids an approval, and races."""

from __future__ import annotations

import json
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.release_life import BOUNDS, Life

from clerestory.core import provenance
from clerestory.core.codec import Tags, decode, encode
from clerestory.core.digest import canonical, digest
from clerestory.core.errors import ConfigError, Conflict, InputError, IntegrityError, Refused
from clerestory.core.people import person_key
from clerestory.core.release import ApprovalPolicy, Decision, Event, Policy, Release
from clerestory.stages.release import approval as verbs
from clerestory.stages.release import approve, decline, load_policy, promote, register, request_approval, rollback
from clerestory.store import JournalRecord, Store, open_store
from clerestory.store.approvals import Void, approval_state, read_approvals
from clerestory.store.approvers import identity_details, is_signed_by, read_approvers, signer_of
from clerestory.store.signing.keys import make_key

TWO = ApprovalPolicy(approvals=2)


def released(life: Life, rule: ApprovalPolicy | None = TWO, who: str = "Ada", share: float = 0.7) -> Release:
    """A new release that passed the gate, by a policy with this rule of approval."""
    model = life.model()
    life.evaluated(model, share)
    return register("icons", life.decide(model, Policy("icons", BOUNDS, approval=rule)), life.store, who, "a test")


def approved(life: Life, release: Release, *people: str) -> None:
    request_approval(release.ref, life.store, "please", "Ada")
    for person in people:
        approve(release.ref, life.store, "looks right", person)


# The policy.


def test_a_policy_without_the_section_keeps_its_digest() -> None:
    without = {"name": "p", "rules": [], "version": 1}
    assert encode(Policy("p", ())) == without
    assert digest(decode(Policy, without)) == digest(without)
    with_section = Policy("p", (), approval=TWO)
    assert digest(with_section) != digest(without)
    assert decode(Policy, json.loads(canonical(with_section))) == with_section


def test_the_section_is_read_from_the_file(tmp_path: Path) -> None:
    rule = '\n[[rules]]\nname = "r"\nmetric = "recall@10"\nat_least = 0.1\n'
    file = tmp_path / "p.toml"
    file.write_text(f'name = "p"\n[approval]\napprovals = 2\napproval_expires_days = 30\n{rule}', encoding="utf-8")
    assert load_policy(file).approval == ApprovalPolicy(2, approval_expires_days=30)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("approvals = 21", "approvals must be at least 0 and at most 20, not 21"),
        ("approvals = -1", "approvals must be at least 0"),
        ("approval = 2", "has no setting 'approval'"),
        ('identity = "sure"', "identity must be stated or verified, not 'sure'"),
        ("approvals = true", "approvals must be"),
        ("approvals = 0\npromoter_must_differ_from_author = false", "is 0, so the section requires nothing"),
    ],
)
def test_a_wrong_section_is_one_sentence(tmp_path: Path, section: str, words: str) -> None:
    file = tmp_path / "p.toml"
    rule = '\n[[rules]]\nname = "r"\nmetric = "recall@10"\nat_least = 0.1\n'
    file.write_text(f'name = "p"\n[approval]\n{section}{rule}', encoding="utf-8")
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")) as caught:
        load_policy(file)
    assert "approval" in caught.value.message
    assert "\n" not in caught.value.message


# From the request to the promotion.


def test_two_people_approve_and_another_promotes(life: Life) -> None:
    release = released(life)
    with pytest.raises(Refused, match="cannot be promoted: nobody has requested the approval") as caught:
        promote(release.ref, life.store, "Eve", "now")
    assert caught.value.fix == "request it: clerestory release request icons@1 --why '...'"
    assert caught.value.exit_code == 1
    approved(life, release, "Bob")
    with pytest.raises(Refused, match="1 of 2 approvals is missing; Bob approved it") as caught:
        promote(release.ref, life.store, "Eve", "now")
    assert caught.value.fix == ("a person other than Ada and Bob runs: clerestory release approve icons@1 --why '...'")
    assert life.live() == (0, 0)
    state = approve(release.ref, life.store, "fine", "Carol")
    assert (state.missing, [each.who for each in state.counting]) == (0, ["Bob", "Carol"])
    promote(release.ref, life.store, "Eve", "now")
    assert life.live() == (1, 0)
    event = life.store.journal.records("icons@")[-1].event
    assert (event.kind, event.who, event.details["approved_by"]) == ("promoted", "Eve", "Bob, Carol")
    given = [str(each.seq) for each in life.store.journal.records("icons@") if each.event.kind == "approved"]
    assert event.details["approval_records"] == ", ".join(given)
    assert len(given) == 2
    assert (event.details["identity"], event.details["approvals_identity"]) == ("stated", "stated")
    final = read_approvals(life.store, release)
    assert final.promoted is not None
    assert final.promoted.who == "Eve"
    assert not life.store.journal.verify()
    assert not life.store.verify_registry("icons")


def test_the_author_may_not_promote(life: Life) -> None:
    release = released(life, ApprovalPolicy())
    for name in ("Ada", "ada ", "ＡＤＡ"):
        with pytest.raises(Refused, match="who submitted it to the gate"):
            promote(release.ref, life.store, name, "now")
    promote(release.ref, life.store, "Eve", "now")
    assert life.live() == (1, 0)


def test_who_may_approve(life: Life) -> None:
    release = released(life)
    with pytest.raises(InputError, match="nobody has requested the approval of icons@1"):
        approve(release.ref, life.store, "early", "Bob")
    request_approval(release.ref, life.store, "please", "Rita")
    for name, words in (("ada", "who submitted it to the gate"), ("Rita", "who requested the approval")):
        with pytest.raises(Refused, match=words):
            approve(release.ref, life.store, "mine", name)
    approve(release.ref, life.store, "yes", "Bob")
    with pytest.raises(Refused, match="BOB has approved icons@1 already"):
        approve(release.ref, life.store, "again", "BOB")
    with pytest.raises(InputError, match="Rita requested the approval of icons@1 already"):
        request_approval(release.ref, life.store, "again", "Rita")
    with pytest.raises(InputError, match="need a reason"):
        approve(release.ref, life.store, "  ", "Carol")


def test_the_author_may_approve_where_the_policy_says_so(life: Life) -> None:
    rule = ApprovalPolicy(1, promoter_must_differ_from_author=False, approver_must_differ_from_author=False)
    release = released(life, rule)
    approved(life, release, "Ada")
    promote(release.ref, life.store, "Ada", "alone")
    assert life.live() == (1, 0)


def test_a_release_that_needs_or_gets_no_approval(life: Life) -> None:
    release = released(life, None)
    with pytest.raises(InputError, match="requires no approval of icons@1"):
        request_approval(release.ref, life.store, "please", "Ada")
    promote(release.ref, life.store, "Ada", "now")
    refused = released(life, TWO, share=0.1)
    with pytest.raises(Refused, match="cannot be approved: the gate's verdict is 'do not ship'"):
        request_approval(refused.ref, life.store, "please", "Ada")


def test_a_refusal_voids_what_was_given(life: Life) -> None:
    release = released(life)
    approved(life, release, "Bob")
    state = decline(release.ref, life.store, "the groups", "Dora")
    assert [each.void for each in state.approvals] == [Void.DECLINED]
    with pytest.raises(Refused, match="cannot be promoted: Dora declined icons@1"):
        promote(release.ref, life.store, "Eve", "now")
    with pytest.raises(Refused, match="Dora declined icons@1"):
        approve(release.ref, life.store, "still", "Carol")
    approved(life, release, "Carol")
    assert read_approvals(life.store, release).missing == 1, "those before the refusal do not come back"
    approve(release.ref, life.store, "yes", "Bob")
    promote(release.ref, life.store, "Eve", "now")
    assert life.live() == (1, 0)


def test_approvals_expire(life: Life) -> None:
    release = released(life, ApprovalPolicy(1, approval_expires_days=30))
    approved(life, release, "Bob")
    given = read_approvals(life.store, release).counting[0].when
    for days, missing in ((29, 0), (30, 0), (31, 1)):
        later = (provenance.datetime.fromisoformat(given) + verbs.timedelta(days=days)).isoformat()
        assert read_approvals(life.store, release, today=later).missing == missing, days
    state = read_approvals(life.store, release, today=later)
    assert state.approvals[0].void == Void.EXPIRED


def test_stale_evidence_voids_approvals(life: Life) -> None:
    model = life.model()
    life.evaluated(model)
    decision = life.decide(model, Policy("icons", BOUNDS, approval=TWO))
    stale = life.evaluated(model, code="0" * 64)
    reasons = tuple(replace(reason, evidence=stale.id) for reason in decision.reasons)
    release = register("icons", replace(decision, reasons=reasons), life.store, "Ada", "old numbers")
    approved(life, release, "Bob", "Carol")
    with pytest.raises(Refused, match="the approvals of icons@1 are void: its evidence .* different version") as caught:
        promote(release.ref, life.store, "Eve", "now")
    assert "clerestory evaluate icons@1 --since icons@1" in caught.value.fix
    assert life.live() == (0, 0)


def test_a_weaker_policy_needs_the_approvals_of_the_one_in_force(life: Life) -> None:
    first = released(life)
    approved(life, first, "Bob", "Carol")
    promote(first.ref, life.store, "Eve", "now")
    lax = released(life, None)
    with pytest.raises(Refused, match="cannot be promoted by Ada"):
        promote(lax.ref, life.store, "Ada", "without asking")
    with pytest.raises(Refused, match="nobody has requested"):
        promote(lax.ref, life.store, "Eve", "without asking")
    approved(life, lax, "Bob", "Carol")
    promote(lax.ref, life.store, "Eve", "agreed to drop the rule")
    free = released(life, None)
    promote(free.ref, life.store, "Ada", "no rule any more")
    assert life.live() == (3, 2)


def test_rollback_is_possible_in_an_emergency_and_voids_what_failed(life: Life) -> None:
    rule = ApprovalPolicy(1, approval_expires_days=1)
    releases = [released(life, rule) for _ in range(2)]
    for release in releases:
        approved(life, release, "Bob")
        promote(release.ref, life.store, "Eve", "now")
    rollback("icons", life.store, "Ada", "it answers nonsense")
    event = life.store.journal.records("icons@")[-1].event
    assert (life.live(), event.kind, "approval" in event.details) == ((1, 0), "rolled_back", False)
    with pytest.raises(Refused, match="nobody has requested the approval of icons@2"):
        promote("icons@2", life.store, "Eve", "again")


def test_rollback_without_approvals_is_recorded_or_refused_by_the_policy(life: Life) -> None:
    first = released(life, None)
    promote(first.ref, life.store, "Ada", "before the rule")
    second = released(life, TWO)
    approved(life, second, "Bob", "Carol")
    promote(second.ref, life.store, "Eve", "now")
    rollback("icons", life.store, "Ada", "nonsense")
    assert life.store.journal.records("icons@")[-1].event.details["approval"] == "emergency"
    third = released(life, replace(TWO, rollback_needs_approval=True))
    approved(life, third, "Bob", "Carol")
    promote(third.ref, life.store, "Eve", "now")
    with pytest.raises(Refused, match="nobody has requested the approval of icons@1"):
        rollback("icons", life.store, "Ada", "nonsense")
    assert life.live() == (3, 1)


def test_a_clock_in_the_past_is_named(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    release = released(life)
    before = len(life.store.journal.records())
    monkeypatch.setattr(verbs, "now", lambda: "2001-01-01T00:00:00+00:00")
    for call in (request_approval, approve, decline):
        with pytest.raises(InputError, match="the clock of this computer says 2001-01-01") as caught:
            call(release.ref, life.store, "why", "Bob")
        assert "before the last record of the journal" in caught.value.message
    with pytest.raises(InputError, match="the clock of this computer"):
        promote(release.ref, life.store, "Eve", "now")
    assert len(life.store.journal.records()) == before


def test_a_changed_journal_is_not_trusted(life: Life) -> None:
    release = released(life, ApprovalPolicy(1))
    approved(life, release, "Bob")
    with life.store.database.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER journal_no_update")
        connection.exec_driver_sql("UPDATE journal SET record = replace(record, 'Bob', 'Eve') WHERE kind = 'approved'")
    with pytest.raises(IntegrityError, match="the approvals of icons@1 cannot be trusted"):
        promote(release.ref, life.store, "Mallory", "now")


# Verified identities.


@pytest.fixture
def keys(life: Life, tmp_path: Path) -> dict[str, Path]:
    """The keys of two registered people, and of one who is not registered."""
    folder = tmp_path / "keys"
    folder.mkdir()
    paths = {name: make_key(folder / name.lower(), name).path for name in ("Bob", "Carol", "Mallory")}
    lines = "".join(f'[[approvers]]\nname = "{each}"\nkey = "{paths[each]}.pub"\n' for each in ("Bob", "Carol"))
    (life.store.files / "approvers.toml").write_text(lines, encoding="utf-8")
    return paths


def test_only_signed_approvals_count_where_the_policy_says_so(life: Life, keys: dict[str, Path]) -> None:
    release = released(life, replace(TWO, identity="verified"))
    request_approval(release.ref, life.store, "please", "Ada")
    with pytest.raises(Refused, match="must be signed, and Bob gave no key") as caught:
        approve(release.ref, life.store, "yes", "Bob")
    assert "--key FILE" in caught.value.fix
    home = life.store.files
    for name in ("Bob", "Carol"):
        state = approve(release.ref, life.store, "yes", signer=signer_of(home, keys[name]))
    assert [(each.who, each.identity) for each in state.counting] == [("Bob", "verified"), ("Carol", "verified")]
    with pytest.raises(InputError, match="is not registered in"):
        signer_of(home, keys["Mallory"])
    with pytest.raises(InputError, match="is registered for Bob and not for Carol"):
        signer_of(home, keys["Bob"], "Carol")
    # A key that is taken out of the file voids what was signed with it.
    lines = (home / "approvers.toml").read_text(encoding="utf-8").split("[[approvers]]")
    (home / "approvers.toml").write_text("[[approvers]]" + lines[1], encoding="utf-8")
    assert [each.void for each in read_approvals(life.store, release).approvals] == ["", Void.NOT_VERIFIED]
    (home / "approvers.toml").write_text("[[approvers]]".join(lines), encoding="utf-8")
    promote(release.ref, life.store, "Eve", "now")
    assert life.store.journal.records("icons@")[-1].event.details["approvals_identity"] == "verified"


def test_a_signature_is_for_one_act_of_one_person_on_one_release(life: Life, keys: dict[str, Path]) -> None:
    people = read_approvers(life.store.files)
    event = Event("approved", "icons@1", "Bob", "yes", "2026-01-01T00:00:00+00:00", Tags(release="r" * 64))
    signed = identity_details(event, signer_of(life.store.files, keys["Bob"]))
    assert signed["identity"] == "verified"

    def holds(**changes: str) -> bool:
        release = changes.pop("release", "r" * 64)
        return is_signed_by(replace(event, details=Tags(signed, release=release), **changes), people)

    assert holds()
    assert not any((
        holds(kind="approval_declined"), holds(subject="icons@2"), holds(who="Carol"), holds(why="no"),
        holds(when="2026-01-02T00:00:00+00:00"), holds(release="s" * 64),
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[approvers]]\nname = 'Bob'\n", "lacks the setting 'key'"),
        ("[[approvers]]\nname = 'Bob'\nkey = 'nowhere.pub'\n", "there is no key file"),
        ("approvers = ", "are not valid TOML"),
    ],
)
def test_a_wrong_file_of_approvers_is_one_sentence(life: Life, content: str, words: str) -> None:
    (life.store.files / "approvers.toml").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_approvers(life.store.files)


# Races: each starts in a process of its own.


def _attempt(home: str, verb: str, person: str, barrier: object, results: object) -> None:
    with open_store(home) as store:
        barrier.wait()  # type: ignore[attr-defined]  # of multiprocessing
        try:
            if verb == "approve":
                approve("icons@1", store, "yes", person)
            else:
                promote("icons@1", store, person, "now", expected_generation=0)
            results.put((person, "done"))  # type: ignore[attr-defined]  # of multiprocessing
        except (Refused, Conflict) as error:
            results.put((person, type(error).__name__))  # type: ignore[attr-defined]  # of multiprocessing


def _race(store: Store, verb: str, people: list[str]) -> list[str]:
    context = get_context("fork")
    barrier, results = context.Barrier(len(people)), context.Queue()
    processes = [
        context.Process(target=_attempt, args=(str(store.home), verb, each, barrier, results)) for each in people
    ]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=60)[1] for _ in people]
    for process in processes:
        process.join(60)
    return sorted(outcomes)


def test_races_of_approvals_and_of_promotions(life: Life) -> None:
    release = released(life)
    request_approval(release.ref, life.store, "please", "Ada")
    assert _race(life.store, "approve", ["Bob", "bob", "BOB"]) == ["Refused", "Refused", "done"]
    assert read_approvals(life.store, release).missing == 1
    approve(release.ref, life.store, "yes", "Carol")
    assert _race(life.store, "promote", ["Eve", "Finn", "Gus"]) == ["Conflict", "Conflict", "done"]
    assert sum(each.event.kind == "promoted" for each in life.store.journal.records()) == 1
    assert not life.store.journal.verify()


# The state is a function of the records.

_RELEASE = Release("icons", 1, "m" * 64, (), Decision("ship", "p", "d" * 64, "m" * 64, ()), 0, "Ada", "w", "")


def _record(seq: int, event: Event) -> JournalRecord:
    return JournalRecord(seq, "", "", event)


_PEOPLE = st.sampled_from(["Ada", "ada", "Bob", "BOB ", "Carol", "Rita"])
_KINDS = st.sampled_from(["approval_requested", "approved", "approved", "approval_declined", "rolled_back"])


@given(st.lists(st.tuples(_KINDS, _PEOPLE, st.booleans()), max_size=12))
def test_no_order_of_events_makes_one_person_count_twice(steps: list[tuple[str, str, bool]]) -> None:
    release = _RELEASE
    records = []
    for seq, (kind, who, is_same) in enumerate(steps, 1):
        details = Tags({"release": digest(release) if is_same else "0" * 64, "from": release.ref})
        records.append(_record(seq, Event(kind, release.ref, who, "w", "2026-01-01T00:00:00+00:00", details)))
    state = approval_state(release, TWO, records, "2026-01-02T00:00:00+00:00")
    counting = [person_key(each.who) for each in state.counting]
    assert len(set(counting)) == len(counting)
    assert "ada" not in counting, "the author"
    if state.request is not None:
        assert person_key(state.request.who) not in counting
        assert all(each.seq > state.request.seq for each in state.counting)
    if state.request is None or state.declined is not None:
        assert not counting
    allowed = {r.seq for r in records if r.event.details["release"] == digest(release)}
    assert {each.seq for each in state.counting} <= allowed


@given(st.builds(ApprovalPolicy, st.integers(1, 5), st.booleans(), st.booleans(), st.integers(0, 9)), st.none())
def test_the_stricter_of_two_rules_demands_what_each_demands(rule: ApprovalPolicy, nothing: None) -> None:
    assert rule.stricter(nothing) == rule.stricter(rule) == rule
    other = ApprovalPolicy(3, False, True, 4, "verified")
    both = rule.stricter(other)
    assert both == other.stricter(rule)
    assert both.approvals >= max(rule.approvals, other.approvals)
    assert 0 < both.approval_expires_days <= 4
    assert both.identity == "verified"
    assert both.approver_must_differ_from_author


@pytest.mark.parametrize("other", ["B\u200bob", "\u0412\u043e\u044c", "BOB\u2060 "])
def test_a_name_that_looks_the_same_does_not_approve_twice(life: Life, other: str) -> None:
    release = released(life)
    approved(life, release, "Bob")
    with pytest.raises(Refused, match="has approved icons@1 already"):
        approve(release.ref, life.store, "again", other)
    with pytest.raises(InputError, match="mixes Cyrillic and Latin letters"):
        approve(release.ref, life.store, "again", "\u0412ob")
    with pytest.raises(InputError, match="mixes Cyrillic and Latin letters"):
        promote(release.ref, life.store, "\u0412ob", "agreed")
    assert read_approvals(life.store, release).missing == 1


def test_two_names_from_one_account_are_named(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    release = released(life, ApprovalPolicy(3))
    approved(life, release, "Bob", "Carol")
    login = verbs.login_name()
    state = read_approvals(life.store, release)
    assert state.shared_accounts == ((login, ("Bob", "Carol")),)
    monkeypatch.setenv("LOGNAME", "another-account")
    assert approve(release.ref, life.store, "fine", "Dan").shared_accounts == state.shared_accounts
