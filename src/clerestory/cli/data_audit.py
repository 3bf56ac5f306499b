"""``clerestory data audit``: checks a dataset before it is used to train or evaluate a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.cli.output import PLAIN, Common
from clerestory.cli.settings import read_settings, settings_table
from clerestory.core.codec import encode
from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.findings import finding_codes
from clerestory.core.outputs import check_output, write_output
from clerestory.core.units import plural

if TYPE_CHECKING:
    from clerestory.stages.audit.corrected_scores import CorrectedScore
    from clerestory.stages.audit.hash_pack import HashPack
    from clerestory.stages.audit.run import Audit
    from clerestory.store.acceptances import Acceptance

STATES = {
    "fail": ("fail", "bold red"),
    "warn": ("warn", "yellow"),
    "accepted": ("accepted", "green"),
    "not_run": ("not run", "dim"),
    "pass": ("note", "dim"),
}


def audit_(
    data: Annotated[str, Parameter(name="--data")] = "icons",
    /,
    *,
    model: str = "",
    pack: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    key: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    ocr: Annotated[bool, Parameter(negative=())] = False,
    faces: Annotated[bool, Parameter(negative=())] = False,
    calibrate: Annotated[bool, Parameter(negative=())] = False,
    samples: int = 200,
    seed: int = 0,
    report: Path | None = None,
    csv: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    config: Path | None = None,
    settings: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Check a dataset: images, copies, leakage between splits, captions, groups, personal data, licences.

    Exit code 1 when a finding failed that nobody accepted ("data accept"). Images that an earlier audit has read are
    not read again; after an interruption the same command continues.

    Args:
        data: The name of a dataset, or any source that "data add" accepts.
        model: Also find captions that do not fit their image and labels that are probably wrong, by the embeddings of
            this model, such as photos, and give its scores without the images that leak from the training split.
        pack: Also find images and captions of this hash pack ("data pack make"), such as that of a benchmark; may be
            given several times.
        key: The public key of whoever signed a --pack; may be given several times.
        ocr: Also read the text in the images, and find e-mail addresses, phone, card and account numbers in it; a
            second or two an image, and of more than ocr_images images a sample. Needs the extra "ocr".
        faces: Also find images with a face that looks at the camera. Needs the extra "faces".
        calibrate: Also measure how much the audit detects: plant copies, leaks, blank, blurred and dark images,
            coordinates and personal data (with --model also wrong captions) in a copy of the data in memory.
        samples: With --calibrate, the images in which faults are planted.
        seed: With --calibrate, chooses the images and the faults.
        report: Write a page with the images of every finding to this file, such as audit.html. It needs no network.
        csv: Write a row for each finding and sample to this file.
        force: Overwrite the files of --report and --csv.
        set_: Any setting by its name, such as max_aspect=4; may be given several times.
        config: A TOML file with settings; --set overrides it.
        settings: Only list every setting with its default, range and meaning.
    """
    from clerestory.apps.acceptance import dataset_acceptances
    from clerestory.apps.audit_calibration import calibrate_source, current_calibration
    from clerestory.apps.auditing import audit_source  # here, because they import numpy
    from clerestory.stages.audit.calibration.config import CalibrationConfig
    from clerestory.stages.audit.config import AuditConfig
    from clerestory.store import open_store

    if settings:
        common.out.result(*settings_table(AuditConfig))
        return 0
    chosen = read_settings(AuditConfig, config, {}, set_)
    extent = CalibrationConfig(samples=samples, seed=seed)
    for path in filter(None, (report, csv)):
        check_output(path, force)
    packs = _read_packs(pack, key)
    store = open_store(common.home)
    audited = audit_source(store, data, chosen, common.out, model, packs, ocr, faces)
    dataset, result = audited.data, audited.audit
    given = dataset_acceptances(store, data)
    if calibrate:
        calibrate_source(dataset, store, chosen, extent, common.out, model)
    calibration = current_calibration(store, dataset, chosen)
    failed = _show(result, data, given, calibration, common)
    if not (report or csv) and result.detections:
        common.out.next(f"clerestory data audit {quote(data)} --report audit.html")
    if report:
        from clerestory.apps.audit_report import audit_page
        from clerestory.report.audit_page import render_audit

        write_output(
            report, render_audit(audit_page(dataset, result, chosen, common.out, given, calibration)).encode(), force
        )
        common.out.write_line(f"wrote {report}")
    if csv:
        from clerestory.apps.captioning import captions_csv

        write_output(csv, captions_csv(list(_rows(result))).encode(), force)
        common.out.write_line(f"wrote {csv}")
    return 1 if failed else 0


