"""Governance for the commands and the pages: which release, which catalogues, and what other stages measure for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clerestory.apps.references import release_reference
from clerestory.core.errors import InputError, NotFound
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.release import Release
from clerestory.stages.govern.catalogue import ALL, Catalogue, load_catalogue, load_catalogues
from clerestory.stages.govern.context import GovernContext, SuiteEvidence
from clerestory.stages.govern.run import Governance, govern
from clerestory.stages.govern.verifiers import verifiers
from clerestory.store import Store
from clerestory.store.acceptances import acceptance_state
from clerestory.store.registry import how_to_go_live

LIVE = "live"


def governed_release(store: Store, ref: str = "") -> Release:
    """The release to govern: the one that a reference names, else the one that is live.

    Raises:
        NotFound: there is none, or the reference names a model without a release.
        InputError: no reference was given, and releases of several model names are live.
    """
    if ref:
        release = store.resolve(release_reference(store, ref)).release
        assert release is not None  # the reference is that of a release
        return release
    live = [alias for alias in store.aliases() if alias.alias == LIVE]
    if len(live) > 1:
        names = ", ".join(f"{alias.name}@{LIVE}" for alias in live)
        raise InputError(f"{len(live)} releases are live: {names}", "name one of them")
    if live:
        return store.release(live[0].name, live[0].number)
    releases = store.releases()
    if not releases:
        fix = "make one: clerestory evaluate starter, then clerestory release gate starter"
        raise NotFound("there is no release to govern", fix)
    name = releases[0].name
    fix = f"name one, such as {releases[0].ref}; or {how_to_go_live(name, [r for r in releases if r.name == name])}"
    raise NotFound("no release is live", fix)


def live_release(store: Store) -> Release | None:
    """The live release, if there is exactly one."""
    live = [alias for alias in store.aliases() if alias.alias == LIVE]
    return store.release(live[0].name, live[0].number) if len(live) == 1 else None


def catalogues_of(reference: str = ALL) -> tuple[Catalogue, ...]:
    """The catalogues of a name, a file or ``all``, with every verifier known.

    Raises:
        InputError: see ``clerestory.stages.govern.catalogue.load_catalogue``.
    """
    return load_catalogues(reference, tuple(verifiers()))


def catalogue_of(reference: str) -> Catalogue:
    """One catalogue of a name or a file.

    Raises:
        InputError: see ``clerestory.stages.govern.catalogue.load_catalogue``.
    """
    return load_catalogue(reference, tuple(verifiers()))


def govern_context(store: Store, release: Release) -> GovernContext:
    """The release with everything that verifiers can ask for; nothing is measured before one asks."""
    return GovernContext(
        store=store,
        release=release,
        verify_release=lambda: _verify(store, release),
        suite_evidence=lambda: _suites(store, release),
        model_card=lambda: _card(store, release),
        bill_of_materials=lambda: _bill(store, release),
        audit_findings=lambda name, evidence: _with_acceptances(store, name, evidence),
    )


def govern_release(store: Store, ref: str = "", catalogue: str = ALL, progress: Progress = QUIET) -> Governance:
    """Answer the requirements of a catalogue, or of all, for a release; see ``clerestory.stages.govern.run.govern``."""
    catalogues = catalogues_of(catalogue)  # an error before the work
    return govern(govern_context(store, governed_release(store, ref)), catalogues, progress)


def _verify(store: Store, release: Release) -> Sequence[Finding]:
    from clerestory.stages.release import verify  # here, because it imports numpy

    return verify(release.ref, store)


def _suites(store: Store, release: Release) -> Sequence[SuiteEvidence]:
    from clerestory.stages.evaluate.diff import release_freshness  # here, because it imports torch

    states = release_freshness(store, release, _current_data(store, release))
    return [
        SuiteEvidence(each.name, each.description, each.state, each.changed, each.id, each.created, each.seconds)
        for each in states
    ]


def _current_data(store: Store, release: Release) -> str:
    """Digest of the data that the release was evaluated on, as it is registered now; empty if it has no name."""
    context = GovernContext(store, release)
    name = context.data_name(context.evaluated_data)
    return next((row.digest for row in store.datasets() if row.name == name), "")


def _with_acceptances(store: Store, name: str, evidence: Evidence) -> Sequence[Finding]:
    """The findings of an audit, those that a person accepts as ``accepted``."""
    from clerestory.apps.acceptance import concerned_samples, dataset_acceptances  # here, because they import numpy

    given = dataset_acceptances(store, name)
    concerned = concerned_samples(evidence, store) if given else {}
    accepted = {
        code for code, own in concerned.items() if acceptance_state(given, code, own.samples, own.count).is_accepted
    }
    return [replace(each, state="accepted") if each.code in accepted else each for each in evidence.findings]


def _bill(store: Store, release: Release) -> bytes:
    from clerestory.report.collect import collect  # here, because it imports the client of the hub
    from clerestory.report.documents.bom import ml_bom

    return ml_bom(collect(store, release.ref))


def _card(store: Store, release: Release) -> str:
    from clerestory.report.card import model_card  # here, because it imports the client of the hub
    from clerestory.report.collect import collect

    return model_card(collect(store, release.ref))
