"""One A4 page to sign: the verdict, three numbers, the worst group, open findings, licences, people, digests.

Every list is cut to what fits on one printed page, and says how much it leaves out; the report has all of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clerestory.core.codec import encode
from clerestory.core.digest import digest, short
from clerestory.core.evidence import Evidence, Finding, Measurement
from clerestory.core.findings import finding_codes
from clerestory.core.outputs import write_output
from clerestory.report import format
from clerestory.report.approvals import approval_view
from clerestory.report.chapters.fairness import PEOPLE
from clerestory.report.collect import collect, report_name
from clerestory.report.files import ReportFiles, page_files
from clerestory.report.model import EVALUATION, ReportData
from clerestory.report.page import build
from clerestory.report.render import fill
from clerestory.report.view import Highlight, SignatureView
from clerestory.stats.metrics import metric
from clerestory.store import Store
from clerestory.store.acceptances import acceptance_state, acceptances

AUDIT = "audit"  # the kind of evidence that the audit of a dataset produces
FORMAT = "clerestory-summary/1"
# What fits on the page at its font size; checked with texts of the longest kind by a test.
LINE, TWO_LINES, MAX_NAME, MAX_ACCEPTED = 130, 260, 32, 60
SHORT = 80  # a text cut to fewer characters has no room for how many words are left out
MAX_LINES, MEANING = 5, 190
MAX_FINDINGS, MAX_PARTS, MAX_SOURCES, MAX_PEOPLE, MAX_NOTICES, MAX_REASONS, MAX_EVIDENCE = 5, 4, 2, 5, 2, 3, 4
_SEVERITIES = ("error", "warning", "info")
_OPEN = ("fail", "warn")
_WORST = "worst_group"


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """All findings with one code about one thing.

    Attributes:
        code, title: of the finding.
        about: the model's evaluation or the dataset.
        severity: the highest.
        count: how many samples, rows or places it concerns.
        accepted: who accepted it, until when and why; empty if nobody did.
        is_accepted: whether nothing of it is left open.
    """

    code: str
    title: str
    about: str
    severity: str
    count: int
    accepted: str = ""
    is_accepted: bool = False


@dataclass(frozen=True, slots=True)
class SignPage:
    """The content of the page.

    Attributes:
        ref, model: of the release.
        state, word, title: the verdict.
        lines: since when it is live, who submitted it, how many rules it meets.
        reasons: rules that are not met.
        numbers: at most three headline numbers.
        doubts: why these numbers say less than they seem to.
        worst: the worst group, one sentence.
        findings: what is open or accepted, errors first, and how many kinds are left out.
        made_from: training data, base model, text tower.
        licences: what the licences allow.
        sources: what stands in the way.
        people: who submitted, requested, approved, declined and promoted.
        approval: where the approval stands, and what is required.
        digests: what identifies the release.
        commands: how to verify it.
    """

    ref: str
    model: str
    state: str
    word: str
    title: str
    lines: tuple[str, ...]
    reasons: tuple[str, ...]
    numbers: tuple[Highlight, ...]
    doubts: tuple[str, ...]
    worst: str
    findings: tuple[OpenFinding, ...]
    findings_note: str
    made_from: tuple[str, ...]
    licences: str
    sources: tuple[str, ...]
    people: tuple[tuple[str, SignatureView], ...]
    approval: tuple[str, str]
    digests: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]


def write_sign_page(store: Store, ref: str, out: Path, force: bool = False) -> ReportFiles:
    """Write the page to sign as one HTML file, with the same content as JSON next to it.

    Args:
        store: of the release.
        ref: ``icons@3``, ``icons@live``, or a model's digest.
        out: the ``.html`` file, or the folder to put it in.
        force: replace existing files.

    Raises:
        NotFound: no model or release has this name.
        InputError: the files cannot be written, or exist.
    """
    files = page_files(out, f"{report_name(store, ref)}-summary", force)
    page = sign_page(collect(store, ref), store)
    content = {"format": FORMAT, **encode_page(page)}
    write_output(files.json, (json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode(), force)
    write_output(files.html, render_sign_page(page).encode(), force)
    return files


def render_sign_page(page: SignPage) -> str:
    """The HTML document; it prints on one A4 page."""
    return fill("sign.html", page=page, fmt=format)


def encode_page(page: SignPage) -> dict[str, object]:
    """The content for programs."""
    numbers = [{"value": n.value, "interval": n.interval, "meaning": n.meaning, "basis": n.basis} for n in page.numbers]
    fields = {name: encode(getattr(page, name)) for name in SignPage.__slots__ if name != "numbers"}
    return {**fields, "numbers": numbers}


def sign_page(data: ReportData, store: Store) -> SignPage:
    """The content of the page, from everything that is known about a model.

    Args:
        data: of the model.
        store: with the audits of its data and what people accepted of them.
    """
    report = build(replace(data, missing=()))  # parts of the whole report, which this page does not show anyway
    approval = approval_view(data.approval)
    release = data.release
    unmet = [f"{r.rule}: {r.outcome}. {r.plain or r.message}" for r in report.reasons if r.state != "yes"]
    found = open_findings(data, store)
    more = len(found) - MAX_FINDINGS
    notes = [f"{more} more kinds of findings are in the report"] if more > 0 else []
    notes += [] if _audited(data, store) else ["the training and evaluation data were not audited (data audit)"]
    head, chain = store.journal.head()
    people = approval.people if approval else ()
    return SignPage(
        ref=report.ref,
        model=report.model,
        state=report.decision.state,
        word=report.decision.word,
        title=report.decision.title,
        lines=_cut(report.decision.lines, MAX_LINES),
        reasons=_cut(unmet, MAX_REASONS),
        numbers=tuple(replace(each, meaning=_shorten(each.meaning, MEANING)) for each in report.highlights),
        doubts=_cut([*_validity(report.highlights), *report.notices], MAX_NOTICES, TWO_LINES),
        worst=worst_group(data.evaluation),
        findings=tuple(found[:MAX_FINDINGS]),
        findings_note=format.sentence("; ".join(notes)),
        made_from=_cut(report.provenance.lines, MAX_PARTS, TWO_LINES),
        licences=_shorten(f"{report.provenance.answer.question} {report.provenance.answer.text}", 2 * LINE),
        sources=_cut(report.provenance.answer.sources, MAX_SOURCES),
        people=tuple((did, _short_signature(each)) for did, each in people[:1] + people[1:][-(MAX_PEOPLE - 1) :]),
        approval=(f"{approval.sentence} {_shorten(approval.notice)}".strip(), _shorten(approval.rule))
        if approval
        else ("The approval cannot be read.", ""),
        digests=(
            ("Model", data.model),
            *((("Release", digest(release)),) if release else ()),
            *((("Policy", f"{release.decision.policy} {short(release.decision.policy_digest)}"),) if release else ()),
            ("Evidence", _evidence(data)),
            ("Journal", f"{format.count(head)} records, head {short(chain)}"),
        ),
        commands=_commands(data),
    )


def _commands(data: ReportData) -> tuple[str, ...]:
    if data.release is None:
        return (f"clerestory release verify {short(data.model)}",)
    return (f"clerestory release verify {data.release.ref}", f"clerestory report {data.release.ref}")


def _evidence(data: ReportData) -> str:
    shown = [short(record.id) for record in data.evidence[:MAX_EVIDENCE]]
    rest = len(data.evidence) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "") if shown else "none"


def _validity(numbers: Sequence[Highlight]) -> list[str]:
    """The benchmarks of the headline numbers that cannot simply be trusted, one line for each label."""
    doubtful = {n.trust.short: n.trust for n in numbers if n.trust is not None and n.trust.state != "yes"}
    lines = []
    for label in dict.fromkeys(trust.label for trust in doubtful.values()):
        names = [name for name, trust in doubtful.items() if trust.label == label]
        reasons = dict.fromkeys(r for trust in doubtful.values() if trust.label == label for r in trust.reasons[:1])
        lines.append(f"{label}: {format.listing(names)}. {next(iter(reasons), '')}".strip())
    return lines


def worst_group(evidence: Evidence | None) -> str:
    """The lowest accuracy of a group, of people first, with its interval; or that none was measured."""
    if evidence is None:
        return "Groups were not compared: this model was not evaluated."
    found = [m for m in evidence.measurements if m.name == _WORST]
    if not found:
        return "Groups were not compared."

    def rank(m: Measurement) -> tuple[bool, float]:
        return m.slice.get("group", "") not in PEOPLE, m.value

    m = min(found, key=rank)
    others = sorted({format.slice_value("group", each.slice.get("group", "")) for each in found if each is not m})
    value = _value_of(evidence, m)
    named = f" ({value})" if value else ""
    rest = f" Also compared: {format.listing(others)}." if others else ""
    what = f"{metric(m.name).title}, by {format.slice_value('group', m.slice.get('group', ''))}{named}"
    return _shorten(f"{what}: {format.of_hundred(m)}; {format.counted(m)}.{rest}", 2 * LINE)


def _value_of(evidence: Evidence, worst: Measurement) -> str:
    """The value of the group that has the lowest accuracy; empty where it is not recorded."""
    same = {key: value for key, value in worst.slice.items() if key in ("group", "split", "task")}
    found = [
        m
        for m in evidence.measurements
        if m.name == "accuracy" and "value" in m.slice and same.items() <= dict(m.slice).items()
    ]
    lowest = min(found, key=lambda m: m.value, default=None)
    return format.group_value(lowest.slice.get("group", ""), lowest.slice["value"]) if lowest is not None else ""


def _data_digests(data: ReportData) -> dict[str, str]:
    """The datasets that the model was evaluated and trained on: their names by digest."""
    found = {data.data.digest: data.data.name} if data.data else {}
    found |= {part.digest: part.name for part in data.components if part.role == "training data" and part.digest}
    return found


def _audited(data: ReportData, store: Store) -> bool:
    return any(store.find_evidence(AUDIT, data=each) for each in _data_digests(data))


def open_findings(data: ReportData, store: Store) -> list[OpenFinding]:
    """Problems and warnings of the evaluation and of the audits of its data, open ones first, then by severity."""
    evaluation = (f for r in data.evidence if r.evidence.kind.startswith(EVALUATION) for f in r.evidence.findings)
    found = _by_code(evaluation, "the evaluation")
    rows = {row.digest: row for row in store.datasets()}
    for content, name in _data_digests(data).items():
        audits = store.find_evidence(AUDIT, data=content)
        row = rows.get(content)
        subjects = (row.name, row.spec) if row else (name,)
        given = acceptances(store.journal, *subjects) if any(subjects) else []
        for each in _by_code(audits[0].findings if audits else (), f"data {name or short(content)}"):
            state = acceptance_state(given, each.code, (), each.count)
            people = [f"{a.who} until {a.expires}" for a in state.holding]
            words = (
                _shorten(f"accepted by {format.listing(people)}: {state.holding[0].why}", MAX_ACCEPTED)
                if people
                else ""
            )
            found.append(
                OpenFinding(
                    each.code,
                    each.title,
                    each.about,
                    each.severity,
                    each.count,
                    _shorten(words, MAX_ACCEPTED),
                    state.is_accepted,
                )
            )
    return sorted(found, key=lambda f: (f.is_accepted, _SEVERITIES.index(f.severity), -f.count, f.code))


def _by_code(findings: Iterable[Finding], about: str) -> list[OpenFinding]:
    """One entry for each code that is a problem or a warning."""
    counts, severities = Counter[str](), dict[str, str]()
    for f in findings:
        if f.state not in _OPEN or (f.severity, f.state) == ("info", "warn"):
            continue
        counts[f.code] += f.count or 1
        severities[f.code] = min(severities.get(f.code, f.severity), f.severity, key=_SEVERITIES.index)
    known = finding_codes()
    titles = {code: format.capital(known[code].title) if code in known else code for code in counts}
    return [OpenFinding(code, titles[code], about, severities[code], count) for code, count in counts.items()]


def _short_signature(each: SignatureView) -> SignatureView:
    who, why, identity = (_shorten(text, MAX_NAME) for text in (each.who, each.why, each.identity))
    return replace(each, who=who, why=why, identity=identity)


def _cut(lines: Sequence[str], most: int, length: int = LINE) -> tuple[str, ...]:
    """The first lines, each cut, and how many are left out."""
    rest = len(lines) - most
    shown = [_shorten(line, length) for line in (lines if rest <= 0 else lines[: most - 1])]
    return (*shown, *((f"{rest + 1} more are in the report.",) if rest > 0 else ()))


def _shorten(text: str, most: int = LINE) -> str:
    """The text, cut after a sentence where that keeps at least half of what fits, else after a word."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    if most <= SHORT:
        kept = text[: most - 1].rpartition(" ")[0] or text[: most - 2]  # one word without a blank is cut anyway
        return f"{kept.rstrip(' ,;:.')} …"
    room = most - len(_rest_words(len(text.split())))
    kept = text[: room + 1].rpartition(" ")[0] or text[:room]
    sentence = max(kept.rfind(f"{end} ") for end in ".!?")
    if sentence + 1 >= room // 2:
        kept = kept[: sentence + 1]
    return f"{kept.rstrip(' ,;:')}{_rest_words(len(text.split()) - len(kept.split()))}"


def _rest_words(count: int) -> str:
    return f" … ({format.count(count)} more {'word' if count == 1 else 'words'} in the report)"