def _show(result: Audit, data: str, given: list[Acceptance], calibration: Evidence | None, common: Common) -> int:
    """Print the findings; returns how many failed."""
    from clerestory.apps.acceptance import describe_state
    from clerestory.apps.audit_calibration import trust_sentence
    from clerestory.apps.audit_report import acceptance_states, audit_findings, with_acceptances

    evidence = result.evidence
    table = Table("", "finding", "images", "where", box=None)
    samples = int(evidence.facts.number("samples"))
    titles = finding_codes()
    found = audit_findings(evidence, result.detections, given)
    for each in found:
        finding = each.finding
        label, style = STATES[finding.state]
        count = f"{each.count:,}" if each.count else ""
        if share := each.share(samples):
            count += f" ({share})"
        table.add_row(Text(label, style), f"{finding.code} {titles[finding.code].title}", count, each.where)
    counts = Counter(each.finding.state for each in found)
    failed, warned = counts["fail"], counts["warn"]
    accepted = f" ({counts['accepted']:,} accepted)" if counts["accepted"] else ""
    verdict = (
        f"{plural(failed, 'problem')}, {plural(warned, 'warning')}{accepted} in {plural(samples, 'image')} of {data}"
    )
    lines: list[str | Table | Text] = [table] if found else []
    lines.append(Text(verdict, "bold red" if failed else "bold yellow" if warned else "bold green"))
    lines += [_score_line(score) for score in result.scores]
    for each in found:
        finding = each.finding
        if finding.state == "pass":
            continue
        lines.append(f"{finding.code}: {finding.message}")
        lines += [f"  {line}" for line in describe_state(each.acceptance)]
        if finding.fix and finding.state != "accepted":
            lines.append(Text(f"  fix: {finding.fix}", "dim"))
    if calibration is not None:
        lines.append(_calibration_table(calibration, result, samples))
    lines.append(Text(trust_sentence(calibration, data), "dim"))
    # The evidence has the findings as they were measured; who asks for JSON gets them as they stand today.
    states = acceptance_states(evidence, result.detections, given)
    findings = with_acceptances(evidence, states)
    held = list(dict.fromkeys(acceptance for state in states for acceptance in state.holding))
    shown = {"findings": findings, "acceptances": held, "calibration": calibration}
    common.out.result({"id": evidence.id, **encode(evidence), **shown}, *lines)
    return failed


def _read_packs(packs: tuple[Path, ...], keys: tuple[Path, ...]) -> list[HashPack]:
    from clerestory.stages.audit.hash_pack import read_pack  # here, because they import cryptography
    from clerestory.store.signing.keys import read_public_key

    if packs and not keys:
        raise InputError("--pack needs --key", "give the public key of whoever signed the pack: --key NAME.pub")
    if keys and not packs:
        raise InputError("--key has no use without --pack", "name the hash pack: --pack FILE")
    trusted = [read_public_key(path) for path in keys]
    return [read_pack(path, trusted) for path in packs]


def _calibration_table(calibration: Evidence, result: Audit, samples: int) -> Table:
    from clerestory.apps.audit_calibration import calibrated_detectors

    table = Table(
        "", "planted faults", "detected (recall)", "reports that are right (precision)", "this audit", box=None
    )
    for each in calibrated_detectors(calibration, result.detections, samples):
        recall = f"{each.recall}; {each.weakest}" if each.weakest else each.recall
        table.add_row(each.code, each.title, recall, each.precision, each.silence)
    return table


def _score_line(score: CorrectedScore) -> str:
    from clerestory.apps.audit_topics import LEFT_OUT_SAMPLES

    measured, corrected, left_out = score.measured, score.corrected, LEFT_OUT_SAMPLES[score.cause]
    return f"{measured.key}: {_value(measured)} → {_value(corrected)} without {left_out} (n = {corrected.n:,})"


def _value(measured: Measurement) -> str:
    interval = measured.interval
    around = f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""
    return f"{measured.value:.3f}{around}"


def _rows(result: Audit) -> Iterator[dict[str, object]]:
    titles = finding_codes()
    of_source = len(result.evidence.findings) - len(result.detections)
    for finding in result.evidence.findings[:of_source]:
        yield {
            "finding": finding.code,
            "title": titles[finding.code].title,
            "sample": finding.where,
            "group": "",
            "note": finding.message,
        }
    for detection in result.detections:
        number = {sample: k for k, group in enumerate(detection.groups, start=1) for sample in group}
        for sample in dict.fromkeys((*detection.samples, *number)):
            yield {
                "finding": detection.code.code,
                "title": titles[detection.code.code].title,
                "sample": sample,
                "group": number.get(sample, ""),
                "note": detection.notes.get(sample, ""),
            }
