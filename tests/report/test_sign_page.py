"""The page to sign: what is on it, and that it prints on one A4 page, also with the longest texts."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.parsing import Parsed
from tests.report.test_browser import CHROMIUM
from tests.support.release_life import BOUNDS, DATA, Life

from clerestory.cli.main import run
from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import digest
from clerestory.core.evidence import Cost, Evidence, Finding, Interval, Measurement, Subject
from clerestory.core.provenance import now
from clerestory.core.release import ApprovalPolicy, Policy, Release, Rule
from clerestory.report import format
from clerestory.report.collect import collect
from clerestory.report.sign_page import SignPage, render_sign_page, sign_page
from clerestory.report.view import Highlight, SignatureView
from clerestory.stages.audit.findings import CODES
from clerestory.stages.release import approve, gate, promote, register, request_approval
from clerestory.store import Store
from clerestory.store.acceptances import Acceptance, accept
from clerestory.store.registry_check import GATED

LONG = "Donaudampfschifffahrtsgesellschaft and a few more words of everyday length, " * 4


@pytest.fixture
def life(store: Store, tmp_path: Path) -> Life:
    return Life(store, tmp_path / "models")


def audited(store: Store, *counts: int) -> list[str]:
    """Evidence of an audit of the evaluation data with findings of some codes; the first is accepted."""
    codes = [code for code in CODES if code.severity == "warning"][: len(counts)]
    findings = tuple(
        code.finding("data", "found", count=count, state="warn") for code, count in zip(codes, counts, strict=True)
    )
    subject = Subject(model="", data=DATA)
    store.put_evidence(Evidence("audit", subject, (), findings, Cost(1, 1, 1), now(), facts=Facts()))
    return [code.code for code in codes]


def released(life: Life) -> Release:
    model = life.model()
    evidence = life.evaluated(model)
    where = {"task": "zero_shot", "split": "test", "group": "skin_tone"}
    worst = Measurement("worst_group", 0.41, "share", 90, Interval(0.3, 0.5, "t"), slice=Tags(where))
    groups = [
        Measurement(
            "accuracy",
            value,
            "share",
            45,
            Interval(value - 0.1, value + 0.1, "t"),
            slice=type(worst.slice)(where, value=name),
        )
        for name, value in (("dark", 0.41), ("light", 0.6))
    ]
    unscored = Finding("CLR-E001", "warning", "warn", "image_to_text", "3 samples are unscored", "see them", count=3)
    life.store.put_evidence(
        replace(evidence, measurements=(*evidence.measurements, worst, *groups), findings=(unscored,))
    )
    policy = Policy("icons", BOUNDS, approval=ApprovalPolicy(1))
    return register("icons", gate(model, life.store, policy, DATA), life.store, "Ada", "the first")


def test_everything_that_a_person_signs_for_is_on_it(life: Life) -> None:
    release = released(life)
    request_approval(release.ref, life.store, "please", "Ada")
    approve(release.ref, life.store, "checked the groups", "Bob")
    promote(release.ref, life.store, "Eve", "agreed")
    accepted, open_code = audited(life.store, 5, 7)
    life.store.put_dataset("mine", "mine", DATA, 100, replace(life.store.journal.records()[0].event, kind="data_added"))
    accept(life.store.journal, Acceptance(accepted, "mine", "Dora", "known", now(), "2099-01-01", 5, (), DATA))
    page = sign_page(collect(life.store, release.ref), life.store)
    assert (page.state, page.word) == ("yes", "Yes")
    assert "by skin tone (dark): 41 of 100, between 30 and 50" in page.worst
    found = {each.code: each for each in page.findings}
    assert (found["CLR-E001"].count, found["CLR-E001"].is_accepted) == (3, False)
    assert (found[accepted].count, found[accepted].is_accepted) == (5, True)
    assert "accepted by Dora until 2099-01-01: known" in found[accepted].accepted
    assert (found[open_code].count, found[open_code].accepted) == (7, "")
    assert page.findings[-1].code == accepted, "accepted ones come last"
    people = [(did, each.who) for did, each in page.people]
    assert people == [
        ("Submitted to the gate", "Ada"),
        ("Approval requested", "Ada"),
        ("Approved", "Bob"),
        ("Made live", "Eve"),
    ]
    assert page.approval[0] == "Approved: 1 of 1."
    digests = dict(page.digests)
    assert digests["Model"] == release.model
    gated = next(r.event for r in life.store.journal.records() if r.event.kind == GATED)
    assert digests["Release"] == digest(release) == gated.details["release"]
    assert page.commands[0] == "clerestory release verify icons@1"
    html = render_sign_page(page)
    Parsed(html)
    assert "Date and signature" in html
    assert release.model in html
    assert not re.search(r"(?:src|href)=.(?!data:|#)", html), "it loads nothing"


def test_the_command_writes_page_and_numbers(life: Life, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release = released(life)
    home, out = str(life.store.home), tmp_path / "sign.html"
    assert run(["report", release.ref, "--summary", str(out), "--home", home, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["html"] == str(out)
    content = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert (content["format"], content["ref"], content["word"]) == ("clerestory-summary/1", "icons@1", "Yes")
    assert content["findings_note"] == "The training and evaluation data were not audited (data audit)."
    assert run(["report", release.ref, "--summary", str(out), "--home", home]) == 2, "never overwritten"
    assert run(["report", release.ref, "--summary", str(out), "--out", str(tmp_path), "--home", home]) == 2


def test_a_model_without_an_evaluation_has_a_page(life: Life) -> None:
    page = sign_page(collect(life.store, life.model()), life.store)
    assert (page.word, page.numbers, page.worst) == (
        "Cannot decide",
        (),
        "Groups were not compared: this model was not evaluated.",
    )
    assert "This model was not evaluated." in render_sign_page(page)


def test_texts_are_cut_after_words_and_say_how_much_is_missing() -> None:
    from clerestory.report.sign_page import _shorten

    text = "One short sentence of the caveats. " * 9
    cut = _shorten(text, 150)
    assert len(cut) <= 150
    assert cut.startswith("One short sentence of the caveats. One")
    assert cut.endswith("caveats. … (36 more words in the report)")
    for most in range(50, 200, 7):
        shown = _shorten(LONG, most).partition(" …")[0].replace(",", "").split()
        assert shown == LONG.replace(",", "").split()[: len(shown)], "never in the middle of a word"
        assert len(_shorten(LONG, most)) <= most
    assert _shorten("short", 150) == "short"


def test_licences_that_the_policy_does_not_judge_are_beside_the_verdict(life: Life) -> None:
    release = released(life)
    page = sign_page(collect(life.store, release.ref), life.store)
    assert page.lines[1] == "Licences: not judged by this policy; commercial use is unclear for 2 sources."
    rule = Rule("licences", "blocking_licences", Tags(), at_most=0.0, criterion="value", evidence="licences")
    data = collect(life.store, release.ref)
    assert data.policy is not None
    judged = replace(data, policy=replace(data.policy, rules=(*data.policy.rules, rule)))
    assert not any("Licences" in line for line in sign_page(judged, life.store).lines)


def test_none_is_not_a_skin_tone(life: Life) -> None:
    assert format.group_value("skin_tone", "none") == "pictures without a skin tone"
    assert format.group_value("age", "") == "pictures without an age"
    assert format.group_value("skin_tone", "dark") == "dark"
    words = format.slice_words({"task": "zero_shot", "group": "skin_tone", "value": "none"})
    assert words.endswith("skin tone · pictures without a skin tone")


def longest(page: SignPage, life: Life) -> SignPage:
    """The page with texts that are as long as their limits allow, in every place."""
    from clerestory.report.sign_page import LINE, MAX_LINES, TWO_LINES, _cut, _short_signature, _shorten

    number = Highlight("99.9 of 100", "between 88.8 and 99.9", LONG[:190], "", "a")
    person = _short_signature(SignatureView(LONG, "23 November 2026, 18:02 UTC", LONG, LONG[:60], ""))
    return replace(
        page,
        title=LONG[:90],
        lines=_cut([LONG] * 9, MAX_LINES),
        reasons=_cut([LONG] * 9, 3),
        numbers=(number,) * 3,
        doubts=_cut([LONG] * 9, 2, TWO_LINES),
        worst=_shorten(LONG, 2 * LINE),
        findings=tuple(replace(f, title=LONG[:60], accepted=_shorten(LONG, 60)) for f in (page.findings * 9)[:5]),
        findings_note=LONG[:130],
        made_from=_cut([LONG] * 9, 4, TWO_LINES),
        licences=_shorten(LONG, 2 * LINE),
        sources=_cut([LONG] * 9, 2),
        people=(("Submitted to the gate", person),) * 5,
        approval=(f"Pending: 1 of 2 approvals given. {_shorten(LONG)}", _shorten(LONG)),
    )


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CLERESTORY_CHROMIUM")
def test_it_prints_on_one_page(life: Life, tmp_path: Path) -> None:
    release = released(life)
    audited(life.store, 5, 7, 9)
    page = sign_page(collect(life.store, release.ref), life.store)
    for name, each in (("usual", page), ("longest", longest(page, life))):
        html, pdf = tmp_path / f"{name}.html", tmp_path / f"{name}.pdf"
        html.write_text(render_sign_page(each), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command = [str(CHROMIUM), *flags, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", html.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        assert len(re.findall(rb"/Type\s*/Page[^s]", pdf.read_bytes())) == 1, name
