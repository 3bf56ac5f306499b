"""Fixing a dataset: plan, write a new version, register it, and record what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clerestory.apps.acceptance import dataset_acceptances
from clerestory.apps.auditing import audit_source
from clerestory.apps.data_fix.apply import apply_plan
from clerestory.apps.data_fix.plan import FixPlan, make_plan
from clerestory.apps.data_fix.rules import FixAction, fixable
from clerestory.apps.data_fix.write import SUFFIX, as_written, check_target, write_version
from clerestory.core.codec import Tags, encode
from clerestory.core.digest import canonical, short
from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence
from clerestory.core.extensions import names
from clerestory.core.files import expand_user, make_folder
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.core.sample import Dataset
from clerestory.core.text import is_printable_name
from clerestory.data import locate
from clerestory.data.sources import bare_source
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.image_facts import read_image_facts
from clerestory.store import Store

FIXED = "data_fixed"  # the kind of its event in the journal
FOLDER = "datasets"  # of the store, for versions without a place of their own


@dataclass(frozen=True, slots=True)
class PlannedFix:
    """A dataset with the plan that was made for it.

    Attributes:
        data: the dataset.
        source: its name, or the source that it was opened from.
        plan: the plan.
        evidence: the audit that the plan rests on.
    """

    data: Dataset
    source: str
    plan: FixPlan
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class FixedVersion:
    """A new version of a dataset.

    Attributes:
        name: under which it is registered.
        place: the Parquet file or the folder.
        digest, samples: of its content.
        made_from: the digest of the parent.
        is_new: whether it was written now; False if exactly this version was there already.
        unstripped: ids of samples whose metadata could not be removed.
    """

    name: str
    place: str
    digest: str
    samples: int
    made_from: str
    is_new: bool
    unstripped: tuple[str, ...] = ()


def plan_fix(
    store: Store,
    source: str,
    config: AuditConfig | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = QUIET,
    model: str = "",
) -> PlannedFix:
    """Audit a dataset and decide what to do about the findings.

    Args:
        store: keeps the facts about images, and receives the evidence of the audit.
        source: the name of a dataset, or any source that ``open_data`` opens.
        config: the limits of the audit.
        only: codes of the findings to fix; those that need no judgement if empty.
        progress: reports the work.
        model: as for ``audit_source``.

    Raises:
        NotFound, InputError: a code does not exist or has no fix, or the audit has no such finding.
    """
    for code in only:
        fixable(code)  # before the work
    audited = audit_source(store, source, config or AuditConfig(), progress, model)
    data = audited.data

    def pixels() -> dict[str, int]:
        facts, _ = read_image_facts(data, store.answer_cache, QUIET)
        sizes = facts["width"].astype("int64") * facts["height"]
        return {sample.id: int(size) for sample, size in zip(data, sizes, strict=True)}

    plan = make_plan(data, audited.audit.detections, pixels, only, dataset_acceptances(store, source))
    return PlannedFix(data, source, plan, audited.audit.evidence)


def check_fix(store: Store, source: str, out: Path | None, name: str, force: bool) -> None:
    """Check the name and the place of a new version before the work.

    Raises:
        InputError: neither is named, the name is taken or cannot be one, or the place cannot be written.
    """
    if out is None and not name:
        raise InputError("a fix needs a place or a name for the new version", "name it with --out or --name")
    target_name = name or locate_name(out)
    if not is_printable_name(target_name):
        raise InputError(
            f"{target_name!r} cannot be the name of a dataset",
            "choose one with --name: up to 100 characters without slashes, the first one a letter or a digit",
        )
    if target_name in names("data"):
        raise InputError(f"{target_name!r} is the name of a built-in dataset", "choose another name with --name")
    registered = {row.name: row for row in store.datasets()}
    if target_name == source or (target_name in registered and not force and not _is_fix(store, target_name)):
        raise InputError(
            f"there is a dataset {target_name!r} already",
            "choose another name with --name; a fix never changes its parent",
        )
    if out is not None:
        place = locate(registered[source].spec if source in registered else source)
        folder = expand_user(bare_source(place.spec))
        is_own = any(row.spec == str(out.absolute().resolve()) and _is_fix(store, row.name) for row in store.datasets())
        check_target(out, folder.resolve() if folder.exists() else None, force, is_own)


def locate_name(out: Path | None) -> str:
    """The name of a dataset at a place: that of the folder, or of the file without its suffix."""
    return "" if out is None else out.absolute().name.removesuffix(SUFFIX)


def make_version(
    store: Store,
    planned: PlannedFix,
    out: Path | None = None,
    name: str = "",
    *,
    who: str = "",
    why: str = "",
    force: bool = False,
    progress: Progress = QUIET,
) -> FixedVersion:
    """Write the version of a plan, register it, and record in the journal what it was made from.

    After a kill at any moment the same call goes on: an unfinished version is begun again, a finished one is used.

    Args:
        store: registers the version.
        planned: the dataset and its plan.
        out: a Parquet file (``.parquet``) or a new folder; a Parquet file in the store if None.
        name: of the new dataset; by default that of the place.
        who: the person, for the journal; by default the login name.
        why: the reason, for the journal.
        force: replace an earlier version at this place, or of this name.
        progress: reports the work.

    Raises:
        InputError: as ``check_fix``, the plan has no fix, or the disk is full.
        DataError: no sample would be left.
    """
    parent, plan = planned.data, planned.plan
    if not plan.fixes:
        raise InputError(f"there is nothing to fix in {parent.name}", "name proposed fixes with --only")
    check_fix(store, planned.source, out, name, force)
    fixed = apply_plan(parent, plan, progress)
    name = name or locate_name(out)
    if out is None:
        make_folder(store.home / FOLDER)
        out = store.home / FOLDER / f"{name}-{short(fixed.data.digest)}{SUFFIX}"
    version = as_written(fixed.data, out)
    version.name = name
    earlier = next((row for row in store.datasets() if row.name == name), None)
    if earlier is not None and earlier.digest != version.digest and not force:
        raise InputError(
            f"the dataset {name!r} is another version", "choose another name with --name, or replace it with --force"
        )
    is_new = write_version(version, out, store.runs, force, progress)
    place = out.absolute().resolve()
    record = {
        "made_from": parent.digest,
        "fixes": [
            encode(fix) for fix in plan.fixes if fix.sample not in fixed.unstripped or fix.action != FixAction.STRIP
        ],
    }
    counts = {f"{code} {action}": number for (code, action), number in sorted(plan.counts().items())}
    details = Tags(
        digest=version.digest,
        samples=str(len(version)),
        made_from=parent.digest,
        parent=planned.source,
        audit=planned.evidence.id,
        fixes=json.dumps(counts),
        record=store.blobs.put(canonical(record)),
    )
    who, when = who or current_user(), now()
    added = Event(
        "data_added",
        name,
        who,
        why or f"made from {planned.source} by a fix",
        when,
        Tags(digest=version.digest, samples=str(len(version))),
    )
    made = Event(FIXED, name, who, why or f"findings of the audit {short(planned.evidence.id)}", when, details)
    store.put_dataset(name, str(place), version.digest, len(version), added, made)
    return FixedVersion(name, str(place), version.digest, len(version), parent.digest, is_new, fixed.unstripped)


def fix_reasons(store: Store, before: str, after: str) -> Mapping[str, tuple[str, ...]]:
    """Why samples differ between two versions, given by their digests: codes of findings; empty if nothing says so."""
    for record in reversed(store.journal.records()):
        details = record.event.details
        if record.event.kind == FIXED and (details["made_from"], details["digest"]) == (before, after):
            fixes = json.loads(store.blobs.get(details["record"]))["fixes"]
            reasons: dict[str, dict[str, None]] = {}
            for fix in fixes:
                reasons.setdefault(fix["sample"], {})[fix["code"]] = None
            return {sample: tuple(codes) for sample, codes in reasons.items()}
    return {}


def _is_fix(store: Store, name: str) -> bool:
    """Whether the newest dataset of a name was made by a fix."""
    events = [record.event for record in store.journal.records(name) if record.event.subject == name]
    return any(event.kind == FIXED and event.details["digest"] == store.dataset(name).digest for event in events)
