"""The licences of a model as evidence: a finding for each blocking source, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clerestory.core.codec import Facts, encode
from clerestory.core.digest import digest, short
from clerestory.core.evidence import Evidence, Finding, Measurement, Subject
from clerestory.core.files import expand_user
from clerestory.core.licences.policy import LicenceState
from clerestory.core.licences.table import extended_table, licence_table
from clerestory.core.licences.terms import DUTY_LABELS, REASON_LABELS
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.report.licence_chain import ChainLink, LicenceChain, licence_chain
from clerestory.report.model import Basis, Component
from clerestory.report.provenance import components_of
from clerestory.stages.licences.config import LicencesConfig
from clerestory.stages.licences.findings import BLOCKED, DUTIES, NO_TRAINING_DATA, UNKNOWN
from clerestory.stages.licences.metrics import BLOCKING
from clerestory.store import Store

KIND = "licences"
CENSUS = "every source is counted, none is sampled"


@dataclass(frozen=True, slots=True)
class LicenceCheck:
    """The result of a licence check.

    Attributes:
        evidence: as stored.
        chain: the sources with their verdicts.
        components: what the model was made from.
    """

    evidence: Evidence
    chain: LicenceChain
    components: tuple[Component, ...]


def check_model_licences(model: str, store: Store, config: LicencesConfig | None = None) -> LicenceCheck:
    """Follow the licences of everything that a model was made from to the model, or to its output.

    Args:
        model: its digest.
        store: of the model and of the evidence of its training; receives the evidence.
        config: the policy, and where the chain ends.

    Raises:
        ConfigError: the licence table of the settings cannot be read.
    """
    config = config or LicencesConfig()
    with metered() as meter:
        table = extended_table(expand_user(config.licence_table)) if config.licence_table else licence_table()
        components = components_of(store, model)
        chain = licence_chain(components, config.licences, config.end, table)
        findings = tuple(_findings(chain, model))
    evidence = Evidence(
        kind=KIND,
        subject=Subject(
            model=model,
            code=stage_code(KIND),
            config=digest([encode(config), table.digest, encode(components)]),
            environment=environment_digest(),
        ),
        measurements=(_blocking(chain),),
        findings=findings,
        cost=meter.cost,
        created=now(),
        facts=Facts(
            end=config.end,
            state=chain.state,
            sources=len(chain.links),
            declared=sum(part.basis == Basis.DECLARED for part in components),
            training_data_known=chain.is_complete,
            licence_table=table.digest,
        ),
    )
    store.put_evidence(evidence)
    return LicenceCheck(evidence, chain, components)


def _blocking(chain: LicenceChain) -> Measurement:
    """How many sources block it; unknown training data are one of them."""
    missing = int(not chain.is_complete)
    return Measurement(
        BLOCKING.name,
        float(len(chain.blocking) + missing),
        BLOCKING.unit,
        len(chain.links) + missing,
        None,
        CENSUS,
        direction=BLOCKING.direction,
    )


def _findings(chain: LicenceChain, model: str) -> Iterator[Finding]:
    for link in chain.blocking:
        verdict = link.source.verdict
        code = BLOCKED if verdict.state == LicenceState.FAILS else UNKNOWN
        reasons = ", ".join(REASON_LABELS[reason] for reason in verdict.reasons)
        declared = " (as declared)" if link.component and link.component.basis == Basis.DECLARED else ""
        yield code.finding(
            link.name,
            f"{reasons}{declared}",
            reason=verdict.reasons[0],
            count=link.share.images or None if link.share else None,
            licence=verdict.expression,
            steps=len(link.source.path) - 1,
        )
    if not chain.is_complete:
        where = f"model {short(model)}"
        yield NO_TRAINING_DATA.finding(where, "nothing is recorded or declared about what it was trained on")
    for link in chain.links:
        duties = _duties(link)
        if duties and link not in chain.blocking:
            yield DUTIES.finding(link.name, duties)


def _duties(link: ChainLink) -> str:
    return ", ".join(DUTY_LABELS[duty] for duty in link.source.verdict.duties)
