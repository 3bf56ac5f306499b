"""From the store to the one value a report is made of. Whatever cannot be read is named, never passed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from clerestory.core.codec import decode
from clerestory.core.digest import short
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence, Finding, Subject
from clerestory.core.provenance import environment_digest, stage_code
from clerestory.core.release import Alias, Policy, Release
from clerestory.core.sample import Dataset
from clerestory.core.stage import stages
from clerestory.report.dataset_summary import describe_data
from clerestory.report.diagnostics import by_severity, count_waits, guesses, read_diagrams, read_self_test
from clerestory.report.examples import Examples, read_examples
from clerestory.report.experts import read_experts
from clerestory.report.model import Data, Entry, Examined, Experts, Held, ReportData, Rival, SelfTest, Training
from clerestory.report.training import read_log
from clerestory.report.trust import read_trust, trust_blob
from clerestory.stats.rows import read_rows
from clerestory.store import Store, alias_target

T = TypeVar("T")


def collect(store: Store, ref: str, pictures: Dataset | None = None) -> ReportData:
    """Everything the store knows about the model that ``ref`` names.

    Args:
        store: where it is kept.
        ref: ``icons@3``, ``icons@live``, ``icons``, or a model's digest or its beginning.
        pictures: the data the model was examined on, for thumbnails and for the data summary.

    Raises:
        NotFound: nothing has this name.
    """
    resolved = store.resolve(ref)
    model = resolved.digest
    release = resolved.release or _release_of(store, model)
    reader = _Reader(store)
    evidence = reader.evidence_of(release, model)
    history = tuple(store.releases(release.name)) if release else ()
    aliases = tuple(sorted(store.aliases(release.name), key=lambda a: a.alias)) if release else ()
    journal = reader.journal(release, model)
    train, examined = _newest(evidence, "train"), _newest(evidence, "evaluate")
    data = reader.data(train or examined, examined, pictures)
    usable = pictures if data is not None and data.examined else None
    examples = reader.examples(examined, usable)
    return ReportData(
        ref=ref,
        model=model,
        release=release,
        aliases=aliases,
        policy=reader.policy(release),
        evidence=evidence,
        live=_made_live(release, aliases, journal),
        training=reader.training(train),
        examples=examples.retrieved,
        written=examples.written,
        data=data,
        rival=reader.rival(release, aliases, history, train),
        history=history,
        journal=journal,
        findings=_findings(evidence, usable),
        examined=reader.examined(examined),
        self_test=reader.self_test(model),
        experts=reader.experts(train),
        missing=tuple(dict.fromkeys(reader.missing)),
    )


def _release_of(store: Store, model: str) -> Release | None:
    """The release a model is known by: the live one where there is one, else the newest; None when it has none."""
    found = [release for release in store.releases() if release.model == model]
    live = {(alias.name, alias.number) for alias in store.aliases() if alias.alias == "live"}
    return next((r for r in found if (r.name, r.number) in live), found[0] if found else None)


def _newest(evidence: tuple[Held, ...], kind: str) -> Held | None:
    return next((held for held in reversed(evidence) if held.evidence.kind == kind), None)


def _findings(evidence: tuple[Held, ...], pictures: Dataset | None) -> tuple[Finding, ...]:
    own = [finding for held in evidence for finding in held.evidence.findings]
    return tuple(dict.fromkeys(own + list(pictures.findings if pictures else ())))


def _made_live(release: Release | None, aliases: tuple[Alias, ...], journal: tuple[Entry, ...]) -> Entry | None:
    """The newest record that moved ``live``, when ``live`` points at this release."""
    if release is None or not any(a.alias == "live" and a.number == release.number for a in aliases):
        return None
    moves = (e for e in journal if alias_target(e.event.details, "live") is not None)
    newest = next(moves, None)
    return newest if newest is not None and alias_target(newest.event.details, "live") == release.number else None


class _Reader:
    """Reads pieces from the store and remembers what could not be read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.missing: list[str] = []

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """What ``read`` returns, or None with the error kept in ``missing``."""
        try:
            return read()
        except (ClerestoryError, ValueError, KeyError, TypeError) as error:
            reason = error.message if isinstance(error, ClerestoryError) else f"it cannot be read ({error})"
            self.missing.append(f"{what} — {reason}")
            return None

    def evidence_of(self, release: Release | None, model: str) -> tuple[Held, ...]:
        """The evidence a release rests on; without a release the newest of each kind for the model."""
        if release is not None:
            read = [self.attempt(f"evidence {short(i)}", partial(self.store.evidence, i)) for i in release.evidence]
            # A rule that compares rests on the examination of another model as well; this page is about one.
            found = [e for e in read if e is not None and (e.kind != "evaluate" or e.subject.model == model)]
        else:
            found = [e for kind in stages() for e in self.store.find_evidence(kind, model=model)[:1]]
        if not any(e.kind == "train" for e in found):
            found += self._training_of(model)
        return tuple(_held(e) for e in sorted(found, key=lambda e: (e.made, e.id)))

    def _training_of(self, model: str) -> list[Evidence]:
        """The training a model comes from: as its final model, or as its early checkpoint."""
        direct = self.store.find_evidence("train", model=model)
        if direct:
            return direct[:1]
        return [e for e in self.store.find_evidence("train") if e.facts.get("early_model") == model][:1]

    def policy(self, release: Release | None) -> Policy | None:
        """The policy a release was judged by."""
        if release is None:
            return None
        where = release.decision.policy_digest

        def read() -> Policy:
            return decode(Policy, json.loads(self.store.blobs.get(where)))

        return self.attempt(f"the policy {release.decision.policy}", read)

    def training(self, train: Held | None) -> Training | None:
        """The curves of the training log."""
        if train is None:
            self.missing.append("training — there is no training evidence for this model")
            return None
        log = train.evidence.artifacts.get("log", "")
        if not log:
            self.missing.append("training curve — the training evidence keeps no log")
            return None
        step = train.evidence.facts.get("early_step", "")
        early = int(step) if step.isdigit() else 0
        return self.attempt("training curve", lambda: read_log(self.store.blobs.get(log), early))

    def experts(self, train: Held | None) -> Experts | None:
        """The report card of the experts; None for a model without experts."""
        card = train.evidence.artifacts.get("experts", "") if train else ""
        return self.attempt("experts", lambda: read_experts(self.store.blobs.get(card))) if card else None

    def examples(self, examined: Held | None, pictures: Dataset | None) -> Examples:
        """The examples that the examination kept."""
        if examined is None:
            self.missing.append("quality — this model was not examined")
            return Examples((), ())
        blob = examined.evidence.artifacts.get("examples", "")
        if not blob:
            self.missing.append("examples — the examination kept none")
            return Examples((), ())
        read = self.attempt("examples", lambda: read_examples(self.store.blobs.get(blob), pictures))
        return read or Examples((), ())

    def examined(self, held: Held | None) -> Examined:
        """What the rows and files of the examination say besides its measurements."""
        if held is None:
            return Examined()
        evidence, read = held.evidence, self.store.blobs.get
        diagrams = evidence.artifacts.get("reliability", "")
        trust = self.attempt("trust in the benchmarks", lambda: trust_blob(evidence, self.store)) or ""
        rows = (
            self.attempt("rows of the examination", lambda: read_rows(read(evidence.rows))) if evidence.rows else None
        )
        return Examined(
            (self.attempt("reliability diagrams", lambda: read_diagrams(read(diagrams))) if diagrams else None) or (),
            count_waits(rows) if rows else (),
            (self.attempt("trust in the benchmarks", lambda: read_trust(read(trust))) if trust else None) or (),
            by_severity(rows) if rows else (),
            guesses(rows) if rows else (),
        )

    def self_test(self, model: str) -> SelfTest | None:
        """The newest test of the gates on a model."""
        found = self.store.find_evidence("self_test", model=model)
        if not found:
            return None
        held = _held(found[0])
        return self.attempt(
            "test of the gates", lambda: read_self_test(held, read_rows(self.store.blobs.get(found[0].rows)))
        )

    def data(self, trained: Held | None, examined: Held | None, pictures: Dataset | None) -> Data | None:
        """The data set, counted where the pictures are at hand and are the ones the evidence is about."""
        wanted = {held.evidence.subject.data for held in (trained, examined) if held} - {""}
        if pictures is not None and (not wanted or pictures.digest in wanted):
            return describe_data(pictures)
        if pictures is not None:
            self.missing.append(
                f"pictures — the data set {pictures.name} given to this report is not the one the evidence is about"
            )
        else:
            self.missing.append("pictures — they were not given to this report, so it shows no thumbnails")
        known = [row for row in self.store.datasets() if row.digest in wanted]
        if known:
            return Data(known[0].name, known[0].digest, known[0].size)
        return Data("", sorted(wanted)[0], 0) if wanted else None

    def rival(
        self, release: Release | None, aliases: tuple[Alias, ...], history: tuple[Release, ...], train: Held | None
    ) -> Rival | None:
        """The refused early checkpoint; for a refused release the one that is live."""
        if release is None:
            return None
        others = [r for r in history if r.model != release.model]
        if release.decision.verdict == "refuse":
            live = {a.number for a in aliases if a.alias == "live"}
            others = [r for r in others if r.number in live]
        else:
            others = [r for r in others if r.decision.verdict == "refuse"]
            early = train.evidence.facts.get("early_model", "") if train else ""
            others.sort(key=lambda r: r.model != early)
        if not others:
            return None
        return Rival(others[0], self.evidence_of(others[0], others[0].model))

    def journal(self, release: Release | None, model: str) -> tuple[Entry, ...]:
        """What happened to the line, newest first."""
        names = {release.name, f"{release.name}@", model} if release else {model}
        read = self.attempt("journal", lambda: self.store.journal.records())
        mine = [r for r in read or () if any(_about(r.event.subject, name) for name in names)]
        return tuple(Entry(r.seq, r.hash, r.event) for r in sorted(mine, key=lambda r: -r.seq))


def _about(subject: str, name: str) -> bool:
    return subject == name or (name.endswith("@") and subject.startswith(name))


def _held(evidence: Evidence) -> Held:
    subject = evidence.subject
    code = stage_code(evidence.kind) if evidence.kind in stages() and subject.code else subject.code
    environment = environment_digest() if subject.environment else ""
    today = Subject(subject.model, subject.data, code, subject.config, environment)
    return Held(evidence, evidence.id, subject.differs(today))
